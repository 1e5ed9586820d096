"""Sweep: the blocks it lifts, and its heartbeat."""

import pytest

from chalicelib.core.announcements import of_change
from chalicelib.core.decisions import DEFAULT_MEMORY_S
from chalicelib.core.durations import DAY_S
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.breakers import RuleBreaker
from chalicelib.core.state.operators import Audit, Pause
from chalicelib.core.state.publishing import Heartbeat, Publisher
from chalicelib.pipeline import sweep
from chalicelib.pipeline.followed_blocks import MOST_NOTED
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import MOST_LIFTED, NOTE_VALID_S, Sweep
from chalicelib.ports import Item
from chalicelib.reports import SweepReport
from tests.support.clock import Clock
from tests.support.state import CLIENT, NOW, Store, detection, new_enforcer, stream_changes


def swept(store: Store, at: float = NOW) -> SweepReport:
    return Sweep(state=State(store), clock=Clock(at)).run()


def test_a_block_is_lifted_at_the_second_it_ends_and_not_before() -> None:
    store = Store()
    block = store.block(until=NOW + 600)
    assert swept(store, NOW + 599.9).lifted == []
    assert swept(store, NOW + 600).lifted == [block]
    assert store.blocks() == {}


def test_a_block_ended_at_its_end_and_not_when_the_sweep_came() -> None:
    store = Store()
    new_enforcer(store, Clock()).run(stream_changes(detection()))
    before = store.history()
    swept(store, NOW + 700)
    assert store.history().ended_at == NOW + 600
    assert store.history().rules == before.rules


def test_a_lifted_manual_block_leaves_a_history_too() -> None:
    store = Store()
    store.block(rule="manual", until=NOW)
    swept(store, NOW)
    assert (store.history().ended_at, store.history().rules) == (NOW, {})
    item = store.get("offence", CLIENT)
    assert item is not None
    assert item.expires_at == NOW + DEFAULT_MEMORY_S + DAY_S


def test_a_block_that_changes_concurrently_stays_and_the_others_are_lifted() -> None:
    store = Store()
    for host in range(7):
        store.block(f"192.0.2.{host}/32", until=NOW)
    store.meddle = lambda: store.block("192.0.2.4/32", until=NOW + 900)
    report = swept(store)
    assert store.blocks().keys() == {"192.0.2.4/32"}
    assert len(report.lifted) == 6
    assert report.conflicts == 1


def test_a_history_that_changes_concurrently_is_read_again() -> None:
    store = Store()
    for host in range(2):
        store.block(f"192.0.2.{host}/32", until=NOW)

    store.meddle = lambda: store.put(History(network="192.0.2.1/32", ended_at=NOW - 9), "192.0.2.1/32")
    report = swept(store)
    assert (len(report.lifted), report.conflicts) == (2, 0)
    assert store.history("192.0.2.1/32").ended_at == NOW


def test_a_block_that_follows_the_one_that_a_slow_sweep_has_read_is_not_lifted() -> None:
    """Both have version 1, because the first was deleted in between."""
    store = Store()
    store.block(until=NOW - 10)
    read = list(State(store).all(Block))
    swept(store)
    new_enforcer(store, Clock()).run(stream_changes(detection()))
    block = store.blocks()[CLIENT]
    assert lift(State(store), read, NOW) == ([], 1)
    assert store.blocks() == {CLIENT: block}


def test_two_sweeps_at_once_lift_a_block_once() -> None:
    store = Store()
    store.block(until=NOW)
    reports: list[SweepReport] = []
    store.meddle = lambda: reports.append(swept(store))
    reports.append(swept(store))
    assert sorted(len(report.lifted) for report in reports) == [0, 1]


def test_more_blocks_than_fit_a_transaction_are_lifted_in_several() -> None:
    store = Store()
    for number in range(130):
        store.block(f"198.51.{number // 100}.{number % 100}/32", until=NOW)
    assert len(swept(store).lifted) == 130
    assert store.writes == [99, 99, 65]


