"""The demonstration: simulated traffic through the local cloud, and the summary of any run."""

from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from statistics import median, quantiles
from typing import Any

from chalicelib.core.addresses import Network, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.state.blocks import Block
from chalicelib.core.wording import reason
from chalicelib.pipeline.stored import State
from chalicelib.ports import Announcements
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


class Demonstration:
    """Actors, edge and cloud, run for a number of seconds."""

    def __init__(
        self,
        clock: Clock,
        *,
        rules: str,
        seed: int,
        seconds: float,
        shards: int,
        containers: int,
        ip_sets: int = 1,
        announcements: Announcements | None = None,
    ) -> None:
        self.cloud = LocalCloud(
            clock,
            rules=rules,
            shards=shards,
            containers=containers,
            seed=seed,
            allow=ALLOWED,
            ip_sets=ip_sets,
            announcements=announcements,
        )
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
        try:
            self.cloud.loop.run(self.start + self.seconds + FINISH_S)
        finally:  # what was measured before the run was stopped counts as well
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

        It is ``ok`` if every attacker was blocked, no bystander was, at least one block was lifted, and none was left
        that had ended more than ``RELEASED_S`` before the end of the traffic.
        """
        attackers, bystanders = self.attackers(), self.bystanders()
        caught, hit = self.blocked(attackers), self.blocked(bystanders)
        over = self.start + self.seconds - RELEASED_S
        overdue = [block for block in State(self.cloud.state).records(Block) if block.ends_at <= over]
        return summary_of(self.cloud, self.latency) | {
            "attackers": {"total": len(attackers), "blocked": len(caught)},
            "bystanders": {"total": len(bystanders), "blocked": len(hit)},
            "ok": len(caught) == len(attackers) and not hit and bool(self.cloud.telemetry.lifted) and not overdue,
        }


def covers(wide: Network, narrow: Network) -> bool:
    return wide.version == narrow.version and narrow.subnet_of(wide)  # type: ignore[arg-type]


def summary_of(cloud: LocalCloud, latency: Latency) -> dict[str, Any]:
    """Returns the JSON object of any run. It is ``ok`` unless an invocation or a publish failed."""
    telemetry = cloud.telemetry
    failures = cloud.invocation_failures + telemetry.failures
    return {
        "requests": telemetry.ingests.requests,
        "malformed": {str(reason): number for reason, number in sorted(telemetry.ingests.malformed.items())},
        "late": telemetry.ingests.late,
        "repeats": telemetry.ingests.repeats,
        "time_to_block_s": percentiles(latency.seconds),
        "released": len(telemetry.lifted),
        "ip_sets": {family: _published(cloud, f"sluice-{family}") for family in ("v4", "v6")},
        "blocks": [_block_json(block) for block in telemetry.blocks],
        "outcomes": telemetry.outcomes,
        "failures": failures,
        "ok": not failures,
    }


def _published(cloud: LocalCloud, prefix: str) -> list[str]:
    """Returns the addresses in the IP sets whose names begin with ``prefix``, in order of their text."""
    sets = cloud.waf.published().items()
    return sorted(address for name, addresses in sets if name.startswith(prefix) for address in addresses)


def stopped_rules(cloud: LocalCloud) -> list[str]:
    """Returns the rules stopped by their circuit breakers during the run, in the order in which they were stopped."""
    return list(dict.fromkeys(breaker.rule for breaker in cloud.telemetry.stopped))


def _block_json(block: Block) -> dict[str, Any]:
    evidence = {name: getattr(block.evidence, name, None) for name in ("count", "limit", "window_s", "rate", "measure")}
    until = {"blocked_at": block.blocked_at, "until": block.ends_at}
    response = block.response_at(block.blocked_at)
    why = {"reason": reason(block)}
    return {"client": block.network, "rule": block.rule, "response": response, **evidence, **until, **why}


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    """Returns the median and the 99th percentile, or None for both if nothing was measured."""
    if not seconds:
        return {"p50": None, "p99": None}
    p99 = quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0]
    return {"p50": round(median(seconds), 3), "p99": round(p99, 3)}
