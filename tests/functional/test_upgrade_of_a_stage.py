"""A stage that version 0.1 has written, in the middle of attacks, is taken over by this version.

``stage-0.1.json`` has what its code left in both tables and in the IP sets after 90 seconds of traffic in its own local
cloud. An IPv4 client and an IPv6 one are blocked for ten minutes, one offended under a rule that only counts, and one
within an allowlisted network. One was blocked for twenty seconds and offended again half a minute later, before the
sweep, which version 0.1 missed. And one made twelve requests in the last four seconds, where twenty in ten are allowed.
"""

import json
import shutil
import subprocess
import sys
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.earlier import ROOT, PeerMissing, earlier_tree
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.kinds import RECORDS
from chalicelib.core.state.records import Control
from chalicelib.pipeline.stored import State
from chalicelib.ports import LogItem
from sluice.demo.actors import Request, log_line
from tests.support.left_stage import cloud_with

pytestmark = pytest.mark.slow

WRITTEN: dict[str, Any] = json.loads((Path(__file__).parent / "stage-0.1.json").read_text())
NOW: float = WRITTEN["at"]
BLOCKED = {"203.0.113.9/32", "2001:db8:bad:1::/64"}
MISSED = "203.0.113.10/32"


def written(offset: int, item: LogItem) -> dict[str, Any]:
    body = None if item.body is None else b64encode(item.body).decode()
    times = {name: getattr(item, name) for name in ("written_ms", "first_slot_ms", "last_slot_ms", "requests")}
    return {"offset": offset, "body": body, "last_sequence": str(item.last_sequence), **times}


class Upgraded:
    """This version on what version 0.1 has left, just deployed."""

    def __init__(self) -> None:
        self.cloud = cloud_with(WRITTEN)
        self._number = 10_000
        self.cloud.start()

    def requests(self, address: str, number: int, at: float, path: str = "/") -> None:
        """Logs requests of a second, ``at`` seconds after the upgrade, and lets the cloud run until then."""
        self.run(at + 1)
        for each in range(number):
            self._number += 1
            request = Request(at, address, path)
            self.cloud.put(log_line(request, NOW + at + each / number, 200, self._number))

    def run(self, until: float) -> None:
        self.cloud.loop.run(NOW + until)

    def left(self) -> dict[str, Any]:
        """Returns what this version leaves, in the form of ``WRITTEN``."""
        cloud = self.cloud
        kinds = [*(record_type.kind for record_type in RECORDS), Control.kind]
        state = [asdict(item) | {"body": json.loads(item.body)} for kind in kinds for item in cloud.state.query(kind)]
        registry, _ = cloud.tally_logs.read([])
        logs = {
            log: [written(offset, item) for offset, item in reversed(cloud.tally_logs.latest(log, 0, 1_000_000))]
            for shard_logs in registry.values()
            for log in shard_logs
        }
        return {
            "at": cloud.now(),
            "rules": WRITTEN["rules"],
            "state": [{name: item[name] for name in WRITTEN["state"][0]} for item in state],
            "logs": logs,
            "registry": dict(registry),
            "ip_sets": {name: sorted(addresses) for name, addresses in cloud.waf.published().items()},
            "sequence": str(cloud.stream._next),
        }

    def published(self) -> set[str]:
        return set().union(*self.cloud.waf.published().values())

    def block(self, network: str) -> Block:
        stored = State(self.cloud.state).get(Block, network)
        assert stored is not None
        return stored.record


@pytest.fixture
def stage() -> Upgraded:
    return Upgraded()


def test_who_is_blocked_stays_blocked_until_the_end_that_was_set(stage: Upgraded) -> None:
    ends = max(stage.block(network).until for network in BLOCKED) - NOW
    stage.run(ends - 60)
    assert stage.published() == BLOCKED
    stage.run(ends + 70)
    assert stage.published() == set()
    assert stage.cloud.invocation_failures == []
    assert stage.cloud.telemetry.failures == []
    assert {block.network for block in stage.cloud.telemetry.lifted} == BLOCKED


def test_what_was_counted_before_the_upgrade_counts_with_what_comes_after_it(stage: Upgraded) -> None:
    stage.requests("203.0.113.77", 12, at=1)
    stage.run(8)
    assert "203.0.113.77/32" in stage.published()
    evidence = stage.block("203.0.113.77/32").evidence
    assert evidence is not None
    assert evidence.count == 24


def test_with_the_first_new_requests_an_offence_that_was_missed_is_punished_and_nobody_else(stage: Upgraded) -> None:
    stage.requests("203.0.113.78", 12, at=1)
    stage.run(8)
    assert stage.published() == {*BLOCKED, MISSED}
    block = stage.block(MISSED)
    assert block.until - block.blocked_at == 60, "three times as long as the first"


def test_earlier_offences_lengthen_the_next_block_and_the_allowlist_still_holds(stage: Upgraded) -> None:
    ends = max(stage.block(network).until for network in BLOCKED) - NOW
    stage.requests("203.0.113.9", 30, at=ends + 5)
    stage.requests("192.0.2.7", 30, at=ends + 7)
    stage.run(ends + 15)
    assert stage.published() == {"203.0.113.9/32", MISSED}
    block = stage.block("203.0.113.9/32")
    assert block.until - block.blocked_at == 1200


def test_after_a_rollback_version_0_1_goes_on_with_what_this_version_leaves(stage: Upgraded) -> None:
    stage.requests("203.0.113.77", 12, at=1)
    stage.run(8)
    try:
        with earlier_tree() as folder:
            shutil.copy(ROOT / "tests" / "support" / "left_stage.py", folder / "left_stage.py")
            command, left = [sys.executable, "left_stage.py"], json.dumps(stage.left()).encode()
            ran = subprocess.run(
                command, cwd=folder, env={"PYTHONPATH": str(folder)}, input=left, capture_output=True, check=True
            )
    except PeerMissing as exc:
        pytest.skip(str(exc))
    went = json.loads(ran.stdout)
    assert went["failures"] == []
    assert set(went["before"]) == {*BLOCKED, MISSED, "203.0.113.77/32"}
    assert "203.0.113.99/32" in went["after"]
