"""Requests as columns: one list per field, one row per request.

Columns instead of an object per request let Python spend its time in C (split, map, compress), which makes the hot
path fast. Cells keep the form in which the log holds them; ``text`` decodes a cell, and is called only for cells that a
rule examines.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from itertools import compress
from typing import Any, Literal, cast, get_args

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.forwarded import client_behind
from chalicelib.core.printable import printable


class Source(StrEnum):
    """The log that a request was read from. Each rule counts each source separately."""

    CLOUDFRONT = "cloudfront"
    """CloudFront real-time logs."""
    WAF = "waf"
    """AWS WAF logs."""
    STANDARD = "cloudfront-standard"
    """CloudFront standard logs."""
    BALANCER = "load-balancer"
    """Access logs of an Application Load Balancer."""
    API_GATEWAY = "api-gateway"
    """Access logs of API Gateway."""
    WEB_SERVER = "web-server"
    """Access logs of nginx and Apache."""
    JSON = "json"
    """JSON access logs of other programs, whose keys ``JSON_FIELDS`` names."""

    @property
    def precision_ms(self) -> int:
        """Precision of the log's times in milliseconds: 1000 if a common form of the log gives only seconds, else 1."""
        return 1000 if self in (Source.STANDARD, Source.WEB_SERVER, Source.JSON) else 1


LiveSource = Literal["cloudfront", "waf", "cloudfront-standard", "load-balancer", "api-gateway", "web-server", "json"]
"""Sources that Lambda reads, as callers name them."""

LIVE_SOURCES = tuple(map(Source, get_args(LiveSource)))


class Reason(StrEnum):
    """The reason why a piece of a log is not a request. Each is part of a metric's name, so the set is closed."""

    EMPTY = "empty"
    FIELDS = "fields"
    TIMESTAMP = "timestamp"
    FUTURE = "future"
    ADDRESS = "address"
    FORWARDED = "forwarded-for"
    ENCODING = "encoding"
    JSON = "json"
    GZIP = "gzip"
    TOO_LARGE = "too-large"
    ENVELOPE = "envelope"
    KPL = "kpl-aggregate"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Malformed:
    """A piece of a log that is not a request: it is counted by reason and sampled, and never fatal."""

    reason: Reason
    raw: bytes
    source: Source | None = None
    """The log it was read as; None if no format recognised it."""
    fields: tuple[int, int] | None = None
    """The number of its fields and the number expected, if they differ and the format knows both."""
    name: str = ""
    """The unsupported log or kind of file that it is, such as Parquet."""

    SAMPLE_BYTES = 160
    """Most bytes kept of a piece: enough to recognise it."""

    @classmethod
    def of(
        cls,
        reason: Reason,
        piece: bytes,
        source: Source | None = None,
        fields: tuple[int, int] | None = None,
        name: str = "",
    ) -> "Malformed":
        """Returns a malformed piece that keeps only the start of ``piece``."""
        return cls(reason, piece[: cls.SAMPLE_BYTES], source, fields, name)

    def sample(self) -> str:
        """Returns the start of the piece, at most ``SAMPLE_BYTES`` of printable ASCII, everything else escaped.

        >>> Malformed(Reason.FIELDS, b"a\\tb\\x1b[2J\\n").sample()
        'a\\\\tb\\\\x1b[2J\\\\n'
        """
        return printable(self.raw[: self.SAMPLE_BYTES])[: self.SAMPLE_BYTES]


def host_name(text: str) -> str:
    """Returns the name in a Host header, which clients may write in any case, with a port or a final dot.

    >>> host_name("WWW.Example.com.:443")
    'www.example.com'
    """
    return text.lower().partition(":")[0].rstrip(".")


COLUMNS = frozenset(
    (
        *("host", "path", "method", "status", "country", "user_agent", "waf_action", "waf_label"),
        *("asn", "content_type", "header_names", "ja3", "ja4", "referer"),
    )
)
"""Every column that the scope of a rule can examine."""

BYTES = "bytes"
"""The column of the bytes that were sent to the client, as decimal digits. Rules add it up; no scope examines it."""
TIME_TAKEN = "time_taken"
"""The column of the time that the response took, in milliseconds, as decimal digits."""
MEASURED = frozenset((BYTES, TIME_TAKEN))
"""Every column that a rule can add up."""

FORWARDED_FOR = "forwarded_for"
"""The column of the X-Forwarded-For header, read only if proxies are trusted."""

Text = str | tuple[str, ...]
"""The content of a cell: one text, or several (WAF labels, names of headers); empty if the log has none."""


class Cells(Sequence[Any]):
    """Cells of a column, each read from its row when it is needed: of many columns, scopes examine few rows."""

    def __init__(self, rows: Sequence[Any], read: Callable[[Any], Any]) -> None:
        self._rows = rows
        self._read = read
        self._all: list[Any] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> Any:
        return list(self)[row] if isinstance(row, slice) else self._read(self._rows[row])

    def __iter__(self) -> Iterator[Any]:
        if self._all is None:
            self._all = list(map(self._read, self._rows))
        return iter(self._all)


@dataclass(frozen=True, slots=True)
class Column:
    """One field of all requests."""

    cells: Sequence[Any]
    text: Callable[[Any], Text]

    def texts(self) -> Iterator[Text]:
        return map(self.text, self.cells)


