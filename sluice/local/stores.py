"""Both tables in memory, with their streams. They pass the same contract tests as the DynamoDB adapters.

Writes are atomic across threads, as they are in DynamoDB.
"""

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from threading import Lock

from chalicelib.ports import (
    Conflict,
    Gone,
    Item,
    LogItem,
    LogKey,
    LogObject,
    PartReceipt,
    Position,
    Put,
    Registry,
    RollUp,
    Unavailable,
    Write,
)

_BY_ID = attrgetter("id")

MOST_WRITES = 100
"""Most writes per DynamoDB transaction."""


class MemoryTallyLogs:
    """``TallyLogs`` in memory. ``added`` is the table's stream: the key of each new item once, in order."""

    def __init__(self) -> None:
        self._logs: dict[str, dict[int, LogItem]] = {}
        self._registry: dict[str, tuple[str, ...]] = {}
        self._position: Position | None = None
        self._receipts: dict[LogObject, dict[int, int]] = {}
        self._writing = Lock()
        self.added: list[LogKey] = []
        self.on_append: Callable[[], object] = lambda: None
        """Called after each append."""

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        with self._writing:
            stored = self._logs.setdefault(log, {})
            if any(offset + step in stored for step in range(len(items))):
                raise Conflict(f"append to {log} at {offset}")
            if receipt is not None:
                receipts = self._receipts.setdefault(receipt.object, {})
                if receipt.start in receipts:
                    raise Conflict(f"append to {log} at {offset}: {receipt.object} is counted from {receipt.start}")
                receipts[receipt.start] = receipt.end
            stored.update((offset + step, item) for step, item in enumerate(items))
            self.added += ((log, offset + step) for step in range(len(items)))
        self.on_append()

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        items = {(log, offset): item for log, offset in keys if (item := self._logs.get(log, {}).get(offset))}
        return dict(self._registry), items

    def counted_up_to(self, object: LogObject) -> int:
        return max(self._receipts.get(object, {}).items(), default=(0, 0))[1]

    def last(self, log: str) -> tuple[int, LogItem] | None:
        return max(self._logs.get(log, {}).items(), default=None)

    def first(self, log: str, offset: int) -> tuple[int, LogItem] | None:
        return min((entry for entry in self._logs.get(log, {}).items() if entry[0] >= offset), default=None)

    def latest(
        self, log: str, written_since_ms: int, before: int, most: int = sys.maxsize
    ) -> Sequence[tuple[int, LogItem]]:
        items: list[tuple[int, LogItem]] = []
        for offset, item in sorted(self._logs.get(log, {}).items(), reverse=True):
            if len(items) == most or (items and item.written_ms < written_since_ms):
                break
            if offset < before:
                items.append((offset, item))
        return items

    def register(self, shard: str, seen: tuple[str, ...], logs: tuple[str, ...]) -> None:
        with self._writing:
            if self._registry.get(shard, ()) != seen:
                raise Conflict(f"register {shard}")
            if logs:
                self._registry[shard] = logs
            else:
                self._registry.pop(shard, None)

    def position(self) -> Position | None:
        return self._position

    def store_position(self, position: Position) -> None:
        self._position = dict(position)

    def expire(self, written_before_ms: int) -> list[LogItem]:
        """Removes old items, as DynamoDB's TTL eventually does, and returns them."""
        removed: list[LogItem] = []
        for log, items in self._logs.items():
            removed += (item for item in items.values() if item.written_ms < written_before_ms)
            self._logs[log] = {offset: item for offset, item in items.items() if item.written_ms >= written_before_ms}
        return removed


