"""G1, G2 and G3 under random interleavings, and the proof that the simulation would notice if they did not hold."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from chalicelib.bootstrap import Parts
from chalicelib.pipeline.ingest import Ingest
from chalicelib.pipeline.log_follower import LogFollower
from chalicelib.ports import Unavailable
from tests.support.simulation.broken_ingest import (
    AnnouncesTooEarly,
    AppendsWithoutCondition,
    EvaluatesNewRecordsOnly,
    IgnoresSequenceNumbers,
    KeepsHalfAColdStart,
    KeepsOldMemories,
    NeverAdoptsNewLogs,
    NeverReadsOthers,
    OpensWithoutClosing,
    ReadsBeforeItAppends,
)
from tests.support.simulation.ingesting import DORMANT_S, Ingesting
from tests.support.simulation.schedule import Crash, FaultAt
from tests.support.simulation.seeds import first_violation, play, seeds

RUNS = 2000
SEEDS_TO_NOTICE = 2000


def test_every_request_is_counted_once_and_exactly_the_offenders_are_detected() -> None:
    for seed in seeds(RUNS):
        ingesting = Ingesting(seed)
        play(seed, ingesting.schedule, ingesting.play)


def test_the_runs_contain_the_events_that_they_are_meant_to_survive() -> None:
    """A simulation without faults would prove nothing."""
    went: Counter[str] = Counter()
    for seed in range(100):
        run = Ingesting(seed).play()
        went += run.failures
        went["invocations"] += run.invocations
        went["logs opened"] += sum("after register" in line for line in run.trace)
    assert went["Crash"] > 50
    assert went["Unavailable"] > 50
    assert went["StillLoading"] > 20
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
        Ingesting(seed, parts=Parts(follower=kind), phases=phases, silences_s=silences_s).play()

    assert_noticed(complaint, run)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        pytest.param(EvaluatesNewRecordsOnly, "missed", id="records counted by an earlier try are not evaluated"),
        pytest.param(AnnouncesTooEarly, "missed", id="a detection is taken for stored before it is"),
    ],
)
def test_the_simulation_notices_an_ingest_that_is_broken(kind: type[Ingest], complaint: str) -> None:
    assert_noticed(complaint, lambda seed: Ingesting(seed, parts=Parts(ingest=kind), phases=1).play())
