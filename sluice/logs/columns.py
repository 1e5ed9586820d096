"""What the decoders of the desk's own formats share: times by memo, lines split into cells.

As in the core all work is on columns: a block's lines are split in one call, and a cell is read only where a rule
looks at it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MEMO_ENTRIES = 1 << 16
_UTC = re.compile(rb"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)", re.ASCII)

Rows = list[list[bytes]]


class TimeMemo(dict[Any, int | None]):
    """Textual time to milliseconds since the epoch, computed once per distinct text; None is no time."""

    def __init__(self, read: Callable[[Any], int | None]) -> None:
        self._read = read

    def __missing__(self, cell: Any) -> int | None:
        time = self[cell] = self._read(cell)
        return time

    def read_all(self, cells: Iterable[Any]) -> list[int | None]:
        if len(self) > MEMO_ENTRIES:
            self.clear()
        return list(map(self.__getitem__, cells))


def milliseconds(moment: datetime) -> int | None:
    """Since the epoch; None for times before it, which no request was made at.

    >>> milliseconds(datetime(1970, 1, 1, 0, 1, tzinfo=UTC))
    60000
    """
    since = (moment - EPOCH) // timedelta(milliseconds=1)
    return since if since >= 0 else None


def utc_ms(text: bytes) -> int | None:
    """The time that ``2026-01-31 12:00:00``, or the same with a ``T``, names.

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
    """Each line cut at its first ``times`` separators."""
    return list(map(bytes.split, lines, repeat(separator), repeat(times)))
