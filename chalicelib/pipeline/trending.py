"""Trends: adds up requests, offences and blocks by quarter hour, for as long as a month and a week.

No item is read for it but the last of each tally log: that one knows how many requests came in all before it, counted
once each, because ingest adds to the sum in the same conditional write. Offences and blocks are counted from the stored
events, which are written with the decisions. The quarter hour and the mark of how far everything has been added up are
stored in one transaction, so a sweep that runs twice, or dies, counts nothing twice and leaves nothing out.
"""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from chalicelib.core.decisions import Outcome
from chalicelib.core.durations import DAY_S, HOUR_S
from chalicelib.core.events import RECORDED
from chalicelib.core.state.events import Event, Events, events_from
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.trends import QUARTER_S, Traffic, Trend, TrendMark, trend_id
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, TallyLogs, Unavailable
from chalicelib.reports import TrendReport

KEPT_S = 39 * DAY_S
"""Age at which the store may remove an hour: 31 days are shown, and compared with those of a week earlier."""

SETTLED_S = 60
"""Seconds after which an event has been stored: an invocation takes no longer."""

MOST_RECORDS = 1000
"""Most records of events that are read for a quarter hour, each of up to 49 events."""

RECORDS_PER_READ = 200


class _Decided(NamedTuple):
    """The events within a time, by kind."""

    offences: int
    blocks: int
    more: bool


class AddUp:
    """Adds a quarter hour to the trend when it is over."""

    def __init__(self, *, state: State, logs: TallyLogs, clock: Callable[[], float]) -> None:
        """``clock``: epoch seconds."""
        self._state = state
        self._logs = logs
        self._clock = clock
        self._added_up_to = 0
        """Time of the stored mark, as far as this container knows; 0 if it does not. Epoch seconds."""

    def run(self) -> TrendReport | None:
        """Adds the latest quarter hour, unless that has been done; then returns None. To be called after each sweep.

        If a table cannot be read or written, or another container is faster, the next call makes up for it.
        """
        now = int(self._clock())
        if self._added_up_to // QUARTER_S >= now // QUARTER_S:
            return None
        behind_s = now - self._added_up_to if self._added_up_to else 0
        try:
            self._added_up_to = self._add(now)
        except Conflict:
            return None
        except Unavailable as exc:
            return TrendReport(behind_s, problem=str(exc))
        return TrendReport(behind_s)

    def _add(self, now: int) -> int:
        """Returns the time of the stored mark. Raises Conflict and what the stores raise."""
        # A damaged mark is none: without the totals, all requests would look new.
        mark = self._state.get(TrendMark, TrendMark.id, damaged=TrendMark())
        before = mark.record if mark else TrendMark()
        if before.at // QUARTER_S >= now // QUARTER_S:
            return before.at
        registry, _ = self._logs.read([])
        last = {log: self._logs.last(log) for logs in registry.values() for log in logs}
        items = {log: offset_and_item[1] for log, offset_and_item in last.items() if offset_and_item}
        new = TrendMark(
            at=now,
            requests={log: item.total for log, item in items.items()},
            refused={log: item.refused_total for log, item in items.items()},
        )
        writes = [self._state.put(new, over=mark)]
        if before.at:
            decided = self._decided(before.at - SETTLED_S, now - SETTLED_S)
            beat = self._state.control(Heartbeat).record
            added = Traffic(
                at=now // QUARTER_S * QUARTER_S - QUARTER_S,
                measured_s=now - before.at,
                requests=_increase(before.requests, new.requests),
                refused=_increase(before.refused, new.refused),
                offences=decided.offences,
                blocks=decided.blocks,
                # The sweep that has just run may have begun before the quarter hour was over.
                most_blocked=beat.most_before if beat.at // QUARTER_S == now // QUARTER_S else beat.most_blocks,
                more=decided.more,
            )
            hour = added.at // HOUR_S * HOUR_S
            stored = self._state.get(Trend, trend_id(hour))
            earlier = stored.record.quarters if stored else ()
            trend = Trend(hour=hour, quarters=(*(each for each in earlier if each.at < added.at), added))
            writes.append(self._state.put(trend, over=stored, expires_at=hour + KEPT_S))
        self._state.write(writes)
        return now

    def _decided(self, since: int, until: int) -> _Decided:
        """Counts the events since ``since`` and before ``until``, in epoch seconds; the newest if there are many."""
        above, below = events_from(since * 1000), events_from(until * 1000)
        newest = self._state.newest(Events, above=above, below=below, per_read=RECORDS_PER_READ)
        offences = blocks = 0
        for stored in islice(newest, MOST_RECORDS):
            offences += sum(event.number for event in stored.record.events if _is_offence(event))
            blocks += sum(event.outcome == Outcome.BLOCKED for event in stored.record.events)
        return _Decided(offences, blocks, more=next(newest, None) is not None)


def _is_offence(event: Event) -> bool:
    """Returns whether an event records an offence. A block by hand, or of a guilty network, has no evidence."""
    return event.outcome in RECORDED and (event.outcome != Outcome.BLOCKED or event.evidence is not None)


def _increase(before: dict[str, int], after: dict[str, int]) -> int:
    """Returns by how much the totals of the logs have grown. A log that is new began at 0.

    A total is lower than before if the last item has been removed before others, or the table was restored, or an
    earlier version has written (``LogItem.total``). What was counted since is not known, and is left out.

    >>> _increase({"a": 5, "gone": 9}, {"a": 7, "b": 4}), _increase({"a": 5}, {"a": 2})
    (6, 0)
    """
    return sum(max(0, total - before.get(log, 0)) for log, total in after.items())
