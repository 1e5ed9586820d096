"""``sluice audit``: who changed what, and the command that undoes it."""

import click

from sluice.commands.shared.api import Desk, desk, table
from sluice.commands.shared.times import local
from sluice.undo import commands


@click.command()
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Changes to show.")
@desk
def audit(here: Desk, limit: int) -> None:
    """Who changed what, when, from where, and how to undo it. Newest first.

    \b
    sluice audit
    sluice audit --limit 1000 --json
    """
    found = here.client.pages("/v1/audit", "records", most=limit, page=200)
    rows = [
        (
            local(each["at_ms"] / 1000),
            each["by"],
            each["address"],
            each["detail"],
            "\n".join(commands(each["undo"])) if each["undo"] else "",
        )
        for each in found["records"]
    ]
    here.show(found, table(("when", "who", "from", "what", "undo with"), rows))
