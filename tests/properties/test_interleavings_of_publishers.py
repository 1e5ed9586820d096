"""G5, G6 and G7 under random interleavings, and the proof that the simulation would notice if they did not hold."""

from collections import Counter
from collections.abc import Mapping

import pytest

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import IpSet
from chalicelib.pipeline.publish import Publish
from chalicelib.ports import Conflict, Throttled, Unavailable
from chalicelib.reports import PublishReport
from tests.support.simulation.publishing import Publishing
from tests.support.simulation.schedule import Crash, FaultAt
from tests.support.simulation.seeds import first_violation, play, seeds

RUNS = 2000
SEEDS_TO_NOTICE = 3000


def test_the_ip_sets_reach_the_wanted_list_and_never_hold_an_allowlisted_network() -> None:
    for seed in seeds(RUNS):
        publishing = Publishing(seed)
        play(seed, publishing.schedule, publishing.play)


def test_the_runs_hold_what_they_promise() -> None:
    went: Counter[str] = Counter()
    for seed in range(200):
        publishing = Publishing(seed)
        publishing.play()
        went += publishing.publish.failures
        went["updates"] += len(publishing.waf.updates)
        went["throttled"] += publishing.waf.throttled
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


class SendsTheOldListAgain(Publish):
    """Under a fresh token, after a lost lock: what AWS's own solution does."""

    def _settle(self, report: PublishReport, failed: dict[IpSet, str]) -> None:
        published, _ = self._read(report, failed)
        changes = self._changes(published, report)
        for ip_set, addresses in changes.items():
            for _ in range(10):
                self._sleep(1.2)
                try:
                    self._ip_sets.update(ip_set, addresses, self._ip_sets.get(ip_set)[1])
                    break
                except (Conflict, Throttled):
                    continue


class ReadsTheListFirst(Publish):
    def _read(
        self, report: PublishReport, failed: dict[IpSet, str]
    ) -> tuple[dict[IpSet, frozenset[Network]], dict[IpSet, str]]:
        self._early = super()._changes(super()._read(report, failed)[0], report)
        return super()._read(report, failed)

    def _changes(
        self, published: Mapping[IpSet, frozenset[Network]], report: PublishReport
    ) -> dict[IpSet, frozenset[Network]]:
        return {s: networks for s, networks in self._early.items() if s in published and networks != published[s]}


class DoesNotLookAgain(Publish):
    """Ends with its update instead of with a round in which nothing differs."""

    def _settle(self, report: PublishReport, failed: dict[IpSet, str]) -> None:
        for ip_set in self._sets:
            for _ in range(20):
                published, tokens = self._read(report, failed)
                changes = self._changes(published, report)
                if ip_set not in changes:
                    break
                self._sleep(1.2)
                try:
                    self._ip_sets.update(ip_set, changes[ip_set], tokens[ip_set])
                    break
                except (Conflict, Throttled, Unavailable):
                    continue


class RemembersTheList(Publish):
    """Reads the list once, for all its rounds."""

    _once: dict[IpSet, frozenset[Network]] | None = None

    def _changes(
        self, published: Mapping[IpSet, frozenset[Network]], report: PublishReport
    ) -> dict[IpSet, frozenset[Network]]:
        if report.rounds == 1 or self._once is None:
            self._once = super()._changes(published, report)
        return {s: networks for s, networks in self._once.items() if s in published and networks != published[s]}


@pytest.mark.parametrize(
    ("publisher", "actions"),
    [
        pytest.param(SendsTheOldListAgain, 4, id="an old list under a fresh token"),
        pytest.param(ReadsTheListFirst, 4, id="the list is read before the token"),
        pytest.param(DoesNotLookAgain, 2, id="nobody looks after an update"),
        pytest.param(RemembersTheList, 8, id="the list is read once for all rounds"),
    ],
)
def test_the_simulation_notices_a_publisher_that_is_broken(publisher: type[Publish], actions: int) -> None:
    violation = first_violation(
        SEEDS_TO_NOTICE, lambda seed: Publishing(seed, publisher=publisher, actions=actions).play()
    )
    assert violation is not None, f"{SEEDS_TO_NOTICE} runs found nothing wrong"
