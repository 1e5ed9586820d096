"""Detections delivered twice, late and to several enforcers at once: one offence each, and one block."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from msgspec.structs import replace

from chalicelib.core.decisions import Standing
from chalicelib.core.exemptions import Exemptions
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.events import Event
from chalicelib.pipeline.enforce import Divided, Enforce, Judged, Pending, Situation, Written
from chalicelib.pipeline.waiting import Case, Due
from chalicelib.ports import Conflict, Unavailable
from tests.support.simulation.enforcing import Enforcing
from tests.support.simulation.schedule import Crash, FaultAt
from tests.support.simulation.seeds import first_violation, play, seeds

RUNS = 300
SEEDS_TO_NOTICE = 1000


def test_an_offence_is_numbered_once_and_its_block_is_never_lost() -> None:
    for seed in seeds(RUNS):
        enforcing = Enforcing(seed)
        play(seed, enforcing.schedule, enforcing.play)


@pytest.mark.parametrize("kind", [Crash, Unavailable])
@pytest.mark.parametrize("seed", [4, 6, 7])
def test_a_failure_at_any_single_point_changes_nothing(seed: int, kind: type[BaseException]) -> None:
    number = 0
    while True:
        fault = FaultAt(number, kind)
        enforcing = Enforcing(seed, faults=fault)
        play(seed, enforcing.schedule, enforcing.play)
        if fault.struck is None:
            break
        number += 1
    assert number > 10


class WritesWithoutCondition(Enforce):
    def _write(self, clients: Iterable[Pending], unnamed: Sequence[Event], now: int) -> Written:
        for client in clients:
            for write in client.writes():
                self._state._store.put_over([write.item])
        return Written(Counter(), [], [])


class DropsWhatIsOvertaken(Enforce):
    def _write(self, clients: Iterable[Pending], unnamed: Sequence[Event], now: int) -> Written:
        return super()._write(clients, unnamed, now)._replace(overtaken=[])


class WritesBlockAndHistoryApart(Enforce):
    def _write(self, clients: Iterable[Pending], unnamed: Sequence[Event], now: int) -> Written:
        lost: list[Case] = []
        for client in clients:
            try:
                for write in reversed(client.writes()):
                    self._state.write([write])
            except Conflict:
                lost += client.cases
        return Written(Counter(), [], lost)


class ForgetsHistories(Enforce):
    def _judge(self, situation: Situation, divided: Divided, resumed: Due | None) -> Judged:
        judged = super()._judge(situation, divided, resumed)
        for client in judged.clients:
            client.standing = Standing(client.before.history, client.standing.block)
        return judged


class HidesOffencesBehindBlocks(Enforce):
    def _divide(self, cases: Iterable[Case], exempt: Exemptions, stale_after_s: int, now: int) -> Divided:
        divided = super()._divide(cases, exempt, stale_after_s, now)
        blocks = self._state.get_many(Block, [offender.network for _, offender in divided.enforced])
        return divided._replace(enforced=[case for case in divided.enforced if case[1].network not in blocks])


class TakesRefusalsForOffences(Enforce):
    def _divide(self, cases: Iterable[Case], exempt: Exemptions, stale_after_s: int, now: int) -> Divided:
        served = [(detection, replace(offender, served_since_ms=0)) for detection, offender in cases]
        return super()._divide(served, exempt, stale_after_s, now)


@pytest.mark.parametrize(
    "enforcer",
    [
        pytest.param(WritesWithoutCondition, id="writes without a condition"),
        pytest.param(DropsWhatIsOvertaken, id="what is overtaken is dropped"),
        pytest.param(WritesBlockAndHistoryApart, id="history and block are written apart"),
        pytest.param(HidesOffencesBehindBlocks, id="a block hides other offences"),
        pytest.param(TakesRefusalsForOffences, id="refusals are offences"),
        pytest.param(ForgetsHistories, id="histories are not written"),
    ],
)
def test_the_simulation_notices_an_enforcer_that_is_broken(enforcer: type[Enforce]) -> None:
    violation = first_violation(SEEDS_TO_NOTICE, lambda seed: Enforcing(seed, enforcer=enforcer).play())
    assert violation is not None, f"{SEEDS_TO_NOTICE} runs found nothing wrong"
