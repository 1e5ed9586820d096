"""Guilty networks that replay says production would have blocked."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import parse_network
from chalicelib.core.responses import Response
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.allowlist import Allow
from sluice.replay.engine import Options, replay
from sluice.replay.network_model import NetworkBlocks, NetworkPeriod
from tests.support import replay_logs as logs
from tests.support.network_site import FLEET, RULE, TERMS, Site
from tests.support.replay_logs import Hit, fleet
from tests.support.state import NOW

START = NOW - NOW % 60 + 60
"""A full minute, more than a day after the first request."""
RULES = parse_rules(f"{TERMS}{RULE}block_for = '10m'\n")


def hits(client: str, at: int, number: int = 11) -> list[Hit]:
    """Returns requests within one second; by default, one more than the rule allows."""
    return [Hit(at * 1000 + k, client) for k in range(number)]


def found(made: Iterable[Hit], rules: str = "", **options: object) -> list[NetworkBlocks]:
    """Returns the guilty networks in a log in which 198.51.100.7 is known."""
    log = logs.chunk(logs.realtime(hit) for hit in [*logs.since_days(START), *made])
    (result,) = replay([log], [parse_rules(rules) if rules else RULES], Options(**options))  # type: ignore[arg-type]
    return result.networks


def test_a_network_is_blocked_from_the_minute_after_its_last_member_as_long_as_enough_of_them_are() -> None:
    (blocks,) = found([*fleet(START), *hits("192.0.2.77", START + 100, 5), *hits("192.0.3.77", START + 100, 5)])
    assert str(blocks.network) == "192.0.2.0/24"
    assert blocks.periods == (NetworkPeriod(START + 60, START + 601, Response.BLOCK),)
    assert (blocks.members.number, blocks.members.named) == (8, tuple(FLEET))
    assert blocks.refused == 5


def test_requests_that_a_rule_or_nothing_refuses_are_not_refused_by_the_network() -> None:
    late = hits("192.0.2.77", START + 601, 5)
    (blocks,) = found([*fleet(START), *fleet(START + 100, 3), *late])
    assert blocks.refused == 0
    allowed = Allow(network="192.0.2.77/32", added_at=0)
    (blocks,) = found([*fleet(START), *hits("192.0.2.77", START + 100, 5)], allowlist=(allowed,))
    assert blocks.refused == 0


def test_a_network_with_a_trusted_proxy_or_known_clients_is_spared() -> None:
    assert found(fleet(START), trusted=(parse_network("192.0.2.7/32"),)) == []
    regulars = [hit for host in (3, 4, 5) for hit in hits(f"192.0.2.{host}", START - 86400, 1)]
    assert found([*fleet(START), *regulars]) == []


def test_nothing_is_guilty_without_terms_without_blocks_or_in_a_log_of_a_day() -> None:
    assert found(fleet(START), f"{RULE}block_for = '10m'\n") == []
    assert found(fleet(START), f"{TERMS}{RULE}action = 'count'\n") == []
    (result,) = replay([logs.chunk(map(logs.realtime, fleet(START)))], [RULES], Options())
    assert result.networks == []


def test_a_network_meets_the_responses_of_its_members_and_only_blocks_refuse() -> None:
    ladder = f"{TERMS}{RULE}respond = ['challenge', 'block']\nblock_for = '10m'\n"
    (blocks,) = found([*fleet(START), *hits("192.0.2.77", START + 70, 5), *fleet(START + 400)], ladder)
    assert blocks.periods == (
        NetworkPeriod(START + 60, START + 420, Response.CHALLENGE),
        NetworkPeriod(START + 420, START + 1001, Response.BLOCK),
    )
    assert blocks.refused == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 1500), st.sampled_from((0, 1, 2, 16)), st.integers(0, 15)),
        unique_by=lambda offence: offence[1:],
        min_size=8,
        max_size=40,
    )
)
def test_replay_and_the_pipeline_block_the_same_networks_from_the_same_minute_to_the_same_second(
    offences: list[tuple[int, int, int]],
) -> None:
    site = Site(f"{TERMS}members = 4\n{RULE}")
    due = sorted((START + second, f"192.0.{part}.{16 * host}") for second, part, host in offences)
    networks: dict[str, list[tuple[int, int]]] = {}
    for minute in range(START, START + 2400, 60):
        for at, client in due:
            if minute - 60 <= at < minute:
                site.clock.now = at
                site.offend(f"{client}/32")
        site.clock.now = minute
        for block in site.minute():
            periods = networks.setdefault(block.network, [])
            since = periods.pop()[0] if periods and periods[-1][1] >= minute else minute
            periods.append((since, block.until))
    # An offence is detected when its second ends.
    made = [hit for at, client in due for hit in hits(client, at - 1)]
    blocks = found(made, f"{TERMS}members = 4\n{RULE}block_for = '10m'\n")
    assert {str(each.network): [(p.since, p.until) for p in each.periods] for each in blocks} == networks
