"""The demonstration: simulated or recorded traffic through the local cloud, and a summary of the outcome."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from statistics import median, quantiles
from typing import Any

from chalicelib.core.addresses import Network, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.state import Block
from sluice.demo.actors import ALLOWED, Actor, cast, play
from sluice.demo.edge import TICK_S, EdgeTraffic
from sluice.demo.latency import Latency
from sluice.local.cloud import LocalCloud
from sluice.local.loop import Clock

WATCH_S = 0.25
"""Seconds between two calls of the watcher."""

FINISH_S = 4
"""Seconds after the last request, for its line to arrive and be published."""

RELEASED_S = 5
"""Blocks that end this long before the traffic does must have been lifted by the end."""

SETTLE_S = 60.0
"""Seconds between two latency measurements of a file, which bound the records kept in memory."""

LOOK_AHEAD = 9
"""Lines whose median time decides whether the line before them is an outlier."""

OUTLIER_S = 300.0
"""A line this many seconds ahead of those after it does not move the clock."""

PATIENCE_S = 30.0
"""Seconds a finished file may take to be ingested and published."""


class Demonstration:
    """Actors, edge and cloud, run for a number of seconds."""

    def __init__(self, clock: Clock, *, rules: str, seed: int, seconds: float, shards: int, containers: int) -> None:
        self.cloud = LocalCloud(clock, rules=rules, shards=shards, containers=containers, seed=seed, allow=ALLOWED)
        self.seconds = seconds
        self.actors: list[Actor] = cast(seed, seconds)
        self.kinds = {name: list(actors) for name, actors in groupby(self.actors, attrgetter("name"))}
        """Actors by the kind of client, in the order of the cast, which names each kind once."""
        self.latency = Latency(BatchDecoder(), self.cloud.rules.rules)
        self.start = clock.now()
        hits = play(self.actors, seed, seconds)
        self._traffic = EdgeTraffic(self.cloud, hits, seed=seed, arrived=self.latency.arrived)
        self.counts = self._traffic.counts

    def run(self, watch: Callable[["Demonstration"], None] = lambda _: None) -> None:
        """Runs to the end and calls ``watch`` every ``WATCH_S`` seconds."""
        self.cloud.start()
        self.cloud.loop.every(TICK_S, self._traffic.tick, first=self.start)
        self.cloud.loop.every(WATCH_S, lambda: watch(self), first=self.start)
        self.cloud.loop.run(self.start + self.seconds + FINISH_S)
        self.latency.settle(self.cloud.telemetry.blocks, self.cloud.waf.updates)

    @property
    def elapsed(self) -> float:
        return self.cloud.now() - self.start

    def attackers(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.attacker]

    def bystanders(self) -> list[Actor]:
        return [actor for actor in self.actors if not actor.attacker]

    def blocked(self, actors: Iterable[Actor]) -> list[Actor]:
        """Returns the actors whose network has been blocked, directly or within a wider one."""
        blocks = [block.network_value() for block in self.cloud.telemetry.blocks]
        return [a for a in actors if any(covers(block, parse_network(a.network)) for block in blocks)]

    def summary(self) -> dict[str, Any]:
        """Returns the JSON object printed at the end.

        It is ``ok`` if every attacker was blocked, no bystander was, and the blocks that ended were lifted.
        """
        attackers, bystanders = self.attackers(), self.bystanders()
        caught, hit = self.blocked(attackers), self.blocked(bystanders)
        over = self.start + self.seconds - RELEASED_S
        lifted = {(block.network, block.blocked_at) for block in self.cloud.telemetry.lifted}
        ended = {(block.network, block.blocked_at) for block in self.cloud.telemetry.blocks if block.until <= over}
        return summary_of(self.cloud, self.latency) | {
            "attackers": {"total": len(attackers), "blocked": len(caught)},
            "bystanders": {"total": len(bystanders), "blocked": len(hit)},
            "ok": len(caught) == len(attackers) and not hit and bool(lifted) and ended <= lifted,
        }


def covers(wide: Network, narrow: Network) -> bool:
    return wide.version == narrow.version and narrow.subnet_of(wide)  # type: ignore[arg-type]


def summary_of(cloud: LocalCloud, latency: Latency) -> dict[str, Any]:
    """Returns the JSON object of any run. It is ``ok`` unless an invocation or a publish failed."""
    telemetry = cloud.telemetry
    failures = cloud.invocation_failures + telemetry.failures
    published = cloud.waf.published()
    return {
        "requests": telemetry.ingests.requests,
        "malformed": {str(reason): number for reason, number in sorted(telemetry.ingests.malformed.items())},
        "late": telemetry.ingests.late,
        "repeats": telemetry.ingests.repeats,
        "time_to_block_s": percentiles(latency.seconds),
        "released": len(telemetry.lifted),
        "ip_sets": {"v4": published["sluice-v4"], "v6": published["sluice-v6"]},
        "blocks": [_block_json(block) for block in telemetry.blocks],
        "outcomes": telemetry.outcomes,
        "failures": failures,
        "ok": not failures,
    }


def _block_json(block: Block) -> dict[str, Any]:
    evidence = {name: getattr(block.evidence, name, None) for name in ("count", "limit", "window_s")}
    until = {"blocked_at": block.blocked_at, "until": block.until}
    return {"client": block.network, "rule": block.rule, **evidence, **until}


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    """Returns the median and the 99th percentile, or None for both if nothing was measured."""
    if not seconds:
        return {"p50": None, "p99": None}
    p99 = quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0]
    return {"p50": round(median(seconds), 3), "p99": round(p99, 3)}


def replay_lines(cloud: LocalCloud, lines: Iterable[tuple[float | None, bytes]], latency: Latency) -> None:
    """Feeds ``lines`` (epoch seconds or None, and record) in order, and moves the cloud's clock to their times.

    A line far ahead of those after it does not move the clock: its time is wrong, and would make the others late.
    Returns when everything is ingested and published, or else about ``PATIENCE_S`` seconds after the last line.
    """
    cloud.start()
    settled = cloud.now()
    for moment, record in _delivery_times(lines):
        if moment > cloud.now():
            cloud.loop.run(moment)
        latency.arrived(cloud.now(), record)
        cloud.put(record)
        if cloud.now() - settled > SETTLE_S:
            latency.settle(cloud.telemetry.blocks, cloud.waf.updates)
            settled = cloud.now()
    deadline = cloud.now() + PATIENCE_S
    cloud.loop.run(cloud.now() + 2)
    while cloud.backlog and cloud.now() < deadline:
        cloud.loop.run(cloud.now() + 1)
    cloud.loop.run(cloud.now() + 5)
    latency.settle(cloud.telemetry.blocks, cloud.waf.updates)


def _delivery_times(lines: Iterable[tuple[float | None, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Yields each record with its delivery time. Times never decrease; outliers are ignored."""
    latest = 0.0
    window: deque[tuple[float | None, bytes]] = deque()
    rest = iter(lines)
    while True:
        while len(window) <= LOOK_AHEAD and (entry := next(rest, None)) is not None:
            window.append(entry)
        if not window:
            return
        moment, record = window.popleft()
        later = [time for time, _ in window if time is not None]
        if moment is not None and (not later or moment <= median(later) + OUTLIER_S):
            latest = max(latest, moment)
        yield latest, record
