"""``python -m bench.soak``: the local cloud for a long time, at full speed and through simulated days.

The first part finds the highest rate that this machine sustains and keeps it up: memory and lag must stay flat, while
the evaluator is killed again and again. The second simulates days and nights, with waves of attacks, a daily deployment
and resharding. In both, every record must be counted once, every attacker but no other client must be blocked, and
every block must end.

The tables live in the same process. They remove unused items earlier than DynamoDB's TTL would, so that the measured
memory is Sluice's own.
"""

import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median

import click
from rich.console import Console

from bench.__main__ import table
from bench.measure import Figure
from chalicelib.bootstrap import PARTS, Services, compose
from chalicelib.core.state.blocks import Block
from chalicelib.core.tally import RETENTION_S, kept_s, unpack
from chalicelib.core.view import Offence, View
from chalicelib.pipeline.evaluate import Evaluate
from chalicelib.pipeline.log_reader import Unevaluated
from chalicelib.pipeline.tally_logs import TimeLeft, unlimited
from chalicelib.reports import EvaluateReport
from sluice.local.cloud import LocalCloud
from sluice.local.loop import Clock, SimulatedClock, WallClock

START = 1_760_000_000.0
RULES = """
[[rule]]
name = "burst"
limit = 30
window = "5s"
block_for = "60s"

[[rule]]
name = "sustained"
limit = 120
window = "30s"
resolution = 20
block_for = "60s"
"""
SETTINGS = {"LATENESS_S": "10"}
KEPT_MS = 60_000
"""Retention of tallies at full speed, in milliseconds: longer than a window and the usual lateness together.

This is safe because all containers are busy. A container that pauses for longer needs the protocol's retention, or it
would append at an offset that was already used and removed.
"""

TICK_S = 0.25
LOOK_S = 2.0
"""Seconds between two samples of lag and memory."""

KILL_S, KILLS = 300.0, 10
"""Seconds between two kills of the evaluator; less if that would be fewer than ``KILLS``."""

QUIET_CLIENTS = 50_000
AWAY_S = 200.0
"""Seconds after the last request until everything has been processed and all blocks have ended."""

FIRST_RATE = 2_000.0
HELD_SHARE = 0.6
"""Share of the highest rate that is then kept up: other processes on the machine need the rest."""

MOST_LAG_S = 2.5
"""Upper bound in seconds. Lambda polls a shard once per second, and the tallies' stream four times; any further lag is
backlog."""


class ImpatientClock(WallClock):
    """The wall clock while ``patient``; after that it jumps to the next event instead of waiting."""

    patient = True

    def wait_until(self, moment: float) -> None:
        if self.patient:
            super().wait_until(moment)
        else:
            self._start += max(0.0, moment - self.now())


class SoakedCloud(LocalCloud):
    """A cloud that measures the age of what is evaluated, and whose evaluator can be killed."""

    oldest_s = 0.0
    """Greatest age of a record when its tally had been evaluated for the first time, since it was last set to 0."""
    kills = 0

    def __init__(self, clock: Clock, *, shards: int, seed: int) -> None:
        self.evaluated: dict[str, int] = {}
        """End of what has been evaluated, by log."""
        super().__init__(clock, rules=RULES, shards=shards, containers=2, seed=seed, settings=SETTINGS)

    def container(self) -> Services:
        return compose(self.config, self.world, replace(PARTS, evaluate=_evaluator_of(self)))

    def kill_evaluator(self) -> None:
        """Replaces the evaluator's container by a cold one. It evaluates again what follows the stored position."""
        self._others["evaluate"] = self.container()
        self.kills += 1


def _evaluator_of(cloud: SoakedCloud) -> type[Evaluate]:
    class Aged(Evaluate):
        def run(self, now_ms: int, time_left_s: TimeLeft = unlimited) -> EvaluateReport:
            self._arrived_ms = [now_ms]
            report = super().run(now_ms, time_left_s)
            cloud.oldest_s = max(cloud.oldest_s, cloud.now() - min(self._arrived_ms) / 1000)
            return report

        def _offences(self, view: View, item: Unevaluated) -> list[Offence]:
            if item.offset >= cloud.evaluated.get(item.log, 0):
                cloud.evaluated[item.log] = item.offset + 1
                self._arrived_ms.append(item.arrived_ms)
            return super()._offences(view, item)

    return Aged


