"""``sluice trends``: traffic, offences and blocks over time."""

from collections.abc import Iterator

import click

from chalicelib.admin.trends import ADDED_UP_WITHIN_S, TrafficSum, TrendPoint, Trends
from chalicelib.core.durations import DAY_S
from chalicelib.core.wording import roughly
from sluice.commands.shared.api import Printable, Session, api_command
from sluice.commands.shared.output import table
from sluice.commands.shared.times import DURATION, PAST, local

BAR = 24
"""Characters of the bar of the step with the most requests."""

ROWS = 48
"""Most steps shown one by one; of more, the latest."""

NUMBERS = ("requests", "refused", "offences", "blocks", "most blocked")


@click.command()
@click.option("--span", type=DURATION, default="1d", show_default=True, help="How far back: from 15m to 31d.")
@click.option("--until", type=PAST, help="End of the time, as a time or an age such as 3h. By default, now.")
@api_command
def trends(session: Session, span: str, until: int | None) -> None:
    """Show requests, offences and blocks over time, and those of a day and a week earlier.

    They are recorded by quarter hour and kept for 38 days. A number with a plus sign is the least it can be; one with a
    tilde was recorded late, and is an average.

    \b
    sluice trends
    sluice trends --span 7d
    sluice trends --span 6h --until 2026-01-31T04:00
    sluice trends --span 31d --json
    """
    session.show(session.client.get("/v1/trends", Trends, span=span, until=until), _view)


def _view(answer: Trends) -> Iterator[Printable]:
    if not answer.total.measured_s:
        yield f"Nothing is recorded between {local(answer.since)} and {local(answer.until)}."
    length_s = answer.until - answer.since
    sums = {f"{local(answer.since)} to {local(answer.until)}": answer.total}
    if length_s <= DAY_S:
        sums["a day earlier"] = answer.day_before
    sums["a week earlier" if length_s <= 7 * DAY_S else "a week earlier, which overlaps"] = answer.week_before
    rows = [(name, *_numbers(each), _measured(each, length_s)) for name, each in sums.items()]
    yield table(("time", *NUMBERS, "recorded"), rows, right=NUMBERS)
    shown = [point for point in answer.points if point.measured_s][-ROWS:]
    if not shown:
        return
    most = max(point.requests for point in shown)
    lines = [(local(point.at), *_numbers(point), _bar(point, most)) for point in shown]
    yield table((f"{roughly(answer.step_s)} from", *NUMBERS, ""), lines, right=NUMBERS)
    if len(shown) == ROWS < len(answer.points):
        yield f"The latest {ROWS} steps; --json prints all {len(answer.points)}."


def _numbers(traffic: TrafficSum) -> tuple[str, ...]:
    if not traffic.measured_s:
        return ("-",) * len(NUMBERS)
    least, about = "+" if traffic.more else "", "~" if traffic.averaged else ""
    return (
        f"{about}{traffic.requests:,}",
        f"{about}{traffic.refused:,}",
        f"{about}{traffic.offences:,}{least}",
        f"{about}{traffic.blocks:,}{least}",
        f"{traffic.most_blocked:,}",
    )


def _measured(traffic: TrafficSum, span_s: int) -> str:
    """Returns how much of a time is recorded.

    Sweeps are up to a minute late, so a little less or more than all is all.
    """
    if not traffic.measured_s:
        return "nothing"
    return "all" if abs(traffic.measured_s - span_s) <= ADDED_UP_WITHIN_S else roughly(traffic.measured_s)


def _bar(point: TrendPoint, most: int) -> str:
    """Returns a bar of the step's requests, with those refused at its end.

    >>> step = dict(at=0, measured_s=900, offences=0, blocks=0, most_blocked=0, more=False)
    >>> _bar(TrendPoint(requests=50, refused=25, **step), 100)
    '██████░░░░░░'
    """
    length = round(point.requests / most * BAR) if most else 0
    refused = min(length, round(point.refused / most * BAR)) if most else 0
    return "\N{FULL BLOCK}" * (length - refused) + "\N{LIGHT SHADE}" * refused
