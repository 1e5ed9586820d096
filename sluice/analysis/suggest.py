"""Suggests limits from a log: from each client's peak, and from the gap between people and machines."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, log10, sqrt

from chalicelib.core.addresses import Network, NetworkSet, network_of
from chalicelib.core.allowance import Allowance
from chalicelib.core.durations import format_duration
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Slots
from chalicelib.core.rules import LARGEST_LIMIT, Action, Rule, RuleSet
from chalicelib.core.sampling import Sampling
from chalicelib.core.scope import Scope
from chalicelib.core.wording import plural
from sluice.replay.breaches import peak
from sluice.replay.counts import Ledger
from sluice.replay.strips import LogStats

PERCENTILES = (99.0, 99.5, 99.9, 99.95, 99.99)
GAP_FROM = 95.0
"""Percentile from which a gap is searched for: clients below it are people."""

WIDEST_RATIO_OF_PEOPLE = 1.5
"""Neighbouring peaks in the distribution with a larger ratio than this have a gap between them."""

FEWEST_OF_A_MACHINE = 10
"""Fewest requests of a machine in a window; among smaller counts, a factor of two is chance."""

FEWEST_CLIENTS = 1000
SHORTEST_S = 3600
FEWEST_SAMPLED = 20
"""Fewest requests in a sampled log that a limit should amount to; below, chance decides which clients exceed it."""

CRAWLERS = (
    *("Googlebot", "bingbot", "Applebot", "DuckDuckBot", "YandexBot", "Baiduspider", "facebookexternalhit"),
    *("LinkedInBot", "Twitterbot", "archive.org_bot", "AdsBot-Google", "UptimeRobot", "Pingdom"),
)
"""Parts of the User-Agent of crawlers that a site may want to admit. Any client can send them."""

CRAWLER_RULE = "crawlers"


@dataclass(frozen=True, slots=True)
class ListedClient:
    """A client that is listed by itself, in the form that ``--json`` prints."""

    client: Network
    peaks: tuple[int, ...]
    """Its peak in each window."""
    requests: int


@dataclass(slots=True)
class PeakDistribution:
    """Number of clients per peak within one window."""

    window_s: int
    clients: Counter[int] = field(default_factory=Counter)
    """Clients by peak."""
    requests: Counter[int] = field(default_factory=Counter)
    """Requests of these clients, by peak of the client."""

    def percentile(self, percent: float) -> int:
        """Returns the smallest peak that at least ``percent`` of the clients do not exceed; 0 without clients.

        >>> PeakDistribution(10, Counter({1: 98, 7: 1, 50: 1})).percentile(99)
        7
        """
        rank, below = ceil(self.clients.total() * percent / 100), 0
        for value in sorted(self.clients):
            below += self.clients[value]
            if below >= rank:
                return value
        return 0

    def above(self, limit: int) -> tuple[int, int]:
        """Returns the number of clients over ``limit`` and of all their requests."""
        over = [value for value in self.clients if value > limit]
        return sum(self.clients[value] for value in over), sum(self.requests[value] for value in over)

    def gap(self) -> tuple[int, int] | None:
        """Returns the peaks on both sides of the lowest gap among the busiest clients, or None without a gap.

        >>> PeakDistribution(10, Counter({1: 900, 12: 99, 15: 1, 400: 1, 900: 2})).gap()
        (15, 400)
        """
        floor = self.percentile(GAP_FROM)
        for low, high in pairwise(value for value in sorted(self.clients) if value >= floor):
            if high > low * WIDEST_RATIO_OF_PEOPLE and high >= FEWEST_OF_A_MACHINE:
                return low, high
        return None

    def rows(self, requests: int) -> list[tuple[float, int, int, float]]:
        """Returns each percentile, the limit there, the clients over it, and their share of ``requests``, 0 to 1."""
        limits = [(percent, self.percentile(percent)) for percent in PERCENTILES]
        above = [self.above(limit) for _, limit in limits]
        return [
            (*row, clients, theirs / max(requests, 1)) for row, (clients, theirs) in zip(limits, above, strict=True)
        ]

    def suggestion(self) -> int:
        """Returns a limit: within the gap, or else twice the 99th percentile."""
        gap = self.gap()
        return rounded(sqrt(gap[0] * gap[1])) if gap else rounded(2 * max(self.percentile(99), 1))


def rounded(number: float) -> int:
    """Rounds up to two significant digits.

    >>> rounded(7.2), rounded(77.4), rounded(1234)
    (8, 78, 1300)
    """
    step = int(10 ** max(0, int(log10(max(number, 1))) - 1))
    return ceil(number / step) * step


class PeakCollector:
    """A collector of all clients' peaks, fed with the ledgers of a replay of ``self.rules``."""

    def __init__(
        self,
        windows_s: Sequence[int],
        allowlist: Iterable[Network],
        sampling: Sampling,
        published: NetworkSet | None = None,
    ) -> None:
        """``published``: the networks of crawlers; None if a crawler is known by its User-Agent alone."""
        self._windows = [
            Rule(name=f"all-{format_duration(window_s)}", limit=LARGEST_LIMIT, window_s=window_s)
            for window_s in windows_s
        ]
        self._crawler = Rule(name=CRAWLER_RULE, limit=LARGEST_LIMIT, window_s=1000, scope=Scope(user_agent=CRAWLERS))
        self.rules = RuleSet((*self._windows, self._crawler))
        self._allowlist = NetworkSet(allowlist)
        self._published = published
        self._sampling = sampling
        self.by_window = [PeakDistribution(window_s) for window_s in windows_s]
        self.crawlers: list[ListedClient] = []
        self.impostors: list[ListedClient] = []
        """Clients that call themselves crawlers from addresses that are not published. They are measured."""
        self.allowlisted: list[ListedClient] = []

    @property
    def verifies(self) -> bool:
        """True if crawlers are known by their addresses."""
        return self._published is not None

    def add(self, ledger: Ledger) -> None:
        clients: dict[bytes, list[list[tuple[Sampling, Slots]]]] = {}
        for number, rule in enumerate(self._windows):
            for source in Source:
                for client, slots in ledger.clients(source, rule):
                    clients.setdefault(client, [[] for _ in self._windows])[number].append(
                        (self._sampling.of(source), slots)
                    )
        as_crawler: Counter[bytes] = Counter()
        for source in Source:
            for client, slots in ledger.clients(source, self._crawler):
                as_crawler[client] += self._sampling.of(source).made(sum(slots.values()))
        for client, by_window in clients.items():
            # Each source is counted separately, as in rules; the larger peak is used.
            peaks = tuple(
                max(sampling.made(peak(slots, Allowance(rule.resolution, rule.limit))) for sampling, slots in by_source)
                for rule, by_source in zip(self._windows, by_window, strict=True)
            )
            requests = sum(sampling.made(sum(slots.values())) for sampling, slots in by_window[0])
            network = network_of(client, *self._crawler.prefixes)
            listed = ListedClient(network, peaks, requests)
            says_so = 2 * as_crawler[client] > requests
            if self._allowlist.overlaps(network):
                self.allowlisted.append(listed)
                continue
            if says_so if self._published is None else self._published.overlaps(network):
                self.crawlers.append(listed)
                continue
            if says_so:
                self.impostors.append(listed)
            for distribution, highest in zip(self.by_window, peaks, strict=True):
                distribution.clients[highest] += 1
                distribution.requests[highest] += requests


