"""Trends: traffic, offences and blocks of up to a month, beside those of a day and a week earlier."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from msgspec import Struct
from msgspec.structs import asdict

from chalicelib.admin.answers import TimedAnswer, at_most, one_of
from chalicelib.admin.errors import Invalid, fault
from chalicelib.admin.schemas import TrendsQuery
from chalicelib.core.durations import DAY_S, HOUR_S, parse_duration
from chalicelib.core.state.trends import QUARTER_S, Traffic, Trend, trend_id
from chalicelib.pipeline.stored import State

SHORTEST_S, LONGEST_S = QUARTER_S, 31 * DAY_S
STEPS_S = (QUARTER_S, 2 * QUARTER_S, HOUR_S, 2 * HOUR_S, 4 * HOUR_S)
"""Lengths of a step, of which the first is used that makes at most ``MOST_POINTS``."""

MOST_POINTS = 200
WEEK_S = 7 * DAY_S
KEPT_DAYS = 38

ADDED_UP_WITHIN_S = 120
"""Seconds after a quarter hour within which the sweep adds it up."""


ADDED = ("measured_s", "requests", "refused", "offences", "blocks")
"""The fields of which a sum is that of its parts."""


class TrafficSum(Struct, frozen=True, kw_only=True):
    """Traffic and decisions within a time."""

    measured_s: int
    """Seconds of it that were added up; 0 if none was, and then all numbers are 0."""
    requests: int
    """Requests counted, not scaled up by the sample rate."""
    refused: int
    """Those of them that were answered as Sluice answers those it refuses, as far as a rule counts them."""
    offences: int
    """Offences recorded in the history. One that only prolongs a block is not."""
    blocks: int
    """Blocks made, by rules and by hand."""
    most_blocked: int
    """Most blocks in force at once, as the sweep finds them each minute."""
    more: bool
    """True if there were more offences and blocks than were added up."""
    averaged: bool = False
    """True if some of it was added up late, together with other times, and is a share by length."""


class TrendPoint(TrafficSum, frozen=True, kw_only=True):
    """Traffic and decisions within one step."""

    at: int
    """Start of the step. Epoch seconds."""


class Trends(TimedAnswer, frozen=True, kw_only=True):
    since: int
    """Start of the first step. Epoch seconds."""
    until: int
    """End of the last step, which is the latest quarter hour that is over. Epoch seconds."""
    step_s: Annotated[int, one_of(*STEPS_S)]
    points: Annotated[list[TrendPoint], at_most(MOST_POINTS)]
    """Every step, oldest first."""
    total: TrafficSum
    """The sum of the steps."""
    day_before: TrafficSum
    """The sum of the same time a day earlier."""
    week_before: TrafficSum
    """The sum of the same time a week earlier."""


def read_trends(state: State, query: TrendsQuery, now: int) -> Trends:
    """Returns the trends of the time that ``query`` names, which is extended to whole steps. Raises Invalid."""
    span_s = _span(query.span)
    step_s = next(step for step in STEPS_S if span_s <= step * MOST_POINTS)
    length_s = -(-span_s // step_s) * step_s
    if query.until is not None and query.until < now - KEPT_DAYS * DAY_S:
        raise Invalid(fault("query", "until", query.until, f"epoch seconds within the last {KEPT_DAYS} days"))
    over = min(now, query.until or now) // QUARTER_S * QUARTER_S
    first = over - length_s - QUARTER_S
    if length_s < DAY_S:  # the three times do not overlap
        traffic = [each for ago in (0, DAY_S, WEEK_S) for each in _traffic(state, first - ago, over - ago)]
    else:
        traffic = _traffic(state, first - WEEK_S, over)
    is_added = any(each.at == over - QUARTER_S for each in traffic)
    until = over if is_added or now - over >= ADDED_UP_WITHIN_S else over - QUARTER_S
    since = until - length_s
    steps: dict[int, list[TrendPoint]] = {start: [] for start in range(since, until, step_s)}
    for each in traffic:
        if since <= each.at < until:
            steps[each.at - (each.at - since) % step_s].append(each)
    return Trends(
        now=now,
        since=since,
        until=until,
        step_s=step_s,
        points=[TrendPoint(at=start, **asdict(_sum(inside))) for start, inside in steps.items()],
        total=_sum_within(traffic, since, until),
        day_before=_sum_within(traffic, since - DAY_S, until - DAY_S),
        week_before=_sum_within(traffic, since - WEEK_S, until - WEEK_S),
    )


def _span(text: str) -> int:
    """Returns seconds. Raises Invalid."""
    span_s = parse_duration(text)
    if not SHORTEST_S <= span_s <= LONGEST_S:
        raise Invalid(fault("query", "span", text, "from 15m to 31d"))
    return span_s


def _traffic(state: State, since: int, until: int) -> list[TrendPoint]:
    """Returns what was added up for the quarter hours that begin at ``since`` or later, and before ``until``."""
    hours = state.all(Trend, above=trend_id(since - HOUR_S), below=f"{until:010d}")
    quarters = (each for hour in hours for each in hour.record.quarters)
    return [part for each in quarters for part in _spread(each, since) if since <= part.at < until]


def _spread(traffic: Traffic, since: int) -> Iterator[TrendPoint]:
    """Divides what was added up late among the quarter hours, from ``since`` on, in which sweeps did not add up."""
    number = max(1, round(traffic.measured_s / QUARTER_S))
    skipped = max(0, number - 1 - (traffic.at - since) // QUARTER_S)
    for index in range(skipped, number):
        yield TrendPoint(
            at=traffic.at - (number - 1 - index) * QUARTER_S,
            **{name: _share(getattr(traffic, name), index, number) for name in ADDED},
            most_blocked=traffic.most_blocked,
            more=traffic.more,
            averaged=number > 1,
        )


def _share(total: int, index: int, number: int) -> int:
    """Returns one of ``number`` whole parts of a total, as equal as they can be.

    >>> [_share(8, index, 3) for index in range(3)]
    [2, 3, 3]
    """
    return total * (index + 1) // number - total * index // number


def _sum_within(traffic: Iterable[TrendPoint], since: int, until: int) -> TrafficSum:
    return _sum([each for each in traffic if since <= each.at < until])


def _sum(inside: Sequence[TrendPoint]) -> TrafficSum:
    return TrafficSum(
        **{name: sum(getattr(each, name) for each in inside) for name in ADDED},
        most_blocked=max((each.most_blocked for each in inside), default=0),
        more=any(each.more for each in inside),
        averaged=any(each.averaged for each in inside),
    )
