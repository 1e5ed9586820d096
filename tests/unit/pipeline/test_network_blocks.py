"""Guilty networks from the blocks of their members to a block of their own, and its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.responses import Response
from chalicelib.core.rules import NETWORKS
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state import Block, Events, GuiltyNetworks, Heartbeat, Pause
from chalicelib.core.wording import reason
from chalicelib.edges.events import state_changes
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.enforce import Enforce
from chalicelib.pipeline.followed_blocks import FollowedBlocks
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.network_blocks import MOST_NOTED, NOTE_VALID_S, NetworkNotes
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import StreamChange, Unavailable
from sluice.local.events import state_event
from tests.support.clock import Clock
from tests.support.known import remember
from tests.support.state import NOW, UNREACHED, Store, detection

TERMS = "[networks]\n"
RULE = '[[rule]]\nname = "burst"\nlimit = 10\nwindow = "5s"\n'
FLEET = [f"192.0.2.{number}/32" for number in range(0, 240, 30)]
NETWORK = "192.0.2.0/24"


class Site:
    """A publisher's memory and an enforcer over one state table, which remembers clients."""

    def __init__(self, rules: str = TERMS + RULE) -> None:
        self.store = Store()
        self.clock = Clock(NOW)
        self.rules = parse_rules(rules)
        self.room = 10_000
        """Networks that fit into the IP sets."""
        remember(self.store, ["198.51.100.7/32"], NOW)
        self.state = State(self.store)
        self.followed = FollowedBlocks(self.state, self.clock)
        self.notes = NetworkNotes(self.state, lambda _: RulesInUse(self.rules))
        self.enforcer = Enforce(
            state=self.state, clock=self.clock, limits=UNREACHED, rules=lambda _: RulesInUse(self.rules)
        )

    def minute(self) -> list[Block]:
        """Lets the heartbeat arrive, and everything that follows from it; returns the blocks made."""
        self.note()
        self.note()  # The first time, the publisher has yet to read the blocks.
        return self.enforce()

    def note(self) -> None:
        changes = state_changes(state_event(self.store.changes))
        self.store.changes.clear()
        beat = [*changes, StreamChange(Heartbeat.kind, Heartbeat.id, None, True)]
        self.followed.follow(beat)
        self.notes.follow(beat)
        rooms = {SetGroup(Response.BLOCK, 4): self.room}
        surplus = self.followed.current().wanted(NetworkSet(()), rooms, int(self.clock.now)).surplus(rooms)
        self.notes.note(self.followed, int(self.clock.now), surplus)

    def enforce(self) -> list[Block]:
        return self.enforcer.run([StreamChange(GuiltyNetworks.kind, GuiltyNetworks.id, b"{}", True)]).blocks

    def offend(self, *networks: str) -> None:
        of = detection(*networks, at=int(self.clock.now), id=f"log/{self.clock.now}/{networks[0]}")
        self.enforcer.run([StreamChange(of.kind, of.id, of.to_json(), False)])

    def lift(self, network: str = NETWORK) -> None:
        stored = self.state.get(Block, network)
        assert stored is not None
        lift(self.state, [stored], int(self.clock.now))

    def network(self) -> Block | None:
        return self.store.blocks().get(NETWORK)


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
