"""Counts of the past, for requests that are delayed for longer than a reader's view reaches back.

The view reaches back as far as requests are usually delayed. Of what came before, only the times that the windows of a
delayed request can reach are read again, in spans of ``SPAN_MS``, and only the tallies that concern them are unpacked.
A span is read from every log back to its beginning, in pieces, so that an invocation that runs out of time leaves what
it has read to the next. Meanwhile and after that, a span is kept up to date with the items that follow, and dropped
``KEPT_MS`` after the last request that needed it.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.tally import Tally, unpack
from chalicelib.core.view import View
from chalicelib.pipeline.tally_logs import RESERVE_S, SKEW_MS, OutOfTime, TimeLeft
from chalicelib.ports import LogItem, TallyLogs

SPAN_MS = 300_000
"""Length of a span. Shorter ones hold fewer requests; longer ones are read less often."""

KEPT_MS = 600_000
"""Time for which a span is kept after the last request that needed it."""

PIECE_ITEMS = 500
"""Most items of a log that are read and merged at a time: one from each second of eight minutes."""


@dataclass(slots=True)
class _Reading:
    """A log that is being read backwards."""

    spans: set[int]
    before: int
    """Offset from which on it has been read."""


class PastCounts:
    """The counts of some spans, from all logs."""

    def __init__(self, logs: TallyLogs, new_view: Callable[[], View]) -> None:
        self._logs = logs
        self._new_view = new_view
        self.view = new_view()
        """The counts of the spans that have been read."""
        self._reach_ms = self.view.rules.longest_window_ms
        self._followed: dict[int, set[str]] = defaultdict(set)
        """By span, the logs whose further items are added to it: it has been read from them, or is being read."""
        self._readings: dict[str, _Reading] = {}
        """By log."""
        self._needed_ms: dict[int, int] = {}
        """By span, when it was last needed."""

    def spans_for(self, tally: Tally, before_ms: int) -> set[int]:
        """Returns the spans that the windows of the requests of ``tally`` made before ``before_ms`` can reach."""
        spans: set[int] = set()
        for part in tally:
            delayed = {slot * part.slot_ms for slot in part.slots()}
            for start_ms in {start_ms for start_ms in delayed if start_ms < before_ms}:
                first_ms, last_ms = start_ms - self._reach_ms, start_ms + self._reach_ms
                spans.update(range(first_ms // SPAN_MS, last_ms // SPAN_MS + 1))
        return spans

    def load(self, spans: Collection[int], ends: Mapping[str, int], now_ms: int, time_left_s: TimeLeft) -> None:
        """Reads ``spans`` from the items of each log before its offset in ``ends``, unless they have been read.

        Raises OutOfTime when ``time_left_s()`` runs short; the next call continues.
        """
        self._needed_ms.update(dict.fromkeys(spans, now_ms))
        self._drop_unneeded(now_ms)
        if any(span * SPAN_MS < self.view.since_ms for span in spans):  # dropped in the meantime
            self.view = self._new_view()
            self._followed.clear()
            self._readings.clear()
        unread = [log for log in ends if log in self._readings or self._unread(log, spans)]
        pieces = 0
        for number, log in enumerate(unread):
            while (reading := self._reading(log, spans, ends[log])) is not None:
                if pieces and time_left_s() < RESERVE_S:
                    raise OutOfTime(f"past counts of {number} of {len(unread)} logs are loaded")
                self._read_piece(log, reading)
                pieces += 1

    def _unread(self, log: str, spans: Iterable[int]) -> set[int]:
        return {span for span in spans if log not in self._followed[span]}

    def _reading(self, log: str, spans: Iterable[int], end: int) -> _Reading | None:
        """Returns the unfinished reading of ``log``, or begins one; None if all of ``spans`` have been read from it."""
        reading = self._readings.get(log)
        if reading is None and (unread := self._unread(log, spans)):
            reading = self._readings[log] = _Reading(unread, end)
            for span in unread:
                self._followed[span].add(log)
        return reading

    def _read_piece(self, log: str, reading: _Reading) -> None:
        """Reads the next ``PIECE_ITEMS`` items of ``log``, from ``reading.before`` towards the earliest span."""
        since_ms = min(reading.spans) * SPAN_MS - SKEW_MS
        newest_first = self._logs.latest(log, since_ms, reading.before, PIECE_ITEMS)
        # Unpacked before any is merged: if one cannot be unpacked, the next call does not count others twice.
        concerned = [
            (item, unpack(item.body))
            for _, item in newest_first
            if item.body is not None and self._may_concern(item, reading.spans)
        ]
        for item, tally in concerned:
            self._merge(item, tally, reading.spans)
        if len(newest_first) < PIECE_ITEMS:
            del self._readings[log]
        else:
            reading.before = newest_first[-1][0]

    def take(self, log: str, item: LogItem, tally: Tally) -> None:
        """Adds the next item of a log to the spans that have been read from it, or are being read."""
        spans = {span for span, logs in self._followed.items() if log in logs}
        if self._may_concern(item, spans):
            self._merge(item, tally, spans)

    def _drop_unneeded(self, now_ms: int) -> None:
        """Drops the earliest spans, up to the first that was needed lately."""
        for span in sorted(self._needed_ms):
            if now_ms - self._needed_ms[span] <= KEPT_MS:
                self.view.keep_since(span * SPAN_MS)
                return
            self._drop(span)
        self.view.keep_since(now_ms)

    def _drop(self, span: int) -> None:
        del self._needed_ms[span]
        self._followed.pop(span, None)
        for reading in self._readings.values():
            reading.spans.discard(span)
        self._readings = {log: reading for log, reading in self._readings.items() if reading.spans}

    def _may_concern(self, item: LogItem, spans: Collection[int]) -> bool:
        """Returns whether a slot with a request of ``item`` may begin in one of ``spans``: no slot exceeds a window."""
        first = (item.first_slot_ms - self._reach_ms) // SPAN_MS
        return any(first <= span <= item.last_slot_ms // SPAN_MS for span in spans)

    def _merge(self, item: LogItem, tally: Tally, spans: Collection[int]) -> None:
        """Adds the counts in slots that begin in one of ``spans``."""
        self.view.load(tally, item.first_slot_ms, item.last_slot_ms, sys.maxsize, partial(_within, spans))


def _within(spans: Collection[int], part: MeterTally) -> MeterTally | None:
    """Returns the counts in slots that begin in one of ``spans``; None if there are none."""
    all_slots = set(part.slots())
    slots = {slot for slot in all_slots if slot * part.slot_ms // SPAN_MS in spans}
    if len(slots) == len(all_slots):
        return part
    clients = {
        client: kept
        for client, counts in part.clients().items()
        if (kept := {slot: requests for slot, requests in counts.items() if slot in slots})
    }
    return MeterTally.of(part.source, part, clients) if clients else None
