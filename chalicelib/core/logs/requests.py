"""Requests of a log as columns: one list per field, one row per request.

Columns, not one object per request: Python then spends its time in C (split, map, compress), which is what makes the
hot path fast. A column's cells are what the format holds; its ``text`` reads one cell, and is called only for the
cells a rule looks at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import compress
from typing import Any, cast


class Source(StrEnum):
    """The log a request was read from. Each rule counts each source separately.

    Lambda reads ``LIVE_SOURCES``. The others occur in log files only, but belong to the same set of names, because
    tallies and detections of either kind have the same form.
    """

    CLOUDFRONT = "cloudfront"
    """CloudFront real-time logs."""
    WAF = "waf"
    """AWS WAF logs."""
    STANDARD = "cloudfront-standard"
    """CloudFront standard logs."""
    BALANCER = "load-balancer"
    """Access logs of an Application Load Balancer."""
    WEB_SERVER = "web-server"
    """Access logs of nginx and Apache."""


LIVE_SOURCES = (Source.CLOUDFRONT, Source.WAF)


class Reason(StrEnum):
    """Why a piece of a log was not a request. A closed set: each is a metric dimension."""

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


@dataclass(frozen=True, slots=True)
class Malformed:
    """A piece of a log that is not a request: counted, sampled, never fatal."""

    reason: Reason
    raw: bytes

    SAMPLE_BYTES = 160
    """Bytes kept of a piece: enough to recognise it by, at any number of pieces."""

    @classmethod
    def of(cls, reason: Reason, piece: bytes) -> "Malformed":
        """Keeps the start of ``piece``."""
        return cls(reason, piece[: cls.SAMPLE_BYTES])

    def sample(self) -> str:
        """The start of the piece, harmless in a log: printable ASCII, everything else escaped.

        >>> Malformed(Reason.FIELDS, b"a\\tb\\x1b[2J\\n").sample()
        'a\\\\tb\\\\x1b[2J\\\\n'
        """
        return ascii(self.raw[: self.SAMPLE_BYTES])[2:-1]


def host_name(text: str) -> str:
    """The name in a Host header, which clients may write in any case, with a port and with a final dot.

    >>> host_name("WWW.Example.com.:443")
    'www.example.com'
    """
    return text.lower().partition(":")[0].rstrip(".")


Text = str | tuple[str, ...]
"""Text of a cell: one, or several (WAF labels). Empty if the log had none."""


@dataclass(frozen=True, slots=True)
class Column:
    cells: Sequence[Any]
    text: Callable[[Any], Text]


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of one source.

    ``times`` are milliseconds since the epoch; ``clients`` are packed addresses. ``columns`` makes a column of the
    name a rule's scope asks for (``host``, ``path``, ``method``, ``status``, ``country``, ``user_agent``,
    ``waf_action``, ``waf_label``); a name the log does not have gives None, and a rule that needs it matches nothing.
    """

    source: Source
    times: list[int]
    clients: list[bytes]
    columns: Callable[[str], Column | None] = field(repr=False)
    ids: Sequence[bytes | str] = ()
    """Request ids, a row each, of a type that no other source uses; empty when the log has none."""

    @classmethod
    def of_valid(
        cls,
        source: Source,
        times: list[int | None],
        clients: list[bytes | None],
        columns: Callable[[str], Column | None],
        ids: Sequence[bytes | str] = (),
        *,
        peers: Sequence[bytes | None],
        piece: Callable[[int], bytes],
    ) -> tuple["Requests", list[Malformed]]:
        """Returns the rows that have a time and a client, and a Malformed for each other row.

        ``peers``: the address each request came from, or None; where it has one and ``clients`` has none, a trusted
        proxy named no client. ``piece`` returns the part of the log that a row was read from.
        """
        if all(times) and all(clients):
            return cls(source, cast("list[int]", times), cast("list[bytes]", clients), columns, ids), []
        keep = [time is not None and client is not None for time, client in zip(times, clients, strict=True)]
        malformed = []
        for row in [row for row, valid in enumerate(keep) if not valid]:
            reason = Reason.TIMESTAMP if times[row] is None else Reason.FORWARDED if peers[row] else Reason.ADDRESS
            malformed.append(Malformed.of(reason, piece(row)))
        requests = cls(
            source,
            cast("list[int]", list(compress(times, keep))),
            cast("list[bytes]", list(compress(clients, keep))),
            _selected(columns, keep),
            list(compress(ids, keep)),
        )
        return requests, malformed

    def __len__(self) -> int:
        return len(self.times)

    def select(self, keep: Sequence[bool]) -> "Requests":
        """Returns the rows whose ``keep`` is true."""
        return Requests(
            self.source,
            list(compress(self.times, keep)),
            list(compress(self.clients, keep)),
            _selected(self.columns, keep),
            list(compress(self.ids, keep)),
        )

    def without_repeats(self, seen: set[bytes | str] | None) -> "Requests":
        """The rows whose id is neither in ``seen`` nor in an earlier row; ``seen``, if there is one, takes up new ids.

        Rows without an id are never repeats. Nor is a request that both logs tell of, under the same id: CloudFront's
        ids are bytes, AWS WAF's are text, and each rule counts each source by itself.
        """
        ids = self.ids
        if not ids:
            return self
        distinct = set(ids)
        if len(distinct) == len(ids) and (seen is None or distinct.isdisjoint(seen)):
            if seen is not None:
                seen |= distinct
                seen -= NO_ID
            return self
        seen = set() if seen is None else seen
        keep = []
        for request_id in ids:
            fresh = request_id not in seen
            keep.append(fresh)
            if request_id not in NO_ID:
                seen.add(request_id)
        return self.select(keep)


def _selected(columns: Callable[[str], Column | None], keep: Sequence[bool]) -> Callable[[str], Column | None]:
    """Returns columns that are cut down to the rows to keep once they are asked for."""

    def selected(name: str) -> Column | None:
        column = columns(name)
        return column and replace(column, cells=list(compress(column.cells, keep)))

    return selected


NO_ID: frozenset[bytes | str] = frozenset((b"", b"-", "", "-"))


@dataclass(frozen=True, slots=True)
class Decoded:
    """Contents of a batch of records: requests by source, and the pieces that were not requests."""

    requests: tuple[Requests, ...] = ()
    malformed: tuple[Malformed, ...] = ()
    repeats: int = 0
    """Requests left out because their id had been seen in the same batch."""

    def __len__(self) -> int:
        return sum(map(len, self.requests))

    def span_ms(self) -> tuple[int, int]:
        """Times of the earliest and of the latest request; there is at least one."""
        return min(min(r.times) for r in self.requests), max(max(r.times) for r in self.requests)
