"""Times as operators read and write them."""

import re
from datetime import datetime
from typing import Any

import click

from chalicelib.core.durations import ACCEPTED, parse_duration

__all__ = ["Duration", "Moment", "local"]


def local(epoch_s: float) -> str:
    """In the desk's own time zone."""
    return datetime.fromtimestamp(epoch_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


class Duration(click.ParamType[str]):
    """A duration, kept as it was written."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_duration(value)
        except ValueError:
            self.fail(f"{value!r}: expected {ACCEPTED}", param, ctx)
        return str(value)


class Moment(click.ParamType[int]):
    """Epoch seconds, from a date, a date and time (the desk's zone unless it names one), or epoch seconds."""

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
