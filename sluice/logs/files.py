"""Reads log files as chunks of whole lines: plain or gzip, detected by their first bytes, in bounded memory.

The readable part of a truncated or damaged file is used, and a note reports the damage.
"""

import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from chalicelib.core.printable import printable

CHUNK_BYTES = 1 << 20
LONGEST_LINE = 64 << 20
"""Bytes buffered while waiting for a line end. Longer lines are cut, and their pieces are malformed."""

GZIP = b"\x1f\x8b"
LINE_END = b"\n"
BOM = b"\xef\xbb\xbf"
STDIN = "-"

W3C_HEADER = b"#Fields:"
"""Start of the header line of a W3C log."""

ENVELOPE_SEAM = b'}{"messageType":'
"""Border between two CloudWatch envelopes that Data Firehose wrote without a line end between them."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive whole lines of one file."""

    text: bytes
    header: bytes = b""
    """The ``#Fields`` line in force at the start of the chunk; empty if there is none."""
    name: str = ""
    """The file, as the operator named it; ``-`` is standard input."""
    first_line: int = 1
    """Number of its first line in the file, from 1."""

    def where(self, piece: bytes) -> str:
        """Returns the file, and the line in it that holds ``piece``: the first of several."""
        name = "standard input" if self.name == STDIN else printable(self.name)
        at = self.text.find(piece)
        if at < 0:
            return name
        return f"{name}, line {self.first_line + self.text.count(LINE_END, 0, at)}"


@dataclass(slots=True)
class ReadProgress:
    """Progress of reading, with notes on damaged files."""

    bytes_read: int = 0
    """Bytes as stored: compressed bytes for a compressed file."""
    notes: list[str] = field(default_factory=list)


def find_files(names: Iterable[str]) -> list[Path | None]:
    """Returns the files that ``names`` refer to, each once; None stands for standard input.

    Folders are searched recursively, in order of name; hidden files are skipped. Raises FileNotFoundError for a name
    that is neither a file nor a folder.
    """
    files: dict[Path | None, None] = {}
    for name in names:
        path = Path(name)
        if name == STDIN:
            files[None] = None
        elif path.is_dir():
            files |= dict.fromkeys(p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith("."))
        elif path.exists():
            files[path] = None
        else:
            raise FileNotFoundError(f"{name!r} is neither a file nor a folder; use '-' for standard input")
    return list(files)


def total_bytes(files: Iterable[Path | None]) -> int | None:
    """Returns the stored size of all files in bytes, or None if standard input is among them."""
    files = list(files)
    return None if None in files else sum(path.stat().st_size for path in files if path is not None)


def chunks(files: Iterable[Path | None], progress: ReadProgress) -> Iterator[Chunk]:
    """Yields the chunks of all files, in order, and keeps ``progress`` up to date."""
    for path in files:
        name = STDIN if path is None else str(path)
        header, first_line = b"", 1
        with nullcontext(sys.stdin.buffer) if path is None else path.open("rb", buffering=0) as stream:
            for text in _whole_lines(_plain(stream, name, progress)):
                yield Chunk(text, header, name, first_line)
                header = _last_header(text) or header
                first_line += text.count(b"\n")


def _last_header(text: bytes) -> bytes:
    """Returns the last ``#Fields`` line, or an empty string if there is none."""
    # Jumps from each # to the one before it, because a search for more than one character would take longer than all
    # other work on a chunk in this module.
    at = text.rfind(b"#")
    while at >= 0:
        if text.startswith(W3C_HEADER, at) and (at == 0 or text[at - 1 : at] == b"\n"):
            return text[at:].partition(b"\n")[0].rstrip(b"\r")
        at = text.rfind(b"#", 0, at)
    return b""


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the same bytes, cut at line ends; the last text may lack one."""
    buffered: list[bytes] = []
    size = 0
    first = True
    for piece in pieces:
        if first and piece.startswith(BOM):
            piece = piece[len(BOM) :]  # noqa: PLW2901
        first = False
        end = piece.rfind(b"\n") + 1
        if not end and (at := piece.rfind(ENVELOPE_SEAM) + 1):
            end = at
        if not end and size + len(piece) < LONGEST_LINE:
            buffered.append(piece)
            size += len(piece)
            continue
        end = end or len(piece)
        yield b"".join((*buffered, memoryview(piece)[:end]))
        buffered, size = [piece[end:]], len(piece) - end
    rest = b"".join(buffered)
    if rest:
        yield rest


def _plain(stream: BinaryIO, name: str, progress: ReadProgress) -> Iterator[bytes]:
    """Yields the content, decompressed if it is gzip."""
    piece = _read(stream, progress)
    while 0 < len(piece) < len(BOM) and (more := _read(stream, progress)):  # a pipe may deliver one byte at a time
        piece += more
    if piece.startswith(GZIP):
        yield from _inflated(piece, stream, name, progress)
        return
    while piece:
        yield piece
        piece = _read(stream, progress)


def _read(stream: BinaryIO, progress: ReadProgress) -> bytes:
    piece = stream.read(CHUNK_BYTES) or b""
    progress.bytes_read += len(piece)
    return piece


def _inflated(piece: bytes, stream: BinaryIO, name: str, progress: ReadProgress) -> Iterator[bytes]:
    """Yields the content of all members of a gzip file, at most one chunk at a time however well it compresses."""
    inflate = zlib.decompressobj(wbits=31)
    started = False
    while piece:
        try:
            plain = inflate.decompress(piece, CHUNK_BYTES)
        except zlib.error as exc:
            problem = f"damaged ({exc})" if started else "the data after its compressed part is not gzip"
            progress.notes.append(f"{name}: {problem}; the readable part is used")
            return
        started = True
        if plain:
            yield plain
        piece = inflate.unconsumed_tail
        if inflate.eof:
            piece = inflate.unused_data.lstrip(b"\0") or _read(stream, progress).lstrip(b"\0")
            if piece:
                inflate, started = zlib.decompressobj(wbits=31), False
        elif not piece:
            piece = _read(stream, progress)
    if not inflate.eof:
        yield inflate.flush()
        progress.notes.append(f"{name}: the compressed file is truncated; the readable part is used")
