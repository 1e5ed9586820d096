"""The contract of ``IpSets``. The strict part runs on the stand-in only, because moto accepts any input."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_network
from itertools import count
from typing import Any, Final

import boto3
import pytest
from botocore.exceptions import ClientError, ParamValidationError
from moto import mock_aws

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import CAPACITY, IpSet
from chalicelib.edges.waf_ip_sets import SETS_PER_PAGE, WafIpSets
from chalicelib.ports import Conflict, Throttled, Unavailable
from sluice.local.waf import READS_PER_SECOND, WafStandIn
from tests.support.clock import Clock
from tests.support.tables import CLIENT, CREDENTIALS
from tests.support.waf_server import serving

SCOPE: Final = "CLOUDFRONT"


@dataclass(frozen=True, slots=True)
class Waf:
    """The port, and the client behind it."""

    ip_sets: WafIpSets
    client: Any

    def create(self, name: str = "sluice-v4", *addresses: str, family: int = 4, description: str = "") -> IpSet:
        made = self.client.create_ip_set(
            Name=name,
            Scope=SCOPE,
            IPAddressVersion=f"IPV{family}",
            Addresses=addresses,
            **({"Description": description} if description else {}),
        )
        return IpSet(name, made["Summary"]["Id"], family)

    def described(self, ip_set: IpSet) -> dict[str, Any]:
        answer = self.client.get_ip_set(Name=ip_set.name, Scope=SCOPE, Id=ip_set.id)
        return answer["IPSet"]  # type: ignore[no-any-return]


def standing_in(client: WafStandIn) -> Waf:
    return Waf(WafIpSets(client, SCOPE), client)  # type: ignore[arg-type] # it has the calls that are made


def unhurried() -> WafStandIn:
    """Waits two seconds before each call."""
    ticks = count(1_760_000_000, 2)
    return WafStandIn(lambda: next(ticks), lambda _: None)


@contextmanager
def over_http(waf: WafStandIn) -> Iterator[Waf]:
    """Serves the stand-in to AWS's own client."""
    with serving(waf) as endpoint:
        client = boto3.client("wafv2", endpoint_url=endpoint, config=CLIENT, **CREDENTIALS)
        yield Waf(WafIpSets(client, SCOPE), client)
        client.close()


@pytest.fixture(params=["stand-in", "http"])
def strict(request: pytest.FixtureRequest) -> Iterator[Waf]:
    if request.param == "stand-in":
        yield standing_in(unhurried())
        return
    with over_http(unhurried()) as waf:
        yield waf


@pytest.fixture(params=["stand-in", "http", "moto"])
def waf(request: pytest.FixtureRequest) -> Iterator[Waf]:
    if request.param == "stand-in":
        yield standing_in(unhurried())
        return
    if request.param == "http":
        with over_http(unhurried()) as waf:
            yield waf
        return
    with mock_aws():
        client = boto3.client("wafv2", **CREDENTIALS)
        yield Waf(WafIpSets(client, SCOPE), client)
        client.close()


def networks(*texts: str) -> frozenset[Network]:
    return frozenset(map(ip_network, texts))


# What both do


def test_published_networks_are_returned(waf: Waf) -> None:
    v4, v6 = waf.create(), waf.create("sluice-v6", family=6)
    for ip_set, contents in ((v4, networks("192.0.2.7/32", "10.0.0.0/8")), (v6, networks("2001:db8::/64", "2000::/3"))):
        empty, token = waf.ip_sets.get(ip_set)
        assert empty == frozenset()
        waf.ip_sets.update(ip_set, contents, token)
        assert waf.ip_sets.get(ip_set)[0] == contents


