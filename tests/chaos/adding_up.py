"""What trends promise: each counted request is in exactly one quarter hour, or is yet to be added up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chalicelib.core.state.trends import Trend, TrendMark
from chalicelib.pipeline.stored import State
from sluice.local.stores import StateChange
from tests.support.simulation.ingesting import Violation

if TYPE_CHECKING:
    from tests.chaos.pipeline import Chaos


class TrendJudge:
    """Watches the trends of one run."""

    def __init__(self) -> None:
        self._before_the_first = 0
        """Requests that were counted before the first sweep that adds up; they belong to no quarter hour."""

    def saw(self, changes: Sequence[StateChange]) -> None:
        for change in changes:
            if change.new is None or change.new.id != TrendMark.id:
                continue
            mark = TrendMark.read(change.new.id, change.new.body)
            if isinstance(mark, TrendMark) and change.old is None:
                self._before_the_first += sum(mark.requests.values())

    def judge(self, chaos: "Chaos", *, lost: bool) -> None:
        """Raises Violation. If items have expired, or the mark was damaged, something may be ``lost``."""
        state = State(chaos.state)
        mark = state.control(TrendMark).record
        registry, _ = chaos.ledger.read([])
        last = {log: chaos.ledger.last(log) for logs in registry.values() for log in logs}
        ahead = sum(max(0, found[1].total - mark.requests.get(log, 0)) for log, found in last.items() if found)
        added = sum(each.requests for trend in state.records(Trend) for each in trend.quarters)
        counted = sum(item.requests for item in chaos.ledger.appended)
        told = self._before_the_first + added + ahead
        if told > counted or (told < counted and not lost):
            raise Violation(f"trends tell of {told} requests, of which {added} are added up; {counted} were counted")
