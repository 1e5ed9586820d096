"""Reads log files as chunks of whole lines and objects: plain or gzip, detected by their first bytes, in bounded
memory.

The readable part of a truncated or damaged file is used, and a note reports the damage.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from chalicelib.core.logs.framing import WINDOW, parts
from chalicelib.core.logs.requests import Malformed, Reason
from chalicelib.core.printable import printable

CHUNK_BYTES = 1 << 20
LINE_END = b"\n"
STDIN = "-"


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
    malformed: tuple[Malformed, ...] = ()
    """Pieces that could not be unpacked, after the previous chunk and up to the end of this one."""

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
    """Returns the paths of the files that ``names`` refer to, each path once; None stands for standard input.

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
        first_line = 1
        with nullcontext(sys.stdin.buffer) if path is None else path.open("rb", buffering=0) as stream:
            for part in parts(_blocks(stream, progress), CHUNK_BYTES):
                for piece in part.malformed:
                    progress.notes += _notes(name, piece)
                yield Chunk(part.text, part.header, name, first_line, part.malformed)
                first_line += part.text.count(b"\n")


def _blocks(stream: BinaryIO, progress: ReadProgress) -> Iterator[bytes]:
    while block := stream.read(CHUNK_BYTES + WINDOW):
        progress.bytes_read += len(block)
        yield block


def _notes(name: str, piece: Malformed) -> Iterator[str]:
    if piece.reason is Reason.GZIP:
        state = "truncated" if piece.name.startswith("truncated") else "damaged"
        yield f"{name}: the compressed file is {state}; the readable part is used"
    elif piece.reason is Reason.UNSUPPORTED:
        yield f"{name}: {piece.name} is not read; unpack or convert it first"
