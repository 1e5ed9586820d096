"""``sluice allowlist``, ``allow`` and ``disallow``."""

import time
from collections.abc import Iterator, Sequence

import click

from chalicelib.admin.allowlist import AllowPage
from chalicelib.core.durations import parse_duration
from chalicelib.core.wording import plural
from sluice.commands.shared.api import Printable, Session, api_command, confirmed, networks_argument, yes_option
from sluice.commands.shared.output import table
from sluice.commands.shared.times import DURATION, MOMENT, expiry, local


@click.command()
@api_command
def allowlist(session: Session) -> None:
    """List networks that are never blocked.

    \b
    sluice allowlist
    """
    session.show(session.client.pages("/v1/allowlist", AllowPage, "entries"), _view)


def _view(page: AllowPage) -> Iterator[Printable]:
    rows = [
        (entry.network, entry.comment, entry.by, local(entry.added_at), expiry(entry.expires_at, page.now))
        for entry in page.entries
    ]
    yield table(("network", "comment", "by", "added", "expires"), rows)
    yield plural(len(rows), "network")


@click.command()
@networks_argument
@click.option("--comment", default="", metavar="TEXT", help="Owner of the network, or the reason.")
@click.option("--for", "valid_for", type=DURATION, help="Duration of the entry; unlimited by default.")
@click.option("--until", type=MOMENT, help="End of the entry, such as 2026-12-31T18:00; local unless it has a zone.")
@click.option("--force", is_flag=True, help="Allow even if the network is very wide.")
@yes_option
@api_command
def allow(
    session: Session,
    networks: Sequence[str],
    comment: str,
    valid_for: str | None,
    until: int | None,
    force: bool,
    yes: bool,
) -> None:
    """Add networks to the allowlist.

    An existing entry for the same network is changed. Blocks that overlap the networks are lifted.

    \b
    sluice allow 198.51.100.0/24 --comment office
    sluice allow 203.0.113.9 --for 2h --comment "load test"
    """
    if valid_for is not None and until is not None:
        raise click.UsageError("Give --for or --until, not both.")
    if valid_for is not None:
        until = int(time.time()) + parse_duration(valid_for)
    for network in confirmed(networks, "Add {} to the allowlist?", yes=yes):
        body = {"network": network, "comment": comment, "expires_at": until, "force": force}
        session.change("PUT", "/v1/allowlist", body=body)


@click.command()
@networks_argument
@yes_option
@api_command
def disallow(session: Session, networks: Sequence[str], yes: bool) -> None:
    """Remove networks from the allowlist.

    Give each network exactly as its entry names it.

    \b
    sluice disallow 198.51.100.0/24
    """
    for network in confirmed(networks, "Remove {} from the allowlist?", yes=yes):
        session.change("DELETE", "/v1/allowlist", query={"network": network})
