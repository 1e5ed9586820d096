"""A regional stage behind a CDN that it does not trust blocks none of the CDN's addresses."""

import pytest

from chalicelib.admin.clients import client_report
from chalicelib.admin.schemas import AddressQuery
from chalicelib.core.addresses import parse_network
from chalicelib.core.proxies import RANGES, proxies
from chalicelib.core.sampling import Sampling
from chalicelib.core.state.blocks import Block
from chalicelib.pipeline.stored import State
from sluice.local.cloud import LocalCloud
from sluice.local.loop import SimulatedClock

START = 1_790_000_000.0
EDGE, CLIENT = "130.176.10.7", "203.0.113.9"
RULES = '[[rule]]\nname = "burst"\nlimit = 10\nwindow = "5s"\naction = "block"\n'


def site(**settings: str) -> LocalCloud:
    """Returns a cloud in which a CDN's address and a client have made too many requests."""
    cloud = LocalCloud(SimulatedClock(START), rules=RULES, settings=settings)
    cloud.start()
    for number in range(40):
        for address in (EDGE, CLIENT):
            line = f"{START - 1:.3f}\t{address}\t200\tGET\twww.example.com\t/\t{address}-{number}==\tagent\t-\n"
            cloud.put(line.encode())
    cloud.loop.run(START + 30)
    return cloud


def blocked(cloud: LocalCloud) -> set[str]:
    return {block.network for block in State(cloud.state).records(Block)}


def test_a_regional_stage_does_not_block_a_cdn_and_says_what_to_set() -> None:
    cloud = site(WAF_SCOPE="REGIONAL")
    assert blocked(cloud) == {f"{CLIENT}/32"}
    services = cloud.container()
    report = client_report(
        services.state,
        services.blocks,
        services.live,
        AddressQuery(address=EDGE),
        sampling=Sampling(100),
        now_ms=int(START + 30) * 1000,
    )
    (past,) = report.history
    assert past.outcome == "proxy"
    assert any("set TRUSTED_PROXIES to count the clients behind it" in sentence for sentence in report.explain)


@pytest.mark.parametrize("settings", [{}, {"WAF_SCOPE": "REGIONAL", "SPARE_PROXIES": "no"}], ids=["edge", "by choice"])
def test_elsewhere_or_by_choice_a_cdn_is_a_client_like_any_other(settings: dict[str, str]) -> None:
    assert blocked(site(**settings)) == {f"{EDGE}/32", f"{CLIENT}/32"}


@pytest.mark.parametrize("cdn", RANGES)
def test_the_ranges_are_networks_of_both_families_and_disjoint(cdn: str) -> None:
    networks = [parse_network(text) for text in RANGES[cdn].split()]
    assert {network.version for network in networks} == {4, 6}
    assert all(proxies().overlaps(network) for network in networks)
    for network in networks:
        assert not any(network.overlaps(other) for other in networks if other is not network)


@pytest.mark.parametrize("address", ["203.0.113.9", "8.8.8.8", "104.28.1.1", "52.95.0.1", "2001:db8::1"])
def test_an_address_of_no_cdn_is_no_proxy(address: str) -> None:
    assert not proxies().overlaps(parse_network(address))
