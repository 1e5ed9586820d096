"""Strips: the clients and times of a chunk's requests, and the rows that each scope matches.

A strip in a file takes 12 bytes per request (24 for IPv6); for each scope that does not match all of them, 4 bytes per
matching request; and for each measure of a rule other than requests, 8 bytes per request, and for each way to group
them, a little more. So a whole log can wait until it is known which of its clients matter.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import not_
from pickle import HIGHEST_PROTOCOL, Pickler, load
from struct import iter_unpack
from tempfile import SpooledTemporaryFile
from typing import Any, Self

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.client_groups import group_digests
from chalicelib.core.logs.malformed_counts import MalformedCounts, added, by_reason, counted
from chalicelib.core.logs.requests import Malformed, Requests, Source
from chalicelib.core.measures import Measure, amounts
from chalicelib.core.refusals import REFUSAL_STATUS, refusal_rows
from chalicelib.core.scope import Scope
from sluice.logs.file_decoder import ChunkDecoder
from sluice.logs.files import Chunk

IN_MEMORY_REQUESTS = 1_000_000
"""Requests of a spool kept in memory, 16 bytes each, or 53 if each is of a different client; others go to a file."""

BUFFER_BYTES = 1 << 20
"""Largest file kept in memory."""

END_OF_TIME_MS = 1 << 62


@dataclass(slots=True)
class LogStats:
    """Contents of the log files, independent of rules."""

    requests: int = 0
    skipped: int = 0
    """Requests outside the time asked for, which are in no other figure."""
    skipped_ms: tuple[int, int] | None = None
    """Times of the earliest and the latest of them."""
    malformed_counts: MalformedCounts = ()
    sources: Counter[Source] = field(default_factory=Counter)
    first_ms: int | None = None
    last_ms: int | None = None

    def add(self, other: "LogStats") -> None:
        self.requests += other.requests
        if other.skipped_ms:
            self._skip(other.skipped, *other.skipped_ms)
        if other.malformed_counts:
            self.malformed_counts = added((*self.malformed_counts, *other.malformed_counts))
        self.sources += other.sources
        if other.first_ms is not None and other.last_ms is not None:
            self._extend_span(other.first_ms, other.last_ms)

    def add_requests(self, requests: Requests) -> None:
        """Counts requests; there is at least one."""
        self.requests += len(requests)
        self.sources[requests.source] += len(requests)
        self._extend_span(min(requests.times), max(requests.times))

    def add_skipped(self, requests: Requests) -> None:
        """Counts requests as skipped; there is at least one."""
        self._skip(len(requests), min(requests.times), max(requests.times))

    def add_malformed(self, malformed: Sequence[Malformed], chunk: Chunk) -> None:
        """Counts malformed pieces of ``chunk``."""
        if malformed:
            self.malformed_counts = added((*self.malformed_counts, *counted(malformed, chunk.where)))

    @property
    def malformed(self) -> Counter[str]:
        """Returns the number of malformed lines for each reason."""
        return by_reason(self.malformed_counts)

    def span_ms(self) -> tuple[int, int]:
        """Returns the times of the earliest and the latest request; there is at least one."""
        assert self.first_ms is not None
        assert self.last_ms is not None
        return self.first_ms, self.last_ms

    def _skip(self, number: int, first_ms: int, last_ms: int) -> None:
        self.skipped += number
        earlier = self.skipped_ms or (first_ms, last_ms)
        self.skipped_ms = min(first_ms, earlier[0]), max(last_ms, earlier[1])

    def _extend_span(self, first_ms: int, last_ms: int) -> None:
        self.first_ms = first_ms if self.first_ms is None else min(self.first_ms, first_ms)
        self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)


Grouping = tuple[tuple[str, ...], Scope]
"""Columns by which requests are grouped, and the scope that says how paths are compared."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Requests of one source and one address family."""

    source: Source
    clients: list[bytes]
    times: "array[int]"
    """Milliseconds since the epoch."""
    rows: tuple["array[int] | None", ...]
    """For each scope the rows it matches, ascending; None for all of them."""
    refusals: "array[int]"
    """The rows answered as refusals, ascending."""
    amounts: tuple["array[int] | None", ...] = ()
    """For each measure other than requests, the amount of each request; None if it is not in the log."""
    groups: tuple[list[bytes] | None, ...] = ()
    """For each grouping, the digest of each request's group; None if the log lacks one of its columns."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles to 12 bytes per request, 24 for IPv6, and 4 per row of ``rows`` and ``refusals``."""
        width, packed = len(self.clients[0]), b"".join(self.clients)
        columns = (self.times, self.rows, self.refusals, self.amounts, self.groups)
        return _unpacked, (self.source, width, packed, *columns)


