"""The history over every adapter of the state store: complete, in order, and cut into pages without a gap."""

import pytest

from chalicelib.admin import history
from chalicelib.admin.history import list_history
from chalicelib.admin.schemas import EventsQuery
from chalicelib.core.state.events import Event, Events
from chalicelib.pipeline.recording import recorded
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, StateStore

NOW, DAY_S = 1_790_000_000, 86_400


def event(number: int) -> Event:
    return Event(outcome="blocked", network=f"192.0.2.{number}/32", rule="burst", until=NOW, offence=1)


def test_pages_over_spread_records_are_in_order_and_complete(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RECORDS_PER_READ", 4)
    state = State(store)
    for number in range(0, 60, 3):
        batch = [event(number + each) for each in range(3)]
        state.write(recorded(batch, (NOW - 600 + number) * 1000, DAY_S))
    listed: list[str | None] = []
    cursor = None
    while True:
        query = EventsQuery(since=NOW - 594, until=NOW - 549, limit=7, cursor=cursor)
        page = list_history(state, query, history_s=DAY_S, now=NOW)
        listed += [each.network for each in page.events]
        cursor = page.next
        if cursor is None:
            break
    assert listed == [event(number).network for number in reversed(range(6, 51))]


def test_the_same_events_at_the_same_time_are_recorded_once(store: StateStore) -> None:
    state = State(store)
    state.write(recorded([event(1)], NOW * 1000, DAY_S))
    with pytest.raises(Conflict):
        state.write(recorded([event(1)], NOW * 1000, DAY_S))
    state.write(recorded([event(2)], NOW * 1000, DAY_S))
    assert len(list(state.all(Events))) == 2
