"""Traffic and decisions by quarter hour, and up to where they have been added up."""

from typing import ClassVar

import msgspec

from chalicelib.core.durations import HOUR_S
from chalicelib.core.state.records import Control, Number, Seconds, StateRecord

QUARTER_S = 900
"""Seconds between the steps of a trend."""

TRENDS_LATE_S = 2 * QUARTER_S
"""Age of the time up to which trends have been added up, above which several sweeps have failed to."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Traffic and decisions between two sweeps about a quarter hour apart."""

    at: Seconds
    """Start of the quarter hour, in epoch seconds. The sweeps were the first ones after its start and after its end."""
    measured_s: Seconds
    """Seconds between the sweeps: more than usual if sweeps were missed."""
    requests: Number = 0
    """Requests counted, not scaled up by the sample rate."""
    refused: Number = 0
    """Those of them that were answered as Sluice answers those it refuses, as far as a rule counts them."""
    offences: Number = 0
    """Offences recorded as events. One that only prolongs a block is not."""
    blocks: Number = 0
    """Blocks made, by rules and by hand."""
    most_blocked: Number = 0
    """Most blocks in force at a sweep."""
    more: bool = False
    """True if there were more offences and blocks than were added up."""


class Trend(StateRecord, frozen=True, kw_only=True):
    """The quarters of an hour."""

    kind: ClassVar[str] = "trend"
    hour: Seconds
    """Start of the hour. Epoch seconds."""
    quarters: tuple[Traffic, ...]
    """At most four, in order of time."""

    @property
    def id(self) -> str:
        return trend_id(self.hour)


def trend_id(at: int) -> str:
    """Returns the id of the record of the hour that ``at``, in epoch seconds, belongs to."""
    return f"{at // HOUR_S * HOUR_S:010d}"


class TrendMark(Control, frozen=True, kw_only=True):
    """The sweep up to which requests and events have been added up, and the totals of the logs at that time."""

    id: ClassVar[str] = "trend"
    at: Seconds = 0
    """Time of the sweep; 0 if there was none. Epoch seconds."""
    requests: dict[str, Number] = {}
    """Requests in all items of each log."""
    refused: dict[str, Number] = {}
    """Those of them that were answered as refusals."""
