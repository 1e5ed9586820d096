"""The read and write units of the state table's calls, computed from the items."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby

from bench.limits import READ_BYTES, WRITE_BYTES, Units
from chalicelib.edges.state_table import PARTS, SPREAD_KINDS, attributes_of, partition_key
from chalicelib.ports import Item, StateStore, Write
from tests.support.tables import item_bytes


class MeteredStore:
    """A state store that counts units. ``spend`` is called with the reads, the writes and the items of each call."""

    def __init__(self, store: StateStore, spend: Callable[[Units, Units, int], object] = lambda *_: None) -> None:
        self._store = store
        self._spend = spend
        self.reads = self.writes = 0.0

    def get(self, kind: str, id: str) -> Item | None:
        return self.get_many(kind, [id]).get(id)

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
        items = self._store.get_many(kind, ids)
        reads: dict[str, float] = {}
        for id in set(ids):
            key = partition_key(kind, id)
            reads[key] = reads.get(key, 0) + (-(-_size(items[id]) // READ_BYTES) if id in items else 1)
        self._count(reads, {}, len(items))
        return items

    def query(
        self,
        kind: str,
        *,
        above: str = "",
        below: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Iterator[Item]:
        items = list(self._store.query(kind, above=above, below=below, limit=limit, descending=descending))
        keys = [*(f"{kind}#{part:02}" for part in range(PARTS)), kind] if kind in SPREAD_KINDS else [kind]
        sizes = dict.fromkeys(keys, 0)
        for item in items:
            sizes[partition_key(kind, item.id)] += _size(item)
        self._count({key: max(1, -(-size // READ_BYTES)) for key, size in sizes.items()}, {}, len(items))
        return iter(items)

    def unspread(self, kind: str, limit: int) -> Sequence[Item]:
        self._count({kind: 1}, {}, 0)
        return self._store.unspread(kind, limit)

    def put_over(self, items: Sequence[Item]) -> None:
        for item in items:
            self._count({}, {partition_key(item.kind, item.id): _writes(item)}, 1)
            self._store.put_over([item])

    def write(self, writes: Sequence[Write]) -> None:
        # Each write of a transaction costs twice as much.
        costs = [(partition_key(w.item.kind, w.item.id), _writes(w.item) * (1 + (len(writes) > 1))) for w in writes]
        by_key = groupby(sorted(costs), key=lambda cost: cost[0])
        self._count({}, {key: sum(units for _, units in of_key) for key, of_key in by_key}, len(writes))
        self._store.write(writes)

    def _count(self, reads: Units, writes: Units, items: int) -> None:
        self.reads += sum(reads.values())
        self.writes += sum(writes.values())
        self._spend(reads, writes, items)


def _size(item: Item) -> int:
    return item_bytes(attributes_of(item))


def _writes(item: Item) -> int:
    return -(-_size(item) // WRITE_BYTES)
