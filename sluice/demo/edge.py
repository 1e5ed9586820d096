"""The demo's stand-in for CloudFront: serves simulated requests, obeys the IP sets and writes log lines."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from chalicelib.core.addresses import pack
from chalicelib.core.refusals import REFUSAL_STATUS
from sluice.demo.actors import Hit, log_line
from sluice.demo.published import Published, Update
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
    """CloudFront and its web ACL: refuses the clients in the published IP sets, and learns of each update late."""

    def __init__(self, updates: Sequence[Update], delay_s: float = PROPAGATION_S) -> None:
        """``updates``: all updates of the IP sets, a list that grows.

        ``delay_s``: seconds until an update takes effect, whether it adds an address or removes it.
        """
        self._updates = updates
        self._delay_s = delay_s
        self._applied = 0
        self._published = Published()

    def refuses(self, client: bytes, now: float) -> bool:
        """Returns whether a request of ``client`` (packed) at ``now`` is refused; ``now`` never decreases."""
        while self._applied < len(self._updates) and self._updates[self._applied][0] <= now - self._delay_s:
            self._published.apply(self._updates[self._applied])
            self._applied += 1
        return self._published.contains(client)


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
        self._edge = Edge(cloud.waf.updates)
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
            refused = self._edge.refuses(pack(request.address) or b"", at)
            record = log_line(request, at, REFUSAL_STATUS if refused else request.status, next(self._numbers))
            counts = self.counts
            counts.requests[hit.actor] += 1
            counts.refused[hit.actor] += refused
            counts.recent.append((at, hit.actor))
            while counts.recent[0][0] < at - RECENT_S:
                counts.recent.popleft()
        arrives = at + self._random.uniform(*LOG_DELAY_S)
        heappush(self._in_transit, (arrives, next(self._numbers), record))