def test_the_heartbeat_counts_the_blocks_in_force_and_lifted() -> None:
    store = Store()
    store.block("192.0.2.1/32", until=NOW)
    store.block("192.0.2.2/32", until=NOW + 1)
    report = swept(store)
    item = store.get(Heartbeat.kind, Heartbeat.id)
    assert item is not None
    beat = Heartbeat.from_json(item.body)
    assert (beat.at, beat.blocks, beat.lifted, beat.unreadable) == (NOW, 1, 1, ())
    assert report.blocks == 1


def test_every_sweep_reaches_the_publisher_through_the_stream() -> None:
    store = Store()
    for minute in range(3):
        swept(store, NOW + 60 * minute)
    beats = [change for change in store.changes if change.new is not None and change.new.id == Heartbeat.id]
    assert len(beats) == 3


def noted(store: Store, *ending: str, blocks: int = 0, at: int = NOW) -> None:
    """Stores a publisher's note."""
    store.put_over(
        [Item(kind="control", id=Publisher.id, body=Publisher(at=at, blocks=blocks, ending=ending).to_json())]
    )


@pytest.mark.parametrize("age", [-NOTE_VALID_S, 0, NOTE_VALID_S])
def test_only_the_blocks_that_the_publisher_has_noted_are_read(age: int) -> None:
    store = Store()
    over, prolonged, unknown = (store.block(f"192.0.2.{host}/32", until=NOW + 30) for host in (1, 2, 3))
    store.block(prolonged.network, until=NOW + 999)
    noted(store, over.network, prolonged.network, "192.0.2.9/32", blocks=700, at=NOW + 40 - age)
    report = swept(store, NOW + 40)
    assert report.lifted == [over]
    assert unknown.network in store.blocks()


def test_the_blocks_in_force_are_those_of_the_note_without_those_that_have_ended_since() -> None:
    store = Store()
    store.block("192.0.2.1/32", until=NOW - 5)
    store.block("192.0.2.2/32", until=NOW + 5)
    noted(store, "192.0.2.1/32", "192.0.2.2/32", blocks=7)
    assert swept(store, NOW + 60).blocks == 6


@pytest.mark.parametrize("age", [-NOTE_VALID_S - 1, NOTE_VALID_S + 1])
def test_all_blocks_are_read_if_the_note_is_old(age: int) -> None:
    store = Store()
    block = store.block(until=NOW)
    noted(store, at=NOW - age)
    assert swept(store).lifted == [block]


def test_one_sweep_lifts_a_bounded_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_LIFTED >= MOST_NOTED
    monkeypatch.setattr(sweep, "MOST_LIFTED", 2)
    store = Store()
    for host in range(5):
        store.block(f"192.0.2.{host}/32", until=NOW)
    assert [len(swept(store).lifted) for _ in range(4)] == [2, 2, 1, 0]


def test_a_pause_that_is_over_is_ended_once_with_an_audit_record_that_announces_it() -> None:
    store = Store()
    state = State(store)
    state.overwrite(Pause(paused=True, release=True, at=NOW - 60, by="alice", until=NOW, comment="load test"))
    assert swept(store, NOW - 1).paused
    assert state.control(Pause).record.paused
    assert not swept(store, NOW).paused
    swept(store, NOW + 60)
    assert state.control(Pause).record == Pause(paused=False, at=NOW, by="alice")
    [change] = state.all(Audit)
    assert (change.record.action, change.record.by) == ("resume", "alice")
    announced = of_change(change.record, change.id, "sluice")
    assert announced is not None
    assert announced.type == "Enforcement Resumed"


def test_a_pause_that_an_operator_prolongs_while_it_is_ended_stays() -> None:
    store = Store()
    State(store).overwrite(Pause(paused=True, until=NOW))
    store.meddle = lambda: store.put(Pause(paused=True, until=NOW + 600), Pause.id)
    swept(store)
    assert State(store).pause(NOW).paused
    assert State(store).records(Audit) == []


def test_blocks_end_during_a_pause_and_while_a_rule_is_stopped() -> None:
    store = Store()
    store.block(until=NOW)
    store.put(Pause(paused=True), Pause.id)
    State(store).overwrite(RuleBreaker(rule="burst", stopped_at=NOW - 60), RuleBreaker(rule="other"))
    report = swept(store)
    assert (report.paused, report.stopped_rules, len(report.lifted)) == (True, 1, 1)
    assert Block.kind not in {change.new.kind for change in store.changes[-1:] if change.new}
