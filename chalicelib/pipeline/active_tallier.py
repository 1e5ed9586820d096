"""The tallier of the rules in use, and the portraitist, kept from batch to batch until the rules change."""

from collections.abc import Iterable

from chalicelib.core.logs.requests import Requests
from chalicelib.core.portraits import SHOWN, Drawn, Portraitist
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.rules import RuleSet
from chalicelib.core.sampling import Sampling
from chalicelib.core.tally import Tallier, Tally


class ActiveTallier:
    """One container's tallier. Before the first ``use`` it counts nothing."""

    def __init__(self, refusal_status: int = REFUSAL_STATUS, portraits_of: Sampling | None = None) -> None:
        """``refusal_status``: the status with which the rule group refuses requests.

        ``portraits_of``: the sampling of CloudFront's real-time log; None if no portraits are drawn.
        """
        self._refusal_status = refusal_status
        self._portraits_of = portraits_of
        self._rule_set = RuleSet(())
        self._tallier = Tallier(())
        self._portraitist: Portraitist | None = None
        self.columns: frozenset[str] = frozenset()
        """Columns that the rules examine, and those that portraits show."""

    def use(self, rules: RuleSet) -> None:
        if rules.rules != self._rule_set.rules:
            self._tallier = Tallier(rules.meters(), self._refusal_status)
            self.columns = rules.columns()
            if self._portraits_of is not None:
                self._portraitist = Portraitist(rules.windows().rules, self._portraits_of)
                self.columns = self.columns.union(SHOWN)
        self._rule_set = rules

    def tally(self, batches: Iterable[Requests]) -> Tally:
        """Returns the counts of all meters that counted at least one request."""
        return self._tallier.tally(batches)

    def draw(self, batches: Iterable[Requests], tally: Tally, now_ms: int) -> list[Drawn]:
        """Returns the portraits of the clients of ``batches`` that are close to a limit; ``tally``: their counts."""
        return [] if self._portraitist is None else self._portraitist.draw(batches, tally, self._tallier.memos, now_ms)

    def refused(self, tally: Tally) -> int:
        """Returns how many requests of ``tally`` were answered as refusals, as far as a rule counts them."""
        return self._tallier.refused(tally)
