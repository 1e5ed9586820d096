"""``sluice client`` and ``top``."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from socket import getaddrinfo, gethostbyaddr

import click
from rich.table import Table
from rich.text import Text

from chalicelib.admin.busiest import Busiest, Top
from chalicelib.admin.clients import ClientReport
from chalicelib.core.addresses import parse_network
from chalicelib.core.measures import amount_text
from chalicelib.core.portraits import KINDS, Portrait
from chalicelib.core.printable import printable
from chalicelib.core.wording import roughly
from sluice.commands.shared.api import Printable, Session, api_command
from sluice.commands.shared.completing import complete_blocked, complete_rule
from sluice.commands.shared.options import EXISTING_FILE, number_option
from sluice.commands.shared.output import plain, table
from sluice.commands.shared.times import local
from sluice.owners import owner_in

BAR = 24
"""Characters of a bar that is full at the limit."""

NEAR = 0.8
"""Share of the limit above which a bar is yellow."""


@click.command()
@click.argument("address", shell_complete=complete_blocked)
@click.option(
    "--owners",
    type=EXISTING_FILE,
    envvar="SLUICE_OWNERS",
    show_envvar=True,
    help="Table of networks and their owners, as iptoasn.com publishes it, by which the owner is shown.",
)
@click.option("--resolve", is_flag=True, help="Ask the DNS of this machine for the name of the address.")
@api_command
def client(session: Session, address: str, owners: Path | None, resolve: bool) -> None:
    """Show everything about one client.

    Includes its blocks and when they end, its offences, what its requests looked like, its counts and its allowlist
    entries. Of a network: the blocks and the busiest clients in it.

    \b
    sluice client 203.0.113.9
    sluice client 203.0.113.0/24
    sluice client 203.0.113.9 --owners ip2asn-combined.tsv.gz --resolve
    sluice client 2001:db8::1 --json | jq .blocked
    """

    def view(report: ClientReport) -> Iterator[Printable]:
        first = parse_network(address).network_address
        if resolve:
            yield f"Name of {first}: {_name_of(str(first))}"
        if owners is not None:
            yield f"Owner of {first}: {_owner_of(owners, first)}"
        yield from _view(report)

    session.show(session.client.get("/v1/clients", ClientReport, address=address), view)


def _name_of(address: str) -> str:
    """Returns the name in the DNS, which the owner of the address chooses; only a name that leads back proves it."""
    try:
        name, _, _ = gethostbyaddr(address)
    except OSError:
        return "none"
    try:
        proven = any(answer[4][0] == address for answer in getaddrinfo(name, None))
    except (OSError, UnicodeError):
        proven = False
    return printable(name) + ("" if proven else ", which does not lead back to it")


def _owner_of(file: Path, address: IPv4Address | IPv6Address) -> str:
    try:
        return str(owner_in(file, address) or f"not in {file}")
    except (OSError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


def _view(report: ClientReport) -> Iterator[Printable]:
    yield Text("\n").join(plain(line) for line in report.explain)
    if report.counts:
        rows = [
            (
                count.rule,
                count.source,
                count.network,
                _bar(count.count, count.limit),
                amount_text(count.measure, count.count),
                amount_text(count.measure, count.limit),
            )
            for count in report.counts
        ]
        yield table(("rule", "log", "counted as", "now", "count", "limit"), rows, right=("count", "limit"))
    if report.portrait is not None:
        yield "Its requests in the last minutes:"
        yield _portrait(report.portrait)
        return
    for past in report.history:
        if past.evidence.portrait is not None:
            until = local(past.evidence.last_ms / 1000)
            yield f"Its requests before the offence against {past.rule} of {until}:"
            yield _portrait(past.evidence.portrait)
            return


def _portrait(portrait: Portrait) -> Table:
    rows = [
        (name, value, f"{number} of {portrait.requests}")
        for field, name in KINDS.items()
        for value, number in getattr(portrait, field).items()
    ]
    return table(("what", "value", "requests"), rows, right=("requests",))


@click.command()
@click.option("--rule", metavar="NAME", shell_complete=complete_rule, help="Only this rule.")
@number_option("-n", "number", most=100, default=10, help="Clients per rule and log.")
@api_command
def top(session: Session, rule: str | None, number: int) -> None:
    """Show the busiest clients against their limits.

    \b
    sluice top
    sluice top --rule burst -n 30
    """

    def view(answer: Top) -> Iterator[Printable]:
        met = [busiest for busiest in answer.rules if busiest.clients]
        for busiest in met:
            yield from _busiest(busiest, answer.now)
        if met and len(met) < len(answer.rules):
            others = ", ".join(f"{each.rule} ({each.source} log)" for each in answer.rules if not each.clients)
            yield f"No requests: {others}."
        if not met:
            yield "No requests are being counted."

    session.show(session.client.get("/v1/top", Top, rule=rule, n=number), view)


def _busiest(busiest: Busiest, now: int) -> Iterator[Printable]:
    counts_only = ", only counts" if busiest.action == "count" else ""
    limit = amount_text(busiest.measure, busiest.limit)
    allowed = f"burst {limit} above {busiest.rate}" if busiest.rate else f"limit {limit} in {busiest.window_s} s"
    yield f"{busiest.rule} ({busiest.source} log): {allowed}{counts_only}; until {local(busiest.to_ms / 1000)}"
    rows = []
    for busy in busiest.clients:
        state = ""
        if busy.allowlisted:
            state = "allowlisted"
        elif busy.blocked_until:
            state = f"blocked for another {roughly(max(0, busy.blocked_until - now))}"
        seen = busy.portrait
        line = next(iter(seen.lines), "") if seen else ""
        rows.append(
            (busy.network, _bar(busy.count, busiest.limit), amount_text(busiest.measure, busy.count), state, line)
        )
    drawn = any(busy.portrait for busy in busiest.clients)
    yield table(("network", "", "count", "", "mostly" if drawn else ""), rows, right=("count",))


def _bar(count: int, limit: int) -> Text:
    share = count / limit if limit else 1.0
    filled = min(BAR, round(share * BAR))
    colour = "red" if count > limit else "yellow" if share > NEAR else "green"
    return Text.assemble(
        ("\N{BOX DRAWINGS HEAVY HORIZONTAL}" * filled, colour), ("\N{MIDDLE DOT}" * (BAR - filled), "dim")
    )
