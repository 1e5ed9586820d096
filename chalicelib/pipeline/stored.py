"""The state table as typed records.

A record that cannot be read (see ``core.state.records.Unreadable``) is skipped, so that it stops nothing else; ``find``
and ``scan`` return it as a value. A write that creates a record replaces an unreadable one.

A record is read together with its version, as ``Stored``; a write that replaces it names what it replaces, and fails
with Conflict if that has changed in between:

    entry = state.get(Allow, "192.0.2.0/24")
    state.write([state.put(Allow(network="192.0.2.0/24"), over=entry)])
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from chalicelib.core.addresses import Network, NetworkSet
from chalicelib.core.exemptions import Exemptions, networks_meant
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.breakers import Breaker
from chalicelib.core.state.events import Events
from chalicelib.core.state.kinds import record_type
from chalicelib.core.state.operators import Pause, WebAcls
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.records import Control, StateRecord, Unreadable
from chalicelib.core.state.trends import TrendMark
from chalicelib.ports import Conflict, Delete, Item, Put, StateStore, Write

R = TypeVar("R", bound=StateRecord)
C = TypeVar("C", bound=Control)


@dataclass(frozen=True, slots=True)
class Stored(Generic[R]):
    """A record as it was read, and the item it was read from."""

    record: R
    item: Item

    @property
    def id(self) -> str:
        return self.item.id

    @property
    def version(self) -> int:
        return self.item.version


class State:
    """The records of a ``StateStore``. Every method that touches the store raises what the store raises."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    @property
    def store(self) -> StateStore:
        """The store, for code that moves items without reading them."""
        return self._store

    def find(self, of: type[R], id: str) -> Stored[R] | Unreadable | None:
        item = self._store.get(of.kind, id)
        return _read(of, item) if item is not None else None

    def get(self, of: type[R], id: str, *, damaged: R | None = None) -> Stored[R] | None:
        """Returns a record; None if there is none.

        For a record that cannot be read, returns ``damaged`` together with the stored item, or None if ``damaged`` is
        None.
        """
        item = self._store.get(of.kind, id)
        stored = None if item is None else _read(of, item)
        if isinstance(stored, Unreadable):
            return Stored(damaged, item) if item and damaged else None
        return stored

    def get_many(self, of: type[R], ids: Collection[str]) -> dict[str, Stored[R]]:
        """Returns the records that exist and can be read, by id, in the order of ``ids``."""
        items = self._store.get_many(of.kind, ids)
        read = {id: _read(of, items[id]) for id in ids if id in items}
        return {id: stored for id, stored in read.items() if isinstance(stored, Stored)}

    def item(self, kind: str, id: str) -> Item | None:
        """Returns what is stored, whether or not it can be read."""
        return self._store.get(kind, id)

    def items(self, of: type[R]) -> list[Item]:
        """Returns all that is stored of a kind, whether or not it can be read."""
        return list(self._store.query(of.kind))

    def unreadable(self, kind: str, ids: Collection[str]) -> list[Unreadable]:
        """Returns what is stored under ``ids`` and cannot be read."""
        items = self._store.get_many(kind, ids)
        return [each for each in map(read_item, items.values()) if isinstance(each, Unreadable)]

    def scan(
        self,
        of: type[R],
        *,
        above: str = "",
        below: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Iterator[Stored[R] | Unreadable]:
        """Yields everything whose id lies between ``above`` and ``below``, both exclusive, in order of id."""
        for item in self._store.query(of.kind, above=above, below=below, limit=limit, descending=descending):
            yield _read(of, item)

    def all(
        self,
        of: type[R],
        *,
        above: str = "",
        below: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Iterator[Stored[R]]:
        """Yields the records whose ids lie between ``above`` and ``below``, as ``scan`` does, up to ``limit`` of them.

        Those that cannot be read do not count.
        """
        if limit is None:
            scanned = self.scan(of, above=above, below=below, descending=descending)
            yield from (stored for stored in scanned if isinstance(stored, Stored))
        while limit:
            page = list(self.scan(of, above=above, below=below, limit=limit, descending=descending))
            readable = [stored for stored in page if isinstance(stored, Stored)]
            yield from readable
            if len(page) < limit:
                return
            limit -= len(readable)
            above, below = (above, page[-1].id) if descending else (page[-1].id, below)

    def newest(self, of: type[R], *, above: str = "", below: str | None = None, per_read: int) -> Iterator[Stored[R]]:
        """Yields the records that can be read whose ids lie between ``above`` and ``below``, the greatest ids first.

        ``per_read``: items that are read at a time, for a caller that may stop early.
        """
        while True:
            page = list(self.scan(of, above=above, below=below, limit=per_read, descending=True))
            yield from (stored for stored in page if isinstance(stored, Stored))
            if len(page) < per_read:
                return
            below = page[-1].id

    def records(self, of: type[R]) -> list[R]:
        """Returns all records of a kind, in order of id, for readers that write none of them."""
        return [stored.record for stored in self.all(of)]

    def control(self, of: type[C]) -> Stored[C]:
        """Returns a control record; with its defaults and version 0 if it was never written."""
        return _control(of, self._store.get(of.kind, of.id))

    def pause(self, now: int) -> Pause:
        """Returns the pause in force at ``now``, in epoch seconds."""
        return self.control(Pause).record.as_of(now)

    def breaker(self) -> Breaker:
        return self.control(Breaker).record

    def controls(self, now: int) -> tuple[Pause, Breaker, Heartbeat | None, WebAcls, TrendMark]:
        """Returns the pause in force at ``now``, in epoch seconds, the last reset of all breakers, the last sweep (None
        if there was none yet), the places in web ACLs, and what the trends reach to, in one read."""
        items = self._store.get_many(Control.kind, [Pause.id, Breaker.id, Heartbeat.id, WebAcls.id, TrendMark.id])
        beat = items.get(Heartbeat.id)
        return (
            _control(Pause, items.get(Pause.id)).record.as_of(now),
            _control(Breaker, items.get(Breaker.id)).record,
            _control(Heartbeat, beat).record if beat is not None else None,
            _control(WebAcls, items.get(WebAcls.id)).record,
            _control(TrendMark, items.get(TrendMark.id)).record,
        )

    def exemptions(self, now: int) -> Exemptions:
        """Returns what is exempt at ``now``, in epoch seconds."""
        entries: list[Allow] = []
        meant: list[Network] = []
        for item in self._store.query(Allow.kind):
            entry = Allow.read(item.id, item.body)
            if isinstance(entry, Unreadable):
                if item.expires_at is None or now < item.expires_at:
                    meant += networks_meant(item.id, item.body)
            elif entry.in_force(now):
                entries.append(entry)
        return Exemptions.of(entries, meant)

    def allowlist(self, now: int) -> NetworkSet:
        """Returns the networks that are not published at ``now``."""
        return self.exemptions(now).networks

    @staticmethod
    def put(record: R, *, id: str | None = None, over: Stored[R] | None = None, expires_at: int | None = None) -> Write:
        """Returns the write that replaces ``over``, or that creates the record if ``over`` is None.

        ``id`` is needed for records that do not know their own. The store may remove the record after ``expires_at``,
        in epoch seconds.
        """
        version, key = (over.version, over.item.key) if over else (0, "")
        body = record.to_json()
        return Put(
            Item(kind=record.kind, id=id or record.id, body=body, version=version, expires_at=expires_at, key=key)
        )

    @staticmethod
    def delete(stored: Stored[R]) -> Write:
        """Returns the write that deletes a record."""
        return Delete(stored.item)

    def write(self, writes: Sequence[Write]) -> None:
        """Makes all of the writes (at most 100) or none. Raises Conflict if any replaced record has changed."""
        try:
            self._store.write(writes)
        except Conflict:
            over_unreadable = self._over_unreadable(writes)
            if over_unreadable == list(writes):
                raise
            self._store.write(over_unreadable)

    def _over_unreadable(self, writes: Sequence[Write]) -> list[Write]:
        """Returns ``writes`` with the versions of unreadable records in those that would create a record."""
        created: dict[str, set[str]] = {}
        for write in writes:
            # No two records of events have the same id.
            if isinstance(write, Put) and not write.item.version and write.item.kind != Events.kind:
                created.setdefault(write.item.kind, set()).add(write.item.id)
        versions = {
            (kind, id): item.version
            for kind, ids in created.items()
            for id, item in self._store.get_many(kind, ids).items()
            if isinstance(read_item(item), Unreadable)
        }

        def over(write: Write) -> Write:
            version = versions.get((write.item.kind, write.item.id))
            return write if version is None else Put(replace(write.item, version=version))

        return list(map(over, writes))

    def overwrite(self, *records: StateRecord, id: str | None = None, expires_at: int | None = None) -> None:
        """Writes records whatever is stored, where the last writer should win. Their versions begin at 1 again.

        ``id``, for a single record, is used in place of its own.
        """
        self._store.put_over(
            [Item(kind=each.kind, id=id or each.id, body=each.to_json(), expires_at=expires_at) for each in records]
        )


def _read(of: type[R], item: Item) -> Stored[R] | Unreadable:
    record = of.read(item.id, item.body)
    return record if isinstance(record, Unreadable) else Stored(record, item)


def read_item(item: Item) -> StateRecord | Unreadable | None:
    """Returns the record in an item, or the reason why it cannot be read; None for a kind of another version."""
    of = record_type(item.kind, item.id)
    return of.read(item.id, item.body) if of else None


def _control(of: type[C], item: Item | None) -> Stored[C]:
    """Returns a control record as far as it can be read: a damaged one still says what it is meant to control."""
    if item is None:
        return Stored(of(), Item(kind=of.kind, id=of.id, body=b""))
    record = of.read(item.id, item.body)
    return Stored(of.salvaged(item.body) if isinstance(record, Unreadable) else record, item)
