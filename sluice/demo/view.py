"""The demo on the console: a live screen on a terminal, one line per event elsewhere, and the closing table."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from chalicelib.core.addresses import parse_network
from chalicelib.core.measures import amount_text
from chalicelib.core.state.blocks import Block
from chalicelib.core.wording import plural, reason
from sluice.demo.demonstration import Demonstration, covers
from sluice.demo.edge import RECENT_S

LATEST_BLOCKS = 12
"""Blocks on the live screen, newest first."""


class Journal:
    """A journal for pipes and files: one line per kind of blocked client and rule, and per sweep that lifts blocks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed = 0
        self._released = 0

    def update(self, demo: Demonstration) -> None:
        telemetry = demo.cloud.telemetry
        groups: dict[tuple[str, str], list[Block]] = {}
        for block in telemetry.blocks[self._printed :]:
            groups.setdefault((kind_of(demo, block.network), block.rule), []).append(block)
        self._printed = len(telemetry.blocks)
        for (kind, _), blocks in groups.items():
            first = blocks[0]
            more = f" and {len(blocks) - 1} more" if len(blocks) > 1 else ""
            self._print(demo, ("blocked", "red"), f"   {kind}: {first.network}{more}  ({reason(first)})")
        if released := len(telemetry.lifted) - self._released:
            self._released += released
            self._print(demo, ("lifted", "green"), f"    {plural(released, 'block')}")

    def _print(self, demo: Demonstration, event: tuple[str, str], details: str) -> None:
        self._console.print(Text.assemble(f"{demo.elapsed:5.1f} s  ", event, details))


@contextmanager
def watching(console: Console) -> Iterator[Callable[[Demonstration], None]]:
    """Yields the function that shows a running demonstration."""
    if console.is_terminal and not console.quiet:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda demo: live.update(screen(demo))
    else:
        yield Journal(console).update


def kind_of(demo: Demonstration, network: str) -> str:
    """Returns the kind of client behind a network; for a wide network, that of the first attacker in it."""
    exact = next((actor.name for actor in demo.actors if network == actor.network), None)
    wide = parse_network(network)
    inside = (attacker.name for attacker in demo.attackers() if covers(wide, parse_network(attacker.network)))
    return exact or next(inside, "another client")


def screen(demo: Demonstration) -> RenderableType:
    sets = demo.cloud.waf.published()
    sizes = "   ".join(f"{name}: {len(addresses)} networks" for name, addresses in sets.items())
    right = Group(_blocks(demo), Text(f"\n{sizes}", "bold"))
    title = f"Sluice demo   {min(demo.elapsed, demo.seconds):4.0f} of {demo.seconds:.0f} s"
    return Panel(Columns([_clients(demo), right], padding=(0, 2)), title=title)


def _clients(demo: Demonstration) -> Table:
    numbers = (Column(name, justify="right") for name in ("requests/s", "refused", "blocked"))
    table = Table("kind", *numbers, title="Clients", title_justify="left", box=None, pad_edge=False)
    now = demo.cloud.now()
    rates = Counter(name for at, name in demo.counts.recent if at > now - RECENT_S)
    blocked = Counter(kind_of(demo, block.network) for block in demo.cloud.telemetry.blocks)
    for name, actors in demo.kinds.items():
        table.add_row(
            Text(name, "red" if actors[0].attacker else "green"),
            f"{rates[name] / RECENT_S:.0f}",
            str(demo.counts.refused[name]),
            Text(str(blocked[name]), "bold" if blocked[name] else "dim"),
        )
    return table


def _blocks(demo: Demonstration) -> Table:
    columns = ("client", "rule", "count/limit", "ends in")
    table = Table(*columns, title="Blocks", title_justify="left", box=None, pad_edge=False)
    now = int(demo.cloud.now())
    for block in demo.cloud.telemetry.blocks[-LATEST_BLOCKS:][::-1]:
        evidence = block.evidence
        counts = ""
        if evidence:
            counts = "/".join(amount_text(evidence.measure, each) for each in (evidence.count, evidence.limit))
        left = block.ends_at - now
        table.add_row(block.network, block.rule, counts, f"{left} s" if left > 0 else Text("ended", "dim"))
    return table


def closing(summary: dict[str, Any], demo: Demonstration) -> RenderableType:
    """Returns the closing table, with one row per kind of client, and the figures below it."""
    numbers = (Column(name, justify="right") for name in ("clients", "requests", "refused"))
    table = Table("kind", *numbers, "blocked by", "result", title="Outcome", title_justify="left")
    rules: dict[str, set[str]] = {}
    for block in demo.cloud.telemetry.blocks:
        rules.setdefault(kind_of(demo, block.network), set()).add(block.rule)
    for name, actors in demo.kinds.items():
        attacker, number = actors[0].attacker, len(demo.blocked(actors))
        right = number == (len(actors) if attacker else 0)
        result = ("attackers" if attacker else "bystanders") + f": {number} of {len(actors)} blocked"
        table.add_row(
            name,
            str(len(actors)),
            str(demo.counts.requests[name]),
            str(demo.counts.refused[name]),
            ", ".join(sorted(rules.get(name, ()))) or "-",
            Text(result, "green" if right else "bold red"),
        )
    times = summary["time_to_block_s"]
    lines = [
        f"{summary['requests']} requests counted, {sum(summary['malformed'].values())} malformed records skipped: "
        + ", ".join(f"{number} {reason}" for reason, number in summary["malformed"].items()),
        (
            f"Time from the offending record in Kinesis to the IP set update: median {times['p50']} s, "
            f"99th percentile {times['p99']} s"
        ),
        f"{plural(len(summary['blocks']), 'block')}, {summary['released']} lifted",
    ]
    verdict = (
        Text("Every attacker was blocked, no bystander was, and the blocks ended.", "bold green")
        if summary["ok"]
        else Text("The outcome is wrong: see the table above.", "bold red")
    )
    return Group(table, *map(Text, lines), verdict)
