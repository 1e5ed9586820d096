"""The content of an object: blocks of bytes, unpacked, and cut into parts that are decoded one by one.

A part ends with a line, so that it decodes by itself; it keeps the ``#Fields`` line that stands above it. Only one part
is in memory at a time, whatever the size of the object.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

GZIP = b"\x1f\x8b"
W3C_HEADER = b"#Fields:"

PIECE_BYTES = 1 << 20
"""Most bytes unpacked at a time."""

LONGEST_LINE = 1 << 20
"""Bytes after which a line is cut; its pieces are malformed."""


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive bytes of the unpacked content."""

    start: int
    text: bytes
    header: bytes
    """The ``#Fields`` line in force at its start; empty if there is none."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class ObjectContent:
    """The content of one object, which is read forward once."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._pieces = _inflated(iter(blocks))
        self._text = b""
        self._start = 0
        """Place of the first byte of ``_text``."""
        self._header = b""

    def part(self, start: int, most: int) -> Part | None:
        """Returns the part that begins at ``start``: as many lines as fit into ``most`` bytes, or one that is longer.

        Returns None at the end of the content. ``start`` is the end of a part, of this or of an earlier reading of the
        object, and no lower than in the last call.
        """
        while self._start < start and self._fill(PIECE_BYTES):
            end = min(start - self._start, self._text.rfind(b"\n") + 1 or len(self._text))
            self._header = _last_header(self._text[:end]) or self._header
            self._text = self._text[end:]
            self._start += end
        if not self._fill(most + 1):
            return None
        end = len(self._text)
        if end > most:
            end = self._text.rfind(b"\n", 0, most) + 1 or self._line_end(most)
        return Part(self._start, self._text[:end], self._header)

    def _line_end(self, at: int) -> int:
        """Returns the end of the line that lasts beyond ``at``, or of as much of it as a line may have."""
        while not (end := self._text.find(b"\n", at) + 1):
            at = len(self._text)
            self._fill(at + 1)
            if len(self._text) == at or at >= LONGEST_LINE:
                return at
        return end

    def _fill(self, size: int) -> bool:
        """Reads until there are ``size`` bytes of text, or all that is left. Returns whether there is any."""
        pieces = [self._text]
        missing = size - len(self._text)
        while missing > 0 and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            missing -= len(piece)
        self._text = b"".join(pieces)
        return bool(self._text)


def _last_header(text: bytes) -> bytes:
    """Returns the last ``#Fields`` line, or an empty string if there is none."""
    at = len(text)
    while (at := text.rfind(W3C_HEADER, 0, at)) > 0 and text[at - 1 : at] != b"\n":
        pass
    return b"" if at < 0 else text[at:].partition(b"\n")[0].rstrip(b"\r")


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the text, of every member if it is gzip; of a damaged one, what can be read."""
    first = next(blocks, b"")
    while len(first) < len(GZIP) and (more := next(blocks, b"")):
        first += more
    if not first.startswith(GZIP):
        yield first
        yield from blocks
        return
    inflate, packed = zlib.decompressobj(wbits=31), first
    while packed:
        try:
            yield inflate.decompress(packed, PIECE_BYTES)
        except zlib.error:
            return
        packed = inflate.unconsumed_tail
        if inflate.eof:
            packed, inflate = inflate.unused_data, zlib.decompressobj(wbits=31)
        packed = packed or next(blocks, b"")
