"""``sluice audit``: list changes, with who made them and how to undo them."""

from collections.abc import Iterator

import click

from chalicelib.admin.audit import AuditPage
from sluice.commands.shared.api import Printable, Session, api_command
from sluice.commands.shared.output import plain, table
from sluice.commands.shared.times import local
from sluice.undo import commands


@click.command()
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Changes to show.")
@api_command
def audit(session: Session, limit: int) -> None:
    """List changes, with who made them and how to undo them.

    The newest come first.

    \b
    sluice audit
    sluice audit --limit 1000 --json
    """
    session.show(session.client.pages("/v1/audit", AuditPage, "records", most=limit, page=200), _view)


def _view(page: AuditPage) -> Iterator[Printable]:
    rows = []
    for record in page.records:
        undo = plain("\n".join(commands(record.undo)) if record.undo else "")
        rows.append((local(record.at_ms / 1000), record.by, record.address, record.detail, undo))
    yield table(("when", "by", "from", "change", "undo with"), rows)
