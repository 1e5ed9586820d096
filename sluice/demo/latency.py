"""How long a block took: from the offending record being readable in Kinesis to the update of the IP set.

Which record offended is found by an exact look at what had become readable, record by record, and owes nothing to
the code that is measured but decoding and scope.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from chalicelib.core.addresses import NetworkSet, PrefixMemo, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.rules import Rule
from chalicelib.core.state import Block

KEPT_S = 120
"""How long records are kept beyond the longest window, for blocks that are still on their way."""


def first_over(times_ms: Iterable[int], limit: int, window_ms: int) -> int | None:
    """Index of the first time with which more than ``limit`` of those so far lie within less than ``window_ms``.

    >>> first_over([0, 900, 100, 1000], 2, 1000)
    2
    >>> first_over([0, 500, 1000], 2, 1000) is None
    True
    """
    held: list[int] = []
    for index, time in enumerate(times_ms):
        at = bisect_left(held, time)
        insort(held, time)
        for start in range(max(0, at - limit), at + 1):
            end = start + limit
            if end < len(held) and held[end] - held[start] < window_ms:
                return index
    return None


class Latency:
    """Measures blocks as they come; of a client and rule only the first."""

    def __init__(self, decoder: BatchDecoder, rules: Sequence[Rule]) -> None:
        self._decoder = decoder
        self._rules = {rule.name: rule for rule in rules}
        self._prefixes = {rule.name: PrefixMemo(rule.ipv4, rule.ipv6) for rule in rules}
        self._arrivals: deque[tuple[float, bytes]] = deque()
        self._measured: set[tuple[str, str]] = set()
        self.seconds: list[float] = []

    def arrived(self, moment: float, record: bytes) -> None:
        """``record`` is readable from ``moment`` on, in epoch seconds; moments never go back."""
        self._arrivals.append((moment, record))

    def settle(self, blocks: Iterable[Block], updates: Sequence[tuple[float, str, frozenset[str]]]) -> None:
        """Measures ``blocks`` against the IP set ``updates`` (time, name, addresses), and lets old records go."""
        fresh = {}
        for block in blocks:
            who = (block.rule, block.network)
            if block.rule in self._rules and who not in self._measured:
                self._measured.add(who)
                fresh[who] = _published_at(block, updates)
        offended = self._offended(fresh.keys()) if fresh else {}
        self.seconds += [
            max(0.0, published - offended[who]) for who, published in fresh.items() if published and who in offended
        ]
        longest = max((rule.window_s for rule in self._rules.values()), default=0)
        while self._arrivals and self._arrivals[0][0] < self._arrivals[-1][0] - longest - KEPT_S:
            self._arrivals.popleft()

    def _offended(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """When the record that put each client over its rule's limit could be read."""
        names = {(rule, parse_network(network).network_address.packed): (rule, network) for rule, network in wanted}
        rules = {self._rules[rule] for rule, _ in wanted}
        seen: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for moment, record in self._arrivals:
            for requests in self._decoder.decode([record]).requests:
                for rule in rules:
                    who = names.get((rule.name, self._prefixes[rule.name][requests.clients[0]]))
                    if who is not None and rule.scope.rows(requests) != ():
                        seen.setdefault(who, []).append((requests.times[0], moment))
        moments = {}
        for who, requests_seen in seen.items():
            rule = self._rules[who[0]]
            index = first_over((time for time, _ in requests_seen), rule.limit, rule.window_s * 1000)
            if index is not None:
                moments[who] = requests_seen[index][1]
        return moments


def _published_at(block: Block, updates: Sequence[tuple[float, str, frozenset[str]]]) -> float | None:
    """When an IP set first held the block."""
    network = block.network_value()
    for moment, _, addresses in updates:
        if moment < block.blocked_at:
            continue
        if block.network in addresses or NetworkSet(map(parse_network, addresses)).overlaps(network):
            return moment
    return None
