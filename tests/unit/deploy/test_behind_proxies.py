"""With TRUSTED_PROXIES, the rule group that setup writes refuses the clients that are counted, and no others."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from chalicelib.core.addresses import NetworkSet, PrefixMemo, network_of, pack, parse_network
from chalicelib.core.logs.forwarded import client_behind
from chalicelib.core.responses import Response
from sluice.deploy.plan import StepAction
from sluice.deploy.rule_group import CAPACITY, wcu
from sluice.deploy.stage import Refusal
from tests.support.deploy.account import World
from tests.support.rule_group import Arrival, refusing_rule

PROXIES = "198.51.100.0/24,2001:db8:cd::/48"
SETTINGS = {"TRUSTED_PROXIES": PROXIES}
CLIENT, OTHER = "203.0.113.9", "192.0.2.1"


def counted(arrival: Arrival, proxies: str = PROXIES) -> str:
    """Returns the client as which a request is counted, as a network."""
    peer = pack(arrival.connection)
    assert peer is not None
    trusted = NetworkSet(map(parse_network, proxies.split(","))) if proxies else NetworkSet(())
    client = client_behind(peer, arrival.forwarded_for, trusted)
    assert client is not None
    return str(network_of(PrefixMemo(32, 64)[client], 32, 64))


def group_of(world: World) -> dict[str, Any]:
    waf = world.account.client("wafv2")
    (summary,) = waf.list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"]
    group: dict[str, Any] = waf.get_rule_group(Name=summary["Name"], Scope="CLOUDFRONT", Id=summary["Id"])["RuleGroup"]
    return group


def is_refused(world: World, blocked: str, arrival: Arrival) -> bool:
    """Returns whether the rule group in the account refuses a request while one network is blocked."""
    sets = world.account.client("wafv2").list_ip_sets(Scope="CLOUDFRONT")["IPSets"]
    family = parse_network(blocked).version
    contents: Mapping[str, Sequence[str]] = {
        s["ARN"]: [blocked] if s["Name"] == f"sluice-prod-v{family}-1" else [] for s in sets
    }
    return bool(refusing_rule(group_of(world)["Rules"], contents, arrival))


ARRIVALS = {
    "direct": Arrival(CLIENT),
    "behind one proxy": Arrival("198.51.100.7", CLIENT),
    "behind two proxies": Arrival("198.51.100.7", f"{CLIENT}, 198.51.100.8"),
    "behind a proxy of the other family": Arrival("2001:db8:cd::7", CLIENT),
    "with a forged address in front": Arrival("198.51.100.7", f"{OTHER}, {CLIENT}"),
    "with more forged addresses than are compared": Arrival("198.51.100.7", ", ".join([OTHER] * 20 + [CLIENT])),
    "IPv6": Arrival("198.51.100.7", "2001:db8:bad:1::9"),
}


@pytest.mark.parametrize("arrival", ARRIVALS.values(), ids=ARRIVALS)
def test_the_client_that_is_counted_is_refused_behind_every_kind_of_proxy(world: World, arrival: Arrival) -> None:
    world.set_up(world.stage(settings=SETTINGS))
    blocked = counted(arrival)
    assert is_refused(world, blocked, arrival)
    for neighbour in (Arrival("198.51.100.7", OTHER), Arrival(OTHER), Arrival("198.51.100.7", f"{OTHER}, 192.0.2.2")):
        assert not is_refused(world, blocked, neighbour)


def test_a_forged_address_harms_the_client_that_forges_it_alone(world: World) -> None:
    """The forger is counted by the address that the proxy appended, so it cannot have another client blocked."""
    world.set_up(world.stage(settings=SETTINGS))
    forger, victim = "203.0.113.66", Arrival("198.51.100.7", CLIENT)
    forged = Arrival("198.51.100.7", f"{CLIENT}, {forger}")
    assert counted(forged) == f"{forger}/32"
    assert not is_refused(world, counted(forged), victim)
    assert is_refused(world, counted(victim), forged), "who writes a blocked client's address is refused with it"


def test_without_trusted_proxies_a_forwarded_address_is_not_compared(world: World) -> None:
    world.set_up(world.stage())
    arrival = Arrival("198.51.100.7", CLIENT)
    assert counted(arrival, proxies="") == "198.51.100.7/32"
    assert is_refused(world, "198.51.100.7/32", arrival)
    assert not is_refused(world, f"{CLIENT}/32", arrival)


def test_a_running_stage_compares_forwarded_addresses_once_it_trusts_proxies_and_until_it_does_not(
    world: World,
) -> None:
    plain, proxied = world.stage(), world.stage(settings=SETTINGS)
    world.set_up(plain)
    before = group_of(world)
    for stage, detail in ((proxied, "compared too"), (plain, "no longer compared")):
        changes = [step for step in world.plan(stage) if step.action is StepAction.CHANGE]
        assert f"forwarded addresses are {detail}" in [step.detail for step in changes]
        world.set_up(stage)
        assert not any(step.effective for step in world.plan(stage)), "a second run changes nothing"
    assert group_of(world)["Rules"] == before["Rules"]


def test_a_position_that_was_changed_by_hand_is_restored(world: World) -> None:
    stage = world.stage(settings=SETTINGS)
    world.set_up(stage)
    waf = world.account.client("wafv2")
    (summary,) = waf.list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"]
    identity = {"Name": summary["Name"], "Scope": "CLOUDFRONT", "Id": summary["Id"]}
    answer = waf.get_rule_group(**identity)
    rules = answer["RuleGroup"]["Rules"]
    rules[0]["Statement"]["OrStatement"]["Statements"][1]["IPSetReferenceStatement"]["IPSetForwardedIPConfig"][
        "Position"
    ] = "FIRST"
    visibility = answer["RuleGroup"]["VisibilityConfig"]
    waf.update_rule_group(**identity, Rules=rules, VisibilityConfig=visibility, LockToken=answer["LockToken"])
    assert "its answers change" in [step.detail for step in world.plan(stage)]


@pytest.mark.parametrize(("ip_sets", "capacity"), [(1, CAPACITY), (4, CAPACITY), (5, 60)])
def test_the_rule_group_takes_the_capacity_that_it_needs(world: World, ip_sets: int, capacity: int) -> None:
    world.set_up(world.stage(settings=SETTINGS, ip_sets=ip_sets))
    group = group_of(world)
    assert wcu(group["Rules"]) == 12 * ip_sets <= group["Capacity"] == capacity


def test_a_rule_group_whose_capacity_is_too_small_is_refused_before_anything_changes(world: World) -> None:
    world.set_up(world.stage())
    with pytest.raises(Refusal, match=r"capacity of 50 WCU, .* would need 60"):
        world.plan(world.stage(settings=SETTINGS, ip_sets=5))


def test_more_references_than_a_rule_group_can_have_are_refused(world: World) -> None:
    everything = (Response.CHALLENGE, Response.CAPTCHA, Response.SLOW, Response.WATCH)
    world.stage(settings=SETTINGS, ip_sets=8, responses=everything)
    with pytest.raises(Refusal, match=r"13 IP sets per family with TRUSTED_PROXIES: .* at most 12"):
        world.stage(settings=SETTINGS, ip_sets=9, responses=everything)