def _unpacked(source: Source, width: int, packed: bytes, *columns: Any) -> Strip:
    return Strip(source, list(chain.from_iterable(iter_unpack(f"{width}s", packed))), *columns)


class StripReader:
    """A reader of chunks as strips; the strips of a chunk depend on that chunk alone."""

    def __init__(
        self,
        decoder: ChunkDecoder,
        scopes: Sequence[Scope],
        client_prefix: tuple[int, int],
        between_ms: tuple[int | None, int | None] = (None, None),
        measures: Sequence[Measure] = (),
        groupings: Sequence[Grouping] = (),
        refusal_status: int = REFUSAL_STATUS,
    ) -> None:
        """Strips have amounts for each of ``measures`` (other than requests), and groups for each of ``groupings``.
        ``refusal_status`` is the status of requests that the rule group refuses.

        Clients are cut to the prefix lengths ``client_prefix``, for IPv4 and IPv6.

        Requests outside ``between_ms`` (inclusive, exclusive; None for no bound) are skipped.
        """
        self._decoder = decoder
        self._scopes = scopes
        self._measures = measures
        self._groupings = groupings
        self._refusal_status = refusal_status
        self._ipv4, self._ipv6 = client_prefix
        self._memo = PrefixMemo(*client_prefix)
        first, end = between_ms
        self._first_ms, self._end_ms = first or 0, END_OF_TIME_MS if end is None else end
        self._all = first is None and end is None

    def read(self, chunk: Chunk) -> tuple[LogStats, list[Strip]]:
        decoded = self._decoder.decode(chunk)
        stats = LogStats()
        stats.add_malformed(decoded.malformed, chunk)
        strips: list[Strip] = []
        for requests in decoded.requests:
            timely = requests if self._all else self._between(requests, stats)
            if timely:
                stats.add_requests(timely)
                strips += self._strips(timely)
        return stats, strips

    def _between(self, requests: Requests, stats: LogStats) -> Requests:
        """Returns the requests made in time, and counts the others in ``stats``."""
        timely = [self._first_ms <= time < self._end_ms for time in requests.times]
        if not all(timely):
            stats.add_skipped(requests.select(list(map(not_, timely))))
        return requests.select(timely)

    def _strips(self, requests: Requests) -> Iterator[Strip]:
        widths = set(map(len, requests.clients))
        for width in sorted(widths):
            family = requests if len(widths) == 1 else requests.select([len(c) == width for c in requests.clients])
            is_whole = self._ipv4 == 32 if width == 4 else self._ipv6 == 128
            clients = family.clients if is_whole else self._memo.mask_all(family.clients)
            matching = (scope.rows(family) for scope in self._scopes)
            rows = tuple(None if match is None else array("I", match) for match in matching)
            columns = (amounts(measure, family, None) for measure in self._measures)
            sums = tuple(None if each is None else array("Q", each) for each in columns)
            refused = array("I", refusal_rows(family, self._refusal_status))
            groups = tuple(group_digests(by, scope, family, None) for by, scope in self._groupings)
            yield Strip(family.source, clients, array("Q", family.times), rows, refused, sums, groups)


class Spool:
    """Strips kept for the second pass, in memory while they are few and then in a file; iterable repeatedly."""

    def __init__(self, in_memory_requests: int = IN_MEMORY_REQUESTS) -> None:
        self._strips: list[Strip] = []
        self._room = in_memory_requests
        self._file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(BUFFER_BYTES)  # noqa: SIM115
        self._pickler = Pickler(self._file, protocol=HIGHEST_PROTOCOL)
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def append(self, strip: Strip) -> None:
        if self._room > 0:
            self._strips.append(strip)
            self._room -= len(strip.clients)
            return
        self._pickler.dump(strip)
        self._pickler.clear_memo()
        self._end = self._file.tell()

    def __iter__(self) -> Iterator[Strip]:
        yield from self._strips
        self._file.seek(0)
        while self._file.tell() < self._end:
            yield load(self._file)  # noqa: S301  # written by this process
