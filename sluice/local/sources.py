"""Log lines for a local cloud as they are written: from a file that grows and is rotated, or from a pipe."""

import os
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import BinaryIO

MOST_AT_ONCE = 20_000
"""Lines given at one call; the others wait."""

CHUNK = 1 << 20
LONGEST_LINE = 1 << 20


class FollowedFile:
    """What is appended to a file, like ``tail -F``: across truncation, and renaming in favour of a new file."""

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        """Begins at the file's end, unless told otherwise. The file need not be there yet."""
        self._path = path
        self._rest = b""
        self._file = self._opened()
        if self._file is not None and not from_start:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        """The whole lines that have come since the last call, at most ``MOST_AT_ONCE`` or so."""
        given = 0
        while given < MOST_AT_ONCE:
            found = self._more()
            if not found:
                return
            *whole, self._rest = (self._rest + found).split(b"\n")
            if len(self._rest) > LONGEST_LINE:
                whole, self._rest = [*whole, self._rest], b""
            given += len(whole)
            yield from (line + b"\n" for line in whole if line)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _more(self) -> bytes:
        """Bytes of the open file; once it is read to its end, of the one that took its place."""
        self._file = self._file or self._opened()
        if self._file is None:
            return b""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._rest = b""
        found = self._file.read(CHUNK)
        if found or not self._replaced(self._file):
            return found
        self._file.close()
        self._file = self._opened()
        return b"\n"  # ends the old file's last line

    def _replaced(self, file: BinaryIO) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(file.fileno())
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _opened(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None


class PipedLines:
    """Lines of a file descriptor that may block, read by a thread. Who writes too fast for the cloud has to wait."""

    def __init__(self, descriptor: int) -> None:
        self._queue: Queue[bytes] = Queue(MOST_AT_ONCE)
        self._descriptor = descriptor
        self._read_all = False
        self.ended = False
        """The pipe is at its end, and every line of it has been taken."""
        Thread(target=self._read, daemon=True).start()

    def lines(self) -> Iterator[bytes]:
        """The lines that have come since the last call."""
        read_all = self._read_all
        for _ in range(MOST_AT_ONCE):
            try:
                yield self._queue.get_nowait()
            except Empty:
                self.ended = read_all
                return

    def _read(self) -> None:
        # Not by a buffered file: the interpreter could not end while the thread waits in one.
        rest = b""
        while found := os.read(self._descriptor, CHUNK):
            *whole, rest = (rest + found).split(b"\n")
            for line in whole:
                self._queue.put(line + b"\n")
        if rest:
            self._queue.put(rest)
        self._read_all = True
