"""Renders a replay as one self-contained page, which loads nothing from any server."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import StringIO
from string import Template

from matplotlib import rc_context
from matplotlib.figure import Figure

from sluice.analysis import plots
from sluice.analysis.summary import OffenderSummary, by_rule, offenders, rule_cells
from sluice.analysis.traffic import TrafficProfile
from sluice.replay.engine import Result

MOST_ROWS = 100
"""Offenders in the table."""

BAD = ("clients blocked", "requests refused")
"""Figures shown in red, unless they are 0."""

FormatTime = Callable[[int], str]
"""Formats a time in milliseconds since the epoch."""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluice report</title>
<style>
body { font: 15px/1.5 "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif; color: #1f2933;
  background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
p { margin: .3rem 0 .8rem; color: #52606d; max-width: 46rem; }
svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; border-bottom: 1px solid #9aa5b1; padding: .3rem .7rem .3rem 0; }
td { border-bottom: 1px solid #e4e7eb; padding: .3rem .7rem .3rem 0; vertical-align: top; }
.n { text-align: right; }
.figures { display: flex; flex-wrap: wrap; gap: 2.4rem; margin: 1.2rem 0; }
.figures b { display: block; font-size: 1.5rem; line-height: 1.2; }
.bad { color: #c8442f; }
</style>
</head>
<body>
<h1>What these rules would have done</h1>
<p>$description</p>
<div class="figures">$figures</div>
<div class="wide">$rules</div>
<h2>Requests over time</h2>
<p>Red shows requests that clients would have sent while blocked.$counting</p>
$over_time
<h2>How busy clients were</h2>
<p>Clients by their peak, the largest number of requests in one window; both axes are logarithmic. A good limit lies in
a gap, with people to its left and machines to its right.</p>
$peaks
<h2>Blocks</h2>
<p>$blocks_note</p>
$blocks
<h2>Evidence</h2>
<p>$evidence_note</p>
<div class="wide">$evidence</div>
</body>
</html>
""")


def figures_of(result: Result, traffic: TrafficProfile) -> dict[str, Figure]:
    """Returns the plots by name."""
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
        "requests refused": sum(row.refused for row in rules),
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
    return [
        str(offender.network),
        rule.name,
        format_time(offender.first_ms),
        f"{offender.peak:,} of {rule.limit:,}, {format_time(start)} to {format_time(end)[-8:]}",
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
