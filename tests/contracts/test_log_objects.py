"""The contract of ``LogObjects``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol, cast

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.response import StreamingBody
from moto import mock_aws

from chalicelib.edges.s3_objects import READ_TRIES, S3Objects
from chalicelib.ports import Gone, LogObject, LogObjects, Unavailable
from sluice.local.objects import BLOCK_BYTES, DirectoryObjects
from tests.support.objects import MemoryObjects
from tests.support.tables import CREDENTIALS

KEY = "AWSLogs/111122223333/a b+c%20/\u00e9=1.log.gz"
BLOCK = 1000


class Bucket(Protocol):
    objects: LogObjects

    def put(self, key: str, content: bytes) -> LogObject: ...

    def delete(self, object: LogObject) -> None: ...


class MemoryBucket:
    def __init__(self) -> None:
        self._memory = MemoryObjects(BLOCK)
        self.objects: LogObjects = self._memory

    def delete(self, object: LogObject) -> None:
        self._memory.delete(object)

    def put(self, key: str, content: bytes) -> LogObject:
        return self._memory.put("site-logs", key, content)


class Directory:
    def __init__(self, root: Path) -> None:
        self._directory = DirectoryObjects(root)
        self.objects: LogObjects = self._directory
        self._root = root

    def put(self, key: str, content: bytes) -> LogObject:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return next(object for object, _ in self._directory.files() if object.key == key)

    def delete(self, object: LogObject) -> None:
        (self._root / object.key).unlink()


class S3Bucket:
    def __init__(self) -> None:
        self.client: Any = boto3.client("s3", **CREDENTIALS)
        self.client.create_bucket(Bucket="site-logs")
        self.objects: LogObjects = S3Objects(lambda: self.client, BLOCK)

    def put(self, key: str, content: bytes) -> LogObject:
        etag = self.client.put_object(Bucket="site-logs", Key=key, Body=content)["ETag"]
        return LogObject("site-logs", key, etag.strip('"'))

    def delete(self, object: LogObject) -> None:
        self.client.delete_object(Bucket=object.bucket, Key=object.key)


@pytest.fixture(params=["memory", "directory", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    if request.param == "s3":
        with mock_aws():
            yield S3Bucket()
    else:
        yield MemoryBucket() if request.param == "memory" else Directory(tmp_path)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, BLOCK_BYTES + 1])
def test_an_object_is_read_whole_in_blocks(bucket: Bucket, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    blocks = list(bucket.objects.blocks(bucket.put(KEY, content)))
    assert b"".join(blocks) == content
    assert all(len(block) <= BLOCK_BYTES for block in blocks)


def test_an_object_that_was_deleted_is_gone(bucket: Bucket) -> None:
    stored = bucket.put(KEY, b"line\n")
    bucket.delete(stored)
    with pytest.raises(Gone, match="/none"):
        list(bucket.objects.blocks(replace(stored, key="none")))
    with pytest.raises(Gone):
        list(bucket.objects.blocks(stored))


def test_an_object_that_was_replaced_is_gone_and_the_new_one_is_read(bucket: Bucket) -> None:
    old = bucket.put(KEY, b"line\n")
    new = bucket.put(KEY, b"another line\n")
    assert new != old
    with pytest.raises(Gone):
        list(bucket.objects.blocks(old))
    assert b"".join(bucket.objects.blocks(new)) == b"another line\n"


@pytest.mark.parametrize("change", ["delete", "replace"])
def test_an_object_that_disappears_while_it_is_read_is_gone(bucket: Bucket, change: str) -> None:
    size = 3 * BLOCK_BYTES
    stored = bucket.put(KEY, b"x" * size)
    blocks = bucket.objects.blocks(stored)
    first = next(blocks)
    if change == "delete" and not isinstance(bucket, Directory):  # an open file outlives its name
        bucket.delete(stored)
    else:
        bucket.put(KEY, b"y" * (size + 1))
    with pytest.raises(Gone):
        list(blocks)
    assert first == b"x" * len(first)


# What only S3 has


@pytest.fixture
def s3() -> Iterator[S3Bucket]:
    with mock_aws():
        yield S3Bucket()


class Broken:
    """A client of which some calls fail, or break off within the content."""

    def __init__(self, client: Any, *errors: Exception) -> None:
        self._client = client
        self.errors = list(errors)
        self.ranges: list[str] = []

    def get_object(self, **arguments: Any) -> Any:
        self.ranges.append(arguments["Range"])
        answer = self._client.get_object(**arguments)
        if self.errors:
            error = self.errors.pop(0)
            if isinstance(error, ClientError):
                raise error
            answer["Body"] = StreamingBody(cast("IO[bytes]", _BreakingOff(error)), 10)
        return answer


class _BreakingOff:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, *_: Any) -> bytes:
        raise self._error


def timeout() -> Exception:
    return ReadTimeoutError(endpoint_url="https://s3")


def test_a_range_that_breaks_off_is_read_again(s3: S3Bucket) -> None:
    stored = s3.put(KEY, b"x" * (2 * BLOCK))
    client = Broken(s3.client, timeout(), timeout())
    assert b"".join(S3Objects(lambda: client, BLOCK).blocks(stored)) == b"x" * (2 * BLOCK)
    assert client.ranges == ["bytes=0-999"] * 3 + ["bytes=1000-1999"]


def test_a_range_that_keeps_breaking_off_is_unavailable(s3: S3Bucket) -> None:
    stored = s3.put(KEY, b"x")
    client = Broken(s3.client, *[timeout() for _ in range(READ_TRIES)])
    with pytest.raises(Unavailable, match="read site-logs/AWSLogs"):
        list(S3Objects(lambda: client, BLOCK).blocks(stored))


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState", "SlowDown", "InternalError"])
def test_an_object_that_may_not_be_read_is_unavailable_not_gone(s3: S3Bucket, code: str) -> None:
    stored = s3.put(KEY, b"x")
    client = Broken(s3.client, ClientError({"Error": {"Code": code}}, "GetObject"))
    with pytest.raises(Unavailable, match=f"read site-logs/.*: {code}"):
        list(S3Objects(lambda: client, BLOCK).blocks(stored))


def test_the_client_is_made_when_it_is_needed() -> None:
    def make() -> Any:
        pytest.fail("made too early")

    S3Objects(make)
