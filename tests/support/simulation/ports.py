"""The ports with a switch point before and after every call."""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from random import Random

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import IpSet
from chalicelib.core.state.blocks import Block, History
from chalicelib.ports import (
    IpSets,
    Item,
    LogItem,
    LogKey,
    LogObject,
    LogObjects,
    PartReceipt,
    Position,
    Registry,
    StateStore,
    TallyLogs,
    Write,
)
from sluice.local.stores import MemoryTallyLogs
from tests.support.simulation.schedule import Schedule


class SwitchingTallyLogs:
    """``TallyLogs``; its reads are no snapshots: the registry and every item are read at moments of their own."""

    def __init__(self, logs: TallyLogs, schedule: Schedule) -> None:
        self._logs = logs
        self._schedule = schedule

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        self._schedule.call(f"append {log} {offset}", lambda: self._logs.append(log, offset, items, receipt))

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        registry, _ = self._schedule.call("read the registry", lambda: self._logs.read([]))
        items: dict[LogKey, LogItem] = {}
        order = list(keys)
        self._schedule.random.shuffle(order)
        for key in order:
            if self._schedule.random.random() < 0.3:
                self._schedule.point("read between")
            items |= self._logs.read([key])[1]
        return registry, items

    def counted_up_to(self, object: LogObject) -> int:
        return self._schedule.call(f"how far {object} is counted", lambda: self._logs.counted_up_to(object))

    def last(self, log: str) -> tuple[int, LogItem] | None:
        return self._schedule.call(f"last {log}", lambda: self._logs.last(log))

    def first(self, log: str, offset: int) -> tuple[int, LogItem] | None:
        return self._schedule.call(f"first {log} {offset}", lambda: self._logs.first(log, offset))

    def latest(
        self, log: str, written_since_ms: int, before: int, most: int = sys.maxsize
    ) -> Sequence[tuple[int, LogItem]]:
        return self._schedule.call(f"latest {log}", lambda: self._logs.latest(log, written_since_ms, before, most))

    def register(self, shard: str, seen: tuple[str, ...], logs: tuple[str, ...]) -> None:
        self._schedule.call(f"register {shard}", lambda: self._logs.register(shard, seen, logs))

    def position(self) -> Position | None:
        return self._schedule.call("position", self._logs.position)

    def store_position(self, position: Position) -> None:
        self._schedule.call("store position", lambda: self._logs.store_position(position))


class SwitchingObjects:
    """``LogObjects``: tasks switch before each block, and at the end."""

    def __init__(self, objects: LogObjects, schedule: Schedule) -> None:
        self._objects = objects
        self._schedule = schedule

    def blocks(self, object: LogObject) -> Iterator[bytes]:
        blocks = self._objects.blocks(object)
        while (block := self._schedule.call(f"read {object}", lambda: next(blocks, None))) is not None:
            yield block


class LedgerTallyLogs(MemoryTallyLogs):
    """Memory logs that remember every item that was ever appended, and lose expired ones one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[LogItem] = []

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        super().append(log, offset, items, receipt)
        self.appended += items

    def expire_at_random(self, random: Random, written_before_ms: int) -> None:
        for log_items in self._logs.values():
            for offset, item in list(log_items.items()):
                if item.written_ms < written_before_ms and random.random() < 0.7:
                    del log_items[offset]


class SwitchingStateStore:
    """``StateStore``; a query is one read, as blocks and allowlist fit a page in a simulation."""

    def __init__(self, state: StateStore, schedule: Schedule) -> None:
        self._state = state
        self._schedule = schedule

    def get(self, kind: str, id: str) -> Item | None:
        return self._schedule.call(f"get {kind} {id}", lambda: self._state.get(kind, id))

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
        return self._schedule.call(f"get several {kind} {' '.join(ids)}", lambda: self._state.get_many(kind, ids))

    def query(
        self,
        kind: str,
        *,
        above: str = "",
        below: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Iterator[Item]:
        def items() -> list[Item]:
            return list(self._state.query(kind, above=above, below=below, limit=limit, descending=descending))

        return iter(self._schedule.call(f"query {kind}", items))

    def unspread(self, kind: str, limit: int) -> Sequence[Item]:
        return self._state.unspread(kind, limit)

    def put_over(self, items: Sequence[Item]) -> None:
        for item in items:
            self._schedule.call(f"put {item.kind}", partial(self._state.put_over, [item]))

    def write(self, writes: Sequence[Write]) -> None:
        names = " ".join(f"{write.item.kind} {write.item.id}" for write in writes)
        self._schedule.call(f"write {names}", lambda: self._state.write(writes))


class BusyStateStore(SwitchingStateStore):
    """A state store in which enforce needs ``item_s`` seconds for each block and each history that it writes."""

    def __init__(self, state: StateStore, schedule: Schedule, item_s: float) -> None:
        super().__init__(state, schedule)
        self._item_s = item_s

    def write(self, writes: Sequence[Write]) -> None:
        task = self._schedule.running
        if self._item_s and task is not None and task.name.startswith("enforce"):
            self._schedule.sleep(self._item_s * sum(write.item.kind in (Block.kind, History.kind) for write in writes))
        super().write(writes)


class SwitchingIpSets:
    """``IpSets``."""

    def __init__(self, ip_sets: IpSets, schedule: Schedule) -> None:
        self._ip_sets = ip_sets
        self._schedule = schedule

    def tokens(self, sets: Collection[IpSet]) -> Mapping[IpSet, str]:
        return self._schedule.call("ListIPSets", lambda: self._ip_sets.tokens(sets))

    def get(self, ip_set: IpSet) -> tuple[frozenset[Network], str]:
        return self._schedule.call(f"GetIPSet {ip_set.name}", lambda: self._ip_sets.get(ip_set))

    def update(self, ip_set: IpSet, addresses: frozenset[Network], token: str) -> str:
        return self._schedule.call(f"UpdateIPSet {ip_set.name}", lambda: self._ip_sets.update(ip_set, addresses, token))
