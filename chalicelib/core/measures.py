"""Measures: what a rule counts of a client's requests.

A meter that measures bytes or time keeps the sums of its amounts where others keep numbers of requests, under a topic
of its own. So nothing else differs, and a version that does not know the topic skips it. One that counts different
values, such as paths, keeps the number of requests with each value (``distinct``).
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.logs.requests import BYTES, TIME_TAKEN, Requests

LARGEST_AMOUNT = 1 << 36
"""Largest amount of one request that is added up, 64 GiB, so that no sum exceeds a packed integer."""


class Measure(StrEnum):
    REQUESTS = "requests"
    BYTES = "bytes"
    """Bytes of the responses, as the log gives them, with or without headers."""
    TIME = "time"
    """Milliseconds that the responses took."""
    PATHS = "paths"
    """Different paths."""
    HOSTS = "hosts"
    """Different hosts."""
    USER_AGENTS = "user_agents"
    """Different values of the User-Agent header."""

    @property
    def column(self) -> str | None:
        """The column that holds the amount or the value; None if each request counts as 1."""
        return _COLUMNS.get(self)

    @property
    def is_distinct(self) -> bool:
        """True if different values are counted, not requests or sums."""
        return self in DISTINCT.values()

    @property
    def is_sum(self) -> bool:
        """True if amounts are added up."""
        return self in SUMS


DISTINCT = {"path": Measure.PATHS, "host": Measure.HOSTS, "user_agent": Measure.USER_AGENTS}
"""For each column whose different values a rule can count, the measure."""

SUMS = {Measure.BYTES: BYTES, Measure.TIME: TIME_TAKEN}
"""For each measure whose amounts are added up, the column that holds them."""

_COLUMNS = {**SUMS, **{measure: column for column, measure in DISTINCT.items()}}


def amounts(measure: Measure, requests: Requests, rows: Sequence[int] | None) -> Sequence[int] | None:
    """Returns the amount of each of ``rows``, or of all rows if None; None if the log does not have the measure's
    column.

    An amount that is not in the log, or is not a whole number, is 0. ``measure`` must be a sum.
    """
    column = requests.columns(measure.column or "")
    if column is None:
        return None
    cells = column.cells if rows is None else [column.cells[row] for row in rows]
    return [_amount(str(text)) for text in map(column.text, cells)]


def _amount(text: str) -> int:
    # Very many digits would be slow to convert; 18 exceed the largest amount already.
    return min(int(text[:18]), LARGEST_AMOUNT) if text.isascii() and text.isdigit() else 0


_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
LARGEST_BYTES = 10**15
LARGEST_TIME_S = 10**6


def _parse_bytes(value: object) -> int | None:
    number, unit = value, 1
    if isinstance(value, str):
        number = int(value[:-2]) if value[:-2].isascii() and value[:-2].isdigit() and len(value) < 18 else None
        unit = _UNITS.get(value[-2:], 0)
    if type(number) is not int or unit == 0 or not 0 <= number * unit <= LARGEST_BYTES:
        return None
    return number * unit


def _parse_time(value: object) -> int | None:
    try:
        seconds = parse_duration(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return seconds * 1000 if type(seconds) is int and 0 <= seconds <= LARGEST_TIME_S else None


LIMITS: dict[Measure, tuple[Callable[[object], int | None], str]] = {
    Measure.BYTES: (_parse_bytes, "a number of bytes up to 1 PB, such as 500000, '800kB', '10MB' or '2GB'"),
    Measure.TIME: (_parse_time, "a number of seconds up to 1,000,000 or a time, such as 30, '30s' or '5m'"),
}
"""For each measure that is a sum: a function that reads a limit, or returns None if it is not accepted, and the
accepted form."""


def amount_text(measure: Measure | str, amount: int) -> str:
    """Returns an amount with its unit, without one for requests and for different values.

    >>> [amount_text("requests", 1200), amount_text("bytes", 41_943_040), amount_text("time", 12_345)]
    ['1,200', '41.9 MB', '12.3 s']
    >>> amount_text("bytes", 999), amount_text("bytes", 10_000_000)
    ('999 B', '10 MB')
    """
    match measure:
        case Measure.BYTES:
            for unit, size in reversed(_UNITS.items()):
                if amount >= size:
                    return f"{_tenths(amount, size)} {unit}"
            return f"{amount} B"
        case Measure.TIME:
            return f"{_tenths(amount, 1000)} s"
        case _:
            return f"{amount:,}"


def _tenths(amount: int, size: int) -> str:
    whole, tenths = divmod(amount * 10 // size, 10)
    return f"{whole:,}.{tenths}" if tenths else f"{whole:,}"


def counted_text(measure: Measure | str, amount: int, window_s: int) -> str:
    """Returns what was counted within a window, in words.

    >>> counted_text("requests", 93, 5), counted_text("bytes", 41_000_000, 60), counted_text("paths", 61, 3600)
    ('93 requests within 5s', '41 MB within 1m', '61 different paths within 1h')
    """
    return f"{amount_text(measure, amount)}{unit_text(measure, amount)} within {format_duration(window_s)}"


def unit_text(measure: Measure | str, amount: int = 0) -> str:
    """Returns what follows ``amount_text`` in a sentence: a blank and a noun, or nothing for bytes and time.

    >>> unit_text("requests", 1), unit_text("user_agents", 2), unit_text("bytes", 2)
    (' request', ' different user agents', '')
    """
    if measure in SUMS:
        return ""
    noun = f"different {measure.replace('_', ' ')}" if measure in DISTINCT.values() else "requests"
    return f" {noun if amount != 1 else noun.removesuffix('s')}"
