"""G1, G2 and G3 under random interleavings, and the proof that the simulation would notice if they did not hold."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from chalicelib.bootstrap import Services
from chalicelib.core.rules import RuleSet
from chalicelib.core.windows import View
from chalicelib.pipeline.ingest import Batch, Ingest
from chalicelib.pipeline.log_follower import BatchTally, LogFollower, Tail
from chalicelib.ports import Conflict, LogItem, Registry
from chalicelib.reports import IngestReport
from tests.support.simulation.ingesting import DORMANT_S, Broken, Ingesting
from tests.support.simulation.ports import LedgerTallyLogs
from tests.support.simulation.schedule import Crash, FaultAt, Unavailable
from tests.support.simulation.seeds import first_violation, play, seeds

RUNS = 2000
SEEDS_TO_NOTICE = 2000


def test_every_request_is_counted_once_and_every_offender_and_nobody_else_is_detected() -> None:
    for seed in seeds(RUNS):
        ingesting = Ingesting(seed)
        play(seed, ingesting.schedule, ingesting.play)


def test_the_runs_hold_what_they_promise() -> None:
    """A simulation in which nothing goes wrong proves nothing."""
    went: Counter[str] = Counter()
    for seed in range(100):
        run = Ingesting(seed).play()
        went += run.failures
        went["invocations"] += run.invocations
        went["logs opened"] += sum("after register" in line for line in run.trace)
    assert went["Crash"] > 50
    assert went["Unavailable"] > 50
    assert went["invocations"] > 800
    assert went["logs opened"] > 200


@pytest.mark.parametrize("kind", [Crash, Unavailable])
@pytest.mark.parametrize("seed", range(2))
def test_a_failure_at_any_single_point_changes_nothing(seed: int, kind: type[BaseException]) -> None:
    number = 0
    while True:
        fault = FaultAt(number, kind)
        ingesting = Ingesting(seed, faults=fault, phases=1)
        play(seed, ingesting.schedule, ingesting.play)
        if fault.struck is None:
            break
        number += 1
    assert number > 20


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


def assert_noticed(complaint: str, run: Callable[[int], object]) -> None:
    violation = first_violation(SEEDS_TO_NOTICE, run)
    assert violation is not None, f"{SEEDS_TO_NOTICE} runs found nothing wrong"
    assert re.search(complaint, str(violation)), violation


def test_the_simulation_notices_an_append_without_its_condition() -> None:
    assert_noticed("counted", lambda seed: Ingesting(seed, logs=AppendsWithoutCondition()).play())


@pytest.mark.parametrize(
    ("kind", "silences_s", "complaint"),
    [
        pytest.param(ReadsBeforeItAppends, (), "missed", id="others are read before the append"),
        pytest.param(NeverReadsOthers, (), "missed", id="others are not read"),
        pytest.param(IgnoresSequenceNumbers, (), "more than once", id="sequence numbers are ignored"),
        pytest.param(OpensWithoutClosing, (DORMANT_S,), "counted", id="a new log is opened beside an open one"),
        pytest.param(KeepsHalfAColdStart, (6000,), "counted|missed", id="a failed cold start is gone on with"),
        pytest.param(KeepsOldMemories, (6000,), "counted|missed|settled", id="a container is trusted after hours"),
        pytest.param(NeverAdoptsNewLogs, (), "missed|settled", id="new logs are not followed"),
    ],
)
def test_the_simulation_notices_a_follower_that_is_broken(
    kind: type[LogFollower], silences_s: Sequence[float], complaint: str
) -> None:
    def run(seed: int) -> None:
        phases = 4 if silences_s else 1
        Ingesting(seed, broken=follower(kind), phases=phases, silences_s=silences_s).play()

    assert_noticed(complaint, run)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        pytest.param(EvaluatesNewRecordsOnly, "missed", id="records counted by an earlier try are not evaluated"),
        pytest.param(AnnouncesTooEarly, "missed", id="a detection is taken for stored before it is"),
    ],
)
def test_the_simulation_notices_an_ingest_that_is_broken(kind: type[Ingest], complaint: str) -> None:
    assert_noticed(complaint, lambda seed: Ingesting(seed, broken=ingest(kind), phases=1).play())
