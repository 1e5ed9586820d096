"""An upgrade from version 0.2, and the way back, rehearsed on a table that version 0.2 wrote in mid-attack.

``tally-0.2.json`` is its table: two shards, two batches each, of four requests by the attacker and one by a visitor.
Both versions run side by side for a while, so the older one has to read what the newer one writes.
"""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from chalicelib.bootstrap import Services, World, compose
from chalicelib.config import read_config
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.tally import unpack
from chalicelib.edges.tally_table import POSITION, REGISTRY, TallyTable
from chalicelib.pipeline.ingest import Batch
from chalicelib.pipeline.stored import State
from chalicelib.reports import IngestReport
from sluice.local.stores import MemoryStateStore
from sluice.local.telemetry import ReportTotals
from tests.support.tables import Tables, dynamodb_client, make_tables

NOW = 1_790_000_000
ATTACKER = "203.0.113.9"
RULES = '[[rule]]\nname = "burst"\nlimit = 20\nwindow = "10s"\n'
Attributes = dict[str, dict[str, Any]]

WRITTEN_BY_0_2: list[Attributes] = [
    {
        name: {kind: b64decode(content) if kind == "B" else content for kind, content in value.items()}
        for name, value in item.items()
    }
    for item in json.loads((Path(__file__).parent / "tally-0.2.json").read_text())
]


@dataclass
class Stage:
    """The tables in moto, and containers of this version."""

    tables: Tables
    state: MemoryStateStore = field(default_factory=MemoryStateStore)

    def __post_init__(self) -> None:
        State(self.state).overwrite(StoredRules(text=RULES), id=ACTIVE)

    def container(self) -> Services:
        world = World(
            tally_logs=TallyTable(self.tables.client, self.tables.tally),
            state=self.state,
            ip_sets=None,  # type: ignore[arg-type] # nothing is published here
            clock=lambda: NOW,
            sleep=lambda seconds: None,
            telemetry=ReportTotals(),
        )
        return compose(read_config({"CLOUDFRONT_FIELDS": "timestamp,c-ip"}), world)

    def ingest(self, shard: int, batch: int, container: Services) -> IngestReport:
        """Delivers a batch; the first two of each shard were delivered to version 0.2 as well."""
        at = NOW - 5 + batch
        lines = [f"{at + n / 10:.3f}\t{ATTACKER}".encode() for n in range(4)] + [f"{at}\t198.51.100.{shard}".encode()]
        numbers = [str(batch * 5 + n) for n in range(1, 6)]
        return container.ingest.run(Batch(f"logs/shardId-{shard}", numbers, lines, [NOW - 4 + batch] * 5), NOW * 1000)

    def items(self) -> list[Attributes]:
        items: list[Attributes] = self.tables.client.scan(TableName=self.tables.tally, ConsistentRead=True)["Items"]  # type: ignore[assignment]
        return items

    def detected(self) -> dict[str, int]:
        """Returns the largest count of each client detected."""
        found: Counter[str] = Counter()
        for item in self.state.query(Detection.kind):
            for offender in Detection.from_json(item.body).offenders:
                found[offender.network] = max(found[offender.network], offender.count)
        return dict(found)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        stage = Stage(make_tables(dynamodb_client()))
        for item in WRITTEN_BY_0_2:
            put(stage, item)
        yield stage


def put(stage: Stage, item: Attributes) -> None:
    """Appends an item as version 0.2 does."""
    stage.tables.client.put_item(
        TableName=stage.tables.tally,
        Item=item,
        ConditionExpression="attribute_not_exists(#offset)",
        ExpressionAttributeNames={"#offset": "offset"},
    )


def read_by_0_2(items: list[Attributes]) -> Counter[str]:
    """Returns the attacker's requests by log, as version 0.2 reads them: from the registry, by offset, without gaps."""
    (registry,) = (item for item in items if item["log"]["S"] == REGISTRY)
    by_key = {(item["log"]["S"], int(item["offset"]["N"])): item for item in items}
    counts: Counter[str] = Counter()
    for log in (entry["S"] for value in registry.values() if "L" in value for entry in value["L"]):
        offset = 0
        while (item := by_key.get((log, offset))) is not None:
            offset += 1
            assert item["v"]["N"] == "1"
            assert int(item["last_seq"]["S"]) >= 0
            assert Decimal(item["written_at"]["N"]) <= NOW
            assert Decimal(item["first_slot_at"]["N"]) <= Decimal(item["last_slot_at"]["N"])
            assert {"requests", "expires_at"} <= item.keys()
            if "body" in item:
                (part,) = unpack(bytes(item["body"]["B"]))
                counts[log] += sum(part.clients().get(bytes([203, 0, 113, 9]), {}).values())
    return counts


def test_an_upgrade_continues_the_logs_and_counts_with_what_they_hold(stage: Stage) -> None:
    container = stage.container()
    container.evaluate.run(NOW * 1000)
    assert stage.detected() == {}
    for shard in (0, 1):
        assert stage.ingest(shard, 1, container).replayed == 5, "version 0.2 had counted this batch"
        assert stage.ingest(shard, 2, container).replayed == 0
    container.evaluate.run(NOW * 1000)
    assert stage.detected() == {f"{ATTACKER}/32": 24}
    assert {log.rpartition("@")[0] for log in read_by_0_2(stage.items())} == {"logs/shardId-0", "logs/shardId-1"}


def test_during_a_rolling_upgrade_either_version_reads_the_other(stage: Stage) -> None:
    new = stage.container()
    stage.ingest(0, 2, new)
    # Version 0.2 appends to the other log meanwhile: the same counts as in its last batch there.
    (*_, last) = sorted(
        (item for item in WRITTEN_BY_0_2 if item["log"]["S"].startswith("logs/shardId-1@")),
        key=lambda item: int(item["offset"]["N"]),
    )
    put(stage, {**last, "offset": {"N": "2"}, "last_seq": {"S": "15"}, "written_at": {"N": str(NOW)}})
    assert sum(read_by_0_2(stage.items()).values()) == 24
    new.evaluate.run(NOW * 1000)
    assert stage.detected() == {f"{ATTACKER}/32": 24}
    assert stage.ingest(1, 2, new).replayed == 5, "counted by version 0.2"


def test_after_a_rollback_version_0_2_reads_everything_and_ignores_the_position(stage: Stage) -> None:
    new = stage.container()
    for shard in (0, 1):
        stage.ingest(shard, 2, new)
    new.evaluate.run(NOW * 1000)
    items = stage.items()
    assert POSITION in {item["log"]["S"] for item in items}
    assert read_by_0_2(items) == dict.fromkeys(read_by_0_2(WRITTEN_BY_0_2), 12)
