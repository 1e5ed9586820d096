"""``sluice allowlist``, ``allow`` and ``disallow``."""

import time
from collections.abc import Sequence

import click

from chalicelib.admin.wording import plural, roughly
from chalicelib.core.durations import parse_duration
from sluice.commands.shared.api import Desk, ask, desk, listed, table, yes_option
from sluice.commands.shared.times import Duration, Moment, local

ALL = 1_000_000


@click.command()
@desk
def allowlist(here: Desk) -> None:
    """The networks that are never blocked.

    \b
    sluice allowlist
    """
    found = here.client.pages("/v1/allowlist", "entries", most=ALL, page=1000)
    rows = [
        (
            entry["network"],
            entry["comment"],
            entry["by"],
            local(entry["added_at"]),
            "never" if entry["expires_at"] is None else f"in {roughly(entry['expires_at'] - found['now'])}",
        )
        for entry in found["entries"]
    ]
    here.show(found, table(("network", "comment", "by", "added", "expires"), rows), plural(len(rows), "network"))


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@click.option("--comment", default="", metavar="TEXT", help="Whose it is.")
@click.option("--for", "holds_for", type=Duration(), help="How long it holds; for good if left out.")
@click.option("--until", type=Moment(), help="When it ends, such as 2026-12-31T18:00.")
@click.option("--force", is_flag=True, help="Even if the network is very wide.")
@yes_option
@desk
def allow(
    here: Desk,
    networks: Sequence[str],
    comment: str,
    holds_for: str | None,
    until: int | None,
    force: bool,
    yes: bool,
) -> None:
    """Put networks on the allowlist, or change their entries; blocks that overlap them are lifted.

    \b
    sluice allow 198.51.100.0/24 --comment office
    sluice allow 203.0.113.9 --for 2h --comment "load test"
    """
    if holds_for is not None and until is not None:
        raise click.UsageError("Give --for or --until, not both.")
    if holds_for is not None:
        until = int(time.time()) + parse_duration(holds_for)
    wanted = listed(networks)
    if len(wanted) > 1:
        ask(f"Put {plural(len(wanted), 'network')} on the allowlist?", yes=yes)
    for network in wanted:
        body = {"network": network, "comment": comment, "expires_at": until, "force": force}
        here.changed(here.client.call("PUT", "/v1/allowlist", body=body))


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@yes_option
@desk
def disallow(here: Desk, networks: Sequence[str], yes: bool) -> None:
    """Take networks off the allowlist; each exactly as its entry names it.

    \b
    sluice disallow 198.51.100.0/24
    """
    wanted = listed(networks)
    if len(wanted) > 1:
        ask(f"Take {plural(len(wanted), 'network')} off the allowlist?", yes=yes)
    for network in wanted:
        here.changed(here.client.call("DELETE", "/v1/allowlist", query={"network": network}))