def doubts(stats: LogStats, distributions: Sequence[PeakDistribution], sampling: Sampling) -> list[str]:
    """Returns the reasons why the log may be too small or too coarse for the suggested limits."""
    reasons = []
    span_s = 0 if stats.first_ms is None or stats.last_ms is None else (stats.last_ms - stats.first_ms) // 1000
    if span_s < SHORTEST_S:
        reasons.append(f"the log is short: {span_s / 60:.0f} minutes may not include the busiest hour of a day")
    for distribution in distributions:
        window = format_duration(distribution.window_s)
        limit = distribution.suggestion()
        if span_s < 20 * distribution.window_s:
            reasons.append(f"{window}: the log spans fewer than 20 such windows")
        if Source.CLOUDFRONT in stats.sources and sampling.percent < 100 and sampling.logged(limit) < FEWEST_SAMPLED:
            reasons.append(
                f"{window}: at {sampling.percent} % sampling, a limit of {limit:,} is {sampling.logged(limit)} sampled "
                f"requests; below {FEWEST_SAMPLED}, chance decides which clients exceed it"
            )
    clients = distributions[0].clients.total() if distributions else 0
    if clients < FEWEST_CLIENTS:
        percentile = 100 - 1000 / max(clients, 10)
        reasons.append(f"few clients: with {clients:,}, percentiles above {percentile:.1f} depend on single clients")
    in_seconds = {Source.STANDARD, Source.WEB_SERVER} & stats.sources.keys()
    if in_seconds and any(distribution.window_s < 5 for distribution in distributions):
        reasons.append("the log's times are whole seconds: windows shorter than 5 s are coarse")
    return reasons


def rule_file(distributions: Sequence[PeakDistribution], comments: Sequence[str]) -> str:
    """Returns TOML with ``comments`` and, for each window, a rule that only counts."""
    parts = ["\n".join(f"# {comment}".rstrip() for comment in comments)]
    for distribution in distributions:
        clients, requests = distribution.above(distribution.suggestion())
        window = format_duration(distribution.window_s)
        parts.append(
            f"[[rule]]\n"
            f'name = "all-{window}"\n'
            f"limit = {distribution.suggestion()}   # exceeded in this log by {plural(clients, 'client')}, "
            f"{plural(requests, 'request')}\n"
            f'window = "{window}"\n'
            f'action = "{Action.COUNT}"   # change to "{Action.BLOCK}" once you trust it\n'
            f'block_for = "10m"'
        )
    return "\n\n".join(parts) + "\n"
