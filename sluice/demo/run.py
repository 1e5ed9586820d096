"""Traffic through the local cloud, and the account of it."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from statistics import median, quantiles
from typing import Any

from chalicelib.core.addresses import Network, pack, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.state import Block
from sluice.demo.actors import ALLOWED, Actor, Hit, cast, line, play
from sluice.demo.latency import Latency
from sluice.local.cloud import LocalCloud
from sluice.local.loop import Clock

TICK_S = 0.05
PROPAGATION_S = 1.0
"""How long the stand-in edge takes to heed an IP set. AWS says from a few seconds to minutes."""

LOG_DELAY_S = (0.2, 0.9)
"""How long a line takes from the end of the response into Kinesis. CloudFront says within seconds."""

SETTLE_S = 60.0
OUTLIER_S = 300.0
LOOK_AHEAD = 9
PATIENCE_S = 30.0


class Edge:
    """Stands for CloudFront and its web ACL: refuses the addresses in the published IP sets."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._seen = 0
        self._lengths: dict[tuple[int, int], set[int]] = {}

    def refuses(self, address: str, now: float) -> bool:
        self._heed(now)
        packed = pack(address.encode()) or b""
        bits, number = len(packed) * 8, int.from_bytes(packed, "big")
        return any(
            family_bits == bits and number >> (bits - length) in prefixes
            for (family_bits, length), prefixes in self._lengths.items()
        )

    def _heed(self, now: float) -> None:
        updates = self._cloud.waf.updates
        reached = self._seen
        while reached < len(updates) and updates[reached][0] <= now - PROPAGATION_S:
            reached += 1
        if reached == self._seen:
            return
        self._seen = reached
        latest = {name: addresses for _, name, addresses in updates[:reached]}
        self._lengths = {}
        for addresses in latest.values():
            for network in map(parse_network, addresses):
                bits = network.max_prefixlen
                number = int(network.network_address) >> (bits - network.prefixlen)
                self._lengths.setdefault((bits, network.prefixlen), set()).add(number)


@dataclass(slots=True)
class Account:
    """What happened so far, for the view and the closing summary."""

    requests: Counter[str] = field(default_factory=Counter)
    """Requests by kind of client."""
    refused: Counter[str] = field(default_factory=Counter)
    recent: deque[tuple[float, str]] = field(default_factory=deque)
    """Time and kind of the requests of the last seconds."""


class Traffic:
    """Requests through the edge into a cloud's stream, each of their lines some time on its way."""

    def __init__(
        self,
        cloud: LocalCloud,
        hits: Iterator[Hit],
        *,
        seed: int,
        arrived: Callable[[float, bytes], None] = lambda _now, _record: None,
    ) -> None:
        """``hits`` count from now; ``arrived`` is told every record and when it came into the stream."""
        self.account = Account()
        self.start = cloud.now()
        self._cloud = cloud
        self._edge = Edge(cloud)
        self._random = Random(seed)
        self._hits = hits
        self._ahead: Hit | None = next(hits, None)
        self._numbers = count()
        self._on_the_way: list[tuple[float, int, bytes]] = []
        self._arrived = arrived

    def tick(self) -> None:
        """Serves the requests that are due, and hands the lines that have arrived to Kinesis."""
        now = self._cloud.now()
        while self._ahead is not None and self.start + self._ahead.at <= now:
            self._serve(self._ahead)
            self._ahead = next(self._hits, None)
        while self._on_the_way and self._on_the_way[0][0] <= now:
            _, _, record = heappop(self._on_the_way)
            self._arrived(now, record)
            self._cloud.put(record)

    def _serve(self, hit: Hit) -> None:
        at = self.start + hit.at
        record, request = hit.garbage, hit.request
        if request is not None:
            refused = self._edge.refuses(request.address, at)
            record = line(request, at, 403 if refused else request.status, next(self._numbers))
            self.account.requests[hit.actor] += 1
            self.account.refused[hit.actor] += refused
            self.account.recent.append((at, hit.actor))
            while self.account.recent[0][0] < at - 2:
                self.account.recent.popleft()
        arrives = at + self._random.uniform(*LOG_DELAY_S)
        heappush(self._on_the_way, (arrives, next(self._numbers), record))


