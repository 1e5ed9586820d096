"""An upgrade from version 0.2 of the state table, and the way back.

``state-0.2.json`` is its table at ``NOW``: a client blocked for a day, two whose blocks have ended, one that was
unblocked, one that a rule only counted, and two networks, one blocked by a rule and the other by hand.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.breakers import Breaker
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.kinds import record_type
from chalicelib.edges.state_table import item_of
from chalicelib.pipeline.lifting import writes_to_lift
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import Item
from sluice.local.stores import MemoryStateStore
from tests.support.clock import Clock
from tests.support.state import detection, new_enforcer, stream_changes, terms

NOW = 1_790_000_640
WRITTEN_BY_0_2: list[dict[str, Any]] = json.loads((Path(__file__).parent / "state-0.2.json").read_text())
BLOCKED, ENDED, UNBLOCKED, COUNTED = "203.0.113.5/32", "203.0.113.1/32", "203.0.113.3/32", "203.0.113.4/32"


class Stage:
    def __init__(self) -> None:
        self.store = MemoryStateStore()
        self.store.put_over([item_of(attributes) for attributes in WRITTEN_BY_0_2])
        self.clock = Clock(NOW)
        self.state = State(self.store)

    def offends(self, network: str, rule: str = "burst", *, at: int = NOW, served_since_ms: int = 0) -> dict[str, int]:
        enforce = new_enforcer(self.store, self.clock)
        found = detection(network, at=at, of=terms(rule), served_since_ms=served_since_ms)
        return dict(enforce.run(stream_changes(found)).outcomes)

    def block(self, network: str) -> Block:
        stored = self.state.get(Block, network)
        assert stored is not None
        return stored.record


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_every_record_of_version_0_2_is_read() -> None:
    for item in map(item_of, WRITTEN_BY_0_2):
        of = record_type(item.kind, item.id)
        assert of is not None
        assert isinstance(of.read(item.id, item.body), of)


def test_punishments_go_on_and_offences_are_remembered(stage: Stage) -> None:
    assert stage.offends(BLOCKED, "long", at=NOW - 600) == {"known": 1}
    assert stage.offends(BLOCKED, "long") == {"renewed": 1}
    assert stage.block(BLOCKED).offence == 1
    assert stage.offends(ENDED) == {"blocked": 1}
    assert stage.block(ENDED).offence == 2
    assert stage.offends(ENDED, at=NOW - 60) == {"known": 1}


def test_offences_that_were_only_counted_are_not_held_against_a_client(stage: Stage) -> None:
    assert stage.offends(COUNTED, "count-only") == {"blocked": 1}
    assert stage.block(COUNTED).offence == 1


def test_requests_before_an_unblock_do_not_count_again(stage: Stage) -> None:
    assert stage.offends(UNBLOCKED, at=NOW - 590) == {"known": 1}
    assert stage.offends(UNBLOCKED) == {"blocked": 1}


def test_refusals_by_wider_blocks_are_found_without_a_record_of_their_lengths(stage: Stage) -> None:
    assert stage.offends("192.0.2.7/32", served_since_ms=-1) == {"known": 1}
    assert stage.offends("198.51.100.9/32", served_since_ms=-1) == {"known": 1}, "the rest of its network is blocked"


def written(stage: Stage) -> Iterator[Item]:
    """Yields what this version writes: punishments, a renewal, a sweep and an unblock."""
    stage.offends(ENDED)
    stage.offends(COUNTED, "count-only")
    stage.clock.now += 3600
    stage.offends(BLOCKED, "long", at=int(stage.clock.now))
    Sweep(state=stage.state, clock=stage.clock).run()
    blocks = [block for block in stage.state.all(Block) if block.id == BLOCKED]
    histories = stage.state.get_many(History, [BLOCKED])
    stage.state.write(writes_to_lift(blocks, histories, int(stage.clock.now)))
    for kind in (Detection.kind, Block.kind, History.kind, Allow.kind, Breaker.kind):
        yield from stage.store.query(kind)


REQUIRED_BY_0_2 = {
    "block": {"network": str, "blocked_at": int, "until": int, "rule": str, "offence": int, "comment": str, "by": str},
    "offence": {"network": str, "ended_at": int, "rules": dict},
    "allow": {"network": str, "comment": str, "by": str, "added_at": int},
    "detection": {"id": str, "terms": dict, "source": str, "offenders": list, "detected_ms": int, "arrived_ms": int},
}
"""The fields that version 0.2 reads, with their types. It ignores any others."""


def test_what_is_written_is_read_by_version_0_2(stage: Stage) -> None:
    kinds = set()
    for item in written(stage):
        kinds.add(item.kind)
        body = msgspec.json.decode(item.body)
        for name, of in REQUIRED_BY_0_2.get(item.kind, {}).items():
            assert isinstance(body[name], of), (item.kind, name)
        for past in body.get("rules", {}).values():
            assert {"offence", "until", "outcome", "evidence"} <= past.keys()
            assert past["outcome"] in ("blocked", "extended", "counted", "allowlisted", "stale")
    assert kinds > REQUIRED_BY_0_2.keys()


def test_version_0_2_finds_no_offence_in_requests_before_an_unblock(stage: Stage) -> None:
    """It looks at the end of the last block only."""
    list(written(stage))
    history = stage.state.get(History, BLOCKED)
    assert history is not None
    assert (history.record.ended_at, history.record.forgiven_at) == (stage.clock.now, stage.clock.now + 1)
