"""The traffic behind a result: requests over time, and how busy each client was by each rule's measure."""

from collections import Counter

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import RuleSet
from chalicelib.core.tally import folded
from sluice.replay.breaches import TEN_S, peak
from sluice.replay.counts import Ledger
from sluice.replay.engine import Result, SpooledLog
from sluice.replay.rule_sets import every_request
from sluice.replay.sampling import Sampling


class TrafficProfile:
    """Adds up the ledgers of a log that was read with ``everyone``."""

    def __init__(self, rules: RuleSet, sampling: Sampling) -> None:
        self._rules = rules
        self._made = sampling.made
        self._every_request = every_request(rules)
        self.by_ten_s: Counter[int] = Counter()
        """Requests by epoch second // 10."""
        self.peaks: dict[str, Counter[int]] = {rule.name: Counter() for rule in rules.rules}
        """For each rule: clients by their highest count in one window."""

    def add(self, ledger: Ledger) -> Ledger:
        """Adds a ledger and returns it, so that one pass can serve other analyses as well."""
        slots_per_ten_s = 1000 * TEN_S // self._every_request.slot_ms
        for source in Source:
            for _, slots in ledger.clients(source, self._every_request):
                for ten, requests in folded(slots, slots_per_ten_s).items():
                    self.by_ten_s[ten] += self._made(requests)
            for rule in self._rules.rules:
                highest = (peak(slots, rule.resolution) for _, slots in ledger.clients(source, rule))
                self.peaks[rule.name].update(map(self._made, highest))
        return ledger


def profiled(log: SpooledLog, rules: RuleSet) -> tuple[Result, TrafficProfile]:
    """Evaluates ``rules`` and profiles the traffic in the same pass."""
    profile = TrafficProfile(rules, log.options.sampling)
    return log.result(rules, map(profile.add, log.ledgers(rules))), profile
