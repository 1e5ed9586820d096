"""The demo on the console: a live screen on a terminal, one line per event elsewhere, and the closing table."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from chalicelib.core.addresses import NetworkSet, parse_network, span_of
from chalicelib.core.measures import amount_text
from chalicelib.core.state.blocks import Block
from chalicelib.core.wording import plural, reason
from sluice.demo.demonstration import Demonstration, covers
from sluice.demo.edge import RECENT_S

WIDE = 110
"""Columns from which clients and blocks stand side by side."""

ROWS_FOR_ALL = 18
"""Rows from which visitors are shown as well, with room for blocks."""

MOST_ROWS, WIDEST_CURVE = 100, 300


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
        screen = Screen()
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda demo: live.update(screen.draw(demo, *console.size))
    else:
        yield Journal(console).update


def kind_of(demo: Demonstration, network: str) -> str:
    """Returns the kind of client behind a network; for a wide network, that of the first attacker in it."""
    exact = next((actor.name for actor in demo.actors if network == actor.network), None)
    wide = parse_network(network)
    inside = (attacker.name for attacker in demo.attackers() if covers(wide, parse_network(attacker.network)))
    return exact or next(inside, "another client")


class Screen:
    """The live screen. What is in the IP sets stands in its border, and so is visible at every size."""

    def __init__(self) -> None:
        self._rates: deque[tuple[int, int]] = deque(maxlen=WIDEST_CURVE)
        """Requests, and requests refused, in each second."""
        self._seen = (0, 0)
        self._second = 0
        self._events: deque[str] = deque(maxlen=MOST_ROWS)
        self._told = (0, 0)

    def draw(self, demo: Demonstration, width: int, height: int) -> RenderableType:
        """Returns the screen for a terminal of this size."""
        self._follow(demo)
        sets = demo.cloud.waf.published()
        filled = {name.removeprefix("sluice-"): len(addresses) for name, addresses in sets.items() if addresses}
        sizes = ", ".join(f"{name} {number:,}" for name, number in filled.items())
        title = f"Sluice demo   {min(demo.elapsed, demo.seconds):4.0f} of {demo.seconds:.0f} s"
        inside = height - 3  # the borders, and the line of the cursor
        clients = _clients(demo, everyone=inside >= ROWS_FOR_ALL)
        if width >= WIDE:
            used = (inside - 5) // 2 if inside > ROWS_FOR_ALL + 6 else inside - 2
            left: list[RenderableType] = [clients]
            right: list[RenderableType] = [_blocks(demo, used)]
            if inside > ROWS_FOR_ALL + 6:
                left += ["", *self._curves(width // 2 - 24)]
                right += ["", Text("Events", "italic"), *list(self._events)[-used:]]
            grid = Table.grid(padding=(0, 4))
            grid.add_row(Group(*left), Group(*right))
            content: RenderableType = grid
        else:
            content = Group(clients, _blocks(demo, inside - clients.row_count - 3, titled=False))
        border = Text.assemble("In the IP sets: ", (sizes or "nothing", "bold"))
        return Panel(content, title=title, subtitle=border, subtitle_align="left")

    def _follow(self, demo: Demonstration) -> None:
        """Notes the rates of the seconds that are over, and what was blocked and lifted."""
        if int(demo.elapsed) > self._second:
            now = demo.counts.requests.total(), demo.counts.refused.total()
            self._rates.append((now[0] - self._seen[0], now[1] - self._seen[1]))
            self._second, self._seen = int(demo.elapsed), now
        telemetry = demo.cloud.telemetry
        blocks, lifted = telemetry.blocks[self._told[0] :], telemetry.lifted[self._told[1] :]
        self._told = len(telemetry.blocks), len(telemetry.lifted)
        at = f"{demo.elapsed:5.1f} s "
        self._events += [f"{at} blocked {block.network} ({block.rule})" for block in blocks[-MOST_ROWS:]]
        if lifted:
            self._events.append(f"{at} lifted {plural(len(lifted), 'block')}")

    def _curves(self, width: int) -> Iterator[Text]:
        recent = list(self._rates)[-width:]
        most = max((requests for requests, _ in recent), default=0)
        for name, style, place in (("requests per second", "blue", 0), ("of them refused", "red", 1)):
            latest = recent[-1][place] if recent else 0
            curve = "".join(_bar(rates[place], most) for rates in recent)
            yield Text.assemble(f"{name:19} {latest:6,} ", (curve, style))


def _bar(value: int, most: int) -> str:
    """Returns a character as high as a value.

    >>> [_bar(value, 8) for value in (0, 1, 4, 8)]
    [' ', '▁', '▄', '█']
    """
    return " ▁▂▃▄▅▆▇█"[-(-8 * value // most) if most else 0]


def _clients(demo: Demonstration, *, everyone: bool) -> Table:
    """Returns the kinds of clients; without ``everyone``, only those of attackers."""
    numbers = (Column(name, justify="right") for name in ("requests/s", "refused", "blocked now"))
    table = Table("[red]attackers[/] and [green]visitors[/]", *numbers, box=None, pad_edge=False)
    now = demo.cloud.now()
    rates = Counter(name for at, name in demo.counts.recent if at > now - RECENT_S)
    in_force = NetworkSet(block.network_value() for block in demo.cloud.telemetry.blocks if block.in_force(int(now)))
    for name, actors in demo.kinds.items():
        if not everyone and not actors[0].attacker:
            continue
        blocked = sum(in_force.covers(span_of(actor.network)) for actor in actors)
        table.add_row(
            Text(name, "red" if actors[0].attacker else "green"),
            f"{rates[name] / RECENT_S:.0f}",
            str(demo.counts.refused[name]),
            Text(f"{blocked} of {len(actors)}", "bold" if blocked else "dim"),
        )
    return table


def _blocks(demo: Demonstration, rows: int, *, titled: bool = True) -> Table:
    """Returns the newest blocks in force, at most ``rows`` of them."""
    columns = ("client", "rule", "count/limit", "ends in")
    table = Table(*columns, box=None, pad_edge=False)
    if titled:
        table.title, table.title_justify = "Newest blocks in force", "left"
    now = int(demo.cloud.now())
    in_force = [block for block in demo.cloud.telemetry.blocks if block.in_force(now)]
    for block in in_force[::-1][: max(0, rows)]:
        evidence = block.evidence
        counts = ""
        if evidence:
            counts = "/".join(amount_text(evidence.measure, each) for each in (evidence.count, evidence.limit))
        table.add_row(block.network, block.rule, counts, f"{block.ends_at - now} s")
    return table


def closing(summary: dict[str, Any], demo: Demonstration, *, stopped: bool = False) -> RenderableType:
    """Returns the closing table, with one row per kind of client, and the figures below it.

    ``stopped``: the run has not come to its end.
    """
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
    malformed = ", ".join(f"{number} {reason}" for reason, number in summary["malformed"].items())
    lines = [
        f"{summary['requests']} requests counted, {sum(summary['malformed'].values())} malformed records skipped:",
        f"  {malformed or 'none'}",
        "Time from the offending record in Kinesis to the IP set update:",
        f"  median {times['p50']} s, 99th percentile {times['p99']} s",
        f"{plural(len(summary['blocks']), 'block')}, {summary['released']} lifted",
        "",
        _what_to_believe(demo),
    ]
    if stopped:
        verdict = Text(f"Stopped after {min(demo.elapsed, demo.seconds):.0f} of {demo.seconds:.0f} s.", "bold yellow")
    elif summary["ok"]:
        verdict = Text("Every attacker was blocked, no bystander was, and the blocks ended.", "bold green")
    else:
        verdict = Text("The outcome is wrong: see the table above.", "bold red")
    return Group(table, *map(Text, lines), verdict)


def _what_to_believe(demo: Demonstration) -> str:
    """Returns in words how much of the attacks was refused, and why not more."""
    kinds = [name for name, actors in demo.kinds.items() if actors[0].attacker]
    requests = sum(demo.counts.requests[name] for name in kinds)
    refused = sum(demo.counts.refused[name] for name in kinds)
    share = round(100 * refused / requests) if requests else 0
    return (
        f"Of {requests:,} requests by attackers, {refused:,} ({share} %) were refused. The rest came before a block, "
        "because a client may reach its limit, and log and update take a second each; or after the block had ended, "
        "because blocks last 15 to 20 seconds here, and minutes to hours in practice. An attacker that stops at once, "
        "like the straddler, is blocked too late. A rule that counts networks, like fleet, refuses everyone in them."
    )
