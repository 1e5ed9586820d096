"""``sluice blocks``, ``block`` and ``unblock``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import click
from rich.table import Table
from rich.text import Text

from chalicelib.admin.blocks import BlockPage, BlockView
from chalicelib.admin.changes import ChangeAnswer
from chalicelib.admin.schemas import MOST_NETWORKS
from chalicelib.core.logs.requests import LiveSource
from chalicelib.core.measures import amount_text
from chalicelib.core.responses import Response
from chalicelib.core.wording import plural, roughly
from sluice.api_client import ALL, PAGE, Answer
from sluice.commands.shared.api import (
    Printable,
    Session,
    api_command,
    confirmed,
    networks_argument,
    portions,
    yes_option,
)
from sluice.commands.shared.completing import complete_blocked, complete_rule
from sluice.commands.shared.options import together
from sluice.commands.shared.output import table
from sluice.commands.shared.times import DURATION

SORTS = ("blocked_at", "-blocked_at", "until", "-until", "count", "-count", "network", "-network")
NO_MATCH = {"changed": False, "detail": "no block matches", "undo": None, "lifted": []}

filtered = together(
    click.option(
        "--rule",
        metavar="NAME",
        shell_complete=complete_rule,
        help="Only blocks of this rule; 'manual' for blocks made by hand.",
    ),
    click.option("--source", type=click.Choice(get_args(LiveSource)), help="Only blocks for requests in this log."),
    click.option(
        "--text",
        metavar="TEXT",
        help="Only blocks with TEXT in network, rule, comment or author, or that overlap the network TEXT.",
    ),
)


@click.command()
@filtered
@click.option("--sort", type=click.Choice(SORTS), default="-blocked_at", show_default=True, help="'-': descending.")
@click.option("--limit", type=click.IntRange(1, ALL), default=50, show_default=True, help="Blocks to show.")
@click.option("--all", "everything", is_flag=True, help="Show all blocks.")
@api_command
def blocks(session: Session, everything: bool, limit: int, **query: str | None) -> None:
    """List blocked networks, with rule, reason and remaining time.

    \b
    sluice blocks
    sluice blocks --rule login --sort -count
    sluice blocks --text 203.0.113.9       # all blocks that cover this address
    sluice blocks --all --json | jq -r '.blocks[].network'
    """

    def view(page: BlockPage) -> Iterator[Printable]:
        yield _table(page.blocks, page.now)
        shown, total = len(page.blocks), plural(page.total, "block")
        yield f"{shown} of {total}; --all shows the rest" if shown < page.total else total

    session.show(_read(session, query, ALL if everything else limit), view)


@click.command()
@networks_argument
@click.option("--for", "block_for", type=DURATION, required=True, help="Duration, such as 10m, 1h or 7d.")
@click.option(
    "--respond",
    type=click.Choice(list(map(str, Response))),
    default=str(Response.BLOCK),
    show_default=True,
    help="What AWS WAF does with the requests. All but block need IP sets of their own.",
)
@click.option("--comment", default="", metavar="TEXT", help="Reason, shown with the block.")
@click.option(
    "--force",
    is_flag=True,
    help="Block even if the network is wide or covers your own address. If it overlaps the allowlist, only the "
    "rest of it is blocked.",
)
@click.option(
    "--rule",
    metavar="RULE",
    shell_complete=complete_rule,
    help="Restore the block by this rule, if the client's offence is on record.",
)
@yes_option
@api_command
def block(
    session: Session,
    networks: Sequence[str],
    block_for: str,
    respond: str,
    comment: str,
    force: bool,
    rule: str | None,
    yes: bool,
) -> None:
    """Block addresses or networks by hand.

    If NETWORK is '-', networks are read from standard input, one per line.

    \b
    sluice block 203.0.113.9 --for 1h --comment "scraper, ticket 4711"
    sluice block 2001:db8:bad::/48 --for 1d
    sluice block 203.0.113.0/24 --for 1h --respond challenge
    sluice block - --for 12h --yes < list.txt
    """
    names = confirmed(networks, f"Block {{}} for {block_for}?", yes=yes)
    for portion in portions(names, MOST_NETWORKS, session):
        fields: dict[str, object] = {"block_for": block_for, "comment": comment, "force": force}
        # An older API knows neither of these.
        if respond != Response.BLOCK:
            fields["respond"] = respond
        if rule is not None:
            fields["rule"] = rule
        new = [{"network": name, **fields} for name in portion]
        session.change("POST", "/v1/blocks", body=new[0] if len(new) == 1 else {"blocks": new})


@click.command()
@click.argument("networks", nargs=-1, metavar="[NETWORK]...", shell_complete=complete_blocked)
@filtered
@click.option("--forget", is_flag=True, help="Also forget the offences: the next block is as short as a first one.")
@yes_option
@api_command
def unblock(session: Session, networks: Sequence[str], forget: bool, yes: bool, **query: str | None) -> None:
    """Lift blocks, by network or by filter.

    If NETWORK is '-', networks are read from standard input, one per line. Requests made so far no longer count
    against the clients; later ones do.

    \b
    sluice unblock 203.0.113.9
    sluice unblock 203.0.113.9 --forget
    sluice unblock --rule login            # all blocks of this rule, after confirmation
    """
    filters = any(query.values())
    if networks and filters:
        raise click.UsageError("Give networks or filters, not both.")
    if not networks and not filters:
        raise click.UsageError("Give networks, or --rule, --source or --text.")
    if filters:
        matching = _read(session, query, ALL).value
        networks = [block.network for block in matching.blocks]
        if not networks:
            session.show(Answer(NO_MATCH, ChangeAnswer), lambda _: ["No block matches."])
            return
        session.print(_table(matching.blocks[:MOST_NETWORKS], matching.now))
    names = confirmed(networks, "Lift {}?", "block", yes=yes)
    for portion in portions(names, MOST_NETWORKS, session):
        session.change("DELETE", "/v1/blocks", query={"network": portion, **({"forget": "true"} if forget else {})})


def _read(session: Session, query: Mapping[str, str | None], most: int) -> Answer[BlockPage]:
    return session.client.pages("/v1/blocks", BlockPage, "blocks", most=most, page=PAGE, **query)


def _table(blocks: Sequence[BlockView], now: int) -> Table:
    def row(block: BlockView) -> tuple[object, ...]:
        evidence, reason = block.evidence, block.reason
        if evidence is not None and block.rule != "manual":
            within = f"above {evidence.rate}" if evidence.rate else f"in {evidence.window_s} s"
            count, limit = (amount_text(evidence.measure, each) for each in (evidence.count, evidence.limit))
            reason = f"{count}/{limit} {within}"
        ends = Text("withheld", "yellow") if block.withheld else roughly(max(0, block.until - now))
        offence, since = block.offence or "", roughly(now - block.blocked_at)
        return block.network, block.response, block.rule, reason, offence, since, ends

    columns = ("network", "response", "rule", "reason", "offence", "since", "ends in")
    return table(columns, map(row, blocks), right=("offence", "since", "ends in"))
