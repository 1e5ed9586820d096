"""The events that are recorded with decisions: each once, with who, why and until when, and at a bounded cost."""

from collections.abc import Sequence

import pytest

from chalicelib.core.breaker import Limits
from chalicelib.core.responses import Response
from chalicelib.core.rules import Action
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.events import HISTORY_S, Event, Events
from chalicelib.edges.state_table import attributes_of
from chalicelib.pipeline.enforce import SAMPLE
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import Put, Write
from tests.support.clock import Clock
from tests.support.known import remember
from tests.support.state import CLIENT, NOW, Store, detection, new_enforcer, stream_changes, terms

UNITS_TO_BLOCK_AND_LIFT = 2 * 2 * 2
"""Write units of two items, a block and a history, below a kilobyte each, in two transactions, which double them."""


def events(store: Store) -> list[Event]:
    """Returns all events, the oldest first."""
    records = sorted(State(store).records(Events), key=lambda record: record.at_ms)
    return [event for record in records for event in record.events]


def outcomes(store: Store) -> list[str]:
    return [event.outcome for event in events(store)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(store: Store, clock: Clock, *detections: Detection, **how: object) -> None:
    new_enforcer(store, clock, **how).run(stream_changes(*detections))  # type: ignore[arg-type]


def sweep(store: Store, clock: Clock) -> None:
    Sweep(state=State(store), clock=clock).run()


def test_a_block_says_who_why_by_which_rule_and_until_when(clock: Clock) -> None:
    store = Store()
    run(store, clock, detection())
    (event,) = events(store)
    block = store.blocks()[CLIENT]
    assert event == Event(
        outcome="blocked", network=CLIENT, rule="burst", until=NOW + 600, offence=1, evidence=block.evidence
    )
    (record,) = State(store).all(Events)
    assert record.record.at_ms == NOW * 1000
    assert record.item.expires_at == NOW + HISTORY_S


def test_a_detection_that_is_delivered_again_adds_no_event(clock: Clock) -> None:
    store = Store()
    for _ in range(3):
        run(store, clock, detection())
        clock.now += 1
    assert outcomes(store) == ["blocked"]


def test_a_block_that_is_over_ended_when_its_time_was_over(clock: Clock) -> None:
    store = Store()
    run(store, clock, detection())
    clock.now = NOW + 650
    sweep(store, clock)
    _, end = events(store)
    assert end == Event(outcome="ended", network=CLIENT, rule="burst", since=NOW, until=NOW + 600, offence=1)


def test_a_block_that_was_over_and_is_replaced_before_a_sweep_has_an_end(clock: Clock) -> None:
    store = Store()
    run(store, clock, detection())
    clock.now = NOW + 650
    run(store, clock, detection(at=NOW + 650))
    assert [(event.outcome, event.until) for event in events(store)] == [
        ("blocked", NOW + 600),
        ("ended", NOW + 600),
        ("blocked", NOW + 650 + 1200),
    ]


def test_a_client_that_goes_on_under_a_block_that_it_prolongs_causes_one_start_and_one_end(clock: Clock) -> None:
    store = Store()
    for second in range(20):
        clock.now = NOW + second
        run(store, clock, detection(at=NOW + second, of=terms(extend=True)))
    (block,) = store.blocks().values()
    assert block.until > NOW + 610
    clock.now = block.until
    sweep(store, clock)
    assert [(event.outcome, event.until) for event in events(store)] == [
        ("blocked", NOW + 600),
        ("ended", block.until),
    ]


def test_a_rule_that_only_counts_says_whom_it_would_have_blocked_and_until_when(clock: Clock) -> None:
    store = Store()
    for second in range(5):
        clock.now = NOW + second
        run(store, clock, detection(at=NOW + second, of=terms(action=Action.COUNT)))
    (event,) = events(store)
    assert (event.outcome, event.network, event.until, event.offence) == ("counted", CLIENT, NOW + 601, 1)
    assert event.evidence is not None
    assert event.response is Response.BLOCK


def test_a_client_on_the_allowlist_and_a_stale_offence_are_recorded_as_such(clock: Clock) -> None:
    store = Store()
    store.allow(CLIENT)
    run(store, clock, detection(), detection("192.0.2.2/32", at=NOW - 10, id="b"), stale_after_s=5)
    assert sorted((event.outcome, event.network) for event in events(store)) == [
        ("allowlisted", CLIENT),
        ("stale", "192.0.2.2/32"),
    ]


def test_of_many_offences_that_block_nobody_the_rest_is_numbered(clock: Clock) -> None:
    store = Store()
    crowd = [f"198.51.100.{host}/32" for host in range(100)]
    for second in range(3):
        clock.now = NOW + second
        run(store, clock, detection(*crowd, at=NOW + second, of=terms(action=Action.COUNT)))
    named = [event for event in events(store) if event.network]
    assert len(named) == SAMPLE
    (unnamed,) = [event for event in events(store) if not event.network]
    assert (unnamed.outcome, unnamed.rule, unnamed.number) == ("counted", "burst", 100 - SAMPLE)


def test_the_rest_is_numbered_once_however_many_transactions_a_batch_takes(clock: Clock) -> None:
    store = Store()
    store.allow("198.51.100.0/24")
    offenders = [f"192.0.2.{host}/32" for host in range(120)] + [f"198.51.100.{host}/32" for host in range(50)]
    run(store, clock, detection(*offenders))
    assert sum(event.number for event in events(store)) == 170


def test_a_stopped_rule_is_recorded_once_with_the_known_clients_that_it_would_hit(clock: Clock) -> None:
    store = Store()
    regulars = [f"192.0.2.{host}/32" for host in range(200)]
    remember(store, regulars, now=NOW)
    for second in range(3):
        clock.now = NOW + second
        run(store, clock, detection(*regulars[:100], at=NOW + second), limits=Limits(share=2, pace=1000))
    (event,) = [event for event in events(store) if event.outcome == "stopped"]
    assert (event.rule, event.network) == ("burst", "")
    assert event.number > 4


class Failing(Store):
    """Fails in each write that says so, before or after it."""

    def __init__(self, *, before: bool) -> None:
        super().__init__()
        self.before, self.failures = before, 1

    def write(self, writes: Sequence[Write]) -> None:
        failing = self.failures > 0 and any(isinstance(write, Put) and write.item.kind == "block" for write in writes)
        if not (failing and self.before):
            super().write(writes)
        if failing:
            self.failures -= 1
            raise TimeoutError


@pytest.mark.parametrize("before", [True, False])
def test_a_crash_around_the_write_loses_no_event_and_repeats_none(clock: Clock, before: bool) -> None:
    store = Failing(before=before)
    with pytest.raises(TimeoutError):
        run(store, clock, detection())
    clock.now += 5
    run(store, clock, detection())
    assert outcomes(store) == ["blocked"]


@pytest.mark.slow
def test_events_add_at_most_an_eighth_to_the_units_of_the_blocks_of_an_attack(clock: Clock) -> None:
    store = Store()
    log = "sluice-logs/shardId-000000000000@1790000000000/000000000041/burst/cloudfront"
    crowd = [f"198.51.{host // 250}.{host % 250}/32" for host in range(980)]
    run(store, clock, detection(*crowd, id=log))
    assert len(events(store)) == 980
    clock.now += 700
    sweep(store, clock)
    assert outcomes(store).count("ended") == 980
    assert units(store) < 980 * UNITS_TO_BLOCK_AND_LIFT / 8


def units(store: Store) -> int:
    """Returns the write units of all records of events, each in a transaction."""
    return sum(2 * -(-size(item) // 1024) for item in store.query(Events.kind))


def size(item: object) -> int:
    """Returns the bytes of an item, as DynamoDB counts them: names and values."""
    attributes = attributes_of(item)  # type: ignore[arg-type]
    return sum(len(name) + len(next(iter(value.values()))) for name, value in attributes.items())


def test_blocks_that_an_operator_lifts_ended_then_and_by_the_operator(clock: Clock) -> None:
    store = Store()
    run(store, clock, detection())
    state = State(store)
    lift(state, list(state.all(Block)), NOW + 60, by="alice")
    end = events(store)[-1]
    assert (end.outcome, end.until, end.by) == ("ended", NOW + 60, "alice")
