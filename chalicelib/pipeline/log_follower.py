"""Following the tally logs: where one container stands in each log, and what it has read from them.

A tally log is an append-only list of items, one or more per batch, at offsets 0, 1, 2, ... Each shard of the Kinesis
stream has one log that is appended to, and possibly older ones. The registry names the logs of every shard. This module
implements docs/state-protocol.md for one container, which both appends to the logs of the shards that Lambda gives it
and reads the logs of all shards, because the requests of one client are spread over all of them.

Appending, and why a record is counted once. An item is written at the next offset on condition that the offset is
free, and carries the highest Kinesis sequence number counted so far. The condition is the fence: two containers that
both hold the end of a log for offset 7 cannot both write there.

    A reads the log up to 6            B reads the log up to 6      (Lambda timed A out and gave B the same batch)
    A appends at 7                     B appends at 7: Conflict
                                       B reads item 7, finds the batch's sequence numbers covered, appends nothing

Reading, and why an excess is seen. A container appends first and reads the other logs afterwards. If two containers
append tallies of one client at the same time, each append precedes that container's own read, so at least one of the
two reads both tallies:

    A appends to log 1                 B appends to log 2
    A reads log 2: B's item or not     B reads log 1: if A missed B's item, B's append came later, so B reads A's

Types enforce this order: ``LogFollower.prepare`` returns ``Prepared``, which appends and returns ``Appended``, which
catches up and returns the view to evaluate.

Closing. A log is left when its last item is so old that none of its requests can still count (DORMANT_MS), because the
store will remove its items, and with them the record of which offsets were taken. It is closed by an item without a
body at the next offset, subject to the same condition. A container that was frozen in between finds that offset taken,
learns from the item that the log is closed, and reads the registry. The new log starts at offset 0 under a new name.

Recreated streams. Sequence numbers start over when a stream is deleted and recreated, so new records look as if they
had been counted. A counted record arrives before its tally is written; records that arrive clearly later under a low
number prove a new stream, and get a new log.

Catching up. Every log is read forward from its tail, several offsets per call, until a call returns nothing new. Items
are only taken without a gap: the offsets of one call are read at different moments, so offset 8 may appear before
offset 7 does.

Cold start. A new container reads each log backwards from its end, as far as its view reaches. There is no view until
every log has been read: a container that stood at offset 0 of a log that it failed to read would assume that the log
had ended, and open a second one beside it. If a read fails or the invocation's time runs out, the batch fails, and the
next invocation in this container continues with the logs that are missing. A container that has not read for STALE_MS
starts over, because the items that it would read next may have been removed.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from chalicelib.core.rules import RuleSet
from chalicelib.core.tally import DORMANT_MS, EXPIRE_MS, RETENTION_MS, Tally, pack, split, unpack
from chalicelib.core.windows import View
from chalicelib.ports import Conflict, Contended, LogItem, Registry, TallyLogs, Unavailable

STALE_MS = RETENTION_MS - 600_000
"""A container that has not read for longer starts over. Items live for an hour past DORMANT_MS, and a reader that
slept for longer may wait for an offset that has been removed; the ten minutes allow for clocks that disagree."""

SKEW_MS = 300_000
"""Most that clocks may disagree, and most that a request's time may lie in the future."""

LARGEST_ITEM = 380_000
"""Most bytes of a tally in one item, because DynamoDB accepts 400 KB including attribute names."""

LARGEST_APPEND = 3_500_000
"""Most bytes of all tallies in one append, because DynamoDB accepts 4 MB per transaction."""

FURTHEST_AHEAD = 16
"""Most offsets requested per log and call."""

DEPTH_KEPT_MS = 600_000
"""A view that was deepened for late requests stays deep for this long after the last one."""

COUNTING_S = 15
"""Seconds of an invocation that are left for counting its batch. Loading logs stops in time."""

TRIES = 8
"""Appends, or attempts to open a log, before the batch fails."""


TimeLeft = Callable[[], float]
"""Returns the seconds until the invocation is ended."""


