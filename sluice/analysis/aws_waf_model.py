"""A model of AWS WAF's rate-based rule, built from its documentation and not from measurements.

Documented facts (AWS WAF Developer Guide, "Rate-based rule statement"; WAFV2 API reference): the limit is 10 or more in
a window of 60, 120, 300 or 600 seconds; the rate is checked about every 10 seconds; blocking usually begins 30 to 50
seconds after the limit is exceeded; there is no ban, so an address is unblocked when its rate falls below the limit;
refused requests count. AWS WAF's limits are not exact ("not intended for precise request-rate limiting"); the model's
are, which favours AWS WAF.
"""

from dataclasses import dataclass

from chalicelib.core.addresses import Network, network_of
from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Slots
from chalicelib.core.rules import Action, Rule, RuleSet
from chalicelib.core.sampling import Sampling
from chalicelib.core.tally import folded
from sluice.analysis.compare import BlockedNetwork
from sluice.replay.counts import Ledger
from sluice.replay.rule_sets import every_request, with_every_request

CHECK_S = 10
WINDOWS_S = (60, 120, 300, 600)
LEAST_LIMIT, LARGEST_LIMIT = 10, 2_000_000_000
SHORTEST_LAG_S, LONGEST_LAG_S = 30, 50


@dataclass(frozen=True, slots=True)
class RateBasedRule:
    limit: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> "RateBasedRule":
        """Parses ``limit/window``. Raises ValueError for a rule that AWS WAF does not accept.

        >>> RateBasedRule.parse("100/60s")
        RateBasedRule(limit=100, window_s=60)
        """
        limit, _, window = text.partition("/")
        accepted = (
            f"a limit of {LEAST_LIMIT:,} to {LARGEST_LIMIT:,} and a window of 60s, 2m, 5m or 10m, such as 100/60s"
        )
        try:
            rule = cls(int(limit), parse_duration(window))
        except ValueError as exc:
            raise ValueError(f"{text!r} is not {accepted}") from exc
        if not LEAST_LIMIT <= rule.limit <= LARGEST_LIMIT or rule.window_s not in WINDOWS_S:
            raise ValueError(f"{text!r}: AWS WAF accepts {accepted}")
        return rule

    def __str__(self) -> str:
        return f"{self.limit}/{format_duration(self.window_s)}"


def refused_spans(seconds: Slots, rule: RateBasedRule, lag_s: int) -> list[tuple[int, int]]:
    """Returns when a client is refused: spans of epoch seconds, start inclusive, end exclusive.

    ``seconds`` are its requests by epoch second. A check at t sees the requests from t - window (inclusive) to t
    (exclusive); its outcome takes effect ``lag_s`` later.

    >>> refused_spans({0: 10, 5: 1}, RateBasedRule(10, 60), lag_s=30)
    [(40, 100)]
    """
    by_check = folded(seconds, CHECK_S)
    reach = rule.window_s // CHECK_S
    # The check at 10 * n sees the tens n - reach to n - 1. Its sum changes only where a ten enters or leaves.
    changes = sorted({n for ten in by_check for n in (ten + 1, ten + 1 + reach)})
    spans: list[tuple[int, int]] = []
    since: int | None = None
    total = 0
    for n in changes:
        total += by_check.get(n - 1, 0) - by_check.get(n - 1 - reach, 0)
        if total > rule.limit and since is None:
            since = n * CHECK_S + lag_s
        elif total <= rule.limit and since is not None:
            spans.append((since, n * CHECK_S + lag_s))
            since = None
    return spans


class RateBasedModel:
    """A collector of the clients that a rate-based rule refuses, fed with the ledgers of a replay of ``self.rules``."""

    def __init__(self, rule: RateBasedRule, lag_s: int, sampling: Sampling) -> None:
        self.rule = rule
        self.lag_s = lag_s
        self._sampling = sampling
        # AWS WAF counts single addresses, of IPv6 as well. Because this rule has its limit, the prefilter keeps every
        # client that can be over that limit.
        counting = Rule(
            name="aws-waf",
            limit=rule.limit,
            window_s=rule.window_s,
            resolution=rule.window_s,  # slots of one second
            ipv6_prefix=128,
            action=Action.COUNT,
        )
        self.rules = RuleSet((counting,))
        self._every_request = every_request(with_every_request(self.rules))
        self.blocked: dict[Network, BlockedNetwork] = {}

    def add(self, ledger: Ledger) -> None:
        clients: dict[bytes, tuple[int, Sampling, Slots]] = {}
        for source in Source:
            sampling = self._sampling.of(source)
            for client, slots in ledger.clients(source, self._every_request):
                # Two logs may hold the same requests: the one that has more of them is used.
                requests = sampling.made(sum(slots.values()))
                if client not in clients or requests > clients[client][0]:
                    clients[client] = requests, sampling, slots
        for client, (_, sampling, slots) in clients.items():
            rule = RateBasedRule(sampling.logged(self.rule.limit), self.rule.window_s)
            seconds = folded(slots, 1000 // self._every_request.slot_ms)
            spans = refused_spans(seconds, rule, self.lag_s)
            if spans:
                network = network_of(client, *self._every_request.prefixes)
                refused = sum(n for second, n in seconds.items() if any(a <= second < b for a, b in spans))
                made = sampling.made(refused)
                self.blocked[network] = BlockedNetwork(network, spans[0][0], made, ("rate-based",))
