"""Writers and evaluators that break one duty of the state protocol each, for simulations that must notice."""

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace

from chalicelib.core.rules import RuleSet
from chalicelib.core.view import View
from chalicelib.pipeline.evaluate import Evaluate
from chalicelib.pipeline.log_reader import LogReader
from chalicelib.pipeline.log_writer import BatchTally, LogWriter, _End
from chalicelib.pipeline.tally_logs import Tail, TimeLeft, log_name
from chalicelib.ports import Conflict, LogItem, PartReceipt, Registry
from chalicelib.reports import EvaluateReport
from tests.support.simulation.ports import LedgerTallyLogs


class AppendsWithoutCondition(LedgerTallyLogs):
    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        stored = self._logs.setdefault(log, {})
        for step in range(len(items)):
            stored.pop(offset + step, None)
        super().append(log, offset, items, receipt)


class ForgetsReceipts(LedgerTallyLogs):
    def append(
        self,
        log: str,
        offset: int,
        items: Sequence[LogItem],
        receipt: PartReceipt | None = None,
    ) -> None:
        super().append(log, offset, items)


class WritesReceiptsAfterwards(LogWriter):
    def append(self, tail: Tail, added: BatchTally, now_ms: int, receipt: PartReceipt | None = None) -> None:
        super().append(tail, added, now_ms)
        self._logs.append(tail.log, tail.offset, [], receipt)


class WritesReceiptsBefore(LogWriter):
    def append(self, tail: Tail, added: BatchTally, now_ms: int, receipt: PartReceipt | None = None) -> None:
        self._logs.append(tail.log, tail.offset, [], receipt)
        super().append(tail, added, now_ms)


class IgnoresSequenceNumbers(LogWriter):
    def append(self, tail: Tail, added: BatchTally, now_ms: int, receipt: PartReceipt | None = None) -> None:
        super().append(tail, replace(added, last_sequence=-1), now_ms, receipt)


class OpensWithoutClosing(LogWriter):
    def open(self, shard: str, now_ms: int) -> None:
        end = self._ends.pop(shard)
        try:
            self._logs.register(shard, end.logs, (*end.logs, log_name(shard, now_ms)))
        except Conflict:
            self._conflicts += 1


class KeepsOldEnds(LogWriter):
    def _end(self, shard: str, now_ms: int) -> _End:
        return self._ends.get(shard) or super()._end(shard, now_ms)


class KeepsOldMemories(LogReader):
    def _serves(self, view: View, rules: RuleSet, now_ms: int) -> bool:
        return super()._serves(view, rules, self._read_at_ms)


class NeverAdoptsNewLogs(LogReader):
    def _adopt(self, registry: Registry, view: View, now_ms: int, time_left_s: TimeLeft) -> list[str]:
        if self._followed:
            registry = {
                shard: logs for shard, logs in registry.items() if logs[-1] in self._followed or not self._registry
            }
        return super()._adopt({**self._registry, **registry}, view, now_ms, time_left_s)


class LeavesGaps(LogReader):
    """Takes for evaluated what it has merged, before it is evaluated."""

    def _slice(self, view: View, now_ms: int, time_left_s: TimeLeft, logs: Collection[str] | None) -> list[str]:
        self.evaluated()
        return super()._slice(view, now_ms, time_left_s, logs)


class StartsWithAnEmptyView(LogReader):
    """Merges only what it evaluates: a successor does not know the counts before its position."""

    def _take(self, view: View, tail: Tail, item: LogItem, *, evaluated: bool, ready_ms: int = sys.maxsize) -> None:
        if evaluated:
            tail.take(item)
        else:
            super()._take(view, tail, item, evaluated=evaluated, ready_ms=ready_ms)


class StoresItsPositionTooEarly(Evaluate):
    def _evaluate(self, view: View, now_ms: int, report: EvaluateReport) -> None:
        self._logs.store_position({log: each.tail.offset for log, each in self._reader._followed.items()})
        super()._evaluate(view, now_ms, report)


class AnnouncesTooEarly(Evaluate):
    def _evaluate(self, view: View, now_ms: int, report: EvaluateReport) -> None:
        announced = self._announced
        try:
            super()._evaluate(view, now_ms, report)
        finally:
            self._announced = announced
