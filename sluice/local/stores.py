"""Both tables in memory, with the state table's stream. They pass the same contract suites as DynamoDB.

Writes are atomic among threads, as they are in DynamoDB.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from chalicelib.ports import Conflict, Item, LogItem, LogKey, Put, Registry, Unavailable, Write

MOST_WRITES = 100
"""In one transaction of DynamoDB."""


class MemoryTallyLogs:
    """``TallyLogs`` in memory."""

    def __init__(self) -> None:
        self._logs: dict[str, dict[int, LogItem]] = {}
        self._registry: dict[str, tuple[str, ...]] = {}
        self._writing = Lock()

    def append(self, log: str, offset: int, items: Sequence[LogItem]) -> None:
        with self._writing:
            held = self._logs.setdefault(log, {})
            if any(offset + step in held for step in range(len(items))):
                raise Conflict(f"append to {log} at {offset}")
            held.update((offset + step, item) for step, item in enumerate(items))

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        found = {(log, offset): item for log, offset in keys if (item := self._logs.get(log, {}).get(offset))}
        return dict(self._registry), found

    def latest(self, log: str, written_since_ms: int) -> Sequence[tuple[int, LogItem]]:
        found: list[tuple[int, LogItem]] = []
        for offset, item in sorted(self._logs.get(log, {}).items(), reverse=True):
            if found and item.written_ms < written_since_ms:
                break
            found.append((offset, item))
        return found

    def register(self, shard: str, seen: tuple[str, ...], logs: tuple[str, ...]) -> None:
        with self._writing:
            if self._registry.get(shard, ()) != seen:
                raise Conflict(f"register {shard}")
            if logs:
                self._registry[shard] = logs
            else:
                self._registry.pop(shard, None)

    def expire(self, written_before_ms: int) -> list[LogItem]:
        """What DynamoDB's TTL does, sooner or later; gives what it has removed."""
        removed: list[LogItem] = []
        for log, held in self._logs.items():
            removed += (item for item in held.values() if item.written_ms < written_before_ms)
            self._logs[log] = {offset: item for offset, item in held.items() if item.written_ms >= written_before_ms}
        return removed


@dataclass(frozen=True, slots=True)
class StateChange:
    """A change of the state table: its images before and after."""

    old: Item | None
    new: Item | None


class MemoryStateStore:
    """``StateStore`` in memory. ``changes`` is its stream: every change once, in order."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, Item]] = {}
        self._order: dict[str, list[str]] = {}
        self._lock = Lock()
        self.changes: list[StateChange] = []
        self.on_change: Callable[[], object] = lambda: None
        """Called after each change."""

    def get(self, kind: str, id: str) -> Item | None:
        return self._items.get(kind, {}).get(id)

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
        held = self._items.get(kind, {})
        return {id: held[id] for id in ids if id in held}

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
            held = self._items.get(kind, {})
            if kind not in self._order:
                self._order[kind] = sorted(held)
            ids = self._order[kind]
            ids = ids[bisect_right(ids, above) :]
            if below is not None:
                ids = ids[: bisect_left(ids, below)]
            if descending:
                ids = ids[::-1]
            return iter([held[id] for id in ids[:limit]])

    def put_over(self, items: Sequence[Item]) -> None:
        with self._lock:
            for item in items:
                self._put(item)

    def write(self, writes: Sequence[Write]) -> None:
        if len({(write.item.kind, write.item.id) for write in writes}) < len(writes) or len(writes) > MOST_WRITES:
            raise Unavailable(f"{len(writes)} writes: DynamoDB takes {MOST_WRITES} at once, one an item")
        with self._lock:
            for write in writes:
                stored = self.get(write.item.kind, write.item.id)
                if (stored.version if stored else 0) != write.item.version:
                    raise Conflict(f"write {write.item.kind} {write.item.id}")
            for write in writes:
                if isinstance(write, Put):
                    self._put(write.item)
                else:
                    self._delete(write.item)

    def expire(self, now: float) -> None:
        """What DynamoDB's TTL does, days late. Its stream's readers leave such removals out, so none are told."""
        with self._lock:
            for kind, held in self._items.items():
                gone = [id for id, item in held.items() if item.expires_at is not None and item.expires_at <= now]
                for id in gone:
                    del held[id]
                if gone:
                    self._order.pop(kind, None)

    def _put(self, item: Item) -> None:
        held = self._items.setdefault(item.kind, {})
        new, old = replace(item, version=item.version + 1), held.get(item.id)
        held[item.id] = new
        if old is None:
            self._order.pop(item.kind, None)
        if old != new:
            self._tell(StateChange(old, new))

    def _delete(self, item: Item) -> None:
        old = self._items.get(item.kind, {}).pop(item.id, None)
        self._order.pop(item.kind, None)
        if old is not None:
            self._tell(StateChange(old, None))

    def _tell(self, change: StateChange) -> None:
        self.changes.append(change)
        self.on_change()
