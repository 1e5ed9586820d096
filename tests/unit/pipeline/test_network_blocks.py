"""Guilty networks from the blocks of their members to a block of their own, and its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.rules import NETWORKS
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.events import Events
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import GuiltyNetworks
from chalicelib.core.wording import reason
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.enforce import Enforce
from chalicelib.pipeline.network_blocks import MERGE_AGAIN_S, MOST_NOTED, NOTE_VALID_S, NetworkNotes
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import StreamChange, Unavailable
from tests.support.network_site import FLEET, NETWORK, RULE, Site
from tests.support.state import NOW, UNREACHED, detection


def test_a_network_of_blocked_clients_is_blocked_as_long_as_they_are_and_names_them() -> None:
    site = Site()
    site.offend(*FLEET)
    (block,) = site.minute()
    assert block == site.network()
    assert (block.network, block.rule, block.until) == (NETWORK, NETWORKS, NOW + 600)
    assert block.members is not None
    assert (block.members.number, block.members.named) == (8, tuple(FLEET))


def test_rules_without_networks_block_clients_alone() -> None:
    site = Site(RULE)
    site.offend(*FLEET)
    assert site.minute() == []
    assert site.state.control(GuiltyNetworks).record == GuiltyNetworks()


def test_a_note_is_not_enforced_after_the_rules_gave_up_networks() -> None:
    site = Site()
    site.offend(*FLEET)
    site.note()
    site.note()
    site.rules = parse_rules(RULE)
    assert site.enforce() == []


def test_nothing_is_noted_or_blocked_again_while_nothing_changes() -> None:
    site = Site()
    site.offend(*FLEET)
    assert site.minute()
    noted = site.state.control(GuiltyNetworks)
    site.clock.now += 60
    assert site.minute() == []
    assert site.state.control(GuiltyNetworks) == noted


def test_members_that_offend_again_prolong_the_block_of_their_network() -> None:
    site = Site()
    site.offend(*FLEET)
    site.minute()
    site.clock.now += 400
    site.offend(*(f"192.0.2.{number}/32" for number in range(1, 240, 30)))
    (block,) = site.minute()
    assert (block.blocked_at, block.until) == (NOW, NOW + 1000)
    assert block.members is not None
    assert block.members.number == 16


def test_the_block_of_a_network_ends_with_those_of_its_members() -> None:
    site = Site()
    site.offend(*FLEET)
    site.minute()
    site.clock.now += 600
    Sweep(state=site.state, clock=site.clock).run()
    assert site.store.blocks() == {}
    assert site.minute() == []


def test_a_network_that_an_operator_released_stays_free_while_its_members_of_that_time_are_blocked() -> None:
    site = Site()
    site.offend(*FLEET)
    site.minute()
    site.clock.now += 60
    site.lift()
    site.clock.now += 2
    site.offend(*(f"192.0.2.{number}/32" for number in range(1, 240, 30)))
    assert site.minute() == []
    site.clock.now += 538
    assert [block.network for block in site.minute()] == ["192.0.2.0/24"]


@pytest.mark.parametrize("rule", ["manual", "fleet"])
def test_a_block_of_the_network_by_an_operator_or_a_rule_is_left_as_it_is(rule: str) -> None:
    site = Site()
    by_another = site.store.block(NETWORK, until=NOW + 50, rule=rule)
    site.offend(*FLEET)
    assert site.minute() == []
    assert site.network() == by_another
    site.clock.now += 50
    assert site.minute()


def test_networks_are_merged_while_ip_sets_are_nearly_full_and_their_blocks_say_so() -> None:
    site = Site()
    site.offend(*FLEET[:5])
    assert site.minute() == []
    site.room = 5
    (block,) = site.minute()
    assert (block.network, block.rule, block.until) == ("192.0.2.0/25", NETWORKS, NOW + 600)
    assert block.members is not None
    assert (block.members.number, block.members.merged) == (5, True)
    assert "the IP sets were nearly full" in reason(block)
    site.offend(*FLEET[5:])
    (whole,) = site.minute()
    assert whole.members is not None
    assert (whole.network, whole.members.merged) == (NETWORK, False)


def test_while_ip_sets_are_nearly_full_merging_waits_for_no_heartbeat() -> None:
    site = Site()
    site.offend("198.51.100.1/32")
    assert site.minute() == []
    site.offend(*FLEET[:5])
    site.clock.now += MERGE_AGAIN_S
    site.note(beat=False)
    assert site.enforce() == []
    site.room = 5
    site.note(beat=False)
    (block,) = site.enforce()
    assert block.members is not None
    assert block.members.merged
    noted = site.state.control(GuiltyNetworks)
    site.offend("192.0.3.1/32", "192.0.3.2/32")
    site.clock.now += MERGE_AGAIN_S - 1
    site.room = 1
    site.note(beat=False)
    assert site.state.control(GuiltyNetworks) == noted
    site.clock.now += 1
    site.note(beat=False)
    assert site.state.control(GuiltyNetworks) != noted


def test_a_pause_blocks_no_network() -> None:
    site = Site()
    site.offend(*FLEET)
    site.store.put(Pause(paused=True), Pause.id)
    assert site.minute() == []
    site.store.put(Pause(), Pause.id)
    assert site.minute()


def test_a_network_with_a_proxy_of_the_site_is_not_blocked() -> None:
    site = Site()
    site.enforcer = Enforce(
        state=site.state,
        clock=site.clock,
        limits=UNREACHED,
        rules=lambda _: RulesInUse(site.rules),
        proxies=NetworkSet([parse_network("192.0.2.99")]),
    )
    site.offend(*FLEET)
    assert site.minute() == []


def test_blocking_a_network_is_recorded_once() -> None:
    site = Site()
    site.offend(*FLEET)
    site.minute()
    site.clock.now += 400
    site.offend(*FLEET[:4], *(f"192.0.2.{number}/32" for number in range(1, 240, 30)))
    assert site.minute()
    events = [event for record in site.state.records(Events) for event in record.events]
    assert [(e.outcome, e.rule, e.until) for e in events if e.network == NETWORK] == [("blocked", NETWORKS, NOW + 600)]


def test_an_old_note_is_not_enforced() -> None:
    site = Site()
    site.offend(*FLEET)
    site.note()
    site.note()
    site.clock.now += NOTE_VALID_S + 1
    assert site.enforce() == []


def test_a_concurrent_change_is_left_for_the_next_note() -> None:
    site = Site()
    site.offend(*FLEET)
    site.note()
    site.note()
    site.enforcer.run([])
    site.enforce()
    site.lift()
    site.state.overwrite(site.store.history(NETWORK).__class__(network=NETWORK))
    site.store.meddle = lambda: site.store.block(NETWORK, rule="manual")
    site.note()
    assert site.enforce() == []
    block = site.network()
    assert block is not None
    assert block.manual


def test_requests_that_were_refused_to_a_client_of_the_network_are_no_offence() -> None:
    site = Site()
    site.offend(*FLEET)
    site.minute()
    site.clock.now += 30
    refused = detection("192.0.2.77/32", at=int(site.clock.now), served_since_ms=-1)
    site.enforcer.run([StreamChange(refused.kind, refused.id, refused.to_json(), False)])
    assert "192.0.2.77/32" not in site.store.blocks()


@pytest.mark.slow
def test_more_networks_than_fit_into_a_note_follow() -> None:
    site = Site()
    fleets = [[f"10.{n}.0.{number}/32" for number in range(0, 240, 30)] for n in range(200)]
    fleets += [[f"11.{n}.0.{number}/32" for number in range(0, 240, 30)] for n in range(200)]
    for each in [network for fleet in fleets for network in fleet]:
        site.store.block(each)
    assert len(site.minute()) == MOST_NOTED
    assert len(site.minute()) == 400 - MOST_NOTED


def test_a_table_that_cannot_be_read_stops_no_publisher() -> None:
    site = Site()

    def fail(_: int) -> RulesInUse:
        raise Unavailable("AccessDenied")

    site.notes = NetworkNotes(site.state, fail)
    site.offend(*FLEET)
    assert site.minute() == []


@given(
    st.permutations(range(12)),
    st.lists(st.integers(1, 11), max_size=4),
    st.lists(st.integers(0, 11), max_size=6),
    st.integers(1, 12),
)
def test_in_whatever_order_members_are_blocked_and_networks_noted_the_network_is_blocked_as_long(
    order: list[int], minutes: list[int], again: list[int], batch: int
) -> None:
    offenders = [f"192.0.2.{number * 20}/32" for number in range(12)]
    at_once, one_by_one = Site(), Site()
    for number in range(12):
        at_once.store.block(offenders[number], until=NOW + 1000 + number)
    at_once.minute()
    for place, number in enumerate([*order, *again]):
        one_by_one.store.block(offenders[number], until=NOW + 1000 + number)
        if place in minutes or place % batch == 0:
            one_by_one.minute()
    one_by_one.minute()
    one_by_one.enforce()
    ends = {site.store.blocks()[NETWORK].until for site in (at_once, one_by_one)}
    assert ends == {NOW + 1004}
