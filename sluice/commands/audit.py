"""``sluice audit``: list changes, with who made them and how to undo them."""

from collections.abc import Iterator

import click

from chalicelib.admin.audit import AuditPage
from sluice.commands.shared.api import Printable, Session, api_command
from sluice.commands.shared.output import plain, table
from sluice.commands.shared.times import PAST, local
from sluice.undo import commands


@click.command()
@click.option("--since", type=PAST, help="The earliest time: an age such as 3h or 7d, or a date and time.")
@click.option("--until", type=PAST, help="The time before which the changes were made; now by default.")
@click.option("--by", default="", metavar="NAME", help="Only changes by this operator.")
@click.option("--text", default="", metavar="TEXT", help="Only changes with this text in operator, target or change.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Changes to show.")
@api_command
def audit(session: Session, since: int | None, until: int | None, by: str, text: str, limit: int) -> None:
    """List changes, with who made them and how to undo them.

    The newest come first.

    \b
    sluice audit
    sluice audit --since 12h --by alice
    sluice audit --text 203.0.113.9
    sluice audit --limit 1000 --json
    """
    times = {"since": since, "until": until}
    query = {name: None if at is None else str(at) for name, at in times.items()} | {"by": by, "text": text}
    session.show(session.client.pages("/v1/audit", AuditPage, "records", most=limit, page=200, **query), _view)


def _view(page: AuditPage) -> Iterator[Printable]:
    rows = []
    for record in page.records:
        undo = plain("\n".join(commands(record.undo)) if record.undo else "")
        rows.append((local(record.at_ms / 1000), record.by, record.address, record.detail, undo))
    yield table(("when", "by", "from", "change", "undo with"), rows)
