"""``sluice history``: list what was decided about clients and rules."""

from collections.abc import Iterator, Sequence
from typing import get_args

import click
from rich.table import Table

from chalicelib.admin.history import EventView, HistoryPage
from chalicelib.admin.schemas import MOST_EVENTS, EventOutcome
from chalicelib.core.responses import Response
from chalicelib.core.wording import RESPONSES
from sluice.api_client import ALL
from sluice.commands.shared.api import Printable, Session, api_command
from sluice.commands.shared.completing import complete_rule
from sluice.commands.shared.output import table
from sluice.commands.shared.times import PAST, local

OTHERS = {
    "ended": "ended",
    "stopped": "rule stopped",
    "resumed": "rule resumed",
    "full": "nearly full",
    "unreadable": "not readable",
}
NOT_ENFORCED = {"counted": "the rule only counts", "allowlisted": "allowlisted", "proxy": "a CDN", "stale": "too old"}
"""Reasons, by outcome, why no client was blocked for an offence."""


@click.command()
@click.option("--since", type=PAST, metavar="TIME", help="The earliest time: an age such as 3h, or a date and time.")
@click.option("--until", type=PAST, metavar="TIME", help="The time before which it happened, in the same forms.")
@click.option(
    "--rule",
    metavar="NAME",
    shell_complete=complete_rule,
    help="Only events of this rule; 'manual' for blocks made by hand.",
)
@click.option("--network", metavar="NETWORK", help="Only events about networks that overlap this address or network.")
@click.option("--outcome", type=click.Choice(get_args(EventOutcome)), help="Only events with this outcome.")
@click.option("--limit", type=click.IntRange(1, ALL), default=50, show_default=True, help="Events to show.")
@api_command
def history(session: Session, limit: int, since: int | None, until: int | None, **query: str | None) -> None:
    """List which clients were blocked, or would have been, why and until when.

    The newest come first. Events are kept for 30 days, or for as long as HISTORY_DAYS says.

    \b
    sluice history --since 3h --rule login
    sluice history --since 2026-01-31T02:30 --until 2026-01-31T04:00
    sluice history --network 203.0.113.9 --json
    sluice history --since 7d --outcome counted     # what rules that only count would have done
    """
    times = {"since": since, "until": until}
    asked = {**query, **{name: str(time) for name, time in times.items() if time is not None}}
    answer = session.client.pages("/v1/history", HistoryPage, "events", most=limit, page=MOST_EVENTS, **asked)
    session.show(answer, lambda page: _view(page, limit))


def _view(page: HistoryPage, limit: int) -> Iterator[Printable]:
    if not page.events:
        yield f"Nothing that matches has been recorded since {local(page.since)}."
        return
    yield _table(page.events)
    if page.next is not None:
        yield f"The newest {limit}; --limit shows more."


def _table(events: Sequence[EventView]) -> Table:
    rows = [
        (
            local(event.at),
            event.network or "",
            _outcome(event),
            event.detail,
            local(event.until) if event.until else "",
        )
        for event in events
    ]
    return table(("when", "network", "outcome", "why", "until"), rows)


def _outcome(event: EventView) -> str:
    if event.outcome == "blocked":
        step = f", offence {event.offence}" if event.offence > 1 else ""
        return RESPONSES[event.response] + step
    if event.outcome in NOT_ENFORCED:
        would = "not blocked" if event.response is Response.BLOCK else f"not {RESPONSES[event.response]}"
        return f"{would}: {NOT_ENFORCED[event.outcome]}"
    return OTHERS[event.outcome]
