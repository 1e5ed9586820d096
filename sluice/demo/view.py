"""The demo as a person sees it: a live screen on a terminal, a line an event elsewhere, and the closing table."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chalicelib.core.addresses import parse_network
from chalicelib.core.state import Block
from sluice.demo.run import Demonstration, covers

LATEST_BLOCKS = 12
RATE_S = 2.0


class Screen:
    """Redraws itself while the demonstration runs."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __call__(self, demo: Demonstration) -> None:
        self._live.update(screen(demo))


class Journal:
    """One line for each kind of client that is blocked, and for releases: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0
        self._released = 0

    def __call__(self, demo: Demonstration) -> None:
        telemetry = demo.cloud.telemetry
        fresh, self._told = telemetry.blocks[self._told :], len(telemetry.blocks)
        groups: dict[tuple[str, str], list[Block]] = {}
        for block in fresh:
            groups.setdefault((who(demo, block.network), block.rule), []).append(block)
        for (name, rule), blocks in groups.items():
            first = blocks[0]
            more = f" and {len(blocks) - 1} more" if len(blocks) > 1 else ""
            why = f"{first.evidence.count} requests in {first.evidence.window_s} s" if first.evidence else ""
            self._console.print(
                f"{demo.elapsed:5.1f} s  [red]blocked[/]   {name}: {first.network}{more}  ({rule}: {why}, limit "
                f"{first.evidence.limit if first.evidence else '-'})",
                highlight=False,
            )
        if len(telemetry.lifted) > self._released:
            number, self._released = len(telemetry.lifted) - self._released, len(telemetry.lifted)
            self._console.print(f"{demo.elapsed:5.1f} s  [green]released[/]  {number} clients", highlight=False)


def who(demo: Demonstration, network: str) -> str:
    """The kind of client behind a network; of several in a wide one, the first attacker."""
    exact = next((actor.name for actor in demo.actors if network in actor.networks), None)
    wide = parse_network(network)
    inside = (a.name for a in demo.actors if a.attacker and any(covers(wide, parse_network(n)) for n in a.networks))
    return exact or next(inside, "somebody else")


def screen(demo: Demonstration) -> RenderableType:
    left = _clients(demo)
    right = Group(_blocks(demo), _ip_sets(demo))
    title = f"Sluice demo   {min(demo.elapsed, demo.seconds):4.0f} of {demo.seconds:.0f} s"
    return Panel(Columns([left, right], padding=(0, 2)), title=title)


def _clients(demo: Demonstration) -> Table:
    table = Table(title="Clients", title_justify="left", box=None, pad_edge=False)
    for name in ("kind", "requests/s", "refused", "blocked"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    now = demo.cloud.now()
    rates = Counter(name for at, name in demo.account.recent if at > now - RATE_S)
    blocked = Counter(who(demo, block.network) for block in demo.cloud.telemetry.blocks)
    for attacker in (False, True):
        for name in dict.fromkeys(actor.name for actor in demo.actors if actor.attacker is attacker):
            colour = "red" if attacker else "green"
            table.add_row(
                Text(name, colour),
                f"{rates[name] / RATE_S:.0f}",
                str(demo.account.refused[name]),
                Text(str(blocked[name]), "bold" if blocked[name] else "dim"),
            )
    return table


def _blocks(demo: Demonstration) -> Table:
    table = Table(title="Blocks", title_justify="left", box=None, pad_edge=False)
    for name in ("client", "rule", "count/limit", "ends in"):
        table.add_column(name)
    now = int(demo.cloud.now())
    for block in demo.cloud.telemetry.blocks[-LATEST_BLOCKS:][::-1]:
        evidence = block.evidence
        counts = f"{evidence.count}/{evidence.limit}" if evidence else ""
        left = block.until - now
        table.add_row(block.network, block.rule, counts, f"{left} s" if left > 0 else Text("over", "dim"))
    return table


def _ip_sets(demo: Demonstration) -> Text:
    sets = demo.cloud.waf.published()
    return Text("\n" + "   ".join(f"{name}: {len(addresses)} networks" for name, addresses in sets.items()), "bold")


def closing(account: dict[str, Any], demo: Demonstration) -> RenderableType:
    """What came of it, a row a kind of client."""
    table = Table(title="What became of them", title_justify="left")
    for name in ("kind", "clients", "requests", "refused", "blocked by", "verdict"):
        table.add_column(name, justify="right" if name in ("clients", "requests", "refused") else "left")
    _, caught = demo.attackers_blocked()
    _, hit = demo.bystanders_blocked()
    touched = {id(actor) for actor in (*caught, *hit)}
    rules: dict[str, set[str]] = {}
    for block in demo.cloud.telemetry.blocks:
        rules.setdefault(who(demo, block.network), set()).add(block.rule)
    for name in dict.fromkeys(actor.name for actor in demo.actors):
        same = [actor for actor in demo.actors if actor.name == name]
        blocked = sum(id(actor) in touched for actor in same)
        good = blocked == (len(same) if same[0].attacker else 0)
        word = ("attackers" if same[0].attacker else "bystanders") + f": {blocked} of {len(same)} blocked"
        table.add_row(
            name,
            str(len(same)),
            str(demo.account.requests[name]),
            str(demo.account.refused[name]),
            ", ".join(sorted(rules.get(name, ()))) or "-",
            Text(word, "green" if good else "bold red"),
        )
    times = account["time_to_block_s"]
    lines = [
        f"{account['requests']} requests counted, {sum(account['malformed'].values())} malformed records set aside: "
        + ", ".join(f"{number} {reason}" for reason, number in account["malformed"].items()),
        (
            f"From the offending record being readable to the IP set update: median {times['p50']} s, "
            f"99th percentile {times['p99']} s"
        ),
        f"{len(account['blocks'])} blocks, {account['released']} released again",
        "[bold green]Every attacker was blocked, nobody else was, and the blocks ended.[/]"
        if account["ok"]
        else "[bold red]Not as it should be: see above.[/]",
    ]
    return Group(table, *map(Text.from_markup, lines))


def watcher(console: Console, live: Live | None) -> Callable[[Demonstration], None]:
    return Screen(live) if live is not None else Journal(console)
