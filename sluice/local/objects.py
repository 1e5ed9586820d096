"""A bucket on this machine: the files of a directory."""

from collections.abc import Iterator
from pathlib import Path

from chalicelib.ports import Gone, LogObject, Unavailable

BLOCK_BYTES = 1 << 20

SETTLED_S = 2.0
"""Seconds without a change after which a file is taken to be complete."""


class DirectoryObjects:
    """``LogObjects`` in a directory: each file below it is an object, whose key is its path.

    The etag consists of size and time of change, so a file that grows is another object.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._seen: set[LogObject] = set()

    def new(self, now: float) -> list[LogObject]:
        """Returns the files that have not been returned yet and have not changed lately, each as it is now."""
        new = [object for object, changed in self.files() if changed <= now - SETTLED_S and object not in self._seen]
        self._seen.update(new)
        return new

    def files(self) -> Iterator[tuple[LogObject, float]]:
        """Yields all files except hidden ones, sorted by path, each with its modification time in epoch seconds."""
        for path in sorted(self._root.rglob("*")):
            relative = path.relative_to(self._root)
            if not any(part.startswith(".") for part in relative.parts) and path.is_file():
                yield self._object(relative.as_posix()), path.stat().st_mtime

    def blocks(self, object: LogObject) -> Iterator[bytes]:
        try:
            with (self._root / object.key).open("rb") as file:
                while True:
                    if self._object(object.key) != object:
                        raise Gone(f"{object}: replaced")
                    block = file.read(BLOCK_BYTES)
                    if not block:
                        return
                    yield block
        except FileNotFoundError as exc:
            raise Gone(f"{object}: deleted") from exc
        except OSError as exc:
            raise Unavailable(f"{object}: {exc.strerror}") from exc

    def _object(self, key: str) -> LogObject:
        status = (self._root / key).stat()
        return LogObject(self._root.name, key, f"{status.st_size}-{status.st_mtime_ns}")
