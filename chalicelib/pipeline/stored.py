"""The state table as typed records.

A record is read together with its version, as ``Stored``; a write that replaces it names what it replaces, and fails
with Conflict if that has changed in between:

    entry = state.get(Allow, "192.0.2.0/24")
    state.write([state.put(Allow(network="192.0.2.0/24"), over=entry)])
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.state import Allow, Breaker, Control, Heartbeat, Pause, StateRecord
from chalicelib.ports import Delete, Item, Put, StateStore, Write

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

    def get(self, of: type[R], id: str) -> Stored[R] | None:
        item = self._store.get(of.kind, id)
        return Stored(of.from_json(item.body), item) if item is not None else None

    def get_many(self, of: type[R], ids: Collection[str]) -> dict[str, Stored[R]]:
        """Returns the records that exist, by id."""
        items = self._store.get_many(of.kind, ids)
        return {id: Stored(of.from_json(item.body), item) for id, item in items.items()}

    def all(
        self,
        of: type[R],
        *,
        above: str = "",
        below: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Iterator[Stored[R]]:
        """Yields the records whose ids lie between ``above`` and ``below``, both exclusive, in order of id."""
        for item in self._store.query(of.kind, above=above, below=below, limit=limit, descending=descending):
            yield Stored(of.from_json(item.body), item)

    def records(self, of: type[R]) -> list[R]:
        """Returns all records of a kind, in order of id, for readers that write none of them."""
        return [of.from_json(item.body) for item in self._store.query(of.kind)]

    def control(self, of: type[C]) -> Stored[C]:
        """Returns a control record; with its defaults and version 0 if it was never written."""
        default = Stored(of(), Item(kind=of.kind, id=of.id, body=b""))
        return self.get(of, of.id) or default

    def pause(self) -> Pause:
        return self.control(Pause).record

    def breaker(self) -> Breaker:
        return self.control(Breaker).record

    def controls(self) -> tuple[Pause, Breaker, Heartbeat | None]:
        """Returns all control records in one read; no heartbeat if there was no sweep yet."""
        items = self._store.get_many(Control.kind, [Pause.id, Breaker.id, Heartbeat.id])
        bodies = {id: item.body for id, item in items.items()}
        return (
            Pause.from_json(bodies.get(Pause.id, b"{}")),
            Breaker.from_json(bodies.get(Breaker.id, b"{}")),
            Heartbeat.from_json(bodies[Heartbeat.id]) if Heartbeat.id in bodies else None,
        )

    def allowed(self, now: int) -> list[Allow]:
        """Returns the allowlist entries in force at ``now``, in order of the network's text."""
        return [entry for entry in self.records(Allow) if entry.in_force(now)]

    def allowlist(self, now: int) -> NetworkSet:
        """Returns the networks of the allowlist entries in force at ``now``."""
        return networks_of(self.allowed(now))

    @staticmethod
    def put(record: R, *, id: str | None = None, over: Stored[R] | None = None, expires_at: int | None = None) -> Write:
        """Returns the write that replaces ``over``, or that creates the record if ``over`` is None.

        ``id`` is needed for records that do not know their own. The store may remove the record after ``expires_at``,
        in epoch seconds.
        """
        version = over.version if over else 0
        body = record.to_json()
        return Put(Item(kind=record.kind, id=id or record.id, body=body, version=version, expires_at=expires_at))

    @staticmethod
    def delete(stored: Stored[R]) -> Write:
        """Returns the write that deletes a record."""
        return Delete(stored.item)

    def write(self, writes: Sequence[Write]) -> None:
        """Makes all of the writes (at most 100) or none. Raises Conflict if any replaced record has changed."""
        self._store.write(writes)

    def overwrite(self, *records: StateRecord, id: str | None = None, expires_at: int | None = None) -> None:
        """Writes records whatever is stored, where the last writer should win. Their versions begin at 1 again.

        ``id``, for a single record, is used in place of its own.
        """
        self._store.put_over(
            [Item(kind=each.kind, id=id or each.id, body=each.to_json(), expires_at=expires_at) for each in records]
        )


def networks_of(entries: Iterable[Allow]) -> NetworkSet:
    """Returns the networks of allowlist entries."""
    return NetworkSet(entry.network_value() for entry in entries)
