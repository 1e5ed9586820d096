"""``sluice blocks``, ``block`` and ``unblock``."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from chalicelib.admin.wording import plural, roughly
from sluice.commands.shared.api import MOST_AT_ONCE, Desk, ask, desk, listed, table, yes_option
from sluice.commands.shared.times import Duration

SORTS = ("blocked_at", "-blocked_at", "until", "-until", "count", "-count", "network", "-network")
ALL = 1_000_000
PAGE = 1000

filters = (
    click.option("--rule", metavar="NAME", help="Only blocks of this rule; 'manual' for those made by hand."),
    click.option("--source", type=click.Choice(("cloudfront", "waf")), help="Only blocks for requests of this log."),
    click.option("--text", metavar="TEXT", help="Only with this in network, rule, comment or maker; or an address."),
)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(filters):
        command = option(command)
    return command


@click.command()
@filtered
@click.option("--sort", type=click.Choice(SORTS), default="-blocked_at", show_default=True, help="'-': descending.")
@click.option("--limit", type=click.IntRange(1, ALL), default=50, show_default=True, help="Blocks to show.")
@click.option("--all", "everything", is_flag=True, help="Show every one.")
@desk
def blocks(here: Desk, everything: bool, limit: int, **query: str | None) -> None:
    """Who is blocked, by which rule, for what, for how long.

    \b
    sluice blocks
    sluice blocks --rule login --sort -count
    sluice blocks --text 203.0.113.9       # whatever covers this address
    sluice blocks --all --json | jq -r '.blocks[].network'
    """
    found = here.client.pages("/v1/blocks", "blocks", most=ALL if everything else limit, page=PAGE, **query)
    shown, total = len(found["blocks"]), found["total"]
    more = f"{shown} of {plural(total, 'block')}; --all shows the rest" if shown < total else plural(total, "block")
    here.show(found, _table(found["blocks"], found["now"]), more)


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@click.option("--for", "block_for", type=Duration(), required=True, help="Such as 10m, 1h or 7d.")
@click.option("--comment", default="", metavar="TEXT", help="Why; shown wherever the block is.")
@click.option("--force", is_flag=True, help="Even if it is wide, overlaps the allowlist, or holds your own address.")
@yes_option
@desk
def block(here: Desk, networks: Sequence[str], block_for: str, comment: str, force: bool, yes: bool) -> None:
    """Block addresses or networks by hand; - reads them from standard input, one a line.

    \b
    sluice block 203.0.113.9 --for 1h --comment "scraper, ticket 4711"
    sluice block 2001:db8:bad::/48 --for 1d
    sluice block - --for 12h --yes < list.txt
    """
    wanted = listed(networks)
    if len(wanted) > 1:
        ask(f"Block {plural(len(wanted), 'network')} for {block_for}?", yes=yes)
    for some in _portions(wanted, here):
        each = [{"network": n, "block_for": block_for, "comment": comment, "force": force} for n in some]
        body = each[0] if len(each) == 1 else {"blocks": each}
        here.changed(here.client.call("POST", "/v1/blocks", body=body))


@click.command()
@click.argument("networks", nargs=-1, metavar="[NETWORK]...")
@filtered
@click.option("--forget", is_flag=True, help="Also forget the offences: the next block is no longer than a first.")
@yes_option
@desk
def unblock(
    here: Desk,
    networks: Sequence[str],
    rule: str | None,
    source: str | None,
    text: str | None,
    forget: bool,
    yes: bool,
) -> None:
    """Lift blocks: of the networks named, or all that match a filter. - reads networks from standard input.

    Without --forget the rule leaves the client alone until the lifted block would have ended.

    \b
    sluice unblock 203.0.113.9
    sluice unblock 203.0.113.9 --forget
    sluice unblock --rule login            # all of one rule's, after asking
    """
    query = {"rule": rule, "source": source, "text": text}
    if networks and any(query.values()):
        raise click.UsageError("Give networks or filters, not both.")
    if networks:
        wanted = listed(networks)
    elif any(query.values()):
        found = here.client.pages("/v1/blocks", "blocks", most=ALL, page=PAGE, **query)
        wanted = [block["network"] for block in found["blocks"]]
        if not wanted:
            here.show({"changed": False, "detail": "no block matches", "undo": None, "lifted": []}, "No block matches.")
            return
        if not here.as_json:
            here.show(None, _table(found["blocks"][:MOST_AT_ONCE], found["now"]))
    else:
        raise click.UsageError("Which? Name networks, or give --rule, --source or --text.")
    if len(wanted) > 1:
        ask(f"Lift {plural(len(wanted), 'block')}?", yes=yes)
    for some in _portions(wanted, here):
        query_of: dict[str, Any] = {"network": some} | ({"forget": "true"} if forget else {})
        here.changed(here.client.call("DELETE", "/v1/blocks", query=query_of))


def _portions(networks: Sequence[str], here: Desk) -> Any:
    """As many as the API takes at once; with a progress bar if that is not all of them."""
    portions = [networks[start : start + MOST_AT_ONCE] for start in range(0, len(networks), MOST_AT_ONCE)]
    quiet = len(portions) == 1 or here.as_json
    return track(portions, "", console=Console(stderr=True), disable=quiet, transient=True)


def _table(found: Sequence[dict[str, Any]], now: int) -> Table:
    def row(block: dict[str, Any]) -> tuple[object, ...]:
        evidence = block["evidence"]
        counted = f"{evidence['count']}/{evidence['limit']} in {evidence['window_s']} s" if evidence else ""
        ends = Text("withheld", "yellow") if block["withheld"] else roughly(max(0, block["until"] - now))
        why = counted if evidence and block["rule"] != "manual" else block["reason"]
        return block["network"], block["rule"], why, block["offence"] or "", roughly(now - block["blocked_at"]), ends

    columns = ("network", "rule", "why", "offence", "since", "ends in")
    return table(columns, map(row, found), right=("offence", "since", "ends in"))
