"""Reads log objects in S3: lists them within bounds before any is read, then reads several ahead of the reader.

Only ``ListObjectsV2`` and ``GetObject`` are called, with the credentials and the region that boto3 finds.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from chalicelib.core.wording import plural
from chalicelib.ports import Gone, LogObject, Unavailable

if TYPE_CHECKING:
    from chalicelib.edges.s3_objects import S3Client

S3 = "s3://"

READERS = 16
"""Blocks read at the same time, which bounds the memory for what has been read ahead."""
BLOCK_BYTES = 8 << 20
"""Most bytes read by one call; most log objects are smaller."""

MOST_OBJECTS = 10_000
"""Objects accepted by default: a month of a distribution's standard logs."""
MOST_BYTES = 10_000_000_000
"""Stored bytes accepted by default."""

ARCHIVED = frozenset(("GLACIER", "DEEP_ARCHIVE"))
"""Storage classes whose objects have to be restored before they can be read."""

CLOCK_MARGIN_MS = 900_000
"""An object written this long before a moment holds no request made at that moment or later."""

GB = 1_000_000_000
READ_USD, LISTED_USD, SENT_USD = 0.0000004, 0.000005, 0.09
"""S3 list prices in us-east-1: per object read, per list of 1,000 objects, and per GB sent out of AWS. Within the
bucket's region, nothing is charged for what is sent."""


@dataclass(frozen=True, slots=True)
class S3File:
    """One version of an object that holds logs."""

    object: LogObject
    size: int
    """Stored bytes."""
    client: "S3Client" = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"{S3}{self.object}"

    def starts(self) -> range:
        """Returns the first bytes of the blocks to read."""
        return range(0, self.size, BLOCK_BYTES)


@dataclass(frozen=True)
class S3Listing:
    """Lists objects before any of them is read, and refuses more than its bounds."""

    most_objects: int = MOST_OBJECTS
    most_bytes: int = MOST_BYTES
    """Bounds on the objects of one name."""
    from_ms: int | None = None
    """Objects written before this time are left out, because they hold only earlier requests; None for no bound."""
    report: Callable[[str], None] = lambda _: None
    """Receives a sentence about the objects of each name, before they are read."""

    @cached_property
    def _client(self) -> "S3Client":
        import boto3  # noqa: PLC0415 - slow to import, and needed only for objects
        from botocore.config import Config  # noqa: PLC0415

        retries: Any = {"mode": "standard", "max_attempts": 5}
        config = Config(retries=retries, connect_timeout=5, read_timeout=30, max_pool_connections=READERS)
        return boto3.client("s3", config=config)

    def files(self, name: str) -> list[S3File]:
        """Returns the objects whose keys begin with the prefix in ``name``, in the order of their keys.

        Objects without content and archived ones are left out. Raises OSError if there are none, if they exceed the
        bounds, or if they cannot be listed.
        """
        from chalicelib.edges.errors import translated  # noqa: PLC0415 - imports botocore

        bucket, _, prefix = name.removeprefix(S3).partition("/")
        if not bucket:
            raise OSError(f"{name!r} is not of the form s3://BUCKET/PREFIX")
        files: list[S3File] = []
        total = archived = earlier = lists = 0
        try:
            with translated(f"list {name}"):
                for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                    lists += 1
                    for item in page.get("Contents", ()):
                        if not item["Size"]:
                            continue
                        if item.get("StorageClass") in ARCHIVED:
                            archived += 1
                            continue
                        if self._is_earlier(item["LastModified"].timestamp()):
                            earlier += 1
                            continue
                        total += item["Size"]
                        object = LogObject(bucket, item["Key"], item["ETag"].strip('"'))
                        files.append(S3File(object, item["Size"], self._client))
                    self._check(name, len(files), total)
        except Unavailable as exc:
            raise OSError(f"could not {exc}") from exc
        reasons = ((earlier, "written before --from"), (archived, "archived"))
        skipped = " and ".join(f"{number:,} {reason}" for number, reason in reasons if number)
        left_out = f" ({skipped} left out)" if skipped else ""
        if not files:
            raise OSError(f"{name}: there is no object to read{left_out}")
        self.report(
            f"{name}: {plural(len(files), 'object')}, {_amount(total)}{left_out}; {_cost(len(files), lists, total)}"
        )
        return files

    def _is_earlier(self, written_s: float) -> bool:
        return self.from_ms is not None and written_s * 1000 + CLOCK_MARGIN_MS < self.from_ms

    def _check(self, name: str, objects: int, size: int) -> None:
        """Raises OSError as soon as the objects listed so far exceed a bound, so that listing costs little as well."""
        for number, most, shown, option in (
            (objects, self.most_objects, f"{self.most_objects:,} objects", "--max-objects"),
            (size, self.most_bytes, _amount(self.most_bytes), "--max-bytes"),
        ):
            if number > most:
                raise OSError(
                    f"{name}: more than {shown}, so none was read. Name a longer prefix, skip what was written "
                    f"before --from, or raise {option}"
                )


def read_ahead(files: Sequence[S3File], note: Callable[[str], None]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yields each file's name and the blocks of its content, which are to be used before the next file.

    Up to ``READERS`` blocks are read ahead. ``note`` receives a sentence about a file that was deleted or replaced
    since it was listed. Raises OSError for a file that cannot be read.
    """
    dropped: set[S3File] = set()
    blocks = ((file, start) for file in files for start in file.starts() if file not in dropped)
    waiting: deque[tuple[S3File, Future[bytes]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:

        def submit(number: int) -> None:
            waiting.extend((file, pool.submit(_read, file, start)) for file, start in islice(blocks, number))

        def content(file: S3File) -> Iterator[bytes]:
            while waiting and waiting[0][0] == file:
                _, block = waiting.popleft()
                submit(1)
                try:
                    yield block.result()
                except Gone:
                    note(f"{file.name}: deleted or replaced since it was listed; the rest is not read")
                    return
                except Unavailable as exc:
                    raise OSError(f"could not {exc}") from exc

        submit(READERS)
        try:
            for file in files:
                yield file.name, content(file)
                dropped.add(file)
                while waiting and waiting[0][0] == file:
                    waiting.popleft()[1].cancel()
                    submit(1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read(file: S3File, start: int) -> bytes:
    from chalicelib.edges.s3_objects import S3Objects  # noqa: PLC0415 - imports botocore

    block, _ = S3Objects(lambda: file.client, BLOCK_BYTES).block(file.object, start)
    return block


def _amount(size: int) -> str:
    """Returns a size in words.

    >>> _amount(1_234_567), _amount(10_000_000_000)
    ('1.2 MB', '10.0 GB')
    """
    return f"{size / GB:,.1f} GB" if size >= GB else f"{size / 1_000_000:,.1f} MB"


def _cost(objects: int, lists: int, size: int) -> str:
    """Returns the price of reading objects once.

    >>> _cost(1000, 1, 10 * GB)
    'up to 0.90 USD at list prices, and 0.00 from within the region'
    """
    calls = objects * READ_USD + lists * LISTED_USD
    return f"up to {calls + size / GB * SENT_USD:,.2f} USD at list prices, and {calls:,.2f} from within the region"
