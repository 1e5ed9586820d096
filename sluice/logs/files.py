"""Reads log files as chunks of whole lines and objects: plain or gzip, detected by their first bytes, in bounded
memory, from this machine or from S3.

The readable part of a truncated or damaged file is used, and a note reports the damage.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from chalicelib.core.logs.framing import WINDOW, parts
from chalicelib.core.logs.requests import Malformed, Reason
from chalicelib.core.printable import printable
from sluice.logs.s3 import S3, S3File, S3Listing, read_ahead

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
        """Returns, in words, the file and the number of the first line in it that holds ``piece``, if any does."""
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


LogFile = Path | S3File | None
"""A file on this machine or an object in S3; None stands for standard input."""


def can_be_read_again(name: str) -> bool:
    """Returns whether a chunk's file can be read again for free: standard input is gone, and S3 bills each reading."""
    return name not in ("", STDIN) and not name.startswith(S3)


def find_files(names: Iterable[str], listing: S3Listing | None = None) -> list[LogFile]:
    """Returns the files that ``names`` refer to, each once.

    Folders are searched recursively, in order of name; hidden files are skipped. An ``s3://BUCKET/PREFIX`` stands for
    the objects whose keys begin with the prefix, in the order of ``listing``. Raises FileNotFoundError for a name that
    is neither a file nor a folder, and OSError for objects that cannot be listed or exceed the listing's bounds.
    """
    files: dict[LogFile, None] = {}
    for name in names:
        path = Path(name)
        if name == STDIN:
            files[None] = None
        elif name.startswith(S3):
            files |= dict.fromkeys((listing or S3Listing()).files(name))
        elif path.is_dir():
            files |= dict.fromkeys(p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith("."))
        elif path.exists():
            files[path] = None
        else:
            raise FileNotFoundError(f"{name!r} is neither a file nor a folder; use '-' for standard input")
    return list(files)


def total_bytes(files: Iterable[LogFile]) -> int | None:
    """Returns the stored size of all files in bytes, or None if standard input is among them."""
    total = 0
    for file in files:
        if file is None:
            return None
        total += file.stat().st_size if isinstance(file, Path) else file.size
    return total


def chunks(files: Iterable[LogFile], progress: ReadProgress) -> Iterator[Chunk]:
    """Yields the chunks of all files, in order, and keeps ``progress`` up to date.

    Raises OSError for a file that cannot be read, possibly after some chunks of it.
    """
    for name, blocks in _contents(files, progress.notes):
        first_line = 1
        for part in parts(_measured(blocks, progress), CHUNK_BYTES):
            for piece in part.malformed:
                progress.notes += _notes(name, piece)
            yield Chunk(part.text, part.header, name, first_line, part.malformed)
            # Two to four times as fast as ``count``, which examines each byte.
            first_line += len(part.text) - len(part.text.replace(LINE_END, b""))


def _contents(files: Iterable[LogFile], notes: list[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yields each file's name and its content. Consecutive objects in S3 are read ahead, in parallel."""
    for in_s3, group in groupby(files, lambda file: isinstance(file, S3File)):
        if in_s3:
            yield from read_ahead([file for file in group if isinstance(file, S3File)], notes.append)
            continue
        for file in group:
            yield STDIN if file is None else str(file), _local_blocks(file)


def _local_blocks(file: LogFile) -> Iterator[bytes]:
    with file.open("rb", buffering=0) if isinstance(file, Path) else nullcontext(sys.stdin.buffer) as stream:
        while block := stream.read(CHUNK_BYTES + WINDOW):
            yield block


def _measured(blocks: Iterable[bytes], progress: ReadProgress) -> Iterator[bytes]:
    for block in blocks:
        progress.bytes_read += len(block)
        yield block


def _notes(name: str, piece: Malformed) -> Iterator[str]:
    if piece.reason is Reason.GZIP:
        state = "truncated" if piece.name.startswith("truncated") else "damaged"
        yield f"{name}: the compressed file is {state}; the readable part is used"
    elif piece.reason is Reason.UNSUPPORTED:
        yield f"{name}: {piece.name} is not read; unpack or convert it first"