class Demonstration:
    """The cast, the edge and the cloud, run for some seconds."""

    def __init__(self, clock: Clock, *, rules: str, seed: int, seconds: float, shards: int, containers: int) -> None:
        self.cloud = LocalCloud(clock, rules=rules, shards=shards, containers=containers, seed=seed, allow=ALLOWED)
        self.seconds = seconds
        self.actors: list[Actor] = cast(seed, seconds)
        self.latency = Latency(BatchDecoder(), self.cloud.rules.rules)
        self.start = clock.now()
        hits = play(self.actors, seed, seconds)
        self._traffic = Traffic(self.cloud, hits, seed=seed, arrived=self.latency.arrived)
        self.account = self._traffic.account

    def run(self, watch: Callable[["Demonstration"], None] = lambda _: None, watch_s: float = 0.25) -> None:
        """Runs to the end; ``watch`` is called now and then."""
        self.cloud.start()
        self.cloud.loop.every(TICK_S, self._traffic.tick, first=self.start)
        self.cloud.loop.every(watch_s, lambda: watch(self), first=self.start)
        self.cloud.loop.run(self.start + self.seconds + 4)
        self.latency.settle(self.cloud.telemetry.blocks, self.cloud.waf.updates)

    @property
    def elapsed(self) -> float:
        return self.cloud.now() - self.start

    def attackers_blocked(self) -> tuple[list[Actor], list[Actor]]:
        """Attackers, and those of them that were blocked."""
        attackers = [actor for actor in self.actors if actor.attacker]
        return attackers, [actor for actor in attackers if self._covered(actor)]

    def bystanders_blocked(self) -> tuple[list[Actor], list[Actor]]:
        bystanders = [actor for actor in self.actors if not actor.attacker]
        return bystanders, [actor for actor in bystanders if self._covered(actor)]

    def _covered(self, actor: Actor) -> bool:
        blocked = self._blocked()
        return all(
            any(covers(network, parse_network(text)) for network in blocked[parse_network(text).version])
            for text in actor.networks
        )

    def _blocked(self) -> dict[int, set[Network]]:
        blocked: dict[int, set[Network]] = {4: set(), 6: set()}
        for block in self.cloud.telemetry.blocks:
            blocked[block.network_value().version].add(block.network_value())
        return blocked

    def summary(self) -> dict[str, Any]:
        attackers, caught = self.attackers_blocked()
        bystanders, hit = self.bystanders_blocked()
        short = [b for b in self.cloud.telemetry.blocks if b.until <= self.start + self.seconds - SETTLE_S / 12]
        lifted = {(block.network, block.blocked_at) for block in self.cloud.telemetry.lifted}
        released = all((block.network, block.blocked_at) in lifted for block in short)
        account = summary(self.cloud, self.latency)
        account["attackers"] = {"total": len(attackers), "blocked": len(caught)}
        account["bystanders"] = {"total": len(bystanders), "blocked": len(hit)}
        account["ok"] = len(caught) == len(attackers) and not hit and bool(lifted) and released
        return account


def covers(wide: Network, narrow: Network) -> bool:
    """Whether ``narrow`` lies within ``wide``."""
    return wide.version == narrow.version and narrow.subnet_of(wide)  # type: ignore[arg-type]


def summary(cloud: LocalCloud, latency: Latency) -> dict[str, Any]:
    """What every run ends with, as one JSON object; ``ok`` unless an invocation or a publish failed."""
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
        "blocks": [_told(block) for block in telemetry.blocks],
        "outcomes": telemetry.outcomes,
        "failures": failures,
        "ok": not failures,
    }


def _told(block: Block) -> dict[str, Any]:
    evidence = block.evidence
    return {
        "client": block.network,
        "rule": block.rule,
        "count": evidence.count if evidence else None,
        "limit": evidence.limit if evidence else None,
        "window_s": evidence.window_s if evidence else None,
        "blocked_at": block.blocked_at,
        "until": block.until,
    }


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    """Median and 99th percentile; None where nothing was measured."""
    if not seconds:
        return {"p50": None, "p99": None}
    p99 = quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0]
    return {"p50": round(median(seconds), 3), "p99": round(p99, 3)}


def replay_lines(cloud: LocalCloud, lines: Iterable[tuple[float | None, bytes]], latency: Latency) -> None:
    """Feeds ``lines`` (epoch seconds or None, and record) in their order; the cloud's clock follows their times.

    A line that is far ahead of those after it does not move the clock: its time is wrong, or it would make all others
    late. Returns when everything is ingested and published.
    """
    cloud.start()
    settled = cloud.now()
    for moment, record in _steadied(lines):
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


def _steadied(lines: Iterable[tuple[float | None, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Records and when to deliver them: times that never go back, outliers ignored."""
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
