"""Times and durations as operators write and read them."""

import re
import time
from contextlib import suppress
from datetime import UTC, datetime, tzinfo

from chalicelib.core.durations import parse_duration
from chalicelib.core.wording import roughly
from sluice.commands.shared.options import Parsed


def local(epoch_s: float) -> str:
    """Formats a time in the local time zone, which it names."""
    return datetime.fromtimestamp(epoch_s).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def expiry(expires_at: int | None, now: int) -> str:
    """Returns in words when something expires; both times are epoch seconds."""
    if expires_at is None:
        return "never"
    return "expired" if expires_at <= now else f"in {roughly(expires_at - now)}"


def utc(ms: float | None, *, date: bool = True) -> str:
    """Formats milliseconds since the epoch in UTC.

    >>> utc(1760000000123), utc(1760000000123, date=False)
    ('2025-10-09 08:53:20', '08:53:20.123')
    """
    if ms is None:
        return "-"
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if date else f"{moment:%H:%M:%S}.{int(ms) % 1000:03d}"


def _duration(text: str) -> str:
    parse_duration(text)
    return text


DURATION = Parsed("DURATION", _duration)
"""A duration, kept as written."""


def _moment(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{9,12}", text) else int(_date(text, None).timestamp())


MOMENT = Parsed("TIME", _moment)
"""Epoch seconds, parsed from a date, a date and time (local unless it names a zone), or epoch seconds."""


def _future(text: str) -> int:
    moment = _moment(text)
    if moment <= time.time():
        raise ValueError(f"{text!r} is in the past")
    return moment


FUTURE = Parsed("TIME", _future)
"""Epoch seconds, parsed as ``MOMENT`` is, of a time that is not over."""


def _past(text: str) -> int:
    with suppress(ValueError):
        return int(time.time()) - parse_duration(text)
    try:
        return _moment(text)
    except ValueError as exc:
        raise ValueError(f"{exc}, or an age such as 3h") from None


PAST = Parsed("TIME", _past)
"""Epoch seconds, parsed from an age such as 3h, or as ``MOMENT`` is."""


def _moment_ms(text: str) -> int:
    with suppress(ValueError, OverflowError):
        return int(float(text) * 1000)
    return int(_date(text, UTC).timestamp() * 1000)


def _date(text: str, zone: tzinfo | None) -> datetime:
    """Parses a date, or a date and time, in ``zone`` (None: the local one) unless it names a zone."""
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=zone).astimezone()
    except (ValueError, OverflowError):
        example = "2026-01-31T12:00, 2026-01-31T12:00:00+01:00 or epoch seconds"
        raise ValueError(f"{text!r} is not a time such as {example}") from None


UTC_MOMENT_MS = Parsed("TIME", _moment_ms)
"""Milliseconds since the epoch, parsed from a date and time (UTC unless it names a zone) or epoch seconds."""