@dataclass
class Soak:
    """One cloud under traffic, and the observations of it."""

    cloud: SoakedCloud
    random: Random
    kept_ms: int = kept_s(RETENTION_S) * 1000
    put: int = 0
    counted: int = 0
    blocks: int = 0
    lifted: int = 0
    attackers: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    lags_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    _clients: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._clients = [
            (f"2001:db8:{number:x}::1" if number % 6 == 0 else f"10.{number >> 8 & 255}.{number & 255}.1").encode()
            for number in range(QUIET_CLIENTS)
        ]

    def visit(self, number: int, now: float) -> None:
        """Sends one request from each of ``number`` ordinary clients."""
        for client in self.random.sample(self._clients, min(number, QUIET_CLIENTS)):
            self._put(client, now)

    def attack(self, now: float) -> None:
        """Sends a wave of requests above the limit from a few clients, all at once."""
        for _ in range(self.random.randint(3, 10)):
            # Odd addresses only, so that no two are merged into one published network.
            client = f"203.0.{self.random.randrange(256)}.{self.random.randrange(1, 256, 2)}"
            self.attackers.add(f"{client}/32")
            for _ in range(31):
                self._put(client.encode(), now)

    def look(self, now: float) -> None:
        """Samples lag and memory, and clears the lists that only grow because everything runs in one process."""
        telemetry, waf = self.cloud.telemetry, self.cloud.waf
        self.lags_s.append(max(telemetry.ingests.lag_ms / 1000, self.cloud.oldest_s))
        telemetry.ingests.lag_ms, self.cloud.oldest_s = 0, 0.0
        self.rss_mb.append(rss_mb())
        self.blocks += len(telemetry.blocks)
        self.lifted += len(telemetry.lifted)
        self.blocked.update(block.network for block in telemetry.blocks)
        self.published.update(*(addresses for _, _, addresses in waf.updates))
        for pile in (telemetry.blocks, telemetry.lifted, waf.updates):
            pile.clear()
        self._expire(int(now * 1000) - self.kept_ms)
        self.cloud.state.expire(now + DETECTIONS_AWAY_S)

    def close(self) -> None:
        self.look(self.cloud.now())
        self._expire(sys.maxsize)

    def _expire(self, before_ms: int) -> None:
        for item in self.cloud.tally_logs.expire(before_ms):
            # Each part holds every request, at its own slot length, so one part is enough.
            part = unpack(item.body)[0] if item.body is not None else None
            self.counted += sum(sum(slots.values()) for slots in part.clients().values()) if part else 0

    def _put(self, client: bytes, now: float) -> None:
        self.put += 1
        line = b"%.3f\t%b\t200\tGET\twww.example.com\t/\tid-%d\tcurl\t-" % (now, client, self.put)
        self.cloud.put(line)

    def findings(self, name: str) -> Iterator[Figure]:
        """Yields the figures that must hold at any rate."""
        cloud = self.cloud
        left = len(list(cloud.state.query(Block.kind))) + len(cloud.waf.networks())
        wrong = len(self.attackers ^ self.blocked) + len(self.attackers ^ self.published)
        yield Figure(f"{name}: records", self.put, "", None, "put into the stream")
        yield Figure(f"{name}: records lost or counted twice", abs(self.put - self.counted), "", 0, "from the tallies")
        yield Figure(f"{name}: blocks", self.blocks, "", 1, "attackers blocked, again and again", at_least=True)
        yield Figure(f"{name}: wrongly blocked or missed", wrong, "", 0, "by name, in table and IP sets")
        yield Figure(
            f"{name}: blocks left", left, "", 0, f"{AWAY_S:.0f} s after the last request, in table and IP sets"
        )
        yield Figure(f"{name}: failed invocations", len(cloud.invocation_failures), "", 0, "of any function")


DETECTIONS_AWAY_S = 8 * 86400.0
"""Seconds after which every detection and history has expired."""


