"""Durations as operators write them, ``10s``, ``5m``, ``1h``, ``7d``, and times."""

import re
from datetime import UTC, datetime

HOUR_S, DAY_S = 3600, 86400
UNITS = {"s": 1, "m": 60, "h": HOUR_S, "d": DAY_S}
ACCEPTED = "a whole number and a unit, such as '10s', '5m', '1h' or '7d'"
LAST_S = 253_402_300_799
"""Last second of the year 9999, the latest time that can be written. Epoch seconds."""
_DURATION = re.compile(r"(\d{1,9})([smhd])", re.ASCII)


def parse_duration(text: object) -> int:
    """Returns seconds; raises ValueError unless ``text`` is a whole number and a unit.

    >>> parse_duration("10m")
    600
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write {ACCEPTED}")
    return int(match[1]) * UNITS[match[2]]


def format_duration(seconds: int) -> str:
    """Returns the shortest text that ``parse_duration`` turns into exactly ``seconds``.

    >>> format_duration(600), format_duration(90), format_duration(0)
    ('10m', '90s', '0s')
    """
    for unit, size in reversed(UNITS.items()):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def utc_text(epoch_s: int) -> str:
    """Returns a time, 0 to ``LAST_S`` seconds since 1970, as RFC 3339 and TOML write it.

    >>> utc_text(1_767_225_600)
    '2026-01-01T00:00:00Z'
    """
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
