"""Renders a replay as one self-contained page, which loads nothing from any server."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from string import Template

from matplotlib import rc_context
from matplotlib.figure import Figure

from chalicelib.core.measures import amount_text
from sluice.analysis import plots
from sluice.analysis.summary import (
    NETWORK_COLUMNS,
    OffenderSummary,
    by_rule,
    network_cells,
    offenders,
    refused_once,
    rule_cells,
)
from sluice.analysis.traffic import TrafficProfile
from sluice.replay.engine import Result

MOST_ROWS = 100
"""Most offenders in the table."""

BAD = ("clients blocked", "requests refused")
"""Figures shown in red, unless they are 0."""

FormatTime = Callable[[int], str]
"""Formats a time in milliseconds since the epoch."""

PAGE = Template(Path(__file__).with_name("report.html").read_text("utf-8"))


NETWORKS_SECTION = Template(
    "<h2>Guilty networks</h2>\n"
    "<p>The first $shown networks that would have been blocked because enough of their clients were. No figure above "
    'takes them into account.</p>\n<div class="wide" tabindex="0" role="region" aria-label="Guilty networks">'
    "$table</div>\n"
)
NETWORK_HEADINGS = (*NETWORK_COLUMNS[:-1], f"#{NETWORK_COLUMNS[-1]}")


def figures_of(result: Result, traffic: TrafficProfile) -> dict[str, Figure]:
    refused: Counter[int] = Counter()
    for breach in result.breaches:
        if not breach.allowlisted:
            refused.update(breach.refused_by_ten_s)
    # Several rules that only count may each claim the same request.
    refused = Counter({ten: min(number, traffic.by_ten_s[ten]) for ten, number in refused.items()})
    span = (result.stats.first_ms or 0, result.stats.last_ms or 0)
    return {
        "over-time": plots.over_time(traffic.by_ten_s, refused),
        "peaks": plots.peaks(result.rules.rules, traffic.peaks),
        "blocks": plots.blocks(offenders(result), result.rules.rules, span),
    }


def page(result: Result, figures: dict[str, Figure], description: str, format_time: FormatTime) -> str:
    """Returns the HTML. ``description`` is a line of text about the logs."""
    everyone = offenders(result)
    rules = list(by_rule(result, everyone))
    counting = any(row.rule.action == "count" and row.offenders for row in rules)
    numbers = {
        "requests": result.stats.requests,
        "clients over a limit": len({offender.network for offender in everyone}),
        "clients blocked": len({offender.network for offender in everyone if offender.periods}),
        "requests refused": refused_once(everyone),
        "malformed lines": result.stats.malformed.total(),
    }
    total = sum(bool(offender.periods) for offender in everyone)
    return PAGE.substitute(
        description=escape(description),
        figures="".join(
            f"<div><b{' class=bad' if number and name in BAD else ''}>{number:,}</b>{name}</div>"
            for name, number in numbers.items()
        ),
        rules=_table(RULE_HEADINGS, map(rule_cells, rules)),
        counting=" Rules that only count are shown as if they blocked." if counting else "",
        over_time=svg(figures["over-time"], "Requests per second over time, passed and refused"),
        peaks=svg(figures["peaks"], "Number of clients by their peak in one window, for each rule"),
        blocks_note=(
            f"The first {min(total, plots.MOST_BARS)} of {total:,}, until the end of the log."
            if total
            else "No client would have been blocked."
        ),
        blocks=svg(figures["blocks"], "When each client would have been blocked") if total else "",
        networks=(
            NETWORKS_SECTION.substitute(
                shown=f"{min(len(result.networks), MOST_ROWS):,} of {len(result.networks):,}",
                table=_table(
                    NETWORK_HEADINGS, (network_cells(each, format_time) for each in result.networks[:MOST_ROWS])
                ),
            )
            if result.networks
            else ""
        ),
        evidence_note=(
            f"The busiest {min(len(everyone), MOST_ROWS):,} of {len(everyone):,} offenders. Times are UTC."
            if everyone
            else "No client exceeded a limit."
        ),
        evidence=_table(OFFENDER_HEADINGS, (_cells(o, format_time) for o in everyone[:MOST_ROWS])) if everyone else "",
    )


def svg(figure: Figure, title: str) -> str:
    """Renders a figure as an ``svg`` element, with ``title`` as its text alternative."""
    text = StringIO()
    with rc_context(plots.STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    element = text.getvalue()
    element = element[element.index("<svg") :]
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(title, quote=True)}"', 1)


RULE_HEADINGS = ("rule", "limit", "action", "#offenders", "#blocked", "#requests over", "#refused", "#share")
OFFENDER_HEADINGS = ("client", "rule", "first offence", "busiest window", "blocked for", "#requests", "#refused")


def _cells(offender: OffenderSummary, format_time: FormatTime) -> list[str]:
    rule, (start, end) = offender.rule, offender.peak_span_ms
    peak, limit = (amount_text(rule.measure, amount) for amount in (offender.peak, rule.limit))
    return [
        str(offender.network),
        rule.name,
        format_time(offender.first_ms),
        f"{peak} of {limit}, {format_time(start)} to {format_time(end)[-8:]}",
        offender.blocked_for(number=True),
        f"{offender.requests:,}",
        f"{offender.refused:,}",
    ]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Renders a table; columns whose heading begins with # hold numbers."""
    attributes = [' class="n"' if heading.startswith("#") else "" for heading in headings]

    def line(tag: str, cells: Iterable[str]) -> str:
        columns = zip(attributes, cells, strict=True)
        return f"<tr>{''.join(f'<{tag}{attribute}>{escape(cell)}</{tag}>' for attribute, cell in columns)}</tr>"

    head = line("th", (heading.lstrip("#") for heading in headings))
    body = "".join(f"{line('td', row)}\n" for row in rows)
    return f"<table><thead>{head}</thead><tbody>\n{body}</tbody></table>"
