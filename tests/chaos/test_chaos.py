"""The pipeline under mishaps: requests count once, the wanted list is published, and blocks end on time."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

from chalicelib.bootstrap import Parts
from chalicelib.core.durations import DAY_S
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.events import Event, Events
from chalicelib.core.state.trends import Trend
from chalicelib.pipeline.enforce import Enforce, Pending, Written
from chalicelib.pipeline.recording import recorded
from tests.chaos.mishaps import KINDS, Mishap
from tests.chaos.pipeline import Chaos
from tests.chaos.shrinking import failure_of
from tests.support.simulation.broken_duties import IgnoresSequenceNumbers
from tests.support.simulation.ingesting import Violation
from tests.support.simulation.seeds import seeds

RUNS = 80
"""Seeds of a run of the tests. Those of broken code begin with the first that shows what is broken."""


def test_the_pipeline_survives_every_mishap() -> None:
    """The runs also have to contain what they are meant to survive: one without mishaps or attackers proves nothing."""
    runs: list[Chaos] = []

    def noted(seed: int, mishaps: Sequence[Mishap] | None) -> Chaos:
        runs[:] = [Chaos(seed, mishaps=mishaps)]
        return runs[0]

    went: Counter[str] = Counter()
    for seed in seeds(RUNS):
        if (failure := failure_of(seed, noted)) is not None:
            pytest.fail(failure.report())
        (chaos,) = runs
        went += chaos.mishap_faults.struck
        stored = [change.new for change in chaos.changes if change.new is not None and change.old is None]
        went.update(item.kind for item in stored)
        went["runs"] += 1
        went["updates"] += len(chaos.waf.updates)
        of_networks = [item.body for item in stored if item.kind == Block.kind and b'"[networks]"' in item.body]
        went["undone"] += len(chaos.judge.undone)
        went["networks"] += len(of_networks)
        went["merged"] += sum(b'"merged":true' in body for body in of_networks)
    if went["runs"] >= RUNS:
        assert {kind for kind in KINDS if went[kind] < 5} == set()
        assert went[Detection.kind] > 500
        assert min(went[Block.kind], went[Events.kind], went["updates"]) > 200
        assert went["networks"] >= 15
        assert went[Trend.kind] >= 40
        assert went["merged"] >= 2
        assert went["undone"] >= 5


class RecordsAfterwards(Enforce):
    """Records events after the decisions that they tell of."""

    def _write(self, clients: Iterable[Pending], unnamed: Sequence[Event], now: int) -> Written:
        clients = list(clients)
        events = [event for client in clients for event in client.recorded_events(now)]
        for client in clients:
            client.events = []
        written = super()._write(clients, unnamed, now)
        if not written.overtaken:
            self._state.write(recorded(events, now * 1000, DAY_S))
        return written


def test_events_that_are_recorded_apart_from_the_decision_are_noticed_to_be_lost_or_repeated() -> None:
    def play() -> None:
        for seed in range(7, 100):
            Chaos(seed, parts=Parts(enforce=RecordsAfterwards)).play()

    with pytest.raises(Violation, match=r"no event says|recorded 2 times"):
        play()


def test_a_failure_is_shrunk_to_the_mishaps_that_cause_it() -> None:
    def broken(seed: int, mishaps: Sequence[Mishap] | None) -> Chaos:
        return Chaos(seed, mishaps=mishaps, parts=Parts(writer=IgnoresSequenceNumbers))

    failure = next(found for seed in range(14, 100) if (found := failure_of(seed, broken)) is not None)
    assert "counted more than once" in failure.why
    assert len(failure.mishaps) < len(Chaos(failure.seed).mishaps)
    assert f"--seed {failure.seed} --runs 1" in failure.report()
