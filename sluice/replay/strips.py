"""What rules need of a block's requests, and nothing else: clients, times, and which of them each scope matches.

Laid aside, a strip takes 12 bytes a request (24 for IPv6), so that a whole log can wait until it is known which of its
clients can matter.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pickle import HIGHEST_PROTOCOL, Pickler, load
from struct import iter_unpack
from tempfile import SpooledTemporaryFile
from typing import Any, Self

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.logs.requests import Malformed, Reason, Requests, Source
from chalicelib.core.scope import Scope
from sluice.logs.file_decoder import Chunk, ChunkDecoder

SAMPLES = 5
IN_MEMORY_BYTES = 32 << 20
AGES = 1 << 62


@dataclass(slots=True)
class Seen:
    """What was read, whatever the rules."""

    requests: int = 0
    malformed: Counter[Reason] = field(default_factory=Counter)
    samples: list[str] = field(default_factory=list)
    sources: Counter[Source] = field(default_factory=Counter)
    first_ms: int | None = None
    last_ms: int | None = None

    def add(self, other: "Seen") -> None:
        self.requests += other.requests
        self.malformed += other.malformed
        self.samples += other.samples[: SAMPLES - len(self.samples)]
        self.sources += other.sources
        if other.first_ms is not None and other.last_ms is not None:
            self._span(other.first_ms, other.last_ms)

    def take(self, requests: Requests) -> None:
        self.requests += len(requests)
        self.sources[requests.source] += len(requests)
        self._span(min(requests.times), max(requests.times))

    def refuse(self, malformed: Sequence[Malformed]) -> None:
        self.malformed.update(piece.reason for piece in malformed)
        room = SAMPLES - len(self.samples)
        self.samples += [f"{piece.reason}: {piece.sample()}" for piece in malformed[:room]]

    def _span(self, first_ms: int, last_ms: int) -> None:
        self.first_ms = first_ms if self.first_ms is None else min(self.first_ms, first_ms)
        self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)


@dataclass(frozen=True, slots=True)
class Strip:
    """Requests of one source and one family of addresses."""

    source: Source
    clients: list[bytes]
    times: "array[int]"
    rows: tuple["array[int] | None", ...]
    """For each scope the rows it matches, ascending; None for all of them."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it takes those 12 bytes a request."""
        return _unpacked, (self.source, len(self.clients[0]), b"".join(self.clients), self.times, self.rows)


def _unpacked(source: Source, width: int, packed: bytes, times: "array[int]", rows: tuple[Any, ...]) -> Strip:
    return Strip(source, list(chain.from_iterable(iter_unpack(f"{width}s", packed))), times, rows)


class StripReader:
    """Turns blocks into strips; what it gives for a block depends on that block alone."""

    def __init__(
        self,
        decoder: ChunkDecoder,
        scopes: Sequence[Scope],
        prefix: tuple[int, int],
        between_ms: tuple[int | None, int | None] = (None, None),
    ) -> None:
        """``prefix``: bits of IPv4 and IPv6 clients to keep. ``between_ms``: inclusive, exclusive; None is open."""
        self._decoder = decoder
        self._scopes = scopes
        self._ipv4, self._ipv6 = prefix
        self._memo = PrefixMemo(*prefix)
        first, end = between_ms
        self._first_ms, self._end_ms = first or 0, AGES if end is None else end
        self._all = first is None and end is None

    def __call__(self, block: Chunk) -> tuple[Seen, list[Strip]]:
        decoded = self._decoder.decode(block)
        seen = Seen()
        seen.refuse(decoded.malformed)
        strips: list[Strip] = []
        for requests in decoded.requests:
            timely = requests if self._all else self._between(requests)
            if timely:
                seen.take(timely)
                strips += self._strips(timely)
        return seen, strips

    def _between(self, requests: Requests) -> Requests:
        return requests.select([self._first_ms <= time < self._end_ms for time in requests.times])

    def _strips(self, requests: Requests) -> Iterator[Strip]:
        widths = set(map(len, requests.clients))
        for width in sorted(widths):
            some = requests if len(widths) == 1 else requests.select([len(c) == width for c in requests.clients])
            whole = self._ipv4 == 32 if width == 4 else self._ipv6 == 128
            clients = some.clients if whole else self._memo.mask_all(some.clients)
            matching = (scope.rows(some) for scope in self._scopes)
            rows = tuple(None if match is None else array("I", match) for match in matching)
            yield Strip(some.source, clients, array("Q", some.times), rows)


class Laid:
    """Strips laid aside, to be gone through once all are there, and again; in memory while few, else in a file."""

    def __init__(self) -> None:
        self._file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
        self._pickler = Pickler(self._file, protocol=HIGHEST_PROTOCOL)
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def append(self, strip: Strip) -> None:
        self._pickler.dump(strip)
        self._pickler.clear_memo()
        self._end = self._file.tell()

    def __iter__(self) -> Iterator[Strip]:
        self._file.seek(0)
        while self._file.tell() < self._end:
            yield load(self._file)  # noqa: S301  # this process wrote it
