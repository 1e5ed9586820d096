"""``sluice client`` and ``top``."""

import click
from rich.table import Table
from rich.text import Text

from chalicelib.admin.wording import roughly
from sluice.commands.shared.api import Desk, desk, plain, table

BAR = 24
NEAR = 0.8


@click.command()
@click.argument("address")
@desk
def client(here: Desk, address: str) -> None:
    """Everything about one client: blocked by what and until when, offences, counts, allowlist entries.

    \b
    sluice client 203.0.113.9
    sluice client 2001:db8::1 --json | jq .blocked
    """
    found = here.client.get("/v1/clients", address=address)
    counts = [
        (
            each["rule"],
            each["source"],
            each["network"],
            _bar(each["count"], each["limit"]),
            each["count"],
            each["limit"],
        )
        for each in found["counts"]
    ]
    parts = [Text("\n").join(plain(sentence) for sentence in found["explain"])]
    if counts:
        columns = ("rule", "log", "counted as", "now", "count", "limit")
        here.show(found, *parts, table(columns, counts, right=("count", "limit")))
    else:
        here.show(found, *parts)


@click.command()
@click.option("--rule", metavar="NAME", help="Only by this rule.")
@click.option(
    "-n", "number", type=click.IntRange(1, 100), default=10, show_default=True, help="Clients a rule and log."
)
@desk
def top(here: Desk, rule: str | None, number: int) -> None:
    """The busiest clients now, against each rule's limit.

    \b
    sluice top
    sluice top --rule burst -n 30
    """
    found = here.client.get("/v1/top", rule=rule, n=number)
    shown: list[Table | str] = []
    for each in found["rules"]:
        rows = [
            (
                busy["network"],
                _bar(busy["count"], each["limit"]),
                busy["count"],
                "allowlisted"
                if busy["allowlisted"]
                else f"blocked for {roughly(max(0, busy['blocked_until'] - found['now']))}"
                if busy["blocked_until"]
                else "",
            )
            for busy in each["clients"]
        ]
        only = ", only counts" if each["action"] == "count" else ""
        shown += [
            f"{each['rule']} ({each['source']} log): limit {each['limit']} in {each['window_s']} s{only}",
            table(("network", "", "count", ""), rows, right=("count",)),
        ]
    here.show(found, *(shown or ["Nothing is being counted."]))


def _bar(count: int, limit: int) -> Text:
    """How much of the limit is used, full at the limit."""
    share = count / limit if limit else 1.0
    filled = min(BAR, round(share * BAR))
    colour = "red" if count > limit else "yellow" if share > NEAR else "green"
    return Text.assemble(
        ("\N{BOX DRAWINGS HEAVY HORIZONTAL}" * filled, colour), ("\N{MIDDLE DOT}" * (BAR - filled), "dim")
    )