def rss_mb() -> float:
    """Returns this process's resident memory in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def at_full_speed(length_s: float, seed: int = 1) -> list[Figure]:
    """Finds the highest rate that the machine sustains in the first third of ``length_s``, then keeps it up."""
    clock = ImpatientClock(START)
    cloud = SoakedCloud(clock, shards=4, seed=seed)
    soak = Soak(cloud, Random(seed), kept_ms=KEPT_MS)
    began = fed = cloud.now()
    rate, searched = FIRST_RATE, 0
    tried: list[float] = []

    def feed() -> None:
        nonlocal fed
        now = cloud.now()
        if now < began + length_s:
            soak.visit(int(rate * (now - fed)), now)
            fed = now

    def attack() -> None:
        if cloud.now() < began + length_s:
            soak.attack(cloud.now())

    def look() -> None:
        nonlocal rate, searched
        soak.look(cloud.now())
        if cloud.now() > began + length_s / 3:
            rate = HELD_SHARE * median(tried[len(tried) // 2 :] or [FIRST_RATE])
            searched = searched or len(soak.lags_s)
            return
        # Faster while there is no backlog, much slower once there is: the rates settle around the machine's limit.
        tried.append(rate)
        rate *= 1.15 if soak.lags_s[-1] <= MOST_LAG_S else 0.5

    cloud.start()
    cloud.loop.every(TICK_S, feed, first=began)
    cloud.loop.every(LOOK_S, look, first=began + LOOK_S)
    cloud.loop.every(10.0, attack, first=began + 1)
    kill_s = min(KILL_S, length_s / KILLS)
    cloud.loop.every(kill_s, cloud.kill_evaluator, first=began + kill_s)
    cloud.loop.run(until=began + length_s)
    looks, kills = len(soak.lags_s), cloud.kills
    clock.patient = False
    cloud.loop.run(until=cloud.now() + AWAY_S)
    soak.close()
    lags, memory = soak.lags_s[searched:looks], soak.rss_mb[searched:looks]
    return [
        *soak.findings("full speed"),
        Figure(
            "full speed: rate held", rate, "records/s", None, f"one process, 4 shards, for {length_s * 2 / 3:.0f} s"
        ),
        Figure("full speed: lag", median(lags), "s", MOST_LAG_S, "the worst of two seconds, median of these"),
        Figure("full speed: lag, worst", max(lags), "s", None, "age of the oldest record when its tally is evaluated"),
        Figure("full speed: evaluator killed", kills, "times", None, f"every {kill_s:.0f} s; a cold one follows"),
        Figure("full speed: lag, later / earlier", flatness(lags), "", 1.5, "medians of the halves"),
        Figure("full speed: memory", memory[-1], "MB", None, "resident"),
        Figure("full speed: memory, later / earlier", flatness(memory), "", 1.15, "medians of the halves"),
    ]


def through_days(hours: float, seed: int = 2) -> list[Figure]:
    """Simulates days and nights at a modest rate."""
    cloud = SoakedCloud(SimulatedClock(START), shards=2, seed=seed)
    random = Random(seed)
    soak = Soak(cloud, random)
    end = START + hours * 3600

    def visit() -> None:
        now = cloud.now()
        if now < end:
            # A day has one peak and one trough; a short run compresses the day.
            daylight = 1 - math.cos(2 * math.pi * (now - START) / min(86_400, hours * 3600))
            soak.visit(random.randint(1, 3 + int(15 * daylight)), now)

    def attack() -> None:
        if cloud.now() < end:
            soak.attack(cloud.now())

    def reshard() -> None:
        shards = cloud.stream.open_shards
        if len(shards) > 2:
            cloud.stream.merge(*random.sample(shards, 2))
        else:
            cloud.stream.split(random.choice(shards))

    cloud.start()
    cloud.loop.every(8.0, visit, first=START)
    cloud.loop.every(min(900.0, hours * 360), attack, first=START + 30)
    cloud.loop.every(hours * 3600 / 8, reshard, first=START + hours * 400)
    cloud.loop.every(min(86_400.0, hours * 1800), cloud.deploy, first=START + hours * 1000)
    cloud.loop.every(60.0, lambda: soak.look(cloud.now()), first=START + 60)
    cloud.loop.run(until=end + AWAY_S)
    soak.close()
    lags, memory = soak.lags_s, soak.rss_mb
    return [
        *soak.findings("simulated days"),
        Figure("simulated days: hours", hours, "h", None, f"{len(cloud.stream.shards)} shards came and went"),
        Figure("simulated days: lag, worst", max(lags), "s", MOST_LAG_S, "simulated"),
        Figure("simulated days: memory, later / earlier", flatness(memory), "", 1.15, "medians of the halves"),
    ]


def flatness(series: list[float]) -> float:
    """Returns the median of the later half divided by that of the earlier half.

    >>> flatness([1.0, 1.0, 1.0, 3.0, 3.0, 3.0])
    3.0
    """
    half = len(series) // 2
    return median(series[half:]) / (median(series[:half]) or 1.0)


@click.command(context_settings={"show_default": True})
@click.option("--minutes", default=3.0, type=click.FloatRange(min=0.1), help="Minutes at full speed.")
@click.option("--hours", type=click.FloatRange(min=0.1), help="Hours at full speed, instead of minutes.")
@click.option("--simulated-hours", default=24.0, type=click.FloatRange(min=0.1), help="Hours on the simulated clock.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Also write the figures here.")
def main(minutes: float, hours: float | None, simulated_hours: float, file: Path | None) -> None:
    """Run the local cloud for a long time. The exit status is 1 if a bound does not hold."""
    console = Console()
    with console.status("At the highest rate this machine holds ..."):
        figures = at_full_speed(hours * 3600 if hours else minutes * 60)
    with console.status(f"Through {simulated_hours:g} simulated hours ..."):
        figures += through_days(simulated_hours)
    console.print(table(figures))
    if file:
        file.write_text(json.dumps([figure.as_row() for figure in figures], indent=1) + "\n")
    sys.exit(any(figure.holds is False for figure in figures))


if __name__ == "__main__":
    main()
