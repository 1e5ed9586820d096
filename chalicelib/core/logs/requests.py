"""What a log says of requests, as columns: one list a field, one row a request.

Columns, not one object a request: Python then spends its time in C (split, map, compress), which is what makes the
hot path fast. A column's cells are what the format holds; its ``text`` reads one cell, and is called only for the
cells a rule looks at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import compress
from typing import Any


class Source(StrEnum):
    """Which log a request was read from. Each rule counts each source by itself."""

    CLOUDFRONT = "cloudfront"
    """CloudFront real-time logs."""
    WAF = "waf"
    STANDARD = "cloudfront-standard"
    """CloudFront standard logs; this and the ones below are read at the operator's desk only."""
    BALANCER = "load-balancer"
    WEB_SERVER = "web-server"


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
"""What a cell says: one text, or several (WAF labels). Empty when the log had none."""


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

    def __len__(self) -> int:
        return len(self.times)

    def select(self, keep: Sequence[bool]) -> "Requests":
        """The rows whose ``keep`` is true."""

        def columns(name: str) -> Column | None:
            column = self.columns(name)
            return column and replace(column, cells=list(compress(column.cells, keep)))

        return Requests(
            self.source,
            list(compress(self.times, keep)),
            list(compress(self.clients, keep)),
            columns,
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


NO_ID: frozenset[bytes | str] = frozenset((b"", b"-", "", "-"))


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of records held: requests by source, and what was not a request."""

    requests: tuple[Requests, ...] = ()
    malformed: tuple[Malformed, ...] = ()
    repeats: int = 0
    """Requests left out because their id had been seen in the same batch."""

    def __len__(self) -> int:
        return sum(map(len, self.requests))

    def span_ms(self) -> tuple[int, int]:
        """Times of the earliest and of the latest request; there is at least one."""
        return min(min(r.times) for r in self.requests), max(max(r.times) for r in self.requests)
