"""A deployed Sluice on DynamoDB Local, kinesis-local and WAF behind HTTP, made by the composition root for AWS."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

import boto3
import pytest

from chalicelib.bootstrap import Services, World, aws, compose
from chalicelib.config import Config, read_config
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.tally import unpack
from chalicelib.pipeline.stored import State
from sluice.local.telemetry import ReportTotals
from sluice.local.waf import WafStandIn
from tests.support import kinesis_local as local
from tests.support.event_source_mapping import Mappings
from tests.support.tables import CLIENT, CREDENTIALS, Tables, streams_client
from tests.support.waf_server import serving

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import PutRecordsRequestEntryTypeDef

_numbers = count()
RULES = """
[[rule]]
name = "burst"
limit = 20
window = "10s"
block_for = "10m"
"""


@dataclass
class SkippingClock:
    """The wall clock, ahead by the seconds slept: ``sleep`` returns at once."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s

    def sleep(self, seconds: float) -> None:
        self.ahead_s += seconds


@pytest.fixture(scope="session")
def kinesis_client() -> "Iterator[KinesisClient]":
    """Skips where kinesis-local cannot run, or fails with SLUICE_REQUIRE_ALL=1, as CI sets it."""
    missing = local.missing()
    if missing and os.environ.get("SLUICE_REQUIRE_ALL") == "1":
        pytest.fail(f"kinesis-local cannot run, and SLUICE_REQUIRE_ALL is set: {missing}")
    if missing:
        pytest.skip(f"kinesis-local cannot run: {missing}")
    with local.running() as endpoint:
        client = boto3.client("kinesis", endpoint_url=endpoint, config=CLIENT, **CREDENTIALS)
        yield client
        client.close()


@dataclass
class Deployment:
    """One test's deployment: tables, stream, IP sets and handlers."""

    config: Config
    world: World
    kinesis: "KinesisClient"
    stream: str
    tables: Tables
    waf: WafStandIn
    clock: SkippingClock
    telemetry: ReportTotals
    mappings: Mappings = field(init=False)
    put_records: int = 0

    def container(self) -> Services:
        return compose(self.config, self.world)

    def put(self, *clients: str) -> None:
        """Puts a request per client, made now, under partition keys that spread them over all shards."""
        now = self.clock()
        records: list[PutRecordsRequestEntryTypeDef] = [
            {
                "Data": f"{now - 0.001 * number:.3f}\t{client}\n".encode(),
                "PartitionKey": str(self.put_records + number),
            }
            for number, client in enumerate(clients)
        ]
        answer = self.kinesis.put_records(StreamName=self.stream, Records=records)
        assert answer["FailedRecordCount"] == 0
        self.put_records += len(clients)

    def counted(self) -> int:
        """Requests in all the tallies that are stored."""
        items = self.tables.client.scan(TableName=self.tables.tally, ConsistentRead=True)["Items"]
        tallies = [unpack(item["body"]["B"]) for item in items if "body" in item]
        return sum(sum(sum(slots.values()) for slots in part.clients().values()) for tally in tallies for part in tally)

    def published(self) -> set[str]:
        return set(map(str, self.waf.networks()))


@pytest.fixture
def site(
    kinesis_client: "KinesisClient", dynamodb_local: str, local_tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    clock = SkippingClock()
    waf = WafStandIn(clock, clock.sleep)
    stream = f"logs-{next(_numbers)}"
    kinesis_client.create_stream(StreamName=stream, ShardCount=2)
    kinesis_client.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    sets = {
        f"IP_SETS_V{family}": "{Name}/{Id}".format(
            **waf.create_ip_set(
                Name=f"sluice-v{family}", Scope="CLOUDFRONT", IPAddressVersion=f"IPV{family}", Addresses=[]
            )["Summary"]
        )
        for family in (4, 6)
    }
    tables = {"STATE_TABLE": local_tables.state, "TALLY_TABLE": local_tables.tally}
    config = read_config({**sets, **tables, "LOG_STREAM": stream, "CLOUDFRONT_FIELDS": "timestamp,c-ip"})
    with serving(waf) as endpoint:
        for name, value in {
            "AWS_ENDPOINT_URL_WAFV2": endpoint,
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_local,
            "AWS_ACCESS_KEY_ID": CREDENTIALS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": CREDENTIALS["region_name"],
        }.items():
            monkeypatch.setenv(name, value)
        world = aws(config)
        telemetry = ReportTotals()
        streams = streams_client(dynamodb_local)
        site = Deployment(
            config=config,
            world=replace(world, clock=clock, sleep=clock.sleep, telemetry=telemetry),
            kinesis=kinesis_client,
            stream=stream,
            tables=local_tables,
            waf=waf,
            clock=clock,
            telemetry=telemetry,
        )
        stored = StoredRules(text=RULES)
        State(world.state).overwrite(stored, id=ACTIVE)
        site.mappings = Mappings(kinesis_client, stream, streams, local_tables, site.container)
        yield site
        for client in (world.state._client, world.ip_sets._client, streams):  # type: ignore[attr-defined]
            client.close()