class MemoryRollUps:
    """``RollUps`` in memory."""

    def __init__(self) -> None:
        self._roll_ups: dict[int, tuple[RollUp, tuple[bytes, ...]]] = {}
        self._writing = Lock()

    def add(self, roll_up: RollUp, bodies: Sequence[bytes]) -> None:
        with self._writing:
            if roll_up.number in self._roll_ups:
                raise Conflict(f"write roll-up {roll_up.number}")
            written = replace(roll_up, bodies=len(bodies), digest=str(roll_up.number))
            self._roll_ups[roll_up.number] = written, tuple(bodies)

    def latest(self, written_since_ms: int) -> Sequence[RollUp]:
        newest_first = [roll_up for _, (roll_up, _) in sorted(self._roll_ups.items(), reverse=True)]
        older = (at for at, roll_up in enumerate(newest_first) if at and roll_up.written_ms < written_since_ms)
        return newest_first[: next(older, None)]

    def bodies(self, roll_up: RollUp) -> Sequence[bytes]:
        stored, bodies = self._roll_ups.get(roll_up.number, (None, ()))
        if stored is None or stored.digest != roll_up.digest:
            raise Gone(f"read roll-up {roll_up.number}: its parts are missing")
        return bodies

    def expire(self, now_ms: int) -> None:
        """Removes old roll-ups, as DynamoDB's TTL eventually does."""
        self._roll_ups = {
            number: stored
            for number, stored in self._roll_ups.items()
            if now_ms < stored[0].written_ms + stored[0].kept_s * 1000
        }


@dataclass(frozen=True, slots=True)
class StateChange:
    """A change in the state table: the item before and after."""

    old: Item | None
    new: Item | None


class MemoryStateStore:
    """An in-memory ``StateStore``. ``changes`` is its stream, which holds each change once, in order."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, Item]] = {}
        self._order: dict[str, list[Item]] = {}
        """The items of each kind that was queried, in order of id."""
        self._lock = Lock()
        self.changes: list[StateChange] = []
        self.on_change: Callable[[], object] = lambda: None
        """Called after each change."""

    def get(self, kind: str, id: str) -> Item | None:
        return self._items.get(kind, {}).get(id)

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
        items = self._items.get(kind, {})
        return {id: items[id] for id in ids if id in items}

    def query(
        self,
        kind: str,
        *,
        above: str = "",
        below: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Iterator[Item]:
        with self._lock:
            items = self._items.get(kind, {})
            if kind not in self._order:
                self._order[kind] = sorted(items.values(), key=_BY_ID)
            order = self._order[kind]
            end = len(order) if below is None else bisect_left(order, below, key=_BY_ID)
            part = order[bisect_right(order, above, key=_BY_ID) : end]
            if descending:
                part.reverse()
            return iter(part[:limit])

    def unspread(self, kind: str, limit: int) -> Sequence[Item]:  # noqa: ARG002 - it has one place for each kind
        return []

    def put_over(self, items: Sequence[Item]) -> None:
        with self._lock:
            for item in items:
                self._apply(Put(item))

    def write(self, writes: Sequence[Write]) -> None:
        if len({(write.item.kind, write.item.id) for write in writes}) < len(writes) or len(writes) > MOST_WRITES:
            raise Unavailable(f"{len(writes)} writes: DynamoDB accepts {MOST_WRITES} per transaction, one per item")
        with self._lock:
            for write in writes:
                stored = self.get(write.item.kind, write.item.id)
                if (stored.version if stored else 0) != write.item.version:
                    raise Conflict(f"write {write.item.kind} {write.item.id}")
            for write in writes:
                self._apply(write)

    def expire(self, now: float) -> None:
        """Removes expired items, as DynamoDB's TTL does within days.

        Such removals are not in ``changes``, because the stream's readers skip them.
        """
        with self._lock:
            for kind, items in self._items.items():
                expired = [id for id, item in items.items() if item.expires_at is not None and item.expires_at <= now]
                for id in expired:
                    del items[id]
                if expired:
                    self._order.pop(kind, None)

    def _apply(self, write: Write) -> None:
        item, items = write.item, self._items.setdefault(write.item.kind, {})
        old, new = items.get(item.id), None
        if isinstance(write, Put):
            new = items[item.id] = replace(item, version=item.version + 1)
        else:
            items.pop(item.id, None)
        order = self._order.get(item.kind)
        if order is not None:
            at = bisect_left(order, item.id, key=_BY_ID)
            order[at : at + (old is not None)] = [] if new is None else [new]
        if old != new:
            self.changes.append(StateChange(old, new))
            self.on_change()