def test_an_update_replaces_everything(waf: Waf) -> None:
    ip_set = waf.create("sluice-v4", "192.0.2.7/32", "192.0.2.8/32")
    waf.ip_sets.update(ip_set, networks("192.0.2.8/32", "192.0.2.9/32"), waf.ip_sets.get(ip_set)[1])
    assert waf.ip_sets.get(ip_set)[0] == networks("192.0.2.8/32", "192.0.2.9/32")
    waf.ip_sets.update(ip_set, frozenset(), waf.ip_sets.get(ip_set)[1])
    assert waf.ip_sets.get(ip_set)[0] == frozenset()


def test_ten_thousand_networks_fit(waf: Waf) -> None:
    ip_set = waf.create()
    full = frozenset(IPv4Network((0x0A000000 + number, 32)) for number in range(CAPACITY))
    waf.ip_sets.update(ip_set, full, waf.ip_sets.get(ip_set)[1])
    assert waf.ip_sets.get(ip_set)[0] == full


def test_a_token_is_valid_until_the_next_update(waf: Waf) -> None:
    ip_set = waf.create()
    _, first = waf.ip_sets.get(ip_set)
    assert waf.ip_sets.get(ip_set)[1] == first, "reading does not change it"
    waf.ip_sets.update(ip_set, networks("192.0.2.7/32"), first)
    assert waf.ip_sets.get(ip_set)[1] != first


def test_an_update_returns_the_next_token(waf: Waf) -> None:
    for ip_set in (waf.create(), waf.create("described", description="the office")):
        _, token = waf.ip_sets.get(ip_set)
        token = waf.ip_sets.update(ip_set, networks("192.0.2.7/32"), token)
        assert token == waf.ip_sets.get(ip_set)[1]
        waf.ip_sets.update(ip_set, frozenset(), token)


def test_the_tokens_of_several_sets_are_read_at_once(waf: Waf) -> None:
    one, other = waf.create("one"), waf.create("other", description="the office")
    waf.create("theirs")
    gone = replace(one, id="51000000-0000-0000-0000-0000000000ff")
    for _ in range(2):
        tokens = waf.ip_sets.tokens([one, gone, other])
        assert tokens == {one: waf.ip_sets.get(one)[1], other: waf.ip_sets.get(other)[1]}
        waf.ip_sets.update(one, networks("192.0.2.7/32"), tokens[one])


def test_tokens_are_found_on_every_page(waf: Waf) -> None:
    sets = [waf.create(f"set-{number}") for number in range(SETS_PER_PAGE + 30)]
    assert waf.ip_sets.tokens(sets[-1:]).keys() == {sets[-1]}
    assert waf.ip_sets.tokens([*sets, replace(sets[0], id="gone")]).keys() == set(sets)


def test_a_stale_token_is_a_conflict_and_changes_nothing(waf: Waf) -> None:
    ip_set = waf.create()
    _, stale = waf.ip_sets.get(ip_set)
    waf.ip_sets.update(ip_set, networks("192.0.2.7/32"), stale)
    contents, latest = waf.ip_sets.get(ip_set)
    with pytest.raises(Conflict):
        waf.ip_sets.update(ip_set, frozenset(), stale)
    assert waf.ip_sets.get(ip_set) == (contents, latest)


def test_an_update_that_changes_nothing_also_makes_tokens_stale(waf: Waf) -> None:
    ip_set = waf.create()
    _, token = waf.ip_sets.get(ip_set)
    waf.ip_sets.update(ip_set, frozenset(), token)
    with pytest.raises(Conflict):
        waf.ip_sets.update(ip_set, networks("192.0.2.7/32"), token)


def test_a_token_belongs_to_one_set(waf: Waf) -> None:
    one, other = waf.create("one"), waf.create("other")
    _, token = waf.ip_sets.get(one)
    with pytest.raises(Conflict):
        waf.ip_sets.update(other, networks("192.0.2.7/32"), token)
    waf.ip_sets.update(other, networks("192.0.2.8/32"), waf.ip_sets.get(other)[1])
    waf.ip_sets.update(one, networks("192.0.2.7/32"), token)


