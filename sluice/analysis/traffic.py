"""What a report shows besides verdicts: requests over time, and how busy every client was by each rule's measure."""

from collections import Counter

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import RuleSet
from chalicelib.core.tally import folded
from sluice.replay.counts import Ledger, every_request
from sluice.replay.verdicts import TEN_S, peak


class Traffic:
    """Collects from the ledgers of a replay that holds all clients."""

    def __init__(self, rules: RuleSet, sample_rate: int) -> None:
        self._rules = rules
        self._sample_rate = sample_rate
        self._every = every_request(rules)
        self.by_ten_s: Counter[int] = Counter()
        """Requests by epoch second // 10."""
        self.peaks: dict[str, Counter[int]] = {rule.name: Counter() for rule in rules.rules}
        """By rule: clients by their highest count in one window."""

    def look(self, number: int, ledger: Ledger) -> None:  # noqa: ARG002
        """Takes in a ledger; every client is in one only."""
        slots_a_ten = 1000 * TEN_S // self._every.slot_ms
        for source in Source:
            for _, slots in ledger.clients(source, self._every):
                for ten, requests in folded(slots, slots_a_ten).items():
                    self.by_ten_s[ten] += self._scaled(requests)
            for rule in self._rules.rules:
                highest = (peak(slots, rule.resolution) for _, slots in ledger.clients(source, rule))
                self.peaks[rule.name].update(map(self._scaled, highest))

    def _scaled(self, count: int) -> int:
        return count * 100 // self._sample_rate
