"""Times as logs write them, in milliseconds since the epoch; None for text that is not a time, and for times before the
epoch.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from chalicelib.core.durations import DAY_S

MEMO_ENTRIES = 1 << 16

_UTC = re.compile(rb"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)", re.ASCII)
_ISO = re.compile(rb"([^.,Z+]{19})(?:[.,](\d{1,9}))?(?:Z|([+-])(\d\d):?(\d\d)|)", re.ASCII)
_CLF = re.compile(rb"\[?(\d\d?)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\]?", re.ASCII)
_MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class TimeMemo(dict[Any, int | None]):
    """Times by their text; each distinct text is parsed once."""

    def __init__(self, parse: Callable[[Any], int | None]) -> None:
        self._parse = parse

    def __missing__(self, cell: Any) -> int | None:
        time = self[cell] = self._parse(cell)
        return time

    def parse_all(self, cells: Iterable[Any]) -> list[int | None]:
        if len(self) > MEMO_ENTRIES:
            self.clear()
        return list(map(self.__getitem__, cells))


def utc_ms(text: bytes) -> int | None:
    """Parses ``2026-01-31 12:00:00`` in UTC, or the same with a ``T``.

    >>> utc_ms(b"1970-01-01T00:01:00"), utc_ms(b"2026-02-30 00:00:00"), utc_ms(b"-")
    (60000, None, None)
    """
    match = _UTC.fullmatch(text)
    return None if match is None else _ms(*map(int, match.groups()))


def iso_ms(text: bytes) -> int | None:
    """Parses ISO 8601, with a fraction and a zone or without; without a zone, the time is UTC.

    >>> iso_ms(b"1970-01-01T00:00:01.186641Z"), iso_ms(b"1970-01-01T01:00:00+01:00"), iso_ms(b"1970-01-01 00:00:01,5")
    (1186, 0, 1500)
    """
    match = _ISO.fullmatch(text)
    second = match and utc_ms(match[1])
    if match is None or second is None:
        return None
    _, fraction, sign, hours, minutes = match.groups()
    offset_ms = 60_000 * (60 * int(hours) + int(minutes)) if sign else 0
    time = second + int(((fraction or b"") + b"000")[:3]) + (offset_ms if sign == b"-" else -offset_ms)
    return time if time >= 0 else None


def clf_ms(text: bytes) -> int | None:
    """Parses the time of the common log format, with brackets or without.

    >>> clf_ms(b"[01/Jan/1970:01:00:00 +0100]"), clf_ms(b"31/Dec/1969:23:30:00 -0030")
    (0, 0)
    >>> clf_ms(b"[31/Feb/2026:00:00:00 +0000]") is None
    True
    """
    match = _CLF.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, _, year, hour, minute, second, sign, zone_h, zone_m = match.groups()
    offset_s = (int(zone_h) * 60 + int(zone_m)) * (60 if sign == b"+" else -60)
    return _ms(int(year), _MONTHS[match[2]], int(day), int(hour), int(minute), int(second), offset_s)


def _ms(year: int, month: int, day: int, hour: int, minute: int, second: int, offset_s: int = 0) -> int | None:
    """Returns the time of a moment ``offset_s`` ahead of UTC; None unless the moment exists and is not before the
    epoch.

    >>> _ms(2024, 2, 29, 0, 0, 0), _ms(2023, 2, 29, 0, 0, 0), _ms(2026, 1, 1, 24, 0, 0)
    (1709164800000, None, None)
    """
    if not (1 <= month <= 12 and 1 <= day <= _DAYS[month - 1] and hour < 24 and minute < 60 and second < 60):
        return None
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if month == 2 and day == 29 and not is_leap:
        return None
    # Years begin in March here, so that the leap day is the last.
    years, months = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day - 719_469
    time_s = DAY_S * days + 3600 * hour + 60 * minute + second - offset_s
    return 1000 * time_s if time_s >= 0 else None


_SECONDS = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?", re.ASCII)


def milliseconds(seconds: str) -> str:
    """Returns a duration in milliseconds, rounded down, given seconds with or without decimals; empty for other text.

    >>> milliseconds("1.2345"), milliseconds("30"), milliseconds("-"), milliseconds("-1")
    ('1234', '30000', '', '')
    """
    match = _SECONDS.fullmatch(seconds)
    return str(int(match[1]) * 1000 + int(((match[2] or "0") + "00")[:3])) if match else ""
