"""The report's plots: requests passed and refused over time, the distribution of peaks, and blocks on a timeline."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import UTC
from itertools import pairwise, zip_longest
from math import ceil, log10
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from chalicelib.core.durations import format_duration
from chalicelib.core.measures import Measure, amount_text, unit_text
from chalicelib.core.meter_tally import Slots
from chalicelib.core.rules import Rule
from chalicelib.core.rules_diff import allowed
from sluice.analysis.summary import OffenderSummary
from sluice.replay.breaches import TEN_S, BlockPeriod

INK, FAINT, PASSED, REFUSED = "#1f2933", "#cbd2d9", "#7b98b8", "#c8442f"
RULE_COLOURS = ("#c8442f", "#d98f1f", "#7a5195", "#2f7f79", "#8a6d3b", "#5a6b7b")
MOST_BARS = 25
"""Most pairs of client and rule whose blocks are shown."""

MOST_POINTS = 300
"""Most points over time; aligning them to their width can add one."""

WIDTHS = (1, 3, 6, 12, 30, 60, 180, 360, 1080, 2160)
"""Widths of a point over time, in tens of seconds; a log too long for the last has wider points."""

BINS_PER_DECADE = 8

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "sluice",
}

_counts = FuncFormatter(lambda value, _: f"{value:,.0f}")


@rc_context(STYLE)
def over_time(total: Slots, refused: Slots) -> Figure:
    """Plots requests per second; ``total`` and ``refused`` are requests by tens of seconds."""
    tens = range(min(total), max(total) + 1) if total else range(0)
    width = next((wide for wide in WIDTHS if len(tens) <= wide * MOST_POINTS), -(-len(tens) // MOST_POINTS))
    starts = list(range(tens.start // width * width, tens.stop, width))
    span_s = width * TEN_S

    def rates(counts: Slots) -> list[float]:
        points: Counter[int] = Counter()
        for ten, number in counts.items():
            points[ten // width] += number
        return [points[start // width] / span_s for start in starts]

    refused_rates = rates(refused)
    passed_rates = [rate - refused_rate for rate, refused_rate in zip(rates(total), refused_rates, strict=True)]
    figure, axes = _figure(2.6)
    axes.stackplot(
        [_days(start * TEN_S) for start in starts],
        passed_rates,
        refused_rates,
        labels=["passed", "refused"],
        colors=[PASSED, REFUSED],
        step="post",
        linewidth=0,
    )
    axes.set_ylabel(f"requests per second,\nmean of {format_duration(span_s)}")
    axes.yaxis.set_major_formatter(_counts)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    _time_axis(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, frameon=False, handlelength=1)
    return figure


@rc_context(STYLE)
def peaks(rules: Sequence[Rule], by_rule: dict[str, Counter[int]]) -> Figure:
    """Plots the number of clients by their peak, with the limit, for each rule; both axes are logarithmic."""
    columns = min(2, len(rules))
    rows = -(-len(rules) // columns)
    figure = Figure(figsize=(9.2, 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, rule in zip_longest(grid.flat, rules):
        if rule is None:
            axes.set_axis_off()
        else:
            _histogram(axes, rule, by_rule[rule.name])
    return figure


def _histogram(axes: Axes, rule: Rule, clients: Counter[int]) -> None:
    axes.set_title(f"{rule.name}: more than {allowed(rule)}")
    if not clients:
        axes.set_axis_off()
        axes.annotate("no requests in its scope", (0, 0.8), xycoords="axes fraction")
        return
    # Bars have equal width on the logarithmic axis, and none spans the limit; each small count has its own bar.
    over = rule.limit + 1
    steps = {ceil(10 ** (step / BINS_PER_DECADE)) for step in range(BINS_PER_DECADE * 10)}
    edges = sorted({over, 1, *(edge for edge in steps if not over / 1.15 < edge < over * 1.15)})
    highest = max(clients)
    edges = [edge for edge in edges if edge <= max(highest, rule.limit) * 1.4 + 1]
    edges.append(int(edges[-1] * 1.34) + 1)
    lefts = edges[:-1]
    heights = [0] * len(lefts)
    for value, number in clients.items():
        heights[bisect_right(lefts, value) - 1] += number
    colours = [REFUSED if left > rule.limit else PASSED for left in lefts]
    widths = [(right - left) * 0.96 for left, right in pairwise(edges)]
    axes.bar(lefts, heights, width=widths, align="edge", color=colours, linewidth=0)
    axes.axvline(over, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.7, max(10.0, 3.0 * max(heights)))
    axes.set_xlim(0.9, edges[-1] * 1.05)
    clients_over = sum(number for value, number in clients.items() if value > rule.limit)
    beside_line: Any = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top"}
    side = "right" if log10(over) > 0.5 else "left"
    axes.annotate(f"limit {amount_text(rule.measure, rule.limit)}", (over, 1), xytext=(-4, -2), ha=side, **beside_line)
    colour = REFUSED if clients_over else INK
    axes.annotate(f"{clients_over:,} over", (over, 1), xytext=(4, -2), color=colour, **beside_line)
    axes.xaxis.set_major_formatter(_counts)
    axes.yaxis.set_major_formatter(_counts)
    axes.minorticks_off()
    unit = {Measure.BYTES: ", in bytes", Measure.TIME: ", in milliseconds"}.get(rule.measure, "")
    if rule.measure.is_distinct:
        unit = f", in{unit_text(rule.measure)}"
    axes.set_xlabel(f"peak of the client in one window{unit}")
    axes.set_ylabel("clients")


@rc_context(STYLE)
def blocks(offenders: Sequence[OffenderSummary], rules: Sequence[Rule], span_ms: tuple[int, int]) -> Figure:
    """Plots the blocks on a timeline, the earliest on top. ``span_ms`` is the time span of the log."""
    blocked = sorted((o for o in offenders if o.periods), key=lambda o: o.periods[0].since)[:MOST_BARS]
    colours = {rule.name: RULE_COLOURS[n % len(RULE_COLOURS)] for n, rule in enumerate(rules)}
    networks = list(dict.fromkeys(str(offender.network) for offender in blocked))
    first, last = (_days(ms / 1000) for ms in span_ms)
    figure, axes = _figure(0.8 + 0.22 * max(3, len(networks)))
    labelled: set[str] = set()
    for offender in blocked:
        name = offender.rule.name
        axes.broken_barh(
            [_bar(period, last) for period in offender.periods],
            (networks.index(str(offender.network)) - 0.36, 0.72),
            facecolors=colours[name],
            alpha=1.0 if offender.action == "block" else 0.55,
            label=None if name in labelled else f"{name}{'' if offender.action == 'block' else ' (counts only)'}",
            linewidth=0,
        )
        labelled.add(name)
    axes.set_yticks(range(len(networks)), networks)
    axes.set_ylim(max(len(networks), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(first, max(last, first + 1e-4))
    _time_axis(axes)
    if labelled:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(labelled), frameon=False, handlelength=1)
    return figure


def _bar(period: BlockPeriod, last: float) -> tuple[float, float]:
    """Returns the start and length of a period in days; it ends no later than the log."""
    left = _days(period.since)
    return left, max(min(_days(period.until), max(last, left)) - left, 0.0)


def _days(seconds: float) -> float:
    """Converts epoch seconds to the unit of matplotlib: days since the epoch."""
    return seconds / 86400


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.2, height), layout="constrained")
    axes = figure.subplots()
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def _time_axis(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.xaxis_date(tz=UTC)
