"""Scenarios from an operator's work, each run through the local cloud and compared exactly with its expected outcome.

A scenario is a directory with these files:

- ``story.md``: what happens, in prose;
- ``rules.toml``;
- ``log``, whose lines are put into Kinesis half a second after their own time, or ``log.py``, which defines
  ``arrivals()`` and, if more than requests happens, ``happen(cloud)``;
- ``given.toml``, if the defaults do not fit: shards, containers, seed, settings, allow, capacity, the networks that fit
  into an IP set, and then_s, the seconds to run after the last arrival;
- ``expected.toml``; whatever it omits is expected to be nothing.

Times are seconds after the start.
"""

import runpy
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.decisions import Outcome
from chalicelib.core.ipsets import CAPACITY
from chalicelib.core.logs.cloudfront import time_ms
from chalicelib.core.rules import NETWORKS
from sluice.local.cloud import LocalCloud
from sluice.local.loop import SimulatedClock
from tests.support.scenario_lines import START, Arrival
from tests.support.simulation.publishing import HOLDING_CAPACITY

HERE = Path(__file__).parent
SCENARIOS = sorted(path.parent for path in HERE.glob("*/story.md"))
SLOW = {"circuit-breaker", "more-offenders-than-fit"}
SETTLE_S = 10

NOTHING: dict[str, Any] = {
    "requests": 0,
    "late": 0,
    "repeats": 0,
    "replayed": 0,
    "malformed": {},
    "outcomes": {},
    "blocks": [],
    "released": [],
    "published": [],
    "overflow": 0,
    "publish_conflicts": 0,
    "stopped": [],
    "rules_problem": False,
    "failures": [],
}


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(path, id=path.name, marks=pytest.mark.slow if path.name in SLOW else ()) for path in SCENARIOS],
)
def test_scenario(scenario: Path) -> None:
    assert (scenario / "story.md").read_text().strip()
    given_file = scenario / "given.toml"
    given = tomllib.loads(given_file.read_text()) if given_file.exists() else {}
    expected = tomllib.loads((scenario / "expected.toml").read_text())
    script = scenario / "log.py"
    story: dict[str, Any] = runpy.run_path(str(script)) if script.exists() else {}
    arrivals = story.get("arrivals", lambda: logged(scenario / "log"))
    with ExitStack() as patches:
        for module in HOLDING_CAPACITY:
            patches.enter_context(patch(f"{module}.CAPACITY", given.get("capacity", CAPACITY)))
        cloud = run(given, (scenario / "rules.toml").read_text(), arrivals, story.get("happen"))
    actual = outcome(cloud)
    for name in ("blocks", "published"):
        if f"{name}_number" in expected:
            assert len(actual.pop(name)) == expected.pop(f"{name}_number")
            expected[name] = actual[name] = []
    if "blocks" in expected:
        actual["blocks"] = [same_keys(block, like) for block, like in zip_all(actual["blocks"], expected["blocks"])]
    assert actual == {**NOTHING, **expected}
    check_guarantees(cloud, given.get("allow", ()))


def run(
    given: Mapping[str, Any],
    rules: str,
    arrivals: Callable[[], Iterator[Arrival]],
    happen: Callable[[LocalCloud], None] | None,
) -> LocalCloud:
    cloud = LocalCloud(
        SimulatedClock(START),
        rules=rules,
        shards=given.get("shards", 2),
        containers=given.get("containers", 2),
        seed=given.get("seed", 1),
        settings=given.get("settings"),
        allow=[(network, "scenario") for network in given.get("allow", ())],
    )
    if happen is not None:
        happen(cloud)
    cloud.start()
    shards = list(cloud.stream.shards.values())
    for arrival in sorted(arrivals(), key=lambda arrival: arrival.at):
        cloud.loop.run(max(cloud.now(), START + arrival.at))
        shard = None if arrival.shard is None else shards[arrival.shard]
        cloud.put(arrival.data, shard)
    cloud.loop.run(cloud.now() + given.get("then_s", SETTLE_S))
    assert cloud.backlog == 0
    return cloud


def logged(log: Path) -> Iterator[Arrival]:
    """Yields the lines of a file; a line without a time arrives with the one before."""
    at = 0.0
    for line in log.read_bytes().splitlines(keepends=True):
        moment = time_ms(line.partition(b"\t")[0])
        if moment is not None and moment / 1000 >= START:
            at = moment / 1000 - START
        yield Arrival(at + 0.5, line)


def outcome(cloud: LocalCloud) -> dict[str, Any]:
    """Returns the outcome of a run, in the form of ``expected.toml``."""
    telemetry = cloud.telemetry
    ingests = telemetry.ingests
    return {
        "requests": ingests.requests,
        "late": ingests.late,
        "repeats": ingests.repeats,
        "replayed": ingests.replayed,
        "malformed": {str(reason): number for reason, number in ingests.malformed.items()},
        # How often a running attack is detected again depends on the seed.
        "outcomes": {name: number for name, number in telemetry.outcomes.items() if name != Outcome.KNOWN},
        "blocks": [
            {
                "client": block.network,
                "rule": block.rule,
                "offence": block.offence,
                "count": block.evidence.count if block.evidence else 0,
                "source": block.evidence.source if block.evidence else "",
                "at": block.blocked_at - START,
                "until": block.until - START,
            }
            for block in sorted(telemetry.blocks, key=lambda block: (block.network, block.blocked_at))
        ],
        "released": sorted(block.network for block in telemetry.lifted),
        "published": sorted(address for addresses in cloud.waf.published().values() for address in addresses),
        "overflow": telemetry.overflow,
        "publish_conflicts": telemetry.publish_conflicts,
        "stopped": [breaker.rule for breaker in telemetry.stopped],
        "rules_problem": telemetry.ingests.rules_problem is not None,
        "failures": cloud.invocation_failures + telemetry.failures,
    }


def zip_all(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Any]]:
    for number, block in enumerate(actual):
        yield block, expected[number] if number < len(expected) else block


def same_keys(block: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of ``block`` whose keys are expected."""
    return {key: value for key, value in block.items() if key in like}


def check_guarantees(cloud: LocalCloud, allow: list[str]) -> None:
    """Checks that no allowlisted network was published (G5) and no client was blocked within its limit (G1)."""
    allowed = NetworkSet(map(parse_network, allow))
    for network in map(parse_network, {address for _, _, addresses in cloud.waf.updates for address in addresses}):
        assert not allowed.overlaps(network)
    for block in cloud.telemetry.blocks:
        if block.rule == NETWORKS:
            assert block.members is not None
            assert block.members.number > 1
            continue
        assert block.evidence is not None
        assert block.evidence.count > block.evidence.limit
        assert block.evidence.last_ms - block.evidence.first_ms < block.evidence.window_s * 1000


def test_every_scenario_is_complete() -> None:
    assert len(SCENARIOS) > 20
    for scenario in SCENARIOS:
        names = {path.name for path in scenario.iterdir()} - {"__pycache__"}
        assert {"story.md", "rules.toml", "expected.toml"} < names
        assert len(names & {"log", "log.py"}) == 1
        assert names <= {"story.md", "rules.toml", "expected.toml", "given.toml", "log", "log.py"}
    assert {path.parent for path in HERE.glob("*/*.toml")} == set(SCENARIOS)