Columns = Callable[[str], Column | None]
"""Returns the column of a name, or None if the log does not have it."""


class _Texts(dict[Any, Text]):
    """The texts of cells, decoded once per distinct cell."""

    def __init__(self, text: Callable[[Any], Text]) -> None:
        self._text = text

    def __missing__(self, cell: Any) -> Text:
        text = self[cell] = self._text(cell)
        return text


def shared(columns: Columns) -> Columns:
    """Returns the same columns, each made once and each distinct cell decoded once, however many scopes examine it."""

    @cache
    def column(name: str) -> Column | None:
        made = columns(name)
        return made and Column(made.cells, _Texts(made.text).__getitem__)

    return column


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of one source.

    ``times`` are milliseconds since the epoch; ``clients`` are packed addresses. A rule whose scope names a column
    that ``columns`` does not have matches no request.
    """

    source: Source
    times: list[int]
    clients: list[bytes]
    columns: Columns = field(repr=False)
    ids: Sequence[bytes | str] = ()
    """Ids that AWS assigned to the requests, one per row; empty if the log has none.

    An id that a client can choose is never among them, because a repeated id is not counted.
    """

    @classmethod
    def of_valid(
        cls,
        source: Source,
        times: list[int | None],
        peers: list[bytes | None],
        columns: Columns,
        ids: Sequence[bytes | str] = (),
        *,
        trusted: NetworkSet | None = None,
        piece: Callable[[int], bytes],
    ) -> tuple["Requests", list[Malformed]]:
        """Returns the rows that have a time and a client, and a Malformed for each other row.

        ``peers``: the address that each request came from. Behind a ``trusted`` one, the client is taken from the
        column ``FORWARDED_FOR``; if that names none, or the log has no such column, the row is malformed. ``piece``
        returns the part of the log that holds a row.
        """
        clients = peers
        if trusted:
            forwarded = columns(FORWARDED_FOR)
            texts = cast("Iterator[str]", forwarded.texts()) if forwarded else [""] * len(peers)
            clients = [peer and client_behind(peer, text, trusted) for peer, text in zip(peers, texts, strict=True)]
        requests = cls(source, cast("list[int]", times), cast("list[bytes]", clients), shared(columns), ids)
        if all(times) and all(clients):
            return requests, []
        valid = [time is not None and client is not None for time, client in zip(times, clients, strict=True)]
        malformed = []
        for row in [row for row, is_valid in enumerate(valid) if not is_valid]:
            reason = Reason.TIMESTAMP if times[row] is None else Reason.FORWARDED if peers[row] else Reason.ADDRESS
            malformed.append(Malformed.of(reason, piece(row), source))
        return requests.select(valid), malformed

    def __len__(self) -> int:
        return len(self.times)

    def select(self, keep: Sequence[bool]) -> "Requests":
        """Returns the rows whose ``keep`` is true.

        A column is cut when it is first used. Most batches need no selection at all.
        """

        @cache
        def columns(name: str) -> Column | None:
            column = self.columns(name)
            return column and replace(column, cells=list(compress(column.cells, keep)))

        times, clients = list(compress(self.times, keep)), list(compress(self.clients, keep))
        return Requests(self.source, times, clients, columns, list(compress(self.ids, keep)))

    def without_repeats(self, earlier: AbstractSet[bytes | str] = frozenset()) -> "Requests":
        """Returns the rows whose id is neither among ``earlier`` ids of the same source nor in an earlier row.

        Rows without an id are never repeats.
        """
        ids = self.ids
        distinct = set(ids)
        if len(distinct) == len(ids) and distinct.isdisjoint(earlier):
            return self
        keep = []
        seen: set[bytes | str] = set()
        for request_id in ids:
            keep.append(request_id in NO_ID or not (request_id in seen or request_id in earlier))
            seen.add(request_id)
        return self.select(keep)


NO_ID: frozenset[bytes | str] = frozenset((b"", b"-", "", "-"))
"""Values that stand for a missing request id."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch of records, decoded: requests by source, and pieces that are not requests."""

    requests: tuple[Requests, ...] = ()
    malformed: tuple[Malformed, ...] = ()
    repeats: int = 0
    """Requests omitted because their id occurred before in the same batch."""
    late: int = 0
    """Requests omitted because they were made too long ago."""

    def __len__(self) -> int:
        return sum(map(len, self.requests))

    def span_ms(self) -> tuple[int, int]:
        """Returns the times of the earliest and the latest request; there must be at least one."""
        return min(min(r.times) for r in self.requests), max(max(r.times) for r in self.requests)

    def between(self, lowest_ms: int, highest_ms: int) -> "Decoded":
        """Returns the requests made at ``lowest_ms`` or later and at ``highest_ms`` or earlier.

        Those made before are late; those made after are malformed, because they must not displace the present from the
        windows.
        """
        requests, malformed, late = [], list(self.malformed), self.late
        for part in self.requests:
            if min(part.times) >= lowest_ms and max(part.times) <= highest_ms:
                requests.append(part)
                continue
            future = [str(time).encode() for time in part.times if time > highest_ms]
            malformed += [Malformed(Reason.FUTURE, time, part.source) for time in future]
            late += sum(time < lowest_ms for time in part.times)
            requests.append(part.select([lowest_ms <= time <= highest_ms for time in part.times]))
        return Decoded(tuple(filter(None, requests)), tuple(malformed), self.repeats, late)
