"""AWS WAF's own rate-based rule, modelled from its documentation. Modelled, not measured.

What is documented (AWS WAF Developer Guide, "Rate-based rule statement"; WAFV2 API reference): a limit of 10 or more
in a window of 60, 120, 300 or 600 seconds; the rate is looked at about every 10 seconds; blocking usually begins 30
to 50 seconds after the limit is exceeded; there is no ban, an address is let go when its rate is below the limit
again; refused requests count. Limits are not exact ("not intended for precise request-rate limiting"): the model's
are, which is in AWS WAF's favour.
"""

from dataclasses import dataclass

from chalicelib.core.addresses import Network, network_of
from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Action, Rule, RuleSet
from chalicelib.core.tally import Slots, folded
from sluice.replay.counts import Ledger, every_request, with_every_request

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
        """Of ``limit/window``; raises ValueError for what AWS WAF does not take.

        >>> RateBasedRule.parse("100/60s")
        RateBasedRule(limit=100, window_s=60)
        """
        limit, _, window = text.partition("/")
        accepted = f"a limit of {LEAST_LIMIT} or more and one of the windows 60s, 2m, 5m, 10m, such as 100/60s"
        try:
            rule = cls(int(limit), parse_duration(window))
        except ValueError as exc:
            raise ValueError(f"{text!r} is not {accepted}") from exc
        if not LEAST_LIMIT <= rule.limit <= LARGEST_LIMIT or rule.window_s not in WINDOWS_S:
            raise ValueError(f"{text!r}: AWS WAF takes {accepted}")
        return rule

    def __str__(self) -> str:
        return f"{self.limit}/{format_duration(self.window_s)}"


def refusals(seconds: Slots, rule: RateBasedRule, lag_s: int) -> list[tuple[int, int]]:
    """When a client is refused: from (inclusive) and until (exclusive), epoch seconds.

    ``seconds``: its requests by epoch second. A check at t sees the requests of t - window up to t, exclusive; what it
    finds is in force ``lag_s`` later.

    >>> refusals({0: 10, 5: 1}, RateBasedRule(10, 60), lag_s=30)
    [(40, 100)]
    """
    by_check: Slots = {}
    for second, number in seconds.items():
        check = second // CHECK_S
        by_check[check] = by_check.get(check, 0) + number
    reach = rule.window_s // CHECK_S
    # The check at 10 * n sees the tens n - reach up to n - 1. Its sum changes only where a ten comes in or leaves.
    changes = sorted({n for ten in by_check for n in (ten + 1, ten + 1 + reach)})
    found: list[tuple[int, int]] = []
    since: int | None = None
    total = 0
    for n in changes:
        total += by_check.get(n - 1, 0) - by_check.get(n - 1 - reach, 0)
        if total > rule.limit and since is None:
            since = n * CHECK_S + lag_s
        elif total <= rule.limit and since is not None:
            found.append((since, n * CHECK_S + lag_s))
            since = None
    return found


@dataclass(frozen=True, slots=True)
class Refused:
    network: Network
    since: int
    """Epoch seconds: when it is first refused."""
    requests: int
    """Made while refused."""


class Model:
    """What a rate-based rule would have refused, from the ledgers of a replay of ``self.rules``."""

    def __init__(self, rule: RateBasedRule, lag_s: int, sample_rate: int) -> None:
        self.rule = rule
        self.lag_s = lag_s
        self._sample_rate = sample_rate
        # It counts whole addresses, also of IPv6. As a rule of Sluice's it lets through all who can be over the limit.
        counting = Rule(
            name="aws-waf",
            limit=rule.limit,
            window_s=rule.window_s,
            resolution=rule.window_s,  # slots of a second
            ipv6_prefix=128,
            action=Action.COUNT,
        )
        self.rules = RuleSet((counting,))
        self._every = every_request(with_every_request(self.rules))
        self.refused: list[Refused] = []

    def look(self, ledger: Ledger) -> None:
        """Takes in a ledger; every client is in one only."""
        clients: dict[bytes, Slots] = {}
        for source in Source:
            for client, slots in ledger.clients(source, self._every):
                # Two logs of the same requests: the fuller one tells.
                if client not in clients or sum(slots.values()) > sum(clients[client].values()):
                    clients[client] = slots
        limit = self.rule.limit * self._sample_rate // 100
        for client, slots in clients.items():
            seconds = folded(slots, 1000 // self._every.slot_ms)
            stays = refusals(seconds, RateBasedRule(limit, self.rule.window_s), self.lag_s)
            if stays:
                number = sum(n for second, n in seconds.items() if any(a <= second < b for a, b in stays))
                self.refused.append(
                    Refused(
                        network_of(client, *self._every.prefixes),
                        stays[0][0],
                        number * 100 // self._sample_rate,
                    )
                )
