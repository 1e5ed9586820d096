"""Log files as blocks of whole lines: plain or gzip, told apart by their first bytes, in bounded memory.

What can be read of a cut or damaged file is used, and a note says so.
"""

import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sluice.logs.cloudfront_standard import HEADER
from sluice.logs.file_decoder import ENVELOPES, Chunk

BLOCK_BYTES = 256 << 10
LONGEST_LINE = 64 << 20
"""Bytes without a line end that are kept together; what is longer is cut, and its pieces are malformed."""

GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
STDIN = "-"


@dataclass(slots=True)
class Progress:
    """How far the reading has come, and what was odd."""

    files: int = 0
    bytes_read: int = 0
    """As stored: of a compressed file, compressed."""
    notes: list[str] = field(default_factory=list)


def find_files(names: Iterable[str]) -> list[Path | None]:
    """The files that ``names`` stand for, each once, folders by name; None is standard input.

    Raises FileNotFoundError for a name that is neither file nor folder.
    """
    found: dict[Path | None, None] = {}
    for name in names:
        path = Path(name)
        if name == STDIN:
            found[None] = None
        elif path.is_dir():
            found |= dict.fromkeys(p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith("."))
        elif path.exists():
            found[path] = None
        else:
            raise FileNotFoundError(f"{name!r} is neither a file nor a folder; '-' is standard input")
    return list(found)


def total_bytes(files: Iterable[Path | None]) -> int | None:
    """What there is to read; None if that cannot be known."""
    files = list(files)
    return None if None in files else sum(path.stat().st_size for path in files if path is not None)


def chunks(files: Iterable[Path | None], progress: Progress) -> Iterator[Chunk]:
    """All files, one after the other."""
    for path in files:
        progress.files += 1
        name = STDIN if path is None else str(path)
        if path is None:
            yield from _blocks(sys.stdin.buffer, name, progress)
        else:
            with path.open("rb", buffering=0) as stream:
                yield from _blocks(stream, name, progress)


def _blocks(stream: BinaryIO, name: str, progress: Progress) -> Iterator[Chunk]:
    header = b""
    for text in _whole_lines(_plain(stream, name, progress)):
        yield Chunk(text, header)
        header = _last_header(text) or header


def _last_header(text: bytes) -> bytes:
    """The last ``#Fields`` line; empty if there is none."""
    # From one # to the one before it: a search for more than one character takes longer than all else that is done
    # here with a block.
    at = text.rfind(b"#")
    while at >= 0:
        if text.startswith(HEADER, at) and (at == 0 or text[at - 1 : at] == b"\n"):
            return text[at:].partition(b"\n")[0].rstrip(b"\r")
        at = text.rfind(b"#", 0, at)
    return b""


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut at line ends; the last block may lack one."""
    held: list[bytes] = []
    size = 0
    first = True
    for piece in pieces:
        if first and piece.startswith(BOM):
            piece = piece[len(BOM) :]  # noqa: PLW2901
        first = False
        end = piece.rfind(b"\n") + 1
        if not end and (at := piece.rfind(ENVELOPES) + 1):
            end = at
        if not end and size + len(piece) < LONGEST_LINE:
            held.append(piece)
            size += len(piece)
            continue
        end = end or len(piece)
        yield b"".join((*held, memoryview(piece)[:end]))
        held, size = [piece[end:]], len(piece) - end
    rest = b"".join(held)
    if rest:
        yield rest


def _plain(stream: BinaryIO, name: str, progress: Progress) -> Iterator[bytes]:
    """The content, decompressed if it is gzip."""
    piece = _read(stream, progress)
    while 0 < len(piece) < len(BOM):  # a pipe may give a byte at a time
        more = _read(stream, progress)
        if not more:
            break
        piece += more
    if piece.startswith(GZIP):
        yield from _inflated(piece, stream, name, progress)
        return
    while piece:
        yield piece
        piece = _read(stream, progress)


def _read(stream: BinaryIO, progress: Progress) -> bytes:
    piece = stream.read(BLOCK_BYTES) or b""
    progress.bytes_read += len(piece)
    return piece


def _inflated(piece: bytes, stream: BinaryIO, name: str, progress: Progress) -> Iterator[bytes]:
    """The members of a gzip file, one after the other; never more than a block at a time, whatever is packed."""
    inflate = zlib.decompressobj(wbits=31)
    started = False
    while piece:
        try:
            plain = inflate.decompress(piece, BLOCK_BYTES)
        except zlib.error as exc:
            what = "what follows its compressed part is no gzip" if not started else f"damaged ({exc})"
            progress.notes.append(f"{name}: {what}; what came before is used")
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
        progress.notes.append(f"{name}: the compressed file is cut short; what was readable is used")
