"""Consumers that break one duty of the state protocol each, for simulations that must notice."""

from collections.abc import Sequence
from dataclasses import replace

from chalicelib.core.rules import RuleSet
from chalicelib.core.windows import View
from chalicelib.pipeline.ingest import Batch, Ingest
from chalicelib.pipeline.log_follower import Appended, BatchTally, LogFollower, Prepared, Tail, TimeLeft, unlimited
from chalicelib.ports import Conflict, LogItem, Registry
from chalicelib.reports import IngestReport
from tests.support.simulation.ports import LedgerTallyLogs


class AppendsWithoutCondition(LedgerTallyLogs):
    def append(self, log: str, offset: int, items: Sequence[LogItem]) -> None:
        stored = self._logs.setdefault(log, {})
        for step in range(len(items)):
            stored.pop(offset + step, None)
        super().append(log, offset, items)


class ReadsBeforeItAppends(LogFollower):
    def prepare(self, rules: RuleSet, oldest_ms: int, now_ms: int, time_left_s: TimeLeft = unlimited) -> Prepared:
        prepared = super().prepare(rules, oldest_ms, now_ms, time_left_s)
        super()._catch_up(prepared.view, now_ms)
        return prepared

    def _catch_up(self, view: View, now_ms: int, own: Tail | None = None) -> None:
        if own is None:
            super()._catch_up(view, now_ms)


class NeverReadsOthers(LogFollower):
    def _catch_up(self, view: View, now_ms: int, own: Tail | None = None) -> None:
        if own is None:
            super()._catch_up(view, now_ms)


class IgnoresSequenceNumbers(LogFollower):
    def prepare(self, rules: RuleSet, oldest_ms: int, now_ms: int, time_left_s: TimeLeft = unlimited) -> Prepared:
        class Ignoring(Prepared):
            def append(self, tail: Tail, batch_tally: BatchTally) -> Appended:
                return super().append(tail, replace(batch_tally, last_sequence=-1))

        return Ignoring(self, super().prepare(rules, oldest_ms, now_ms, time_left_s).view, now_ms)


class OpensWithoutClosing(LogFollower):
    def prepare(self, rules: RuleSet, oldest_ms: int, now_ms: int, time_left_s: TimeLeft = unlimited) -> Prepared:
        class Opening(Prepared):
            def open(self, shard: str) -> None:
                follower = self._follower
                logs = follower._registry.get(shard, ())
                try:
                    follower._logs.register(shard, logs, (*logs, f"{shard}@{self.now_ms}"))
                except Conflict:
                    self.conflicts += 1
                follower._catch_up(self.view, self.now_ms)

        return Opening(self, super().prepare(rules, oldest_ms, now_ms, time_left_s).view, now_ms)


class KeepsOldMemories(LogFollower):
    def prepare(self, rules: RuleSet, oldest_ms: int, now_ms: int, time_left_s: TimeLeft = unlimited) -> Prepared:
        self._read_at_ms = now_ms
        return super().prepare(rules, oldest_ms, now_ms, time_left_s)


class KeepsHalfAColdStart(LogFollower):
    def _load(self, rules: RuleSet, oldest_ms: int, now_ms: int, time_left_s: TimeLeft) -> View:
        view = self._view = self._new_view(rules)
        view.keep_since(now_ms - self._depth_ms)
        self._registry, self._tails = self._logs.read([])[0], {}
        self._read_at_ms = now_ms
        self._adopt(self._registry, view)
        return view


class NeverAdoptsNewLogs(LogFollower):
    def _adopt(self, registry: Registry, view: View, time_left_s: TimeLeft = unlimited) -> bool:
        if self._tails:
            registry = {
                shard: logs for shard, logs in registry.items() if logs[-1] in self._tails or not self._registry
            }
        return super()._adopt({**self._registry, **registry}, view, time_left_s)


class EvaluatesNewRecordsOnly(Ingest):
    def run(self, batch: Batch, now_ms: int, time_left_s: TimeLeft = unlimited) -> IngestReport:
        prepared = self._follower.prepare(self._rules(now_ms).rules, now_ms - 3_000_000, now_ms, time_left_s)
        last = prepared.tail(batch.shard).last_sequence
        new = [number for number, sequence in enumerate(batch.sequences) if int(sequence) > last]
        return super().run(batch.part(new[0], len(batch)), now_ms, time_left_s) if new else IngestReport()


class AnnouncesTooEarly(Ingest):
    def run(self, batch: Batch, now_ms: int, time_left_s: TimeLeft = unlimited) -> IngestReport:
        store = self._detect
        self._detect = lambda detections: None
        try:
            report = super().run(batch, now_ms, time_left_s)
        finally:
            self._detect = store
        if report.detections:
            store(report.detections)
        return report
