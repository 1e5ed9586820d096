"""Reading the tally logs: a reader's view of all of them, and the items that it has yet to evaluate.

Reading on. Every log is read forward from its tail, several offsets per call, until its end is reached.
Items are only taken without a gap: the offsets of one call are read at different moments, so offset 8 may appear before
offset 7 does. A backlog is read in slices, each of which is evaluated before the next, so that neither memory nor the
time of an invocation bounds how much may wait.

Cold start. A new container merges what lies before its position, reading each log backwards as far as its view reaches,
and reads on from there. If a read fails or the invocation's time runs out, the next invocation in this container
continues with the logs that are missing. A container that has not read for STALE_MS starts over, because the items that
it would read next may have been removed.

Delayed requests. The view reaches back as far as requests are usually delayed. What the windows of others can reach is
read again from the logs (``past_counts``), so one delayed request does not make a reader load everything since then.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from chalicelib.core.rules import RuleSet
from chalicelib.core.tally import FENCE_S, RETENTION_S, Tally, kept_s, unpack
from chalicelib.core.view import View
from chalicelib.pipeline.past_counts import PastCounts
from chalicelib.pipeline.tally_logs import RESERVE_S, SKEW_MS, OutOfTime, Tail, TimeLeft, new_tail, unlimited
from chalicelib.ports import Conflict, LogItem, Position, Registry, TallyLogs

STALE_MS = FENCE_S * 1000 - 600_000
"""Longest time without a read after which a reader continues; after a longer one it starts over. The items of a dormant
log live for FENCE_S, and a reader that slept for longer may wait for an offset that has been removed; the ten minutes
allow for clocks that disagree."""

PUNCTUAL_MS = 20_000
"""Age that most requests in the items after a position do not exceed, because an evaluator stores its position every
ten seconds. The first evaluation of older requests takes longer (``View.load``): at 400,000 requests per second, up to
45 seconds in all."""

FURTHEST_AHEAD = 16
"""The most offsets requested per log and call."""

MOST_KEYS = 1000
"""Offsets in a slice, of all logs together, at which no further log is added to it."""


class Unevaluated(NamedTuple):
    """An item that has been merged, and whose clients have yet to be evaluated."""

    log: str
    offset: int
    tally: Tally
    suspects: Tally
    """The counts of the clients that may be over a limit, according to the view (``View.merge``)."""
    first_ms: int
    """Time of the earliest request."""
    last_ms: int
    """Time of the latest."""
    written_ms: int
    arrived_ms: int
    """Arrival of the oldest record."""
    requests: int = 0
    malformed: int = 0
    """Malformed pieces. This and ``requests`` are those of the whole batch; 0 unless this is its first item."""
    portraits: bytes = b""
    """Packed portraits of the batch (``core.portraits``); none unless this is its first item."""


@dataclass(slots=True)
class _Following:
    """A log that is being followed, and how far it has been read."""

    tail: Tail
    begun: int
    """Offset when the latest pass over all logs began, or when the log was first followed."""
    ahead: int = 1
    """Number of offsets to request: one more than came since ``begun``, so that a steady pace takes one read."""
    at_end: bool = False
    """True if the last read returned fewer items than requested, and none after a gap."""

    def over(self, now_ms: int) -> bool:
        """Returns whether the log has been read to its end and its last item has expired: nothing will follow."""
        return (self.at_end or self.tail.closed) and self.tail.expired(now_ms)


class LogReader:
    """One container's view of all logs."""

    def __init__(
        self,
        logs: TallyLogs,
        new_view: Callable[[RuleSet], View],
        new_past_view: Callable[[RuleSet], View] | None = None,
        *,
        lateness_ms: int,
        retention_s: int = RETENTION_S,
    ) -> None:
        """``lateness_ms``: the usual delay of requests, and how far back the view reaches.

        ``new_past_view`` makes the view for the counts of earlier times; by default, ``new_view`` does.
        ``retention_s``: the age at which requests are late. A new reader evaluates no item that holds only older ones.
        """
        self._logs = logs
        self._new_view = new_view
        self._new_past_view = new_past_view or new_view
        self._lateness_ms = lateness_ms
        self._kept_ms = kept_s(retention_s) * 1000
        self._read_at_ms = 0
        self._registry: Registry = {}
        self._followed: dict[str, _Following] = {}
        self._view: View | None = None
        self._past: PastCounts | None = None
        self._complete = False
        """False while the view has only some logs, during a cold start."""
        self._position: Position | None = None
        self._whole_since_ms = 0
        self.unevaluated: list[Unevaluated] = []
        """The items of the last slice, and of earlier ones that could not be evaluated."""

    @property
    def position(self) -> Position | None:
        """The first offset of each log to evaluate; None if this reader evaluates nothing."""
        return self._position

    def start_at(self, position: Position, whole_since_ms: int = 0) -> None:
        """Sets the position, before the first read.

        In logs that it does not name, the items written since ``whole_since_ms`` are to be evaluated.
        """
        self._position, self._whole_since_ms = position, whole_since_ms

    def read(self, rules: RuleSet, now_ms: int) -> View:
        """Returns a view of all logs up to their ends, for a reader that evaluates nothing."""
        view, behind = self.read_on(rules, now_ms)
        while behind:
            view, behind = self.read_on(rules, now_ms, behind=behind)
        return view

    def read_on(
        self,
        rules: RuleSet,
        now_ms: int,
        time_left_s: TimeLeft = unlimited,
        behind: Collection[str] | None = None,
    ) -> tuple[View, Sequence[str]]:
        """Reads a slice of the logs ``behind``; of all logs, if None. Returns the view, and the logs still behind.

        For the requests of the unevaluated items, the view is exact against all items that have been read, or, if they
        were made before ``view.since_ms``, ``past``. Raises OutOfTime when ``time_left_s()`` runs short while logs
        are loaded; the next call continues.
        """
        view = self._view
        if view is None or not self._complete or not self._serves(view, rules, now_ms):
            del view  # released before its successor grows
            view = self._load(rules, now_ms - self._lateness_ms, now_ms, time_left_s)
        behind = self._slice(view, now_ms, time_left_s, behind)
        while (punctual_ms := self._punctual_since_ms(now_ms)) < view.since_ms:  # a backlog
            del view
            view = self._load(rules, punctual_ms - self._lateness_ms, now_ms, time_left_s)
            behind = self._slice(view, now_ms, time_left_s, None)
        read_up_to_ms = min((self._followed[log].tail.written_ms for log in behind), default=now_ms)
        view.keep_since(min(punctual_ms, read_up_to_ms - self._lateness_ms))
        self._load_past(view.since_ms, now_ms, time_left_s)
        return view, behind

    @property
    def past(self) -> View:
        """The view of the requests of unevaluated items that were made before the other view's ``since_ms``."""
        assert self._past is not None
        return self._past.view

    def evaluated(self) -> None:
        """Moves the position past everything that has been read."""
        self._position = {log: following.tail.offset for log, following in self._followed.items()}
        self.unevaluated = []

    def _punctual_since_ms(self, now_ms: int) -> int:
        """Returns the time of the oldest request to be evaluated that is not delayed; ``now_ms`` if there is none."""
        return min(
            (max(item.first_ms, item.written_ms - self._lateness_ms) for item in self.unevaluated), default=now_ms
        )

    def _serves(self, view: View, rules: RuleSet, now_ms: int) -> bool:
        """Returns whether ``view``, complete or loaded in part, can be continued: not stale, and of these rules."""
        return now_ms - self._read_at_ms <= STALE_MS and view.rules.rules == rules.rules

    def _slice(self, view: View, now_ms: int, time_left_s: TimeLeft, logs: Collection[str] | None) -> list[str]:
        """Reads ``logs``, or all, forward by about ``MOST_KEYS`` items. Returns the logs that may have more."""
        if logs is None:
            logs = [log for log, each in self._followed.items() if not each.tail.closed and not each.over(now_ms)]
            for log in logs:
                self._followed[log].begun = self._followed[log].tail.offset
        keys: list[tuple[str, int]] = []
        asked: dict[str, int] = {}
        for log in logs:
            following = self._followed.get(log)
            if following is not None and len(keys) < MOST_KEYS:
                asked[log] = following.ahead
                keys += ((log, following.tail.offset + step) for step in range(following.ahead))
        registry, items = self._logs.read(keys)
        new = self._adopt(registry, view, now_ms, time_left_s)
        behind = [*new, *(log for log in logs if log not in asked)]
        for log, ahead in asked.items():
            following = self._followed.get(log)
            if following is None:
                continue
            tail = following.tail
            first = tail.offset
            # Only without a gap: the offsets are read at different moments, so a later one may appear earlier.
            while tail.offset < first + ahead and (item := items.get((log, tail.offset))) is not None:
                self._take(view, tail, item, evaluated=self._position is None)
            came = tail.offset - first
            gap = any((log, first + step) in items for step in range(came, ahead))
            following.ahead = min(tail.offset - following.begun + 1, FURTHEST_AHEAD)
            following.at_end = came < ahead and not gap
            if not tail.closed and not following.at_end:
                behind.append(log)
        self._read_at_ms = now_ms
        return [log for log in behind if log in self._followed]

    def _load_past(self, since_ms: int, now_ms: int, time_left_s: TimeLeft) -> None:
        """Loads the counts that concern the unevaluated requests made before ``since_ms``."""
        assert self._past is not None
        spans: set[int] = set()
        for item in self.unevaluated:
            if item.first_ms < since_ms:
                spans |= self._past.spans_for(item.tally, since_ms)
        ends = {log: each.tail.offset for log, each in self._followed.items()} if spans else {}
        self._past.load(spans, ends, now_ms, time_left_s)

    def _load(self, rules: RuleSet, since_ms: int, now_ms: int, time_left_s: TimeLeft) -> View:
        """Returns a view of all logs up to the position; continues an earlier call if that ran out of time."""
        if self._view is None or self._complete or not self._serves(self._view, rules, now_ms):
            self._view, self._past, self._complete = None, None, False
            self._registry, self._followed, self.unevaluated = {}, {}, []
            self._read_at_ms = now_ms
            self._view = self._new_view(rules)
            self._view.keep_since(since_ms)
            self._past = PastCounts(self._logs, partial(self._new_past_view, rules))
        registry, _ = self._logs.read([])
        self._adopt(registry, self._view, now_ms, time_left_s)
        self._complete = True
        return self._view

    def _adopt(self, registry: Registry, view: View, now_ms: int, time_left_s: TimeLeft) -> list[str]:
        """Starts following the new logs of ``registry``, at least one if there are any, and returns them.

        Drops the logs that it no longer names, and retires those that have expired. Raises OutOfTime.
        """
        named = {log: shard for shard, logs in registry.items() for log in logs}
        new = [log for log in named if log not in self._followed]
        for number, log in enumerate(new):
            if number and time_left_s() < RESERVE_S:
                raise OutOfTime(f"{len(named) - len(new) + number} of {len(named)} logs are loaded")
            self._follow(log, named[log], view, now_ms)
        for log in self._followed.keys() - named.keys():
            del self._followed[log]
        self._registry = registry
        self._retire(now_ms)
        return new

    def _follow(self, log: str, shard: str, view: View, now_ms: int) -> None:
        """Merges the items before the position that concern the view, and follows the log from there.

        Apart from clocks that disagree, no request is processed before it is made. So items written before the time of
        the view do not concern it.
        """
        since_ms = view.since_ms - view.rules.longest_window_ms - SKEW_MS
        before = sys.maxsize if self._position is None else self._position.get(log, 0)
        run = self._unbroken(log, since_ms, before) if before else []
        # If the item just before the position is missing, the position is not one in this log: the log is new, or the
        # table was restored. If it has expired, the next ones may already have been removed. In both cases, everything
        # since ``_whole_since_ms`` that has not expired is left to be evaluated.
        expired_ms = now_ms - self._kept_ms
        whole = self._position is not None and (
            not run or run[-1][0] + 1 < before or run[-1][1].written_ms < expired_ms
        )
        if whole:
            since_ms = max(self._whole_since_ms, expired_ms)
            run = self._unbroken(log, since_ms, sys.maxsize)
        # Followed before it is merged: if an item cannot be merged, no item before it is merged a second time.
        ready_ms = sys.maxsize if self._position is None else now_ms - PUNCTUAL_MS
        tail = new_tail(shard, log)
        if run:
            tail.offset = run[0][0]
        self._followed[log] = _Following(tail, begun=tail.offset)
        for _, item in run:
            if not whole:
                self._take(view, tail, item, evaluated=True, ready_ms=ready_ms)
            elif item.written_ms < since_ms:
                tail.take(item)
            else:
                return

    def _unbroken(self, log: str, since_ms: int, before: int) -> Sequence[tuple[int, LogItem]]:
        """Returns items with offsets, oldest first, without a gap: the store is removing those below a gap."""
        newest_first = self._logs.latest(log, since_ms, before)
        run = [entry for back, entry in enumerate(newest_first) if entry[0] == newest_first[0][0] - back]
        return run[::-1]

    def _take(self, view: View, tail: Tail, item: LogItem, *, evaluated: bool, ready_ms: int = sys.maxsize) -> None:
        """Moves ``tail`` past the next item of its log and merges the item, to be evaluated unless ``evaluated``.

        ``ready_ms``: the time before which only few further requests are expected; see ``View.load``.
        """
        concerns_view = item.last_slot_ms >= view.since_ms - view.rules.longest_window_ms
        if item.body is not None and (concerns_view or not evaluated):
            tally = unpack(item.body)
            between_ms = item.first_slot_ms, item.last_slot_ms
            if evaluated:
                view.load(tally, *between_ms, ready_ms)
            else:
                suspects = view.merge(tally, *between_ms) if concerns_view else ()
                times_ms = *between_ms, item.written_ms, item.arrived_ms
                pieces = item.requests, sum(count.number for count in item.malformed)
                self.unevaluated.append(
                    Unevaluated(tail.log, tail.offset, tally, suspects, *times_ms, *pieces, item.portraits)
                )
                if self._past is not None:
                    self._past.take(tail.log, item, tally)
        tail.take(item)

    def _retire(self, now_ms: int) -> None:
        """Removes expired logs from the registry, and shards without any other log, as after a reshard."""
        for shard, logs in self._registry.items():
            left = tuple(log for log in logs if not self._followed[log].over(now_ms))
            if left != logs:
                with suppress(Conflict):  # another container has removed the log, or opened a new one
                    self._logs.register(shard, logs, left)
