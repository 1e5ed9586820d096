"""A bucket in memory, and the event of EventBridge about a new object."""

from collections.abc import Iterator
from typing import Any

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


def object_created(object: LogObject, time: str) -> dict[str, Any]:
    """Returns EventBridge's event about a new object, as in the S3 User Guide ("Event message structure").

    ``time``: as EventBridge writes it, such as ``2021-11-12T00:00:00Z``.
    """
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": time,
        "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{object.bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": object.bucket},
            "object": {
                "key": object.key,
                "size": 5,
                "etag": object.etag,
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "617f08299329d189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }
