"""The DynamoDB calls and write units of a batch and of its evaluation: counted, not timed."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chalicelib import bootstrap
from chalicelib.bootstrap import NoFeeds, Services, World, compose
from chalicelib.config import read_config
from chalicelib.core.logs.cloudfront import FIELDS
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.edges.events import kinesis_batch
from chalicelib.edges.state_table import StateTable
from chalicelib.edges.tally_table import TallyTable
from chalicelib.pipeline.ingest import Batch
from chalicelib.pipeline.stored import State
from chalicelib.ports import Feeds, LogItem
from chalicelib.reports import EvaluateReport, IngestReport
from sluice.deploy.costs import (
    FEED_READ_UNITS,
    FEED_WRITE_UNITS,
    SWEEP_READ_UNITS,
    SWEEP_WRITE_UNITS,
    TREND_READ_UNITS,
    TREND_WRITE_UNITS,
)
from sluice.local.events import MOST_BYTES, RECORD_FRAME, kinesis_event
from sluice.local.kinesis import StreamRecord
from sluice.local.telemetry import ReportTotals
from tests.support.clock import Clock
from tests.support.tables import Call, Tables, calls_of, write_units

NOW = 1_760_000_000
RULES = (Path(bootstrap.__file__).parent / "rules.toml").read_text()
AGENTS = ("Mozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36", "curl/8.5.0", "-")


@dataclass
class ColdContainer:
    """A new container on ``tables``."""

    tables: Tables
    clock: Clock = field(default_factory=Clock)
    feeds: Feeds = field(default_factory=NoFeeds)
    services: Services = field(init=False)

    def __post_init__(self) -> None:
        config = read_config({"STATE_TABLE": self.tables.state, "TALLY_TABLE": self.tables.tally})
        self.services = compose(
            config,
            World(
                tally_logs=TallyTable(self.tables.client, self.tables.tally),
                state=StateTable(self.tables.client, self.tables.state),
                ip_sets=None,  # type: ignore[arg-type] # nothing is published here
                clock=self.clock,
                sleep=self.clock.sleep,
                telemetry=ReportTotals(),
                feeds=self.feeds,
            ),
        )

    def ingest(self, batch: Batch) -> IngestReport:
        return self.services.ingest.run(batch, int(self.clock.now * 1000))

    def evaluate(self) -> EvaluateReport:
        return self.services.evaluate.run(int(self.clock.now * 1000))


def line(at: float, client: str, path: str = "/", method: str = "GET", status: str = "200", **other: str) -> bytes:
    values = {
        "timestamp": f"{at:.3f}",
        "c-ip": client,
        "sc-status": status,
        "cs-method": method,
        "cs-host": "www.example.com",
        "cs-uri-stem": path,
        "x-edge-request-id": "-",
        "cs-user-agent": AGENTS[0],
        "x-forwarded-for": "-",
        **other,
    }
    return "\t".join(values[name] for name in FIELDS if name in values).encode()


@pytest.fixture(params=["moto", "dynamodb-local"])
def tables(request: pytest.FixtureRequest) -> Tables:
    tables: Tables = request.getfixturevalue("moto_tables" if request.param == "moto" else "local_tables")
    stored = StoredRules(text=RULES)
    State(StateTable(tables.client, tables.state)).overwrite(stored, id=ACTIVE)
    return tables


def units(calls: Sequence[Call]) -> int:
    """Returns the write units of ``calls``; writes in a transaction count twice."""
    total = 0
    for name, params in calls:
        if name == "PutItem":
            total += write_units(params["Item"])
        elif name == "TransactWriteItems":
            total += sum(2 * write_units(action["Put"]["Item"]) for action in params["TransactItems"])
        else:
            assert name in {"BatchGetItem", "GetItem", "Query"}, f"{name} is not expected"
    return total


class Shard:
    """Successive batches of one shard."""

    def __init__(self, number: int) -> None:
        self._name = f"shardId-{number:012d}"
        self._sequence = 0

    def event(self, lines: list[bytes], arrived: float) -> dict[str, Any]:
        records = []
        for data in lines:
            self._sequence += 1
            records.append(StreamRecord(self._sequence, data, arrived))
        return kinesis_event("sluice-logs", self._name, records)

    def batch(self, lines: list[bytes], arrived: float) -> Batch:
        return kinesis_batch(self.event(lines, arrived))


# Calls


def few(clock: Clock, group: int = 0) -> list[bytes]:
    """Returns a request of each of twenty clients, who are others in each ``group``."""
    return [line(clock.now - number / 10, f"198.51.{group}.{number}") for number in range(20)]


def names(calls: Sequence[Call]) -> list[str]:
    return [name for name, _ in calls]


def test_a_warm_batch_makes_one_call_and_its_evaluation_another(tables: Tables) -> None:
    container, evaluator, shard = ColdContainer(tables), ColdContainer(tables), Shard(0)
    container.ingest(shard.batch(few(container.clock), container.clock.now))
    evaluator.evaluate()
    for number in range(5):
        for clock in (container.clock, evaluator.clock):
            clock.sleep(1)
        with calls_of(tables.client) as calls:
            report = container.ingest(shard.batch(few(container.clock), container.clock.now))
        assert report.requests == 20
        assert names(calls) == ["PutItem"]
        with calls_of(tables.client) as calls:
            evaluated = evaluator.evaluate()
        assert (evaluated.items, evaluated.detections) == (1, [])
        assert number == 0 or names(calls) == ["BatchGetItem"]


def test_the_rules_are_read_again_every_ten_seconds_and_no_more_often(tables: Tables) -> None:
    container, shard = ColdContainer(tables), Shard(0)
    with calls_of(tables.client) as calls:
        for _ in range(30):
            container.ingest(shard.batch(few(container.clock), container.clock.now))
            container.clock.sleep(1)
    assert Counter(names(calls))["GetItem"] == 3


def test_the_position_is_stored_every_ten_seconds_and_no_more_often(tables: Tables) -> None:
    container, shard = ColdContainer(tables), Shard(0)
    stored = 0
    for _ in range(30):
        container.ingest(shard.batch(few(container.clock), container.clock.now))
        with calls_of(tables.client) as calls:
            container.evaluate()
        stored += sum(name == "PutItem" and parameters["TableName"] == tables.tally for name, parameters in calls)
        container.clock.sleep(1)
    assert stored == 3


@pytest.mark.parametrize("pace", [1, 3], ids="{} items per shard since the last evaluation".format)
def test_one_call_reads_what_all_shards_have_appended_at_a_steady_pace(tables: Tables, pace: int) -> None:
    clock = Clock()
    containers, evaluator = [ColdContainer(tables, clock) for _ in range(4)], ColdContainer(tables, clock)
    shards = [Shard(number) for number in range(4)]
    for number in range(6):
        clock.sleep(1)
        for group, (container, shard) in enumerate(zip(containers * pace, shards * pace, strict=True)):
            with calls_of(tables.client) as calls:
                container.ingest(shard.batch(few(clock, group), clock.now))
            assert number == 0 or names(calls) == ["PutItem"]
        with calls_of(tables.client) as calls:
            report = evaluator.evaluate()
        assert report.items == 4 * pace
        assert number < 2 or names(calls) == ["BatchGetItem"], f"evaluation {number}"


def test_one_more_call_reads_a_burst(tables: Tables) -> None:
    clock = Clock()
    one, two, evaluator = (ColdContainer(tables, clock) for _ in range(3))
    first, second = Shard(0), Shard(1)
    for _ in range(3):
        one.ingest(first.batch(few(clock), clock.now))
        two.ingest(second.batch(few(clock), clock.now))
        evaluator.evaluate()
    for _ in range(3):
        two.ingest(second.batch(few(clock), clock.now))
    with calls_of(tables.client) as calls:
        assert evaluator.evaluate().items == 3
    assert names(calls) == ["BatchGetItem", "BatchGetItem"]


# Write units


def warm(tables: Tables) -> tuple[ColdContainer, Shard]:
    """Returns a container of ingest and evaluate that has handled two batches of the shard."""
    container, shard = ColdContainer(tables), Shard(0)
    for _ in range(2):
        container.ingest(shard.batch(few(container.clock), container.clock.now))
        container.evaluate()
    return container, shard


def full_event(shard: Shard) -> tuple[dict[str, Any], int]:
    """Returns an event of 6 MB, made of ten seconds of ordinary traffic, and its number of clients.

    Visitors load pages, and this shard holds a few requests of each; one visitor in six uses IPv6.
    """
    rng = Random(1)
    visitors = [
        IPv6Address((0x20010DB8 << 96) + (rng.getrandbits(32) << 64) + rng.getrandbits(64))
        if number % 6 == 0
        else IPv4Address(0x01000000 + rng.randrange(0xDF000000))
        for number in range(2_300)
    ]
    hits = sorted(
        (load + rng.expovariate(2), str(visitor))
        for visitor in visitors
        for load in [rng.uniform(0, 9) for _ in range(rng.choice((1, 2, 3)))]
        for _ in range(rng.choice((1, 1, 2, 4)))
    )
    lines: list[bytes] = []
    size = 0
    for at, visitor in hits:
        share = rng.random()
        path = f"/static/{rng.getrandbits(48):x}.js?v={rng.getrandbits(32)}" if share < 0.7 else "/shop"
        method, status = ("POST" if share > 0.98 else "GET"), ("404" if share < 0.03 else "200")
        request_id = {"x-edge-request-id": rng.randbytes(28).hex(), "cs-user-agent": rng.choice(AGENTS)}
        lines.append(line(NOW - 12 + at, visitor, path=path, method=method, status=status, **request_id))
        size += len(lines[-1]) * 4 // 3 + RECORD_FRAME
        if size > MOST_BYTES:
            break
    clients = {visitor for _, visitor in hits[: len(lines) - 1]}
    return shard.event(lines[:-1], NOW), len(clients)


def test_a_full_batch_costs_less_than_a_sixtieth_of_a_write_for_each_client(tables: Tables) -> None:
    container, shard = warm(tables)
    event, clients = full_event(shard)
    assert 0.9 * MOST_BYTES < len(json.dumps(event)) <= MOST_BYTES
    assert 2_000 <= clients <= 2_500
    with calls_of(tables.client) as calls:
        report = container.ingest(kinesis_batch(event))
        container.evaluate()
    assert report.requests == len(event["Records"])
    assert names(calls) == ["PutItem", "BatchGetItem"]
    assert 60 * units(calls) <= clients


def test_g4_a_flood_from_new_addresses_cannot_multiply_the_cost(tables: Tables) -> None:
    (container, shard), rng = warm(tables), Random(1)
    addresses = [str(IPv4Address(number)) for number in rng.sample(range(0x01000000, 0xE0000000), 8_000)]
    with calls_of(tables.client) as calls:
        container.ingest(shard.batch([line(NOW - rng.uniform(0, 8), address) for address in addresses], NOW))
        container.evaluate()
    assert 0 < 60 * units(calls) <= len(addresses)


def test_g4_addresses_of_one_ipv6_network_cost_one_write_unit_and_their_detections(tables: Tables) -> None:
    (container, shard), rng = warm(tables), Random(1)
    addresses = [str(IPv6Address((0x20010DB8 << 96) + rng.getrandbits(64))) for _ in range(2_000)]
    with calls_of(tables.client) as calls:
        container.ingest(shard.batch([line(NOW - rng.uniform(0, 8), address) for address in addresses], NOW))
        report = container.evaluate()
    assert {offender.network for detection in report.detections for offender in detection.offenders} == {
        "2001:db8::/64"
    }
    assert units([call for call in calls if call[1].get("TableName") == tables.tally]) == 1


def reads(calls: Sequence[Call]) -> int:
    """Returns the least read units of ``calls``: one per item or query."""
    keys = [sum(len(of["Keys"]) for of in asked["RequestItems"].values()) for name, asked in calls if "Batch" in name]
    return sum(keys) + sum(name in ("GetItem", "Query") for name, _ in calls)


def test_a_sweep_a_quarter_hour_and_a_feed_cost_no_more_than_the_estimate_assumes(moto_tables: Tables) -> None:
    class Published:
        def read(self, url: str) -> bytes:
            return "\n".join(f"11.0.{number}.0/24" for number in range(0, 80, 2)).encode()

    feed = '\n[feeds.drop]\nurl = "https://lists.example/drop"\nrespond = "block"\n'
    State(StateTable(moto_tables.client, moto_tables.state)).overwrite(StoredRules(text=RULES + feed), id=ACTIVE)
    container = ColdContainer(moto_tables, feeds=Published())
    services = container.services

    def cost_of(run: Callable[[], object]) -> tuple[int, int]:
        with calls_of(moto_tables.client) as calls:
            run()
        return reads(calls), units(calls)

    services.add_up.run()
    services.check_feeds.run()
    container.clock.now += 4 * 86_400
    read, written = cost_of(services.sweep.run)
    assert 50 < read <= SWEEP_READ_UNITS
    assert written == SWEEP_WRITE_UNITS
    read, written = cost_of(services.add_up.run)
    assert 10 < read <= TREND_READ_UNITS
    assert written == TREND_WRITE_UNITS
    read, written = cost_of(services.check_feeds.run)
    assert 40 < read <= 40 + FEED_READ_UNITS
    assert written == FEED_WRITE_UNITS + 2 * 40


def test_the_write_units_computed_here_are_those_of_dynamodb(local_tables: Tables) -> None:
    for size in (0, 700, 1_000, 5_000):
        logs = TallyTable(local_tables.client, local_tables.tally)
        with calls_of(local_tables.client) as calls:
            logs.append(
                f"log@{size}", 0, [LogItem(body=b"x" * size, last_sequence=10**55, written_ms=NOW * 1000 + 123)]
            )
        ((_, params),) = calls
        params["Item"]["log"] = {"S": f"log#{size}"}
        answer = local_tables.client.put_item(**params, ReturnConsumedCapacity="TOTAL")
        assert units(calls) == answer["ConsumedCapacity"]["CapacityUnits"]
