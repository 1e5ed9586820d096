"""``sluice allowlist``, ``allow`` and ``disallow``."""

import time
from collections.abc import Iterator, Sequence

import click

from chalicelib.admin.allowlist import AllowPage
from chalicelib.admin.changes import ChangeAnswer
from chalicelib.admin.wording import plural, roughly
from chalicelib.core.durations import parse_duration
from sluice.commands.shared.api import Part, Session, api_command, ask, read_networks, table, yes_option
from sluice.commands.shared.times import DurationParam, MomentParam, local

ALL = 1_000_000
"""More entries than an allowlist holds."""

PAGE = 1000
"""Most entries per call of the API."""


@click.command()
@api_command
def allowlist(session: Session) -> None:
    """List networks that are never blocked.

    \b
    sluice allowlist
    """
    session.show(session.client.pages("/v1/allowlist", AllowPage, "entries", most=ALL, page=PAGE), _view)


def _view(page: AllowPage) -> Iterator[Part]:
    rows = [
        (
            entry.network,
            entry.comment,
            entry.by,
            local(entry.added_at),
            "never" if entry.expires_at is None else f"in {roughly(entry.expires_at - page.now)}",
        )
        for entry in page.entries
    ]
    yield table(("network", "comment", "by", "added", "expires"), rows)
    yield plural(len(rows), "network")


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@click.option("--comment", default="", metavar="TEXT", help="Owner of the network, or the reason.")
@click.option("--for", "valid_for", type=DurationParam(), help="Duration of the entry; unlimited by default.")
@click.option("--until", type=MomentParam(), help="End of the entry, such as 2026-12-31T18:00.")
@click.option("--force", is_flag=True, help="Even if the network is very wide.")
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

    An existing entry of the same network is changed. Blocks that overlap the networks are lifted.

    \b
    sluice allow 198.51.100.0/24 --comment office
    sluice allow 203.0.113.9 --for 2h --comment "load test"
    """
    if valid_for is not None and until is not None:
        raise click.UsageError("Give --for or --until, not both.")
    if valid_for is not None:
        until = int(time.time()) + parse_duration(valid_for)
    names = read_networks(networks)
    if len(names) > 1:
        ask(f"Add {plural(len(names), 'network')} to the allowlist?", yes=yes)
    for name in names:
        body = {"network": name, "comment": comment, "expires_at": until, "force": force}
        session.show_change(session.client.call("PUT", "/v1/allowlist", ChangeAnswer, body=body))


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@yes_option
@api_command
def disallow(session: Session, networks: Sequence[str], yes: bool) -> None:
    """Remove networks from the allowlist.

    Give each network exactly as its entry names it.

    \b
    sluice disallow 198.51.100.0/24
    """
    names = read_networks(networks)
    if len(names) > 1:
        ask(f"Remove {plural(len(names), 'network')} from the allowlist?", yes=yes)
    for name in names:
        session.show_change(session.client.call("DELETE", "/v1/allowlist", ChangeAnswer, query={"network": name}))
