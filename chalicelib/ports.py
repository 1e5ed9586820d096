"""What the use cases need of the world. Adapters: ``edges`` (AWS) and ``sluice.local`` (one machine).

One contract suite a port (``tests/contracts``) holds all adapters equal.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import IpSet


class Conflict(Exception):
    """Somebody else changed what this write was conditional on. Read again, decide again."""


class Contended(Exception):
    """A write lost against others too many times in a row; the batch fails and is delivered again."""


class Unavailable(Exception):
    """The service behind a port refused or did not answer."""


class Throttled(Unavailable):
    """Too many calls; the next second will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogItem:
    """One item of a shard's tally log. A closed log's last item has no body."""

    body: bytes | None
    last_sequence: int
    """The highest Kinesis sequence number that this and all earlier items cover."""
    written_ms: int
    first_slot_ms: int = 0
    last_slot_ms: int = 0
    requests: int = 0

    @property
    def closes(self) -> bool:
        return self.body is None


LogKey = tuple[str, int]
"""Log name and offset."""

Registry = Mapping[str, tuple[str, ...]]
"""Every shard's logs, newest last."""


class TallyLogs(Protocol):
    """Append-only logs, one or more a shard. Every read is strongly consistent."""

    def append(self, log: str, offset: int, items: Sequence[LogItem]) -> None:
        """Writes ``items`` at ``offset``, ``offset + 1``, ...: all of them, or raises Conflict if any is taken."""

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        """The registry, and those of ``keys`` that exist; not a snapshot of one moment."""

    def latest(self, log: str, written_since_ms: int) -> Sequence[tuple[int, LogItem]]:
        """Newest first: the last item, whenever it was written, and those before it back to ``written_since_ms``."""

    def register(self, shard: str, seen: tuple[str, ...], logs: tuple[str, ...]) -> None:
        """Replaces a shard's logs; raises Conflict unless they are still ``seen``. An empty tuple is no entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of the state table."""

    kind: str
    id: str
    body: bytes
    """JSON of the record (``core.state``) that the kind stands for."""
    version: int = 0
    """0 before it is first written; every write adds one."""
    expires_at: int | None = None
    """Epoch seconds after which the store may remove it, days late. Readers judge for themselves."""


@dataclass(frozen=True, slots=True)
class Put:
    """Writes ``item``, provided the stored version is still ``item.version`` (0: provided there is none)."""

    item: Item


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes the item, provided the stored version is still ``item.version``."""

    item: Item


Write = Put | Delete


@dataclass(frozen=True, slots=True)
class StreamChange:
    """A change in the state table, as its stream tells it: at least once, in order for each item."""

    kind: str
    id: str
    body: bytes | None
    """The new body; None if the item was removed."""
    existed: bool
    """Whether there was an item before."""


class StateStore(Protocol):
    """The state table. Reads are strongly consistent."""

    def get(self, kind: str, id: str) -> Item | None: ...

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]: ...

    def query(
        self,
        kind: str,
        *,
        above: str = "",
        below: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Iterator[Item]:
        """Items of a kind in order of id, from those whose ids are above ``above`` and below ``below``."""

    def put_over(self, items: Sequence[Item]) -> None:
        """Writes unconditionally: for items whose content follows from their id."""

    def write(self, writes: Sequence[Write]) -> None:
        """All of at most 100 writes or none: raises Conflict if any condition failed."""


class IpSets(Protocol):
    """WAF IP sets. Raises Conflict for a stale token, Unavailable for what AWS refuses."""

    def get(self, ip_set: IpSet) -> tuple[frozenset[Network], str]:
        """Its addresses and the lock token that belongs to them."""

    def update(self, ip_set: IpSet, addresses: frozenset[Network], token: str) -> None:
        """Replaces all addresses, provided ``token`` is still the latest."""
