"""The demo's stand-in for CloudFront: serves simulated requests, obeys the IP sets and writes log lines."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from chalicelib.core.addresses import pack
from chalicelib.core.responses import Response
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


IMMUNITY_S = 300.0
"""Seconds for which the token of a solved challenge or puzzle is valid: AWS WAF's default."""

SLOW_LIMIT, RATE_WINDOW_S = 10, 60.0
"""Requests within so many seconds that the response slow lets pass."""


class Edge:
    """CloudFront and its web ACL: answers the clients in the published IP sets, and learns of each update late.

    As in the rule group, the rules of harder responses come first.
    """

    def __init__(
        self,
        updates: Sequence[Update],
        delay_s: float = PROPAGATION_S,
        responses: Mapping[str, Response] | None = None,
        solves: Callable[[bytes], bool] = lambda _: False,
        allows: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """``updates``: all updates of the IP sets, a list that grows.

        ``delay_s``: seconds until an update takes effect, whether it adds an address or removes it. ``responses``: by
        name, those of IP sets that do not block. ``solves`` returns whether a client solves challenges and puzzles,
        and ``allows`` whether a rule before Sluice's allows its requests, so that Sluice's never see them.
        """
        self._updates = updates
        self._delay_s = delay_s
        self._responses = responses or {}
        self._solves = solves
        self._allows = allows
        self._applied = 0
        self._published = {response: Published() for response in Response}
        self._solved_at: dict[bytes, float] = {}
        self._passed: dict[bytes, deque[float]] = {}
        """When requests of each slowed client have passed, at most ``SLOW_LIMIT`` of them."""

    def answer(self, client: bytes, now: float) -> Response | None:
        """Returns the response that answers a request of ``client`` (packed) at ``now``, or None if it is served.

        ``now`` never decreases. A client that solves a challenge does so when it is first asked.
        """
        while self._applied < len(self._updates) and self._updates[self._applied][0] <= now - self._delay_s:
            update = self._updates[self._applied]
            self._published[self._responses.get(update[1], Response.BLOCK)].apply(update)
            self._applied += 1
        if self._allows(client):
            return None
        for response, published in self._published.items():
            if published.contains(client) and self._stops(response, client, now):
                return response
        return None

    def _stops(self, response: Response, client: bytes, now: float) -> bool:
        """Returns whether the rule of ``response`` stops a request of a client that is in its IP sets."""
        match response:
            case Response.BLOCK:
                return True
            case Response.CAPTCHA | Response.CHALLENGE:
                if now < self._solved_at.get(client, -IMMUNITY_S) + IMMUNITY_S:
                    return False
                if self._solves(client):
                    self._solved_at[client] = now
                return True
            case Response.SLOW:
                passed = self._passed.setdefault(client, deque())
                while passed and passed[0] <= now - RATE_WINDOW_S:
                    passed.popleft()
                if len(passed) >= SLOW_LIMIT:
                    return True
                passed.append(now)
        return False


def softer_sets(cloud: LocalCloud) -> dict[str, Response]:
    """Returns the responses of the local cloud's IP sets that do not block, by name."""
    return {ip_set.name: ip_set.response for ip_set in cloud.config.softer_ip_sets}


STATUSES = {Response.CAPTCHA: 405, Response.CHALLENGE: 202}
"""Status of a request without a token, by response that asks for one."""


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
        self._edge = Edge(cloud.waf.updates, responses=softer_sets(cloud))
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
            answer = self._edge.answer(pack(request.address) or b"", at)
            refused = answer is not None
            status = STATUSES.get(answer, self._cloud.config.block_status) if answer is not None else request.status
            record = log_line(request, at, status, next(self._numbers))
            counts = self.counts
            counts.requests[hit.actor] += 1
            counts.refused[hit.actor] += refused
            counts.recent.append((at, hit.actor))
            while counts.recent[0][0] < at - RECENT_S:
                counts.recent.popleft()
        arrives = at + self._random.uniform(*LOG_DELAY_S)
        heappush(self._in_transit, (arrives, next(self._numbers), record))
