"""Log lines for a local cloud as they are written: from a growing, rotating file or from a pipe."""

import os
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import BinaryIO

MOST_AT_ONCE = 20_000
"""Approximate number of lines returned per call; the others wait for the next one."""

CHUNK = 1 << 20
"""Bytes per read."""

LONGEST_LINE = 1 << 20
"""Bytes after which an unfinished line of a followed file is returned as it is, to bound memory."""


class FollowedFile:
    """Lines appended to a file, like ``tail -F``: survives truncation and replacement of the file."""

    def __init__(self, path: Path) -> None:
        """Starts at the end of the file, which need not exist yet."""
        self._path = path
        self._rest = b""
        self._file = self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        """Yields the lines completed since the last call, at most about ``MOST_AT_ONCE``.

        An unfinished one longer than ``LONGEST_LINE`` counts as complete.
        """
        number = 0
        while number < MOST_AT_ONCE:
            data = self._read()
            if not data:
                return
            *whole, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > LONGEST_LINE:
                whole, self._rest = [*whole, self._rest], b""
            number += len(whole)
            yield from (line + b"\n" for line in whole if line)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self) -> bytes:
        """Returns bytes of the open file, empty at its end.

        At the end of a file that has been replaced, opens the new one and returns a line end.
        """
        self._file = self._file or self._open()
        if self._file is None:
            return b""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._rest = b""
        data = self._file.read(CHUNK)
        if data or not self._replaced(self._file):
            return data
        self._file.close()
        self._file = self._open()
        return b"\n"  # ends the old file's last line

    def _replaced(self, file: BinaryIO) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None


class PipedLines:
    """Lines of a file descriptor, read by a thread because reading may block. A writer that is too fast has to wait."""

    def __init__(self, descriptor: int) -> None:
        self._queue: Queue[bytes] = Queue(MOST_AT_ONCE)
        Thread(target=self._read, args=(descriptor,), daemon=True).start()

    def lines(self) -> Iterator[bytes]:
        """Yields the lines since the last call."""
        for _ in range(self._queue.qsize()):
            yield self._queue.get()

    def _read(self, descriptor: int) -> None:
        # Not through a buffered file: the interpreter cannot exit while a thread waits in one.
        rest = b""
        while data := os.read(descriptor, CHUNK):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                self._queue.put(line + b"\n")
        if rest:
            self._queue.put(rest)
