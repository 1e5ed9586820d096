"""Time to block: from the moment the offending record is readable in Kinesis to the update of the IP set.

The offending record is found by an exact search through the records in the order they became readable. Of the code
being measured, only decoding and scopes are used.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from chalicelib.core.addresses import PrefixMemo, parse_network
from chalicelib.core.buckets import Drain, walk_levels
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.measures import Measure
from chalicelib.core.rates import Rate
from chalicelib.core.rules import Rule
from chalicelib.core.state.blocks import Block
from sluice.demo.published import Published, Update

KEPT_S = 120
"""Seconds that records are kept beyond the longest window, for blocks not published yet."""

_Offence = tuple[str, str]
"""Rule and network of a block."""


def first_over(times_ms: Iterable[int], limit: int, window_ms: int, rate: Rate | None = None) -> int | None:
    """Returns the index of the time that first puts more than ``limit`` times within less than ``window_ms``, or None.

    With a rate, it is the one that first puts a level of a bucket over ``limit``.

    >>> first_over([0, 900, 100, 1000], 2, 1000)
    2
    >>> first_over([0, 500, 1000], 2, 1000) is None
    True
    >>> first_over([0, 500, 3000, 1000, 1001, 1002], 3, 60_000, Rate(1, 1))
    5
    """
    past: list[int] = []
    drain = None if rate is None else Drain.of(rate, 1)
    for index, time in enumerate(times_ms):
        at = bisect_left(past, time)
        insort(past, time)
        if drain is not None:
            if any(level.since >= 0 for level in walk_levels(past, [1] * len(past), window_ms, drain, limit)):
                return index
            continue
        for start in range(max(0, at - limit), at + 1):
            end = start + limit
            if end < len(past) and past[end] - past[start] < window_ms:
                return index
    return None


class Latency:
    """Measurements of blocks as they are published: the first for each client and rule that counts whole clients."""

    def __init__(self, decoder: BatchDecoder, rules: Sequence[Rule]) -> None:
        self._decoder = decoder
        self._rules = {rule.name: rule for rule in rules if rule.measure is Measure.REQUESTS and not rule.by}
        self._prefixes = {rule.name: PrefixMemo(*rule.prefixes) for rule in rules}
        self._arrivals: deque[tuple[float, bytes]] = deque()
        self._measured: set[_Offence] = set()
        self._pending: dict[_Offence, Block] = {}
        """Blocks that no update has published yet."""
        self._published = Published()
        self._blocks = self._updates = 0
        """Numbers of blocks and updates that have been settled."""
        self.seconds: list[float] = []

    def arrived(self, moment: float, record: bytes) -> None:
        """Notes that ``record`` is readable from ``moment`` (epoch seconds), which never decreases."""
        self._arrivals.append((moment, record))

    def settle(self, blocks: Sequence[Block], updates: Sequence[Update]) -> None:
        """Measures ``blocks`` against the ``updates`` of the IP sets, and discards old records. Both lists grow."""
        for block in blocks[self._blocks :]:
            offence = (block.rule, block.network)
            if block.rule in self._rules and offence not in self._measured:
                self._measured.add(offence)
                self._pending[offence] = block
        published: dict[_Offence, float] = {}
        for update in updates[self._updates :]:
            self._published.apply(update)
            published |= self._take_published(update[0])
        self._blocks, self._updates = len(blocks), len(updates)
        readable = self._readable_at(published.keys()) if published else {}
        self.seconds += [
            max(0.0, moment - readable[offence]) for offence, moment in published.items() if offence in readable
        ]
        longest = max((rule.window_s for rule in self._rules.values()), default=0)
        while self._arrivals and self._arrivals[0][0] < self._arrivals[-1][0] - longest - KEPT_S:
            self._arrivals.popleft()
        if self._arrivals:
            gone = [o for o, block in self._pending.items() if block.blocked_at < self._arrivals[-1][0] - KEPT_S]
            for offence in gone:  # on the allowlist, or one too many for the IP sets
                del self._pending[offence]

    def _take_published(self, moment: float) -> dict[_Offence, float]:
        """Removes the pending blocks that are published at ``moment``, and returns that moment for each of them."""
        published = [
            offence
            for offence, block in self._pending.items()
            if block.blocked_at <= moment and self._published.contains(block.network_value().network_address.packed)
        ]
        for offence in published:
            del self._pending[offence]
        return dict.fromkeys(published, moment)

    def _readable_at(self, offences: Collection[_Offence]) -> dict[_Offence, float]:
        """Returns when the record that exceeded the limit became readable, for each offence."""
        by_client = {(rule, parse_network(name).network_address.packed): (rule, name) for rule, name in offences}
        rules = {self._rules[rule] for rule, _ in offences}
        requests_of: dict[_Offence, list[tuple[int, float]]] = {}
        for moment, record in self._arrivals:
            for requests in self._decoder.decode([record]).requests:
                for rule in rules:
                    offence = by_client.get((rule.name, self._prefixes[rule.name][requests.clients[0]]))
                    if offence is not None and rule.scope.rows(requests) != ():
                        requests_of.setdefault(offence, []).append((requests.times[0], moment))
        moments = {}
        for offence, arrivals in requests_of.items():
            rule = self._rules[offence[0]]
            index = first_over((time for time, _ in arrivals), rule.limit, rule.window_s * 1000, rule.rate)
            if index is not None:
                moments[offence] = arrivals[index][1]
        return moments