def unlimited() -> float:
    """Returns the time left where none is measured."""
    return inf


class StillLoading(Unavailable):
    """Not all logs are loaded yet, and there is no time for more. The batch is delivered again."""


class TooLarge(Exception):
    """A tally does not fit in one transaction. Fewer records make a smaller one."""


@dataclass(slots=True)
class Tail:
    """The position of one reader in one log."""

    shard: str
    log: str
    offset: int = 0
    """Next offset to read or write."""
    last_sequence: int = -1
    written_ms: int = 0
    """Time when the item before ``offset`` was written, or the log was opened if there is no item."""
    closed: bool = False
    ahead: int = 1
    """Number of offsets to request: one more than last returned, so that a steady pace takes one read per batch."""

    def take(self, item: LogItem) -> None:
        self.offset += 1
        self.last_sequence = max(self.last_sequence, item.last_sequence)
        self.written_ms = item.written_ms
        self.closed = item.closes


@dataclass(frozen=True, slots=True)
class BatchTally:
    """The tally that one batch adds to a log."""

    tally: Tally
    last_sequence: int
    requests: int
    first_ms: int
    """Time of the earliest request."""
    last_ms: int
    """Time of the latest."""


class LogFollower:
    """One container's tails and view of all logs."""

    def __init__(self, logs: TallyLogs, new_view: Callable[[RuleSet], View], *, lateness_ms: int) -> None:
        """``lateness_ms``: how late requests usually are. The view reaches back as far, farther after later ones."""
        self._logs = logs
        self._new_view = new_view
        self._lateness_ms = lateness_ms
        self._depth_ms = lateness_ms
        self._deep_at_ms = 0
        self._read_at_ms = 0
        self._registry: Registry = {}
        self._tails: dict[str, Tail] = {}
        self._view: View | None = None
        self._loading: View | None = None
        """View of the logs in ``_tails``, of which some are missing."""
        self._loading_since_ms = 0

    def prepare(self, rules: RuleSet, oldest_ms: int, now_ms: int, time_left_s: TimeLeft = unlimited) -> "Prepared":
        """Returns what a batch needs to be counted, when its requests were made at or after ``oldest_ms``.

        Raises StillLoading when ``time_left_s()`` runs short; the next call continues.
        """
        lag_ms = now_ms - oldest_ms
        if lag_ms > self._lateness_ms:
            self._depth_ms = max(self._depth_ms, lag_ms + self._lateness_ms)
            self._deep_at_ms = now_ms
        elif now_ms - self._deep_at_ms > DEPTH_KEPT_MS:
            self._depth_ms = self._lateness_ms
        view = self._view
        if view is None or not self._serves(view, self._read_at_ms, rules, oldest_ms, now_ms):
            view = self._load(rules, oldest_ms, now_ms, time_left_s)
        else:
            view.keep_since(min(oldest_ms, now_ms - self._depth_ms))
        return Prepared(self, view, now_ms)

    def _serves(self, view: View, read_ms: int, rules: RuleSet, oldest_ms: int, now_ms: int) -> bool:
        """Returns whether a view that was read at ``read_ms`` holds all that a batch needs."""
        return now_ms - read_ms <= STALE_MS and view.rules.rules == rules.rules and view.since_ms <= oldest_ms

    def read(self, rules: RuleSet, now_ms: int) -> View:
        """Returns a view of all logs up to their ends, for a reader that appends nothing."""
        view = self.prepare(rules, now_ms, now_ms).view
        self._catch_up(view, now_ms)
        return view

    def _newest(self, shard: str) -> Tail | None:
        """Returns the tail of the log registered last for ``shard``, if there is one."""
        logs = self._registry.get(shard)
        return self._tails.get(logs[-1]) if logs else None

    def _catch_up(self, view: View, now_ms: int, own: Tail | None = None) -> None:
        """Reads every log but ``own`` forward to its end."""
        begun: dict[str, int] = {}
        while True:  # until a read returns nothing new from any log
            asked = {
                tail.log: tail.ahead for tail in self._tails.values() if tail is not own and self._live(tail, now_ms)
            }
            keys = [(log, self._tails[log].offset + step) for log, ahead in asked.items() for step in range(ahead)]
            registry, items = self._logs.read(keys)
            again = self._adopt(registry, view)
            for log, ahead in asked.items():
                tail = self._tails.get(log)
                if tail is None:
                    continue
                first = tail.offset
                begun.setdefault(log, first)
                # Only without a gap: the offsets are read at different moments, so a later one may appear earlier.
                while tail.offset < first + ahead and (item := items.get((log, tail.offset))) is not None:
                    _take(view, tail, item)
                came = tail.offset - first
                tail.ahead = min(tail.offset - begun[log] + 1, FURTHEST_AHEAD)
                more = came == ahead
                gap = any((log, first + step) in items for step in range(came, ahead))
                again = again or (not tail.closed and (more or gap))
            if not again:
                self._read_at_ms = now_ms
                return

    def _load(self, rules: RuleSet, oldest_ms: int, now_ms: int, time_left_s: TimeLeft) -> View:
        """Reads all logs, those that an earlier call has read excepted."""
        self._view, view = None, self._loading
        if view is None or not self._serves(view, self._loading_since_ms, rules, oldest_ms, now_ms):
            self._registry, self._tails = {}, {}
            self._loading_since_ms = now_ms
            view = self._loading = self._new_view(rules)
            view.keep_since(now_ms - self._depth_ms)
        registry, _ = self._logs.read([])
        self._adopt(registry, view, time_left_s)
        self._view, self._loading, self._read_at_ms = view, None, self._loading_since_ms
        self._retire(now_ms)
        return view

    def _adopt(self, registry: Registry, view: View, time_left_s: TimeLeft = unlimited) -> bool:
        """Starts following the new logs of ``registry``, at least one per call. Returns whether there were any.

        Raises StillLoading.
        """
        named = {log: shard for shard, logs in registry.items() for log in logs}
        fresh = [log for log in named if log not in self._tails]
        for number, log in enumerate(fresh):
            if number and time_left_s() < COUNTING_S:
                raise StillLoading(f"{len(named) - len(fresh) + number} of {len(named)} logs are loaded")
            self._follow(log, named[log], view)
        for log in self._tails.keys() - named.keys():
            del self._tails[log]
        self._registry = registry
        return bool(fresh)

    def _follow(self, log: str, shard: str, view: View) -> None:
        """Merges the items of a log that concern the view, and follows the log from its end.

        Apart from clocks that disagree, no request is processed before it is made. So items written before the time of
        the view concern it in nothing.
        """
        since_ms = view.since_ms - view.rules.longest_window_ms - SKEW_MS
        newest_first = self._logs.latest(log, since_ms)
        # Only without a gap: the items below one are so old that the store is removing them.
        unbroken = [item for back, (offset, item) in enumerate(newest_first) if offset == newest_first[0][0] - back]
        # Followed before it is merged: if an item cannot be merged, no item before it is merged a second time.
        tail = self._tails[log] = Tail(shard, log, written_ms=_born_ms(log))
        if unbroken:
            tail.offset = newest_first[0][0] + 1 - len(unbroken)
        for item in reversed(unbroken):
            _take(view, tail, item)

    def _retire(self, now_ms: int) -> None:
        """Removes shards from the registry all of whose logs have expired, as after a reshard."""
        for shard, logs in list(self._registry.items()):
            if all(self._expired(log, now_ms) for log in logs):
                with suppress(Conflict):  # another container has removed the shard, or uses it again
                    self._logs.register(shard, logs, ())

    def _expired(self, log: str, now_ms: int) -> bool:
        tail = self._tails.get(log)
        return tail is not None and now_ms - tail.written_ms > EXPIRE_MS

    def _live(self, tail: Tail, now_ms: int) -> bool:
        return not tail.closed and not self._expired(tail.log, now_ms)


