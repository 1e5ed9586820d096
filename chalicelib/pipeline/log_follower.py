"""Following the tally logs: one container's tails and view, and how a batch is appended (docs/state-protocol.md).

Writers: an item is written at the next offset on condition that the offset is free; that fence, and the highest
sequence number in every item, count each record once. Readers: after their own append they read every other log
forward, so of two that race at least one sees both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from chalicelib.core.rules import RuleSet
from chalicelib.core.tally import Tally, pack, split, unpack
from chalicelib.core.windows import View
from chalicelib.ports import Conflict, Contended, LogItem, Registry, TallyLogs

RETENTION_MS = 3_600_000
"""How late a record may be processed and still count."""

DORMANT_MS = 2 * RETENTION_MS
"""A log whose last item is older is never appended to: what it holds is older than any window that still counts."""

EXPIRE_MS = 3 * RETENTION_MS
"""When the store may remove an item. The hour above DORMANT_MS is STALE_MS, which has room for clocks that disagree."""

STALE_MS = RETENTION_MS - 600_000
"""A container that has not read for longer starts over: the items that it would read next may have been removed."""

SKEW_MS = 300_000
"""How far clocks may disagree, and how far into the future a request's time may lie."""

LARGEST_ITEM = 380_000
"""Bytes of a tally's body in one item; DynamoDB takes 400 KB with attribute names."""

FURTHEST_AHEAD = 16
DEPTH_KEPT_MS = 600_000
TRIES = 8


LARGEST_APPEND = 3_500_000
"""Bytes of all bodies of one append; DynamoDB takes 4 MB in a transaction."""


class TooLarge(Exception):
    """A tally that no transaction takes; fewer records at a time make smaller ones."""


@dataclass(slots=True)
class Tail:
    """Where one reader stands in one log."""

    shard: str
    log: str
    offset: int = 0
    """The next offset to read or write."""
    last_sequence: int = -1
    written_ms: int = 0
    """When the item before ``offset`` was written; when the log was born if there is none."""
    closed: bool = False
    ahead: int = 1
    """How many offsets to ask for: one more than came the last time, so that a steady pace takes one read a batch."""

    def take(self, item: LogItem) -> None:
        self.offset += 1
        self.last_sequence = max(self.last_sequence, item.last_sequence)
        self.written_ms = item.written_ms
        self.closed = item.closes


@dataclass(frozen=True, slots=True)
class BatchTally:
    """What one batch adds to a log."""

    tally: Tally
    last_sequence: int
    requests: int
    first_ms: int
    """Time of the earliest request."""
    last_ms: int
    """Time of the latest."""


class LogFollower:
    """One container's memory of all logs."""

    def __init__(
        self,
        logs: TallyLogs,
        new_view: Callable[[RuleSet], View],
        *,
        lateness_ms: int,
        largest_append: int = LARGEST_APPEND,
    ) -> None:
        """``lateness_ms``: how late requests usually are; a view is kept that deep, and deeper after later ones."""
        self._logs = logs
        self._largest_append = largest_append
        self._new_view = new_view
        self._lateness_ms = lateness_ms
        self._depth_ms = lateness_ms
        self._deep_at_ms = 0
        self._read_at_ms = 0
        self._registry: Registry = {}
        self._tails: dict[str, Tail] = {}
        self.view: View | None = None
        self.conflicts = 0

    def prepare(self, rules: RuleSet, oldest_ms: int, now_ms: int) -> View:
        """A view for ``rules`` that is exact for requests at or after ``oldest_ms``."""
        lag_ms = now_ms - oldest_ms
        if lag_ms > self._lateness_ms:
            self._depth_ms = max(self._depth_ms, lag_ms + self._lateness_ms)
            self._deep_at_ms = now_ms
        elif now_ms - self._deep_at_ms > DEPTH_KEPT_MS:
            self._depth_ms = self._lateness_ms
        view = self.view
        stale = now_ms - self._read_at_ms > STALE_MS
        if view is None or stale or view.rules.rules != rules.rules or view.since_ms > oldest_ms:
            return self._load(rules, now_ms - self._depth_ms, now_ms)
        view.keep_since(min(oldest_ms, now_ms - self._depth_ms))
        return view

    def tail(self, shard: str, now_ms: int) -> Tail:
        """The tail of the log that ``shard`` may append to; opens one if there is none. Needs a prepared view."""
        for _ in range(TRIES):
            logs = self._registry.get(shard, ())
            tail = self._tails.get(logs[-1]) if logs else None
            if tail is not None and not tail.closed and now_ms - tail.written_ms < DORMANT_MS:
                return tail
            self.open(shard, now_ms)
        raise Contended(f"no log could be opened for {shard} in {TRIES} tries")

    def open(self, shard: str, now_ms: int) -> None:
        """Closes the shard's newest log and registers a new one, unless somebody else is quicker."""
        logs = self._registry.get(shard, ())
        tail = self._tails.get(logs[-1]) if logs else None
        try:
            if tail is not None and self._live(tail, now_ms):
                # The fence for whoever still believes in the old log: its next append finds this offset taken.
                self._logs.append(
                    tail.log, tail.offset, [LogItem(body=None, last_sequence=tail.last_sequence, written_ms=now_ms)]
                )
                tail.offset, tail.closed, tail.written_ms = tail.offset + 1, True, now_ms
            recent = tuple(log for log in logs if not self._expired(log, now_ms))
            self._logs.register(shard, logs, (*recent, f"{shard}@{now_ms}"))
        except Conflict:
            self.conflicts += 1
        self.catch_up(now_ms)

    def append(self, tail: Tail, batch: BatchTally, now_ms: int) -> None:
        """Appends a tally and merges it into the view.

        Raises Conflict if somebody else has appended to the log; what they wrote has then been merged. Raises TooLarge,
        having written nothing.
        """
        whole = LogItem(
            body=None,
            last_sequence=batch.last_sequence,
            written_ms=now_ms,
            first_slot_ms=batch.first_ms,
            last_slot_ms=batch.last_ms,
        )
        bodies = _bodies(batch.tally)
        if sum(map(len, bodies)) > self._largest_append:
            raise TooLarge(f"{tail.log}: a tally of {sum(map(len, bodies))} bytes")
        items = [replace(whole, body=body) for body in bodies]
        items[0] = replace(items[0], requests=batch.requests)
        try:
            self._logs.append(tail.log, tail.offset, items)
        except Conflict:
            self.conflicts += 1
            self.catch_up(now_ms)
            raise
        for item in items:
            tail.take(item)
        self._loaded().merge(batch.tally, batch.first_ms, batch.last_ms)

    def catch_up(self, now_ms: int, own: Tail | None = None) -> None:
        """Reads every log but ``own`` forward to its end."""
        view = self._loaded()
        begun: dict[str, int] = {}
        while True:
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
                # Only without a gap: offsets are not read at one moment, and a later one may have been written between.
                while tail.offset < first + ahead and (item := items.get((log, tail.offset))) is not None:
                    _take(view, tail, item)
                came = tail.offset - first
                tail.ahead = min(tail.offset - begun[log] + 1, FURTHEST_AHEAD)
                again |= not tail.closed and (
                    came == ahead or any((log, first + step) in items for step in range(came, ahead))
                )
            if not again:
                self._read_at_ms = now_ms
                return

    def _load(self, rules: RuleSet, since_ms: int, now_ms: int) -> View:
        # Until every log has been read there is no view: a container that outlives a failed read starts over, and never
        # takes a log that it has not read for one that has ended.
        self.view, self._registry, self._tails = None, {}, {}
        view = self._new_view(rules)
        view.keep_since(since_ms)
        registry, _ = self._logs.read([])
        self._adopt(registry, view)
        self.view, self._read_at_ms = view, now_ms
        self._retire(now_ms)
        return view

    def _adopt(self, registry: Registry, view: View) -> bool:
        """Starts following the logs of ``registry`` that are new; says whether there were any."""
        named = {log: shard for shard, logs in registry.items() for log in logs}
        fresh = [log for log in named if log not in self._tails]
        for log in fresh:
            self._tails[log] = self._follow(log, named[log], view)
        for log in self._tails.keys() - named.keys():
            del self._tails[log]
        self._registry = registry
        return bool(fresh)

    def _follow(self, log: str, shard: str, view: View) -> Tail:
        """Merges what a log holds of the view's time; the tail at its end.

        A request is never processed before it is made (but for clocks that disagree), so items written before the
        view's time hold nothing of it.
        """
        tail = Tail(shard, log, written_ms=_born_ms(log))
        since_ms = view.since_ms - view.rules.longest_window_ms - SKEW_MS
        found = self._logs.latest(log, since_ms)
        # Only without a gap, from the newest: what lies below one is old enough for the store to be removing it.
        whole = [item for back, (offset, item) in enumerate(found) if offset == found[0][0] - back]
        if whole:
            tail.offset = found[0][0] + 1 - len(whole)
        for item in reversed(whole):
            _take(view, tail, item)
        return tail

    def _retire(self, now_ms: int) -> None:
        """Takes shards off the registry all of whose logs have expired (a reshard leaves such behind)."""
        for shard, logs in list(self._registry.items()):
            if all(self._expired(log, now_ms) for log in logs):
                try:
                    self._logs.register(shard, logs, ())
                except Conflict:
                    self.conflicts += 1

    def _expired(self, log: str, now_ms: int) -> bool:
        tail = self._tails.get(log)
        return tail is not None and now_ms - tail.written_ms > EXPIRE_MS

    def _live(self, tail: Tail, now_ms: int) -> bool:
        return not tail.closed and not self._expired(tail.log, now_ms)

    def _loaded(self) -> View:
        if self.view is None:
            raise RuntimeError("the view is used before it is prepared")
        return self.view


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
