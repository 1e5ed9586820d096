"""A bucket in memory."""

from collections.abc import Iterator

from chalicelib.ports import Gone, LogObject
from sluice.local.objects import BLOCK_BYTES


class MemoryObjects:
    """``LogObjects`` in memory."""

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes
        self._stored: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._puts = 0

    def put(self, bucket: str, key: str, content: bytes) -> LogObject:
        """Stores an object, in place of the one with the same key if there is one, and returns its new version."""
        self._puts += 1
        object = LogObject(bucket, key, f"{self._puts:032x}")
        self._stored[bucket, key] = object.etag, content
        return object

    def delete(self, object: LogObject) -> None:
        del self._stored[object.bucket, object.key]

    def blocks(self, object: LogObject) -> Iterator[bytes]:
        place = 0
        while True:
            etag, content = self._stored.get((object.bucket, object.key), ("", b""))
            if etag != object.etag:
                raise Gone(f"{object}: deleted or replaced")
            if place >= len(content):
                return
            yield content[place : place + self._block_bytes]
            place += self._block_bytes