@pytest.mark.parametrize(
    "spelling",
    ["2001:DB8::/64", "2001:0db8:0000:0000:0000:0000:0000:0000/64", "2001:db8:0:0::/64", "2001:db8::0.0.0.0/64"],
)
def test_ipv6_in_another_spelling_is_the_same_network(waf: Waf, spelling: str) -> None:
    ip_set = waf.create("sluice-v6", spelling, family=6)
    assert waf.ip_sets.get(ip_set)[0] == networks("2001:db8::/64")


def test_the_description_outlives_updates(waf: Waf) -> None:
    ip_set = waf.create(description="Kept by Sluice")
    for address in ("192.0.2.7/32", "192.0.2.8/32"):
        waf.ip_sets.update(ip_set, networks(address), waf.ip_sets.get(ip_set)[1])
        assert waf.described(ip_set)["Description"] == "Kept by Sluice"


def test_a_set_without_a_description_gets_none(waf: Waf) -> None:
    ip_set = waf.create()
    waf.ip_sets.update(ip_set, networks("192.0.2.7/32"), waf.ip_sets.get(ip_set)[1])
    assert not waf.described(ip_set).get("Description")


def test_a_deleted_set_is_unavailable_and_the_error_names_it(waf: Waf) -> None:
    ip_set = waf.create()
    _, token = waf.ip_sets.get(ip_set)
    waf.client.delete_ip_set(Name=ip_set.name, Scope=SCOPE, Id=ip_set.id, LockToken=token)
    with pytest.raises(Unavailable, match="GetIPSet sluice-v4: WAFNonexistentItemException") as refusal:
        waf.ip_sets.get(ip_set)
    assert not isinstance(refusal.value, Throttled)
    with pytest.raises(Unavailable, match="UpdateIPSet sluice-v4: WAFNonexistentItemException"):
        waf.ip_sets.update(ip_set, frozenset(), token)


# What AWS refuses


def too_many() -> frozenset[Network]:
    return frozenset(IPv4Network((0x0A000000 + number, 32)) for number in range(CAPACITY + 1))


@pytest.mark.parametrize(
    ("family", "refused", "code"),
    [
        pytest.param(4, too_many(), "WAFLimitsExceededException", id="more than 10,000"),
        pytest.param(4, networks("0.0.0.0/0"), "WAFInvalidParameterException", id="all of IPv4"),
        pytest.param(6, networks("::/0"), "WAFInvalidParameterException", id="all of IPv6"),
        pytest.param(4, networks("2001:db8::/64"), "WAFInvalidParameterException", id="IPv6 in an IPv4 set"),
        pytest.param(6, networks("192.0.2.7/32"), "WAFInvalidParameterException", id="IPv4 in an IPv6 set"),
    ],
)
def test_networks_that_aws_rejects_are_unavailable_with_its_code(
    strict: Waf, family: int, refused: frozenset[Network], code: str
) -> None:
    ip_set = strict.create(family=family)
    _, token = strict.ip_sets.get(ip_set)
    with pytest.raises(Unavailable, match=f"UpdateIPSet sluice-v4: {code}") as refusal:
        strict.ip_sets.update(ip_set, refused, token)
    assert not isinstance(refusal.value, Throttled)
    assert strict.ip_sets.get(ip_set) == (frozenset(), token)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("192.0.2.7", id="a bare address"),
        pytest.param("192.0.2.7/24", id="host bits"),
        pytest.param("192.0.2.7/33", id="too long a prefix"),
        pytest.param("hello", id="no address at all"),
        pytest.param("", id="nothing"),
        pytest.param("192.0.2.0/255.255.255.0", id="a netmask"),
        pytest.param("2001:db8::%eth0/64", id="a zone"),
    ],
)
def test_texts_that_aws_rejects_are_rejected(strict: Waf, address: str) -> None:
    ip_set = strict.create()
    _, token = strict.ip_sets.get(ip_set)
    named = {"Name": ip_set.name, "Scope": SCOPE, "Id": ip_set.id}
    # What is too short to be one, AWS's client does not even send.
    refused = pytest.raises((ClientError, ParamValidationError), match=r"WAFInvalidParameterException|Invalid length")
    with refused:
        strict.client.update_ip_set(**named, Addresses=["192.0.2.1/32", address], LockToken=token)
    with refused:
        strict.create("another", "192.0.2.1/32", address)
    assert strict.ip_sets.get(ip_set) == (frozenset(), token)


