"""Requests that both versions of CloudFront's standard log hold, because both may be on at once. They count once.

As long as all standard logs have the same fields, there is nothing to compare, and no ids are kept. Once others appear,
the files read before are read again for their ids.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from chalicelib.core.logs.framing import last_header
from chalicelib.core.logs.requests import NO_ID, Requests, Source
from sluice.logs.files import Chunk, ReadProgress, can_be_read_again, chunks

MOST_IDS = 4_000_000
"""Most ids that are remembered, 70 bytes each. Once there are as many, later requests are compared with these alone."""

_NO_ID = frozenset(map(hash, NO_ID))
_SEVERAL = b"lines and objects in one chunk"


class BothVersions:
    """A memory of the standard logs that were read."""

    def __init__(self, decode: Callable[[Chunk], Iterable[Requests]]) -> None:
        """``decode`` returns the requests of a chunk."""
        self._decode = decode
        self._layouts: set[bytes] = set()
        self._files: dict[str, None] = {}
        """Files whose ids are not remembered."""
        self._ids: set[int] = set()
        """Hashes of ids."""

    def distinct(self, chunk: Chunk, decoded: Sequence[Requests]) -> list[Requests]:
        """Returns the requests of a chunk, except those in standard logs that an earlier call has returned."""
        standard = [requests for requests in decoded if requests.source is Source.STANDARD and requests.ids]
        if not standard:
            return list(decoded)
        was_alone = len(self._layouts) < 2
        self._layouts.add(last_header(chunk.text) or chunk.header or chunk.text[:1])
        if len(standard) > 1:
            self._layouts.add(_SEVERAL)
        if len(self._layouts) < 2 and can_be_read_again(chunk.name):
            self._files[chunk.name] = None
            return list(decoded)
        if was_alone:
            self._read_again(chunk)
        return [self._compared(r) if r.source is Source.STANDARD and r.ids else r for r in decoded]

    def _read_again(self, until: Chunk) -> None:
        for name in self._files:
            for chunk in chunks([Path(name)], ReadProgress()):
                if (name, chunk.first_line) == (until.name, until.first_line):
                    break
                for requests in self._decode(chunk):
                    if requests.source is Source.STANDARD and requests.ids:
                        self._compared(requests)

    def _compared(self, requests: Requests) -> Requests:
        hashes = list(map(hash, requests.ids))
        new = set(hashes) - _NO_ID
        if len(new) < len(hashes) or not new.isdisjoint(self._ids):
            keep, here = [], set[int]()
            for number in hashes:
                keep.append(number in _NO_ID or not (number in self._ids or number in here))
                here.add(number)
            requests = requests.select(keep)
        if len(self._ids) < MOST_IDS:
            self._ids |= new
        return requests
