"""The ports: what the use cases need from the outside. Adapters are in ``edges`` (AWS) and ``sluice.local``.

One contract suite per port (``tests/contracts``) holds all adapters to the same behaviour.
"""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chalicelib.core.addresses import Network
from chalicelib.core.announcements import Announcement
from chalicelib.core.ipsets import IpSet
from chalicelib.core.logs.malformed_counts import MalformedCounts
from chalicelib.core.tally import RETENTION_S, kept_s
from chalicelib.reports import (
    AnnounceReport,
    EnforceReport,
    EvaluateReport,
    FeedReport,
    ImportReport,
    IngestReport,
    PublishReport,
    QuotaReport,
    SweepReport,
    TrendReport,
)


class Conflict(Exception):
    """The condition of a write no longer holds because of a concurrent change. Read and decide again."""


class Contended(Exception):
    """A write lost to concurrent ones too many times in a row. The batch fails and is delivered again."""


class Unavailable(Exception):
    """The service behind a port rejected a call or did not answer."""


class Throttled(Unavailable):
    """A call was rejected because there were too many; it can be retried after a second."""


class Gone(Exception):
    """An object was deleted, or replaced by one with another etag; or parts of a roll-up no longer exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogItem:
    """One item of a shard's tally log. The item that closes a log has no body."""

    body: bytes | None
    last_sequence: int
    """Highest Kinesis sequence number covered by this item and all earlier ones."""
    written_ms: int
    first_slot_ms: int = 0
    last_slot_ms: int = 0
    """Times of the earliest and the latest request of the batch, not rounded to slots; named after the attributes."""
    requests: int = 0
    """Requests of the batch, counted by a rule or not; in the first of its items, and 0 in the others."""
    arrived_ms: int = 0
    """Arrival of the oldest record in it."""
    kept_s: int = kept_s(RETENTION_S)
    """Age at which the store may remove it, counted from the second in which it was written."""

    malformed: MalformedCounts = ()
    """The largest counts of malformed pieces in the batch; in the first of its items, and none in the others."""
    late: int = 0
    """Requests of the batch that were too old to count; in the first of its items, and 0 in the others."""
    refused: int = 0
    """Requests of the batch that were answered as Sluice's refusals, as far as a rule counts them; in the first of its
    items, and 0 in the others."""
    portraits: bytes = b""
    """Packed portraits of the batch's clients close to a limit (``core.portraits``); in the first of its items."""
    total: int = 0
    """Sum of ``requests`` over this item and all earlier ones of its log. 0 in items of versions without a sum, after
    which it begins again."""
    refused_total: int = 0
    """The same of ``refused``."""

    @property
    def closes(self) -> bool:
        return self.body is None


@dataclass(frozen=True, slots=True)
class LogObject:
    """One version of an object in a bucket. If it is replaced, the new version is another object."""

    bucket: str
    key: str
    etag: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReceipt:
    """The record that a part of an object has been counted. Places are bytes of the unpacked content."""

    object: LogObject
    start: int
    """First byte of the part: 0, or the end of another part."""
    end: int
    """First byte after it."""
    written_ms: int


LogKey = tuple[str, int]
"""Log name and offset."""

Registry = Mapping[str, tuple[str, ...]]
"""Names of each shard's logs, newest last."""

Position = Mapping[str, int]
"""The first offset of each log that has not been evaluated yet."""


class TallyLogs(Protocol):
    """Append-only logs, one or more per shard. Every read is strongly consistent."""

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        """Writes ``items`` at ``offset``, ``offset + 1``, ... and the receipt of the part that they count, if any.

        Writes nothing and raises Conflict if any offset is taken, or if the part that starts there has a receipt. A
        receipt may come without items.
        """

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        """Returns the registry and the items of ``keys`` that exist. The items are not a snapshot of one moment."""

    def counted_up_to(self, object: LogObject) -> int:
        """Returns the end of the last part of an object that has a receipt; 0 if none has."""

    def last(self, log: str) -> tuple[int, LogItem] | None:
        """Returns the last item of a log with its offset; None if there is none."""

    def first(self, log: str, offset: int) -> tuple[int, LogItem] | None:
        """Returns the first item of a log at or after ``offset``, with its offset; None if there is none."""

    def latest(
        self, log: str, written_since_ms: int, before: int, most: int = sys.maxsize
    ) -> Sequence[tuple[int, LogItem]]:
        """Returns items before offset ``before``, newest first, with their offsets.

        The last of them is always returned; the earlier ones, back to the first that was written before
        ``written_since_ms``, which is left out. ``most``: how many are returned at most, from 1.
        """

    def register(self, shard: str, seen: tuple[str, ...], logs: tuple[str, ...]) -> None:
        """Replaces a shard's logs. Raises Conflict unless they are still ``seen``. An empty tuple means no entry."""

    def position(self) -> Position | None:
        """Returns the position that was stored last; None if there is none."""

    def store_position(self, position: Position) -> None:
        """Replaces the stored position, unconditionally."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollUp:
    """The counts for quotas in the items of the tally logs between two positions (``core.roll_ups``)."""

    number: int
    """0, 1, 2, ... without a gap, as long as the store keeps them."""
    position: Position
    """The first offset of each log that neither this roll-up nor one before it covers; 0 for logs not named."""
    written_ms: int
    first_slot_ms: int = 0
    last_slot_ms: int = 0
    """Times of the earliest and the latest request in it, not rounded to slots; 0 if it is empty."""
    kept_s: int = 0
    """Age at which the store may remove it, counted from the second in which it was written."""
    bodies: int = 0
    """Number of its packed parts."""
    digest: str = ""
    """Digest of the packed parts; set by ``add``."""


class RollUps(Protocol):
    """The roll-ups of the tally logs. Every read is strongly consistent."""

    def add(self, roll_up: RollUp, bodies: Sequence[bytes]) -> None:
        """Writes the packed parts, and then the roll-up, which makes them count.

        Raises Conflict if there is a roll-up with this number; the parts then count for nothing.
        """

    def latest(self, written_since_ms: int) -> Sequence[RollUp]:
        """Returns the roll-ups, newest first, back to the first that was written before ``written_since_ms``, which is
        left out. The newest is always returned, if there is one."""

    def bodies(self, roll_up: RollUp) -> Sequence[bytes]:
        """Returns the packed parts of a roll-up, in order. Raises Gone if one is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of the state table."""

    kind: str
    id: str
    body: bytes
    """JSON of a record of this kind (``core.state``)."""
    version: int = 0
    """0 before the first write. ``write`` adds one; ``put_over`` starts again at 1."""
    expires_at: int | None = None
    """Epoch seconds after which the store may remove the item, up to days late. Readers must not rely on it."""
    key: str = field(default="", compare=False, repr=False)
    """The store's name for the place that it was read from; empty for a new item, for which the store chooses one."""