@dataclass(slots=True)
class Prepared:
    """The logs, prepared for one batch. Only what ``append`` returns can catch up with the other logs."""

    _follower: LogFollower
    view: View
    """Counts up to the last read."""
    now_ms: int
    conflicts: int = 0
    """Writes that lost to another container's."""

    def tail(self, shard: str) -> Tail:
        """Returns the tail of the log that ``shard`` may append to, opening one if needed."""
        for _ in range(TRIES):
            tail = self._follower._newest(shard)
            if tail is not None and not tail.closed and self.now_ms - tail.written_ms < DORMANT_MS:
                return tail
            self.open(shard)
        raise Contended(f"no log could be opened for {shard} in {TRIES} tries")

    def open(self, shard: str) -> None:
        """Closes the shard's newest log and registers a new one, unless another container does so first."""
        follower, now_ms = self._follower, self.now_ms
        logs = follower._registry.get(shard, ())
        tail = follower._newest(shard)
        try:
            if tail is not None and follower._live(tail, now_ms):
                # The fence for a container that still uses the old log: its next append finds this offset taken.
                closing = LogItem(body=None, last_sequence=tail.last_sequence, written_ms=now_ms)
                follower._logs.append(tail.log, tail.offset, [closing])
                tail.take(closing)
            recent = tuple(log for log in logs if not follower._expired(log, now_ms))
            follower._logs.register(shard, logs, (*recent, f"{shard}@{now_ms}"))
        except Conflict:
            self.conflicts += 1
        follower._catch_up(self.view, now_ms)

    def append(self, tail: Tail, batch_tally: BatchTally) -> "Appended":
        """Appends a tally and merges it into the view.

        Raises Conflict if another container has appended to the log, after merging what it wrote. Raises TooLarge,
        having written nothing.
        """
        bodies = _bodies(batch_tally.tally)
        if sum(map(len, bodies)) > LARGEST_APPEND:
            raise TooLarge(f"{tail.log}: a tally of {sum(map(len, bodies))} bytes")
        items = [
            LogItem(
                body=body,
                last_sequence=batch_tally.last_sequence,
                written_ms=self.now_ms,
                first_slot_ms=batch_tally.first_ms,
                last_slot_ms=batch_tally.last_ms,
                requests=0 if number else batch_tally.requests,
            )
            for number, body in enumerate(bodies)
        ]
        try:
            self._follower._logs.append(tail.log, tail.offset, items)
        except Conflict:
            self.conflicts += 1
            self._follower._catch_up(self.view, self.now_ms)
            raise
        for item in items:
            tail.take(item)
        self.view.merge(batch_tally.tally, batch_tally.first_ms, batch_tally.last_ms)
        return Appended(self, tail)

    def already_appended(self, tail: Tail) -> "Appended":
        """Returns the state after an append, for a batch all of whose records were counted before."""
        return Appended(self, tail)


@dataclass(frozen=True, slots=True)
class Appended:
    """The logs, after the batch has been appended to the one of its shard."""

    _prepared: Prepared
    tail: Tail
    """The log that covers the batch; the next offset is behind its last item."""

    def catch_up(self) -> View:
        """Reads the other logs to their ends. Returns a view that is exact for the requests of the batch."""
        self._prepared._follower._catch_up(self._prepared.view, self._prepared.now_ms, own=self.tail)
        return self._prepared.view


def _take(view: View, tail: Tail, item: LogItem) -> None:
    if item.body is not None and item.last_slot_ms >= view.since_ms - view.rules.longest_window_ms:
        view.merge(unpack(item.body), item.first_slot_ms, item.last_slot_ms)
    tail.take(item)


def _born_ms(log: str) -> int:
    return int(log.rpartition("@")[2])


def _bodies(tally: Tally) -> list[bytes]:
    body = pack(tally)
    if len(body) <= LARGEST_ITEM:
        return [body]
    return [part for half in split(tally) for part in _bodies(half)]
