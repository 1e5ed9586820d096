"""The demo's stand-in for CloudFront: serves simulated requests, obeys the IP sets and writes log lines."""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import chain, count
from operator import itemgetter
from random import Random

from chalicelib.core.addresses import NetworkSet, pack, parse_network
from sluice.demo.actors import Hit, log_line
from sluice.local.cloud import LocalCloud

TICK_S = 0.05
"""Seconds between two calls of ``EdgeTraffic.tick``."""

PROPAGATION_S = 1.0
"""Seconds until an IP set update takes effect at the edge. AWS documents a few seconds to a few minutes."""

LOG_DELAY_S = (0.2, 0.9)
"""Least and most seconds from a response to its log line in Kinesis. CloudFront documents "within seconds"."""

RECENT_S = 2.0
"""Seconds that ``TrafficCounts.recent`` covers."""


class Edge:
    """CloudFront and its web ACL: refuses the addresses in the published IP sets."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._updates = cloud.waf.updates
        self._applied = 0
        self._refused = NetworkSet(())

    def refuses(self, address: str, now: float) -> bool:
        applied = bisect_right(self._updates, now - PROPAGATION_S, lo=self._applied, key=itemgetter(0))
        if applied > self._applied:
            self._applied = applied
            latest = {name: addresses for _, name, addresses in self._updates[:applied]}
            self._refused = NetworkSet(map(parse_network, chain.from_iterable(latest.values())))
        return self._refused.contains(pack(address) or b"")


@dataclass(slots=True)
class TrafficCounts:
    """Requests so far, by kind of client."""

    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    recent: deque[tuple[float, str]] = field(default_factory=deque)
    """Time and kind of client of each request of the last ``RECENT_S`` seconds."""


class EdgeTraffic:
    """Simulated requests, served by the edge; each log line reaches the cloud's stream after a delay."""

    def __init__(
        self,
        cloud: LocalCloud,
        hits: Iterator[Hit],
        *,
        seed: int,
        arrived: Callable[[float, bytes], None] = lambda _now, _record: None,
    ) -> None:
        """The times of ``hits`` count from now. ``arrived`` gets each record and the time it enters the stream."""
        self.counts = TrafficCounts()
        self.start = cloud.now()
        self._cloud = cloud
        self._edge = Edge(cloud)
        self._random = Random(seed)
        self._hits = hits
        self._next: Hit | None = next(hits, None)
        self._numbers = count()
        self._in_transit: list[tuple[float, int, bytes]] = []
        self._arrived = arrived

    def tick(self) -> None:
        """Serves the requests that are due, and puts the log lines that have arrived into Kinesis."""
        now = self._cloud.now()
        while self._next is not None and self.start + self._next.at <= now:
            self._serve(self._next)
            self._next = next(self._hits, None)
        while self._in_transit and self._in_transit[0][0] <= now:
            _, _, record = heappop(self._in_transit)
            self._arrived(now, record)
            self._cloud.put(record)

    def _serve(self, hit: Hit) -> None:
        at = self.start + hit.at
        record, request = hit.garbage, hit.request
        if request is not None:
            refused = self._edge.refuses(request.address, at)
            record = log_line(request, at, 403 if refused else request.status, next(self._numbers))
            counts = self.counts
            counts.requests[hit.actor] += 1
            counts.refused[hit.actor] += refused
            counts.recent.append((at, hit.actor))
            while counts.recent[0][0] < at - RECENT_S:
                counts.recent.popleft()
        arrives = at + self._random.uniform(*LOG_DELAY_S)
        heappush(self._in_transit, (arrives, next(self._numbers), record))
