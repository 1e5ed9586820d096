"""What a report shows besides verdicts: requests over time, and how busy every client was by each rule's measure."""

from collections import Counter

from chalicelib.core.requests import Source
from chalicelib.core.rules import RuleSet
from chalicelib.core.windows import View
from sluice.replay.counting import every_request
from sluice.replay.judging import TEN_S, peak


class Traffic:
    """Collects from the views of a replay that holds all clients."""

    def __init__(self, rules: RuleSet, sample_rate: int) -> None:
        self._rules = rules
        self._sample_rate = sample_rate
        self._every = every_request(rules)
        self.by_ten_s: Counter[int] = Counter()
        """Requests by epoch second // 10."""
        self.peaks: dict[str, Counter[int]] = {rule.name: Counter() for rule in rules.rules}
        """By rule: clients by their highest count in one window."""

    def look(self, number: int, view: View) -> None:  # noqa: ARG002
        """Takes in a view; every client is in one view only."""
        for source in Source:
            grid = view.grid(source, self._every)
            for slots in grid.clients.values() if grid else ():
                for slot, number_then in slots.items():
                    self.by_ten_s[slot * self._every.slot_ms // (1000 * TEN_S)] += self._scaled(number_then)
            for rule in self._rules.rules:
                grid = view.grid(source, rule)
                if grid:
                    highest = (self._scaled(peak(slots, rule.resolution)) for slots in grid.clients.values())
                    self.peaks[rule.name].update(highest)

    def _scaled(self, count: int) -> int:
        return count * 100 // self._sample_rate
