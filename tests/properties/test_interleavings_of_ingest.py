"""G1, G2 and G3 under random interleavings, and the proof that the simulation would notice if they did not hold."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from chalicelib.bootstrap import Parts
from chalicelib.ports import Unavailable
from tests.support.simulation.broken_duties import (
    AnnouncesTooEarly,
    AppendsWithoutCondition,
    ForgetsReceipts,
    IgnoresSequenceNumbers,
    KeepsOldEnds,
    KeepsOldMemories,
    LeavesGaps,
    NeverAdoptsNewLogs,
    OpensWithoutClosing,
    StartsWithAnEmptyView,
    StoresItsPositionTooEarly,
    WritesReceiptsAfterwards,
    WritesReceiptsBefore,
)
from tests.support.simulation.ingesting import DORMANT_S, Ingesting
from tests.support.simulation.schedule import Crash, FaultAt
from tests.support.simulation.seeds import first_violation, play, seeds

RUNS = 250
SEEDS_TO_NOTICE = 2000


def test_every_request_is_counted_once_and_exactly_the_offenders_are_detected() -> None:
    went: Counter[str] = Counter()
    for seed in seeds(RUNS):
        ingesting = Ingesting(seed)
        run = play(seed, ingesting.schedule, ingesting.play)
        went += run.failures
        went["runs"] += 1
        went["invocations"] += run.invocations
        went["logs opened"] += sum("after register" in line for line in run.trace)
        went["parts counted"] += sum("after append s3/" in line for line in run.trace)
        went["notified again"] += len({line.split(":")[0] for line in run.trace if ".log 1: " in line})
    if went["runs"] < RUNS:
        return
    # Runs without the events that they are meant to survive would prove nothing.
    assert went["Crash"] > 125
    assert went["Unavailable"] > 125
    assert went["OutOfTime"] > 50
    assert went["invocations"] > 2000
    assert went["logs opened"] > 500
    assert went["parts counted"] > 500
    assert went["notified again"] > 50


@pytest.mark.parametrize("kind", [Crash, Unavailable])
@pytest.mark.parametrize("in_objects", [0, 1], ids=["stream", "objects"])
def test_a_failure_at_any_single_point_changes_nothing(in_objects: float, kind: type[BaseException]) -> None:
    seed = 1
    number = 0
    while True:
        fault = FaultAt(number, kind)
        ingesting = Ingesting(seed, faults=fault, phases=1, in_objects=in_objects)
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


def test_the_simulation_notices_a_part_without_a_receipt() -> None:
    assert_noticed("counted more than once", lambda seed: Ingesting(seed, logs=ForgetsReceipts()).play())


@pytest.mark.parametrize(
    ("parts", "silences_s", "complaint"),
    [
        pytest.param(Parts(writer=IgnoresSequenceNumbers), (), "more than once", id="sequence numbers are ignored"),
        pytest.param(
            Parts(writer=WritesReceiptsAfterwards), (), "more than once", id="a receipt comes after its tally"
        ),
        pytest.param(Parts(writer=WritesReceiptsBefore), (), "not counted", id="a receipt comes before its tally"),
        pytest.param(Parts(writer=OpensWithoutClosing), (DORMANT_S,), "counted", id="a new log is opened beside one"),
        pytest.param(Parts(writer=KeepsOldEnds), (6000,), "counted", id="a remembered end is trusted for hours"),
        pytest.param(
            Parts(reader=KeepsOldMemories), (6000,), "counted|missed|settled", id="a reader is trusted for hours"
        ),
        pytest.param(Parts(reader=NeverAdoptsNewLogs), (), "missed|settled", id="new logs are not followed"),
        pytest.param(Parts(reader=LeavesGaps), (), "missed", id="merged is taken for evaluated"),
        pytest.param(Parts(reader=StartsWithAnEmptyView), (), "missed", id="a successor knows nothing of before"),
        pytest.param(Parts(evaluate=StoresItsPositionTooEarly), (), "missed", id="a position is stored too early"),
        pytest.param(Parts(evaluate=AnnouncesTooEarly), (), "missed", id="a detection is taken for stored before"),
    ],
)
def test_the_simulation_notices_a_broken_duty(parts: Parts, silences_s: Sequence[float], complaint: str) -> None:
    def run(seed: int) -> None:
        # Clocks that disagree widely tell different lengths of a silence.
        skew_s = 120.0 if silences_s else 3.0
        Ingesting(seed, parts=parts, phases=4 if silences_s else 1, silences_s=silences_s, most_skew_s=skew_s).play()

    assert_noticed(complaint, run)
