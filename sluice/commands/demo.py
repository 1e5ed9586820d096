"""``sluice demo``: watch attackers being blocked within seconds, on this machine."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console

from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.measures import amount_text, unit_text
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.wording import plural
from sluice import DEFAULT_RULES
from sluice.commands.shared.logs import LogNames, block_status_option, field_names, print_notes, trusted_option
from sluice.commands.shared.options import (
    EXISTING_FILE,
    Parsed,
    json_output,
    notify_option,
    number_option,
    read_rules,
    seed_option,
)
from sluice.commands.shared.output import output
from sluice.demo.demonstration import Demonstration, stopped_rules, summary_of
from sluice.demo.latency import Latency
from sluice.demo.recording import RecordedEdge, RecordedLog, play
from sluice.demo.view import closing, watching
from sluice.deploy.stage import MOST_IP_SETS
from sluice.local.cloud import LocalCloud
from sluice.local.commanded import CommandedAnnouncements
from sluice.local.loop import Clock, SimulatedClock, WallClock

DEMO_RULES = Path(__file__).parent.parent / "demo" / "rules.toml"
FIRST_LINES = 10
"""Lines of a file that are read first, to choose the time at which the clock starts."""

HOUR_S = 3600
"""A time farther than this before the median of the first lines is wrong and does not set the start."""

PIPE_WIDTH = 110
"""Columns of the output if it is not a terminal."""


def _speed(text: str) -> float:
    """Returns a factor; ``max`` is 0."""
    if text == "max":
        return 0.0
    with suppress(ValueError):
        if 0 < float(text) <= 1000:
            return float(text)
    raise ValueError(f"{text!r} is neither 'max' nor a number above 0 and up to 1000")


SPEED = Parsed("X|max", _speed)


@click.command()
@click.option(
    "--traffic",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Log lines to use instead of simulated traffic, in a format that Lambda reads; - reads standard input.",
)
@click.option(
    "--edge",
    "edge_s",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="Refuse the --traffic of clients that are blocked, this long after each update of the IP sets.",
)
@click.option(
    "--solver",
    "solvers",
    type=Parsed("NETWORK", parse_network),
    multiple=True,
    help="Clients of the --traffic that solve challenges and puzzles at the --edge; no others do.",
)
@click.option(
    "--allowed",
    type=Parsed("NETWORK", parse_network),
    multiple=True,
    help="Clients of the --traffic whose requests another rule of the web ACL allows before Sluice's at the --edge.",
)
@click.option("--rules", type=EXISTING_FILE, metavar="FILE", help="Rules to enforce.")
@click.option(
    "--fields",
    type=Parsed("NAMES", field_names),
    default=",".join(DEFAULT_FIELDS),
    help="Fields of the --traffic lines, separated by commas.",
)
@trusted_option
@block_status_option
@number_option("--shards", most=64, default=4, help="Kinesis shards.")
@number_option("--ip-sets", most=MOST_IP_SETS, default=1, help="IP sets of each family, for 10,000 networks each.")
@number_option("--containers", most=64, default=2, help="Lambda containers that ingest.")
@click.option(
    "--seconds", type=click.FloatRange(60, 3600), default=62, show_default=True, help="Length of the simulated traffic."
)
@click.option(
    "--speed", type=SPEED, default="1", show_default=True, help="Multiple of real time, or max: as fast as possible."
)
@notify_option
@seed_option
@json_output("Print a single JSON object at the end.")
def demo(
    traffic: Path | None,
    edge_s: float | None,
    solvers: tuple[Network, ...],
    allowed: tuple[Network, ...],
    rules: Path | None,
    fields: tuple[str, ...],
    trusted: tuple[Network, ...],
    block_status: int,
    seconds: float,
    speed: float,
    notify: tuple[str, ...] | None,
    as_json: bool,
    **simulation: Any,
) -> None:
    """Watch attackers being blocked within seconds, on this machine.

    Traffic runs through stand-ins for Kinesis and AWS WAF and through the handlers that Lambda runs. Without
    --traffic, visitors and attackers are simulated, and the exit status is 0 only if every attacker was blocked, no
    visitor was, and every expired block was lifted. With it, the exit status is 1 if FILE has no request.

    With --edge, requests of blocked clients are refused: they reach the log with the status of Sluice's rule group, and
    the JSON object has the requests of each client (an IPv4 address or an IPv6 /64), and the rules that their circuit
    breakers stopped.

    \b
    sluice demo
    sluice demo --speed max --json
    sluice demo --notify 'exec:jq -r .title'
    sluice demo --traffic lines.log --rules rules.toml --speed max --json
    sluice demo --traffic lines.log --edge 30 --speed max --json
    """
    console = output(quiet=as_json, width=PIPE_WIDTH)
    if edge_s is not None and traffic is None:
        raise click.UsageError("--edge needs --traffic; the simulated traffic has an edge of its own.")
    if edge_s is None and (solvers or allowed):
        raise click.UsageError("--solver and --allowed need --edge.")
    if traffic is None and (trusted or block_status != REFUSAL_STATUS):
        raise click.UsageError("--trusted-proxy and --block-status describe the --traffic.")
    if trusted and "x-forwarded-for" not in fields:
        raise click.UsageError("--trusted-proxy: x-forwarded-for is not among the --fields.")
    text, _ = read_rules(rules or (DEFAULT_RULES if traffic else DEMO_RULES))
    commanded = CommandedAnnouncements(notify, lambda text: click.echo(text, err=True)) if notify else None
    simulation["announcements"] = commanded
    log, finished = None, traffic is not None
    settings = {
        "CLOUDFRONT_FIELDS": ",".join(fields),
        "TRUSTED_PROXIES": ",".join(map(str, trusted)),
        "BLOCK_STATUS": str(block_status),
    }
    if traffic is not None:
        decoder = BatchDecoder(fields, NetworkSet(trusted))
        log = RecordedLog(None if traffic == Path("-") else traffic, decoder)
        new_edge = None if edge_s is None else partial(RecordedEdge, delay_s=edge_s, solvers=solvers, allowed=allowed)
        summary = _played(log, text, decoder, speed, new_edge, {"settings": settings, **simulation})
        _show(summary, console)
    else:
        start = (time.time() // 60 + 1) * 60 - 20  # one of the attackers straddles a full minute, 20 s after the start
        demonstration = Demonstration(_clock(speed, start), rules=text, seconds=seconds, **simulation)
        with suppress(KeyboardInterrupt), watching(console) as watch:
            demonstration.run(watch)
            finished = True
        summary = demonstration.summary()
        console.print(closing(summary, demonstration, stopped=not finished))
    if commanded is not None:
        commanded.close()
    if as_json:
        click.echo(json.dumps(summary))
    if log is not None:
        print_notes(log.stats, log.progress, LogNames((str(traffic),)))
    if not finished:
        sys.exit(130)
    sys.exit(0 if traffic or summary["ok"] else 1)


def _clock(speed: float, start: float) -> Clock:
    return WallClock(start, speed) if speed else SimulatedClock(start)


def _played(
    log: RecordedLog,
    rules: str,
    decoder: BatchDecoder,
    speed: float,
    new_edge: Callable[[LocalCloud, BatchDecoder], RecordedEdge] | None,
    simulation: dict[str, Any],
) -> dict[str, Any]:
    """Plays a log and returns the summary, which is not ``ok`` if the log has no request."""
    lines = iter(log)
    first = list(islice(lines, FIRST_LINES))
    times = [line.at for line in first if line.at is not None]
    start = min((t for t in times if t >= median(times) - HOUR_S), default=time.time())
    cloud = LocalCloud(_clock(speed, start), rules=rules, **simulation)
    latency = Latency(decoder, cloud.rules.rules)
    edge = None if new_edge is None else new_edge(cloud, decoder)
    play(cloud, chain(first, lines), latency, edge)
    summary = summary_of(cloud, latency)
    summary["ok"] = summary["ok"] and log.stats.requests > 0
    return summary if edge is None else {**summary, "clients": edge.clients(), "breaker": stopped_rules(cloud)}


def _show(summary: dict[str, Any], console: Console) -> None:
    for block in summary["blocks"]:
        if block["count"] is None:
            console.print(f"blocked {block['client']} for {block['rule']}: {block['reason']}", highlight=False)
            continue
        counted = f"in {block['window_s']} s, limit" if not block["rate"] else f"above {block['rate']}, burst"
        count, limit = (amount_text(block["measure"], block[name]) for name in ("count", "limit"))
        requests = unit_text(block["measure"])
        console.print(
            f"blocked {block['client']} for {block['rule']}: {count}{requests} {counted} {limit}", highlight=False
        )
    requests, blocks = plural(summary["requests"], "request"), plural(len(summary["blocks"]), "block")
    console.print(f"{requests}, {blocks}, {summary['released']} lifted")