@dataclass(frozen=True, slots=True)
class Put:
    """A write of ``item``, if the stored version is still ``item.version``, where 0 means that there is no item."""

    item: Item


@dataclass(frozen=True, slots=True)
class Delete:
    """A removal of ``item``, if the stored version is still ``item.version``."""

    item: Item


Write = Put | Delete


@dataclass(frozen=True, slots=True)
class StreamChange:
    """A change of the state table, from its stream: delivered at least once, in order per item."""

    kind: str
    id: str
    body: bytes | None
    """The new body; None if the item was removed."""
    existed: bool
    """True if the item existed before the change."""


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
        """Yields the items of a kind whose ids lie between ``above`` and ``below``, both exclusive, in order of id."""

    def unspread(self, kind: str, limit: int) -> Sequence[Item]:
        """Returns items of a kind that are not where the store puts new ones, because an earlier version wrote them.

        They can be read and written as any others. To be moved, they are deleted and put again, without their ``key``.
        """

    def put_over(self, items: Sequence[Item]) -> None:
        """Writes items whatever is stored, where the last writer should win. Their versions begin at 1 again."""

    def write(self, writes: Sequence[Write]) -> None:
        """Makes all of at most 100 writes or, if any condition fails, raises Conflict and makes none."""


class LogObjects(Protocol):
    """Buckets with objects that hold logs."""

    def blocks(self, object: LogObject) -> Iterator[bytes]:
        """Yields the content of an object, as stored, in blocks that are small enough for memory.

        Raises Gone if the object does not exist, and Unavailable if it cannot be read, even after the first blocks.
        """


class IpSets(Protocol):
    """WAF IP sets. Methods raise Throttled and Unavailable."""

    def tokens(self, sets: Collection[IpSet]) -> Mapping[IpSet, str]:
        """Returns the present tokens of the ``sets`` that exist, without their addresses."""

    def get(self, ip_set: IpSet) -> tuple[frozenset[Network], str]:
        """Returns the addresses of a set and a token for replacing them."""

    def update(self, ip_set: IpSet, addresses: frozenset[Network], token: str) -> str:
        """Replaces all addresses and returns the next token.

        Raises Conflict unless ``token`` belongs to the latest contents.
        """


class Announcements(Protocol):
    """The receiver of announcements, such as an event bus."""

    def send(self, announcements: Sequence[Announcement]) -> None:
        """Sends all of them. Raises Unavailable if one was not accepted; the others may have been."""


class Feeds(Protocol):
    """Lists of networks that others publish."""

    def read(self, url: str) -> bytes:
        """Returns the content at an https address. Raises Unavailable, whose message has no more than the server."""


class Telemetry(Protocol):
    """The receiver of reports: each invocation reports at most once; enforce also reports what it has announced,
    and a sweep the feed that it has checked, the quotas, and the quarter hour that it has added up."""

    def ingested(self, report: IngestReport) -> None: ...

    def imported(self, report: ImportReport) -> None: ...

    def evaluated(self, report: EvaluateReport) -> None: ...

    def enforced(self, report: EnforceReport) -> None: ...

    def announced(self, report: AnnounceReport) -> None: ...

    def published(self, report: PublishReport) -> None: ...

    def swept(self, report: SweepReport) -> None: ...

    def fed(self, report: FeedReport) -> None: ...

    def rolled_up(self, report: QuotaReport) -> None: ...

    def trended(self, report: TrendReport) -> None: ...
