"""The history: what was decided about clients and rules, for as long as events are kept."""

from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple

from msgspec import Struct

from chalicelib.admin.answers import Page, at_most, one_of
from chalicelib.admin.inputs import read_network
from chalicelib.admin.pagination import read_cursor, write_cursor
from chalicelib.admin.schemas import MOST_EVENTS, EventsQuery
from chalicelib.core.addresses import NetworkSet, span_of
from chalicelib.core.responses import Response
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.events import EVENT_OUTCOMES, Event, Events, events_from
from chalicelib.core.state.records import Seconds
from chalicelib.core.wording import event_detail
from chalicelib.pipeline.stored import State, Stored

RECORDS_PER_READ = 200
MOST_EXAMINED = 5000
"""Most events that one call examines for a match: an attack leaves up to 49 in a record of 20 kB."""


class EventView(Struct, frozen=True, kw_only=True):
    """An event as operators see it."""

    id: str
    """Identifies the event: it never changes, and no other event has it."""
    at: Seconds
    """When it was decided. Epoch seconds."""
    outcome: Annotated[str, one_of(*EVENT_OUTCOMES)]
    """blocked; counted, allowlisted, proxy or stale: an offence for which no client was blocked; ended: a block is over
    or was lifted; stopped or resumed: a rule, by its breaker; full: the IP sets are nearly full; unreadable: logs hold
    pieces that cannot be read."""
    network: str | None
    """Null if the event is about a rule, or about clients of whom only the number is known."""
    rule: str
    """Name of the rule, or 'manual'; empty if the event is about IP sets or logs."""
    detail: str
    """The reason in words."""
    since: Seconds | None
    """When the block that ended began; null for other events. Epoch seconds."""
    until: Seconds | None
    """First second at which the block is over, or would have been; for a block that ended, when it ended. Null for a
    rule. Epoch seconds."""
    response: Response
    """The response to the client's requests, or what it would have been; for a block that ended, the hardest one."""
    offence: int
    """Number of the offence against the rule, from 1; 0 if none is meant."""
    evidence: Evidence | None
    by: str
    """The operator who made or ended a block."""
    comment: str
    number: int
    """Number of offences that it stands for; for a rule, of known clients that it would have blocked; for logs, of
    pieces that cannot be read. For IP sets, the percentage in use."""


class HistoryPage(Page, frozen=True):
    since: Seconds
    """The earliest time listed: the one asked for, or the time since which events are kept, if that is later. Epoch
    seconds."""
    events: Annotated[list[EventView], at_most(MOST_EVENTS)]
    """Newest first. There may be fewer than the limit, or none, although pages follow."""


class _Entry(NamedTuple):
    record: Stored[Events]
    number: int
    """Position of the event in its record."""
    event: Event


def list_history(state: State, query: EventsQuery, *, history_s: int, now: int) -> HistoryPage:
    """Returns a page of the events that match ``query``, newest first; ``history_s``: how long they are kept.

    Raises Invalid.
    """
    since = max(query.since or 0, now - history_s)
    matches = _filter(query)
    shown: list[EventView] = []
    following = None
    for examined, entry in enumerate(_entries(state, query, since)):
        if len(shown) == query.limit or examined == MOST_EXAMINED:
            break
        following = write_cursor([entry.record.id, entry.number])
        if matches(entry.event):
            shown.append(_view(entry))
    else:
        following = None
    return HistoryPage(now=now, since=since, events=shown, next=following)


def _entries(state: State, query: EventsQuery, since: int) -> Iterator[_Entry]:
    """Yields the events of the time that ``query`` names, newest first, after those of earlier pages."""
    above = events_from(since * 1000)
    below = None if query.until is None else events_from(query.until * 1000)
    if query.cursor:
        id, before = read_cursor(query.cursor, [str, int])
        stored = state.get(Events, id)
        for number in reversed(range(min(before, len(stored.record.events)) if stored else 0)):
            assert stored is not None
            yield _Entry(stored, number, stored.record.events[number])
        below = id
    for record in state.newest(Events, above=above, below=below, per_read=RECORDS_PER_READ):
        for number, event in reversed(list(enumerate(record.record.events))):
            yield _Entry(record, number, event)


def _filter(query: EventsQuery) -> Callable[[Event], bool]:
    """Raises Invalid."""
    asked = None if query.network is None else NetworkSet([read_network(query.network, "query")])

    def matches(event: Event) -> bool:
        if query.rule not in (None, event.rule) or query.outcome not in (None, event.outcome):
            return False
        return asked is None or (bool(event.network) and asked.meets(span_of(event.network)))

    return matches


def _view(entry: _Entry) -> EventView:
    event = entry.event
    return EventView(
        id=f"{entry.record.id}/{entry.number}",
        at=entry.record.record.at_ms // 1000,
        outcome=event.outcome,
        network=event.network or None,
        rule=event.rule,
        detail=event_detail(event),
        since=event.since or None,
        until=event.until or None,
        response=event.response,
        offence=event.offence,
        evidence=event.evidence,
        by=event.by,
        comment=event.comment,
        number=event.number,
    )
