"""``sluice allowlist``, ``allow`` and ``disallow``."""

import time
from collections.abc import Iterator, Sequence

import click

from chalicelib.admin.allowlist import AllowPage
from chalicelib.admin.schemas import MOST_ENTRIES_AT_ONCE
from chalicelib.core.durations import parse_duration
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.wording import plural
from sluice.commands.shared.api import (
    Printable,
    Session,
    api_command,
    confirmed,
    networks_argument,
    portions,
    yes_option,
)
from sluice.commands.shared.completing import complete_allowed, complete_rule
from sluice.commands.shared.output import table
from sluice.commands.shared.times import DURATION, FUTURE, expiry, local


@click.command()
@api_command
def allowlist(session: Session) -> None:
    """List networks that are never blocked, or that some rules do not block.

    \b
    sluice allowlist
    """
    session.show(session.client.pages("/v1/allowlist", AllowPage, "entries"), _view)


def _view(page: AllowPage) -> Iterator[Printable]:
    def row(entry: Allow) -> tuple[str, ...]:
        spared_by, expires = ", ".join(entry.rules) or "all", expiry(entry.expires_at, page.now)
        return entry.network, spared_by, entry.comment, entry.by, local(entry.added_at), expires

    yield table(("network", "rules", "comment", "by", "added", "expires"), map(row, page.entries))
    yield plural(len(page.entries), "network")


@click.command()
@networks_argument
@click.option("--comment", default="", metavar="TEXT", help="Owner of the network, or the reason.")
@click.option("--for", "valid_for", type=DURATION, help="Duration of the entry; unlimited by default.")
@click.option(
    "--until", type=FUTURE, help="End of the entry, such as 2026-12-31T18:00; local time unless it has a zone."
)
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_rule,
    help="A rule that does not block the networks; others still do. Repeat it for several rules.",
)
@click.option("--force", is_flag=True, help="Allow even a very wide network, or a rule that is not in force.")
@yes_option
@api_command
def allow(
    session: Session,
    networks: Sequence[str],
    comment: str,
    valid_for: str | None,
    until: int | None,
    rules: Sequence[str],
    force: bool,
    yes: bool,
) -> None:
    """Add networks to the allowlist.

    An existing entry for the same network is changed. Blocks within the networks are lifted; the rest of a wider block
    stays blocked. With --rule, only blocks that no other rule made are lifted. If NETWORK is '-', networks are read
    from standard input, one per line; names of rules may follow a network there, in place of --rule. Up to 80 networks
    are added together or not at all; longer lists are added 80 at a time.

    \b
    sluice allow 198.51.100.0/24 --comment office
    sluice allow 203.0.113.9 --for 2h --comment "load test"
    sluice allow 192.0.2.0/24 --rule burst --comment "a partner's crawler"
    sluice allow - --comment "uptime checks" --yes < list.txt
    """
    if valid_for is not None and until is not None:
        raise click.UsageError("Give --for or --until, not both.")
    if valid_for is not None:
        until = int(time.time()) + parse_duration(valid_for)
    fields = {"comment": comment, "expires_at": until, "rules": rules, "force": force}
    names = confirmed(networks, "Add {} to the allowlist?", yes=yes)
    for portion in portions(names, MOST_ENTRIES_AT_ONCE, session):
        lines = [line.split() for line in portion]
        new = [{"network": name, **fields, **({"rules": named} if named else {})} for name, *named in lines]
        session.change("PUT", "/v1/allowlist", body=new[0] if len(new) == 1 else {"entries": new})


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...", shell_complete=complete_allowed)
@yes_option
@api_command
def disallow(session: Session, networks: Sequence[str], yes: bool) -> None:
    """Remove networks from the allowlist.

    Give each network exactly as its entry names it. If NETWORK is '-', networks are read from standard input, one per
    line; anything after a network is ignored, so that a list for 'allow' can be used.

    \b
    sluice disallow 198.51.100.0/24
    sluice disallow - --yes < list.txt
    """
    names = [line.split()[0] for line in confirmed(networks, "Remove {} from the allowlist?", yes=yes)]
    for portion in portions(names, MOST_ENTRIES_AT_ONCE, session):
        session.change("DELETE", "/v1/allowlist", query={"network": portion})
