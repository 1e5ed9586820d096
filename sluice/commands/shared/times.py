"""Times and durations as operators write and read them."""

import re
from datetime import UTC, datetime
from typing import Any

import click

from chalicelib.admin.wording import roughly
from chalicelib.core.durations import ACCEPTED, parse_duration


def local(epoch_s: float) -> str:
    """Formats a time in the local time zone."""
    return datetime.fromtimestamp(epoch_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


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


class DurationParam(click.ParamType[str]):
    """A duration, kept as written."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_duration(value)
        except ValueError:
            self.fail(f"{value!r}: expected {ACCEPTED}", param, ctx)
        return str(value)


class MomentParam(click.ParamType[int]):
    """Epoch seconds, parsed from a date, a date and time (local unless it names a zone), or epoch seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if re.fullmatch(r"\d{9,12}", value):
            return int(value)
        try:
            return int(datetime.fromisoformat(value).astimezone().timestamp())
        except (ValueError, OverflowError):
            return self.fail(f"{value!r}: expected a time such as 2026-12-31T18:00, or epoch seconds", param, ctx)