@pytest.mark.parametrize("address", ["128.0.0.0/1", "192.0.2.7/32"])
def test_every_other_prefix_is_accepted(strict: Waf, address: str) -> None:
    ip_set = strict.create()
    strict.ip_sets.update(ip_set, networks(address), strict.ip_sets.get(ip_set)[1])
    assert strict.ip_sets.get(ip_set)[0] == networks(address)


def test_another_name_or_id_is_another_set(strict: Waf) -> None:
    ip_set = strict.create()
    for wrong in (replace(ip_set, name="sluice-v5"), replace(ip_set, id=ip_set.id[:-1] + "f")):
        with pytest.raises(Unavailable, match="WAFNonexistentItemException"):
            strict.ip_sets.get(wrong)


def test_a_name_can_be_used_once(strict: Waf) -> None:
    strict.create()
    with pytest.raises(ClientError, match="WAFDuplicateItemException"):
        strict.create()


def test_a_set_is_deleted_only_under_its_latest_token(strict: Waf) -> None:
    ip_set = strict.create()
    _, stale = strict.ip_sets.get(ip_set)
    strict.ip_sets.update(ip_set, networks("192.0.2.7/32"), stale)
    with pytest.raises(ClientError, match="WAFOptimisticLockException"):
        strict.client.delete_ip_set(Name=ip_set.name, Scope=SCOPE, Id=ip_set.id, LockToken=stale)
    assert strict.ip_sets.get(ip_set)[0] == networks("192.0.2.7/32")


def test_a_new_set_does_not_replace_a_deleted_one(strict: Waf) -> None:
    first, second = strict.create("first"), strict.create("second", "192.0.2.7/32")
    _, token = strict.ip_sets.get(first)
    strict.client.delete_ip_set(Name=first.name, Scope=SCOPE, Id=first.id, LockToken=token)
    third = strict.create("third")
    assert len({first.id, second.id, third.id}) == 3
    assert strict.ip_sets.get(second)[0] == networks("192.0.2.7/32")


# How often AWS is asked


def throttling() -> tuple[Waf, Clock]:
    clock = Clock()
    return standing_in(WafStandIn(clock, clock.sleep)), clock


def test_a_second_update_within_a_second_is_throttled_and_not_retried() -> None:
    waf, clock = throttling()
    one, other = waf.create("one"), waf.create("other")
    tokens = {ip_set: waf.ip_sets.get(ip_set)[1] for ip_set in (one, other)}
    waf.ip_sets.update(one, networks("192.0.2.7/32"), tokens[one])
    began = clock()
    with pytest.raises(Throttled, match="UpdateIPSet other: ThrottlingException"):
        waf.ip_sets.update(other, networks("192.0.2.8/32"), tokens[other])
    assert clock() == began
    clock.sleep(1)
    waf.ip_sets.update(other, networks("192.0.2.8/32"), tokens[other])


def test_reads_are_throttled_past_five_per_second() -> None:
    clock = Clock()
    waf = standing_in(WafStandIn(clock, lambda _: None))  # boto3's own retries come too early
    ip_set = waf.create()
    for _ in range(READS_PER_SECOND):
        waf.ip_sets.get(ip_set)
    with pytest.raises(Throttled, match="GetIPSet sluice-v4: ThrottlingException"):
        waf.ip_sets.get(ip_set)
    clock.sleep(1)
    waf.ip_sets.get(ip_set)
