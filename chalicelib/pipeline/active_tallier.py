"""The tallier of the rules in use, kept from batch to batch until the rules change."""

from collections.abc import Iterable

from chalicelib.core.logs.requests import Requests
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.rules import RuleSet
from chalicelib.core.tally import Tallier, Tally


class ActiveTallier:
    """One container's tallier. Before the first ``use`` it counts nothing."""

    def __init__(self, refusal_status: int = REFUSAL_STATUS) -> None:
        """``refusal_status``: the status with which the rule group refuses requests."""
        self._refusal_status = refusal_status
        self._rule_set = RuleSet(())
        self._tallier = Tallier(())
        self.columns: frozenset[str] = frozenset()
        """Columns that the rules examine."""

    def use(self, rules: RuleSet) -> None:
        if rules.rules != self._rule_set.rules:
            self._tallier = Tallier(rules.meters(), self._refusal_status)
            self.columns = rules.columns()
        self._rule_set = rules

    def tally(self, batches: Iterable[Requests]) -> Tally:
        """Returns the counts of all meters that counted at least one request."""
        return self._tallier.tally(batches)

    def refused(self, tally: Tally) -> int:
        """Returns how many requests of ``tally`` were answered as refusals, as far as a rule counts them."""
        return self._tallier.refused(tally)
