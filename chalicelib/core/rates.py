"""Rates as operators write them: ``2/s``, ``30/m``, ``1/20s``."""

import re
from dataclasses import dataclass

from chalicelib.core.durations import format_duration, parse_duration

ACCEPTED = "a whole number, '/' and a time, such as '2/s', '30/m' or '1/20s'"
_RATE = re.compile(r"([1-9]\d{0,8})/(\d{0,9}[smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests, at least 1, in ``period_s`` seconds, at least 1."""

    number: int
    period_s: int

    def __str__(self) -> str:
        """Returns the text that ``parse_rate`` turns into this rate.

        >>> str(Rate(2, 1)), str(Rate(1, 20)), str(Rate(30, 60))
        ('2/s', '1/20s', '30/m')
        """
        period = format_duration(self.period_s)
        return f"{self.number}/{period[1:] if period[0] == '1' and len(period) == 2 else period}"


def parse_rate(text: object) -> Rate:
    """Returns the rate that ``text`` describes; raises ValueError unless it is a number and a time.

    >>> parse_rate("30/m")
    Rate(number=30, period_s=60)
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is not None:
        period = match[2] if match[2][0].isdigit() else f"1{match[2]}"
        if period_s := parse_duration(period):
            return Rate(int(match[1]), period_s)
    raise ValueError(f"{text!r} is not a rate; write {ACCEPTED}")
