"""G5, G6 and G7 under random interleavings, and the proof that the simulation would notice if they did not hold."""

from collections import Counter

import pytest

from chalicelib.pipeline.publish import Publish
from tests.support.simulation.broken_publishers import (
    DoesNotLookAgain,
    IgnoresTokens,
    IgnoresWhoLeads,
    ReadsTheListFirst,
    RemembersTheList,
    SendsTheOldListAgain,
    TrustsTheStreamForEver,
)
from tests.support.simulation.publishing import Publishing
from tests.support.simulation.schedule import Crash, FaultAt
from tests.support.simulation.seeds import first_violation, play, seeds

RUNS = 500
SEEDS_TO_NOTICE = 3000


def test_the_ip_sets_reach_the_wanted_list_and_never_hold_an_allowlisted_network() -> None:
    went: Counter[str] = Counter()
    for seed in seeds(RUNS):
        publishing = Publishing(seed)
        play(seed, publishing.schedule, publishing.play)
        went += publishing.publish.failures
        went["runs"] += 1
        went["updates"] += len(publishing.waf.updates)
        went["throttled"] += publishing.waf.throttled
    if went["runs"] < RUNS:
        return
    # Runs without the events that they are meant to survive would prove nothing.
    assert went["Crash"] > 50
    assert went["Unavailable"] > 10
    assert went["updates"] > 200
    assert went["throttled"] > 20


@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_any_single_point_changes_nothing(seed: int) -> None:
    number = 0
    while True:
        fault = FaultAt(number, Crash)
        publishing = Publishing(seed, faults=fault)
        play(seed, publishing.schedule, publishing.play)
        if fault.struck is None:
            break
        number += 1
    assert number > 10


@pytest.mark.parametrize(
    ("publisher", "actions"),
    [
        pytest.param(SendsTheOldListAgain, 4, id="an old list under a fresh token"),
        pytest.param(ReadsTheListFirst, 4, id="the list is read before the token"),
        pytest.param(DoesNotLookAgain, 3, id="nobody looks after an update"),
        pytest.param(RemembersTheList, 8, id="the list is read once for all rounds"),
        pytest.param(IgnoresWhoLeads, 8, id="memory is trusted though another container has received changes"),
        pytest.param(IgnoresTokens, 8, id="contents are taken for what was written"),
        pytest.param(TrustsTheStreamForEver, 8, id="the stream is trusted for ever"),
    ],
)
def test_the_simulation_notices_a_publisher_that_is_broken(publisher: type[Publish], actions: int) -> None:
    violation = first_violation(
        SEEDS_TO_NOTICE, lambda seed: Publishing(seed, publisher=publisher, actions=actions).play()
    )
    assert violation is not None, f"{SEEDS_TO_NOTICE} runs found nothing wrong"
