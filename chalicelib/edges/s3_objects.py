"""Log objects in S3, read in ranges, so that a failed call repeats a range and not the object."""

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.edges.errors import translated
from chalicelib.ports import Gone, LogObject

S3Client = Any
"""A client of boto3's ``s3``, for which no stubs are installed."""

BLOCK_BYTES = 8 << 20

READ_TRIES = 3
"""Attempts to read a range. boto3 itself retries calls, but not the transfer of their content."""

GONE = frozenset(("NoSuchKey", "NoSuchBucket", "NoSuchVersion", "PreconditionFailed", "404", "412"))
PAST_THE_END = "InvalidRange"
"""Error code for a range of an empty object."""


class S3Objects:
    """``LogObjects`` in S3."""

    def __init__(self, client: Callable[[], S3Client], block_bytes: int = BLOCK_BYTES) -> None:
        """``client`` creates the client when it is first needed."""
        self._make_client = client
        self._block_bytes = block_bytes

    @cached_property
    def _client(self) -> S3Client:
        return self._make_client()

    def blocks(self, object: LogObject) -> Iterator[bytes]:
        place, size = 0, 1
        while place < size:
            block, size = self.block(object, place)
            yield block
            place += len(block)

    def block(self, object: LogObject, start: int) -> tuple[bytes, int]:
        """Returns a block of the content from byte ``start`` on, and the size of the object.

        Raises Gone and Unavailable, like ``blocks``.
        """
        with translated(f"read {object}"):
            return self._range(object, start)

    def _range(self, object: LogObject, start: int) -> tuple[bytes, int]:
        """Returns the bytes from ``start``, and the size of the object. Raises Gone, and boto3's errors."""
        for attempt in range(1, READ_TRIES + 1):
            try:
                answer = self._client.get_object(
                    Bucket=object.bucket,
                    Key=object.key,
                    IfMatch=f'"{object.etag}"',
                    Range=f"bytes={start}-{start + self._block_bytes - 1}",
                )
                return answer["Body"].read(), int(re.sub(r".*/", "", answer["ContentRange"]))
            except ClientError as exc:
                code = exc.response["Error"]["Code"]
                if code in GONE:
                    raise Gone(f"{object}: {code}") from exc
                if code == PAST_THE_END:
                    return b"", start
                raise
            except BotoCoreError:
                if attempt == READ_TRIES:
                    raise
        raise AssertionError("unreachable")
