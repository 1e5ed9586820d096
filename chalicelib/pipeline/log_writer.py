"""Appending to the tally logs: the ends of the logs that one container appends to.

An end is remembered for as long as its log takes items. During that time, no item that another container has written
after it can have been removed, so an append at an old end finds its offset taken. Later, other containers may have
moved the end for hours, so it is read again before the log is left.
"""

from dataclasses import dataclass

from chalicelib.core.logs.malformed_counts import MOST_STORED, MalformedCounts
from chalicelib.core.logs.requests import Decoded
from chalicelib.core.tally import RETENTION_S, Tally, kept_s, pack, split
from chalicelib.pipeline.tally_logs import Tail, log_name, new_tail
from chalicelib.ports import Conflict, Contended, LogItem, PartReceipt, TallyLogs

LARGEST_ITEM = 380_000
"""Most bytes of a tally in one item, because DynamoDB accepts 400 KB including attribute names."""

LARGEST_APPEND = 3_500_000
"""Most bytes of all tallies in one append, because DynamoDB accepts 4 MB per transaction."""

TRIES = 8
"""Appends, or attempts to open a log, before the batch fails."""


class TooLarge(Exception):
    """A tally does not fit in one transaction. Fewer records make a smaller one."""


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
    arrived_ms: int
    """Arrival of the oldest record."""
    malformed: MalformedCounts = ()
    """Pieces of the batch that are not requests."""
    late: int = 0
    """Requests of the batch that were too old to count."""
    refused: int = 0
    """Requests of the batch that were answered as refusals, as far as a rule counts them."""
    portraits: bytes = b""
    """Packed portraits of clients close to a limit (``core.portraits``)."""

    @classmethod
    def of(
        cls,
        tally: Tally,
        decoded: Decoded,
        malformed: MalformedCounts,
        *,
        last_sequence: int,
        arrived_ms: int,
        refused: int,
        portraits: bytes,
        now_ms: int,
    ) -> "BatchTally":
        """Returns the tally of ``decoded``. Without a request, its times are ``now_ms``, so no view reaches back."""
        span_ms = decoded.span_ms() if decoded else (now_ms, now_ms)
        counts = len(decoded), *span_ms, arrived_ms, malformed, decoded.late, refused
        return cls(tally, last_sequence, *counts, portraits)

    @property
    def empty(self) -> bool:
        """Returns whether there is nothing to store.

        Malformed pieces and the number of late requests are stored without a tally as well, because a log that cannot
        be read, or comes too late, looks like no traffic.
        """
        return not (self.tally or self.malformed or self.late)


@dataclass(slots=True)
class _End:
    """The newest log of a shard, as it was when this container last read or wrote there."""

    logs: tuple[str, ...]
    """All logs of the shard, newest last."""
    tail: Tail | None
    """None if the shard has no log."""


class LogWriter:
    """One container's ends of logs. A batch that is appended to a known end costs one call."""

    def __init__(self, logs: TallyLogs, *, retention_s: int = RETENTION_S) -> None:
        self._logs = logs
        self._kept_s = kept_s(retention_s)
        self._ends: dict[str, _End] = {}
        self._conflicts = 0

    def take_conflicts(self) -> int:
        """Returns the number of writes since the last call that lost to another container's."""
        conflicts, self._conflicts = self._conflicts, 0
        return conflicts

    def tail(self, shard: str, now_ms: int) -> Tail:
        """Returns the end of the log that takes the shard's tallies, after opening one if needed. Raises Contended."""
        for _ in range(TRIES):
            tail = self._end(shard, now_ms).tail
            if tail is not None and not tail.closed and not tail.dormant(now_ms):
                return tail
            self.open(shard, now_ms)
        raise Contended(f"no log could be opened for {shard} in {TRIES} tries")

    def open(self, shard: str, now_ms: int) -> None:
        """Leaves the log whose end is known for a new one, unless another container does so first.

        Closes the old log, because a container that still uses it could otherwise append to it.
        """
        end = self._ends.pop(shard)
        tail = end.tail
        try:
            if tail is not None and not tail.closed and not tail.expired(now_ms):
                last = tail.last_sequence
                closing = LogItem(
                    body=None,
                    last_sequence=last,
                    written_ms=now_ms,
                    kept_s=self._kept_s,
                    total=tail.total,
                    refused_total=tail.refused_total,
                )
                self._logs.append(tail.log, tail.offset, [closing])
            self._logs.register(shard, end.logs, (*end.logs, log_name(shard, now_ms)))
        except Conflict:
            self._conflicts += 1

    def append(self, tail: Tail, added: BatchTally, now_ms: int, receipt: PartReceipt | None = None) -> None:
        """Appends a tally and, if it counts a part of an object, the part's receipt; if it is empty, the receipt alone.

        Raises Conflict if another container has appended to the log or counted the part, and TooLarge. In both cases
        nothing is written.
        """
        bodies = [] if added.empty else _bodies(added.tally)
        if sum(map(len, bodies)) > LARGEST_APPEND:
            raise TooLarge(f"{tail.log}: a tally of {sum(map(len, bodies))} bytes")
        items = [
            LogItem(
                body=body,
                last_sequence=added.last_sequence,
                written_ms=now_ms,
                first_slot_ms=added.first_ms,
                last_slot_ms=added.last_ms,
                requests=0 if number else added.requests,
                arrived_ms=added.arrived_ms,
                kept_s=self._kept_s,
                malformed=() if number else added.malformed[:MOST_STORED],
                late=0 if number else added.late,
                refused=0 if number else added.refused,
                portraits=b"" if number else added.portraits,
                total=tail.total + added.requests,
                refused_total=tail.refused_total + added.refused,
            )
            for number, body in enumerate(bodies)
        ]
        end = self._ends.pop(tail.shard)  # read again if the append fails, perhaps after it took effect
        try:
            self._logs.append(tail.log, tail.offset, items, receipt)
        except Conflict:
            self._conflicts += 1
            raise
        for item in items:
            tail.take(item)
        self._ends[tail.shard] = end

    def _end(self, shard: str, now_ms: int) -> _End:
        end = self._ends.get(shard)
        if end is None or end.tail is None or end.tail.dormant(now_ms):
            end = self._ends[shard] = self._read_end(shard)
        return end

    def _read_end(self, shard: str) -> _End:
        registry, _ = self._logs.read([])
        logs = registry.get(shard, ())
        if not logs:
            return _End(logs, None)
        tail = new_tail(shard, logs[-1])
        last = self._logs.last(tail.log)
        if last is not None:
            tail.offset, item = last
            tail.take(item)
        return _End(logs, tail)


def _bodies(tally: Tally) -> list[bytes]:
    body = pack(tally)
    if len(body) <= LARGEST_ITEM:
        return [body]
    return [part for half in split(tally) for part in _bodies(half)]
