"""Consumers that break one duty of the state protocol each, for simulations that must notice."""

from collections.abc import Sequence
from dataclasses import replace

from chalicelib.bootstrap import Services
from chalicelib.core.rules import RuleSet
from chalicelib.core.windows import View
from chalicelib.pipeline.ingest import Batch, Ingest
from chalicelib.pipeline.log_follower import BatchTally, LogFollower, Tail
from chalicelib.ports import Conflict, LogItem, Registry
from chalicelib.reports import IngestReport
from tests.support.simulation.ingesting import Broken
from tests.support.simulation.ports import LedgerTallyLogs


class AppendsWithoutCondition(LedgerTallyLogs):
    def append(self, log: str, offset: int, items: Sequence[LogItem]) -> None:
        held = self._logs.setdefault(log, {})
        for step in range(len(items)):
            held.pop(offset + step, None)
        super().append(log, offset, items)


class ReadsBeforeItAppends(LogFollower):
    def prepare(self, rules: RuleSet, oldest_ms: int, now_ms: int) -> View:
        view = super().prepare(rules, oldest_ms, now_ms)
        super().catch_up(now_ms)
        return view

    def catch_up(self, now_ms: int, own: Tail | None = None) -> None:
        if own is None:
            super().catch_up(now_ms)


class NeverReadsOthers(LogFollower):
    def catch_up(self, now_ms: int, own: Tail | None = None) -> None:
        if own is None:
            super().catch_up(now_ms)


class IgnoresSequenceNumbers(LogFollower):
    def append(self, tail: Tail, batch: BatchTally, now_ms: int) -> None:
        super().append(tail, replace(batch, last_sequence=-1), now_ms)


class OpensWithoutClosing(LogFollower):
    def open(self, shard: str, now_ms: int) -> None:
        logs = self._registry.get(shard, ())
        try:
            self._logs.register(shard, logs, (*logs, f"{shard}@{now_ms}"))
        except Conflict:
            self.conflicts += 1
        self.catch_up(now_ms)


class KeepsOldMemories(LogFollower):
    def prepare(self, rules: RuleSet, oldest_ms: int, now_ms: int) -> View:
        self._read_at_ms = now_ms
        return super().prepare(rules, oldest_ms, now_ms)


class KeepsHalfAColdStart(LogFollower):
    def _load(self, rules: RuleSet, since_ms: int, now_ms: int) -> View:
        view = self.view = self._new_view(rules)
        view.keep_since(since_ms)
        self._registry, self._tails = self._logs.read([])[0], {}
        self._read_at_ms = now_ms
        self._adopt(self._registry, view)
        return view


class NeverAdoptsNewLogs(LogFollower):
    def _adopt(self, registry: Registry, view: View) -> bool:
        if self._tails:
            registry = {
                shard: logs for shard, logs in registry.items() if logs[-1] in self._tails or not self._registry
            }
        return super()._adopt({**self._registry, **registry}, view)


class EvaluatesNewRecordsOnly(Ingest):
    def __call__(self, batch: Batch, now_ms: int) -> IngestReport:
        rules = self._use(self._rules(now_ms))
        self._follower.prepare(rules, now_ms - 3_000_000, now_ms)
        last = self._follower.tail(batch.shard, now_ms).last_sequence
        new = [number for number, sequence in enumerate(batch.sequences) if int(sequence) > last]
        if len(new) == len(batch) or not new:
            return super().__call__(batch, now_ms) if new else IngestReport()
        first = new[0]
        rest = replace(
            batch,
            sequences=batch.sequences[first:],
            data=batch.data[first:],
            arrived=batch.arrived[first:],
        )
        return super().__call__(rest, now_ms)


class AnnouncesTooEarly(Ingest):
    def __call__(self, batch: Batch, now_ms: int) -> IngestReport:
        store = self._detect
        self._detect = lambda detections: None
        try:
            report = super().__call__(batch, now_ms)
        finally:
            self._detect = store
        if report.detections:
            store(report.detections)
        return report


def follower(kind: type[LogFollower]) -> Broken:
    def broken(services: Services) -> None:
        services.ingest._follower.__class__ = kind

    return broken


def ingest(kind: type[Ingest]) -> Broken:
    def broken(services: Services) -> None:
        services.ingest.__class__ = kind

    return broken
