"""Limits read off a log: how busy each client was at its busiest, and where people end and machines begin."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, log10, sqrt

from chalicelib.core.addresses import Network, NetworkSet, network_of
from chalicelib.core.durations import format_duration
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import LARGEST_LIMIT, Action, Rule, RuleSet
from chalicelib.core.scope import Scope
from chalicelib.core.tally import Slots
from sluice.replay.counts import Ledger
from sluice.replay.strips import Seen
from sluice.replay.verdicts import peak

PERCENTILES = (99.0, 99.5, 99.9, 99.95, 99.99)
GAP_FROM = 95.0
"""Percentile above which a gap is looked for: below it everybody is a person."""
WIDEST_RATIO_OF_PEOPLE = 1.5
"""Two clients next to each other in the distribution, further apart than this, have a gap between them."""

FEWEST_OF_A_MACHINE = 10
"""Requests in a window; among smaller counts twice as many is chance."""

FEWEST_CLIENTS = 1000
SHORTEST_S = 3600
FEWEST_SAMPLED = 20
"""Requests of a sampled log that a limit must stand for, or chance decides who is over it."""

CRAWLERS = (
    *("Googlebot", "bingbot", "Applebot", "DuckDuckBot", "YandexBot", "Baiduspider", "facebookexternalhit"),
    *("LinkedInBot", "Twitterbot", "archive.org_bot", "AdsBot-Google", "UptimeRobot", "Pingdom"),
)
"""Parts of the User-Agent of crawlers a site may want to keep. Anybody can send them."""
CRAWLER_RULE = "crawlers"


@dataclass(frozen=True, slots=True)
class Apart:
    """A client left out of the distribution."""

    network: Network
    peaks: tuple[int, ...]
    requests: int


@dataclass(slots=True)
class Distribution:
    """Clients and requests by the clients' peaks in one window."""

    window_s: int
    clients: Counter[int] = field(default_factory=Counter)
    requests: Counter[int] = field(default_factory=Counter)

    def percentile(self, percent: float) -> int:
        """The smallest peak that at least ``percent`` of the clients do not exceed; 0 without clients.

        >>> Distribution(10, Counter({1: 98, 7: 1, 50: 1})).percentile(99)
        7
        """
        rank, below = ceil(self.clients.total() * percent / 100), 0
        for value in sorted(self.clients):
            below += self.clients[value]
            if below >= rank:
                return value
        return 0

    def above(self, limit: int) -> tuple[int, int]:
        """Clients over ``limit``, and all their requests."""
        over = [value for value in self.clients if value > limit]
        return sum(self.clients[value] for value in over), sum(self.requests[value] for value in over)

    def gap(self) -> tuple[int, int] | None:
        """The peaks on both sides of the lowest gap among the busiest clients, if there is one.

        >>> Distribution(10, Counter({1: 900, 12: 99, 15: 1, 400: 1, 900: 2})).gap()
        (15, 400)
        """
        floor = self.percentile(GAP_FROM)
        for low, high in pairwise(value for value in sorted(self.clients) if value >= floor):
            if high > low * WIDEST_RATIO_OF_PEOPLE and high >= FEWEST_OF_A_MACHINE:
                return low, high
        return None

    def suggestion(self) -> int:
        """A limit: within the gap, or twice what all but one client in a hundred stay below."""
        gap = self.gap()
        return rounded(sqrt(gap[0] * gap[1])) if gap else rounded(2 * max(self.percentile(99), 1))


def rounded(number: float) -> int:
    """Up to two digits that count.

    >>> rounded(7.2), rounded(77.4), rounded(1234)
    (8, 78, 1300)
    """
    step = int(10 ** max(0, int(log10(max(number, 1))) - 1))
    return ceil(number / step) * step


