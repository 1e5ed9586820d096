"""A replay as one self-contained page: nothing is asked of any server, now or when somebody opens it later."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import StringIO
from string import Template

from matplotlib import rc_context
from matplotlib.figure import Figure

from chalicelib.core.durations import format_duration
from sluice.analysis import plots
from sluice.analysis.summary import Offender, RuleFigures, by_rule, offenders
from sluice.analysis.traffic import Traffic
from sluice.replay.engine import Result

MOST_ROWS = 100
Times = Callable[[int], str]

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
<p>$span</p>
<div class="figures">$figures</div>
<div class="wide">$rules</div>
<h2>Requests over time</h2>
<p>Red is what a client sent while it was blocked.$counting</p>
$over_time
<h2>How busy clients were</h2>
<p>Every client by the busiest window it had; both axes are logarithmic. A good limit stands in a gap: people to the
left of it, machines to the right.</p>
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


def figures_of(result: Result, traffic: Traffic) -> dict[str, Figure]:
    """The plots, by name."""
    refused: Counter[int] = Counter()
    for verdict in result.verdicts:
        if not verdict.allowlisted:
            refused.update(verdict.refused_by_ten_s)
    # Rules that only count may each claim the same request.
    refused = Counter({ten: min(number, traffic.by_ten_s[ten]) for ten, number in refused.items()})
    span = (result.seen.first_ms or 0, result.seen.last_ms or 0)
    return {
        "over-time": plots.over_time(traffic.by_ten_s, refused),
        "peaks": plots.peaks(result.rules.rules, traffic.peaks),
        "blocks": plots.blocks(offenders(result), result.rules.rules, span),
    }


def page(result: Result, figures: dict[str, Figure], span: str, times: Times) -> str:
    """The HTML. ``span`` says what the logs are; ``times`` writes a time in milliseconds."""
    found = offenders(result)
    rules = list(by_rule(result, found))
    blocked = {offender.network for offender in found if offender.stays}
    refused = sum(each.refused for each in rules)
    counting = any(each.rule.action == "count" and each.offenders for each in rules)
    malformed = result.seen.malformed.total()
    numbers = [
        (f"{result.seen.requests:,}", "requests", False),
        (f"{len({offender.network for offender in found}):,}", "clients over a limit", False),
        (f"{len(blocked):,}", "clients blocked", bool(blocked)),
        (f"{refused:,}", "requests refused", bool(refused)),
        (f"{malformed:,}", "lines not readable", False),
    ]
    shown = sum(bool(offender.stays) for offender in found)
    return PAGE.substitute(
        span=escape(span),
        figures="".join(
            f"<div><b{' class=bad' if bad else ''}>{number}</b>{escape(name)}</div>" for number, name, bad in numbers
        ),
        rules=_table(RULE_HEADINGS, map(_rule_row, rules)),
        counting=" For rules that only count: would have sent, if they blocked." if counting else "",
        over_time=svg(figures["over-time"], "Requests a second over time, let through and refused"),
        peaks=svg(figures["peaks"], "Number of clients by the highest count in one window, for each rule"),
        blocks_note=(
            f"The first {min(shown, plots.MOST_BARS)} of {shown:,}, as far as the log goes."
            if shown
            else "Nobody would have been blocked."
        ),
        blocks=svg(figures["blocks"], "When each client would have been blocked") if shown else "",
        evidence_note=(
            f"The busiest {min(len(found), MOST_ROWS):,} of {len(found):,} offenders. The times are UTC."
            if found
            else "No client was over a limit."
        ),
        evidence=_table(OFFENDER_HEADINGS, (_offender_row(o, times) for o in found[:MOST_ROWS])) if found else "",
    )


def svg(figure: Figure, title: str) -> str:
    """An ``svg`` element that says to those who do not see it what it shows."""
    text = StringIO()
    with rc_context(plots.STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    element = text.getvalue()
    element = element[element.index("<svg") :]
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(title, quote=True)}"', 1)


RULE_HEADINGS = ("rule", "limit", "action", "#offenders", "#blocked", "#requests over", "#refused", "#share")
OFFENDER_HEADINGS = ("client", "rule", "first offence", "busiest window", "blocked for", "#requests", "#refused")


def _rule_row(each: RuleFigures) -> list[str]:
    rule = each.rule
    counts = [f"{each.offenders:,}", f"{each.blocked:,}", f"{each.over:,}", f"{each.refused:,}", f"{each.share:.2%}"]
    return [rule.name, f"{rule.limit:,} in {format_duration(rule.window_s)}", str(rule.action), *counts]


def _offender_row(offender: Offender, times: Times) -> list[str]:
    rule, (start, end) = offender.rule, offender.peak_span_ms
    times_blocked = f", {len(offender.stays)} blocks" if len(offender.stays) > 1 else ""
    fate = format_duration(offender.blocked_for_s) + times_blocked if offender.stays else "-"
    if offender.action != "block":
        fate += f" ({offender.action})"
    return [
        str(offender.network),
        rule.name,
        times(offender.first_ms),
        f"{offender.peak:,} of {rule.limit:,}, {times(start)} to {times(end)[-8:]}",
        fate,
        f"{offender.requests:,}",
        f"{offender.refused:,}",
    ]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns whose heading begins with # hold numbers."""
    kinds = [' class="n"' if heading.startswith("#") else "" for heading in headings]
    head = "".join(f"<th{kind}>{escape(h.lstrip('#'))}</th>" for kind, h in zip(kinds, headings, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(c)}</td>" for kind, c in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
