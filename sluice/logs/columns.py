"""Parsing of times and splitting of lines, shared by the decoders of this package.

As in the core, all work is on columns: the lines of a chunk are split in one call, and a cell is decoded only if a
rule looks at it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import compress, repeat
from operator import not_
from socket import AF_INET, inet_pton
from typing import Any

from chalicelib.core.addresses import AddressMemo
from chalicelib.core.logs.requests import Malformed

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MEMO_ENTRIES = 1 << 16
_UTC = re.compile(rb"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)", re.ASCII)

Rows = list[list[bytes]]


class TimeMemo(dict[Any, int | None]):
    """A map from textual times to milliseconds since the epoch, or to None; each distinct text is parsed once."""

    def __init__(self, parse: Callable[[Any], int | None]) -> None:
        self._parse = parse

    def __missing__(self, cell: Any) -> int | None:
        time = self[cell] = self._parse(cell)
        return time

    def parse_all(self, cells: Iterable[Any]) -> list[int | None]:
        if len(self) > MEMO_ENTRIES:
            self.clear()
        return list(map(self.__getitem__, cells))


def pack_all(texts: Sequence[str], memo: AddressMemo) -> list[bytes | None]:
    """Returns ``memo.pack_all(texts)``."""
    # Converting IPv4 addresses takes less time than searching a large memo, which misses the processor's cache.
    with suppress(OSError, ValueError):
        return list(map(inet_pton, repeat(AF_INET), texts))
    return memo.pack_all(texts)


def milliseconds(moment: datetime) -> int | None:
    """Returns milliseconds since the epoch, or None for a time before it.

    >>> milliseconds(datetime(1970, 1, 1, 0, 1, tzinfo=UTC))
    60000
    """
    since = (moment - EPOCH) // timedelta(milliseconds=1)
    return since if since >= 0 else None


def utc_ms(text: bytes) -> int | None:
    """Returns the UTC time ``2026-01-31 12:00:00``, or the same with a ``T``, in milliseconds; None if it is not one.

    >>> utc_ms(b"1970-01-01T00:01:00"), utc_ms(b"2026-02-30 00:00:00"), utc_ms(b"-")
    (60000, None, None)
    """
    match = _UTC.fullmatch(text)
    if match is None:
        return None
    try:
        return milliseconds(datetime.fromisoformat(f"{match[1].decode()}T{match[2].decode()}+00:00"))
    except ValueError:
        return None


def split_all(lines: Sequence[bytes], separator: bytes, times: int) -> Rows:
    """Splits each line at its first ``times`` separators."""
    return list(map(bytes.split, lines, repeat(separator), repeat(times)))


def request_line(text: bytes) -> list[str]:
    """Returns the method, URL and version in a request line, each empty if absent."""
    return [*text.decode("utf-8", "replace").split(" ", 2), "", ""][:3]


def complete_lines(
    lines: Sequence[bytes], complete: Sequence[bool], malformed: Callable[[bytes], Malformed]
) -> tuple[list[bytes], list[Malformed]]:
    """Returns the lines that have all their fields, and ``malformed`` of each of the others."""
    return list(compress(lines, complete)), list(map(malformed, compress(lines, map(not_, complete))))