class Distributions:
    """Collects the peaks of all clients, window by window, from the ledgers of a replay of ``self.rules``."""

    def __init__(self, windows_s: Sequence[int], allowlist: Iterable[Network], sample_rate: int) -> None:
        every = [
            Rule(name=f"all-{format_duration(window_s)}", limit=LARGEST_LIMIT, window_s=window_s)
            for window_s in windows_s
        ]
        self._windows = every
        self._crawler = Rule(name=CRAWLER_RULE, limit=LARGEST_LIMIT, window_s=1000, scope=Scope(user_agent=CRAWLERS))
        self.rules = RuleSet((*every, self._crawler))
        self._allowlist = NetworkSet(allowlist)
        self._sample_rate = sample_rate
        self.by_window = [Distribution(window_s) for window_s in windows_s]
        self.crawlers: list[Apart] = []
        self.allowlisted: list[Apart] = []

    def look(self, number: int, ledger: Ledger) -> None:  # noqa: ARG002
        """Takes in a ledger; every client is in one only."""
        clients: dict[bytes, list[list[Slots]]] = {}
        for place, rule in enumerate(self._windows):
            for source in Source:
                for client, slots in ledger.clients(source, rule):
                    clients.setdefault(client, [[] for _ in self._windows])[place].append(slots)
        declared = self._declared(ledger)
        for client, slots_of in clients.items():
            # Each log is counted by itself, as rules do; the busier one tells.
            peaks = tuple(
                self._scaled(max(peak(slots, rule.resolution) for slots in logs))
                for rule, logs in zip(self._windows, slots_of, strict=True)
            )
            requests = self._scaled(sum(sum(slots.values()) for slots in slots_of[0]))
            network = network_of(client, *self._crawler.prefixes)
            if self._allowlist.overlaps(network):
                self.allowlisted.append(Apart(network, peaks, requests))
            elif 2 * self._scaled(declared[client]) > requests:
                self.crawlers.append(Apart(network, peaks, requests))
            else:
                for distribution, highest in zip(self.by_window, peaks, strict=True):
                    distribution.clients[highest] += 1
                    distribution.requests[highest] += requests

    def _declared(self, ledger: Ledger) -> Counter[bytes]:
        """Requests by client that named a crawler as their User-Agent."""
        declared: Counter[bytes] = Counter()
        for source in Source:
            for client, slots in ledger.clients(source, self._crawler):
                declared[client] += sum(slots.values())
        return declared

    def _scaled(self, count: int) -> int:
        return count * 100 // self._sample_rate


def doubts(seen: Seen, distributions: Sequence[Distribution], sample_rate: int) -> list[str]:
    """Why the log may not be enough to tell."""
    found = []
    span_s = 0 if seen.first_ms is None or seen.last_ms is None else (seen.last_ms - seen.first_ms) // 1000
    if span_s < SHORTEST_S:
        found.append(f"the log is short: {span_s / 60:.0f} minutes do not show the busiest hour of a day")
    for distribution in distributions:
        window = format_duration(distribution.window_s)
        clients, limit = distribution.clients.total(), distribution.suggestion()
        if span_s < 20 * distribution.window_s:
            found.append(f"{window}: the log holds fewer than 20 such windows")
        if sample_rate < 100 and limit * sample_rate // 100 < FEWEST_SAMPLED:
            found.append(
                f"{window}: at {sample_rate} % sampling a limit of {limit:,} is {limit * sample_rate // 100} sampled "
                f"requests; chance decides below {FEWEST_SAMPLED}"
            )
    clients = distributions[0].clients.total() if distributions else 0
    if clients < FEWEST_CLIENTS:
        found.append(
            f"few clients: of {clients:,}, a percentile above {100 - 1000 / max(clients, 10):.1f} is one of a few"
        )
    whole = {Source.STANDARD, Source.WEB_SERVER} & seen.sources.keys()
    if whole and any(distribution.window_s < 5 for distribution in distributions):
        found.append("the log's times are whole seconds: windows under 5 s are coarse")
    return found


def rule_file(distributions: Sequence[Distribution], comments: Sequence[str]) -> str:
    """TOML: a rule that counts for each window; ``comments`` on top."""
    parts = ["\n".join(f"# {comment}".rstrip() for comment in comments)]
    for distribution in distributions:
        clients, requests = distribution.above(distribution.suggestion())
        window = format_duration(distribution.window_s)
        parts.append(
            f"[[rule]]\n"
            f'name = "all-{window}"\n'
            f"limit = {distribution.suggestion()}   # over it in this log: {clients:,} clients, {requests:,} requests\n"
            f'window = "{window}"\n'
            f'action = "{Action.COUNT}"   # until you trust it; then "{Action.BLOCK}"\n'
            f'block_for = "10m"'
        )
    return "\n\n".join(parts) + "\n"
