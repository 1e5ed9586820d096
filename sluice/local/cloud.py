"""The local cloud: stream, tables, IP sets, and the event source mappings that invoke the deployed handlers.

It does what Lambda does as far as Sluice can tell: JSON events of at most 6 MB and 10,000 records of one shard, one
batch in flight a shard, a failed batch delivered again and cut anew, parent shards before their children, several
containers, the state table's stream, the schedule.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from chalicelib import handlers as deployed
from chalicelib.bootstrap import Services, World, compose, running_in
from chalicelib.config import Config, read_config
from chalicelib.core.rules import RuleSet, parse_rules
from chalicelib.core.state import ACTIVE, Allow, Block, StoredRules
from chalicelib.edges.state_table import attributes_of
from chalicelib.edges.waf_ip_sets import WafIpSets
from chalicelib.pipeline.enforce import EnforceReport
from chalicelib.pipeline.ingest import Report
from chalicelib.pipeline.publish import PublishReport
from chalicelib.pipeline.sweep import SweepReport
from chalicelib.ports import Item
from sluice.local.kinesis import Record, Shard, Stream
from sluice.local.loop import Bell, Clock, Loop
from sluice.local.memory import MemoryStateStore, MemoryTallyLogs, StateChange
from sluice.local.waf import WafStandIn

POLL_S = 1.0
"""Lambda polls each shard of a stream once a second."""

STATE_POLL_S = 0.25
"""And each shard of a table's stream four times a second."""

SWEEP_S = 60.0
MOST_RECORDS = 10_000
MOST_BYTES = 6_000_000
RECORD_FRAME = 460
"""Bytes of a record in an event, besides its base64."""

STATE_RECORDS = {"enforce": 100, "publish": 1000}
MOST_FAILURES = 100


@dataclass(slots=True)
class Telemetry:
    """Adds up what the handlers report, and passes it on."""

    ingests: Report = field(default_factory=Report)
    batches: int = 0
    blocks: list[Block] = field(default_factory=list)
    lifted: list[Block] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    publish_conflicts: int = 0
    overflow: int = 0
    """Blocks that the IP sets had no room for at the last publish."""
    breaker_opened: bool = False
    rules_problem: str | None = None

    def ingested(self, report: Report, rules_problem: str | None) -> None:
        total = self.ingests
        for name in ("records", "requests", "late", "replayed", "repeats", "conflicts", "dropped"):
            setattr(total, name, getattr(total, name) + getattr(report, name))
        total.malformed.update(report.malformed)
        total.samples = (total.samples + report.samples)[-10:]
        total.view_entries = report.view_entries
        total.lag_ms = max(total.lag_ms, report.lag_ms)
        self.batches += 1
        self.rules_problem = rules_problem

    def enforced(self, report: EnforceReport) -> None:
        self.blocks += report.blocks
        self.breaker_opened |= report.breaker_opened
        for outcome, number in report.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + number

    def published(self, report: PublishReport) -> None:
        self.failures += report.failures
        self.publish_conflicts += report.conflicts
        self.overflow = report.wanted.overflow

    def swept(self, report: SweepReport) -> None:
        self.lifted += report.lifted


class LocalCloud:
    """A deployed Sluice, in one process."""

    def __init__(
        self,
        clock: Clock,
        *,
        rules: str,
        shards: int = 2,
        containers: int = 2,
        seed: int = 0,
        settings: Mapping[str, str] | None = None,
        allow: Sequence[tuple[str, str]] = (),
    ) -> None:
        """``rules`` in TOML (raises RulesError); ``allow``: networks and comments for the allowlist."""
        self.rules: RuleSet = parse_rules(rules)
        self.loop = Loop(clock)
        self.random = Random(seed)
        self.stream = Stream("sluice-logs", shards, self.random)
        self.tally_logs = MemoryTallyLogs()
        self.state = MemoryStateStore()
        self.waf = WafStandIn(clock.now, self.loop.sleep)
        self.telemetry = Telemetry()
        sets = {
            f"IP_SETS_V{family}": "{Name}/{Id}".format(
                **self.waf.create_ip_set(
                    Name=f"sluice-v{family}", Scope="CLOUDFRONT", IPAddressVersion=f"IPV{family}", Addresses=[]
                )["Summary"]
            )
            for family in (4, 6)
        }
        self.config: Config = read_config({**sets, "LOG_STREAM": self.stream.name, **(settings or {})})
        self.world = World(
            tally_logs=self.tally_logs,
            state=self.state,
            ip_sets=WafIpSets(self.waf, self.config.waf_scope),  # type: ignore[arg-type] # the calls it makes are there
            clock=clock.now,
            sleep=self.loop.sleep,
            telemetry=self.telemetry,
        )
        stored = StoredRules(text=rules, by="local", saved_at=int(clock.now()))
        self.state.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=stored.to_json())])
        for network, comment in allow:
            entry = Allow(network=network, comment=comment, by="local", added_at=int(clock.now()))
            self.state.put_over([Item(kind=Allow.kind, id=network, body=entry.to_json())])
        self._containers = containers
        self.deploy()
        self._waiting: dict[str, list[StateChange]] = {"enforce": [], "publish": []}
        self._deliveries: list[Bell] = []
        self._polls: dict[str, Bell] = {}
        self._retries: dict[str, int] = {}
        self.invocation_failures: list[str] = []

    def container(self) -> Services:
        """One more container, cold."""
        return compose(self.config, self.world)

    def deploy(self) -> None:
        """Replaces every container by a cold one; what runs goes on to its end in the old one."""
        self._ingesters = [self.container() for _ in range(self._containers)]
        self._others = {name: self.container() for name in ("enforce", "publish", "sweep")}

    def start(self) -> None:
        """Maps the event sources to the handlers."""
        now = self.now()
        for function in self._waiting:
            deliver = partial(self._deliver, function)
            self._deliveries.append(Bell(self.loop, STATE_POLL_S, deliver, first=now + STATE_POLL_S))
        self.state.on_change = self._ring_deliveries
        self._ring_deliveries()
        self.loop.every(SWEEP_S, self._sweep, first=now + 2)

    def put(self, line: bytes, shard: Shard | None = None) -> None:
        """One Kinesis record, readable from now on; in ``shard``, or in any."""
        shard = self.stream.put(line, self.now(), shard)
        if shard.id not in self._polls:
            phase = self.random.uniform(0, POLL_S)
            self._polls[shard.id] = Bell(self.loop, POLL_S, partial(self._poll, shard), first=self.now() + phase)
        self._polls[shard.id].ring()

    def now(self) -> float:
        return self.loop.clock.now()

    @property
    def backlog(self) -> int:
        """Records that have not been ingested, and state changes that have not been delivered."""
        records = sum(len(shard.records) for shard in self.stream.shards.values())
        return records + len(self.state.changes) + sum(map(len, self._waiting.values()))

    def _poll(self, shard: Shard) -> bool:
        """Delivers what a shard holds; a failed batch is delivered again at the next poll, cut elsewhere."""
        if any(self.stream.shards[parent].records for parent in shard.parents):
            return True
        while records := self._cut(shard):
            event = kinesis_event(self.stream.name, shard.id, records)
            if not self._invoke(self.random.choice(self._ingesters), partial(deployed.ingest, event, None)):
                self._retries[shard.id] = self.random.randint(1, len(records))
                return True
            self._retries.pop(shard.id, None)
            del shard.records[: len(records)]
            self.loop.sleep(0)
        return False

    def _cut(self, shard: Shard) -> list[Record]:
        taken: list[Record] = []
        size = 0
        for record in shard.records[: self._retries.get(shard.id, MOST_RECORDS)]:
            size += len(record.data) * 4 // 3 + RECORD_FRAME
            if taken and size > MOST_BYTES:
                break
            taken.append(record)
        return taken

    def _deliver(self, function: str) -> bool:
        """Delivers changes of the state table to one of the functions that listen to its stream."""
        for each in self._waiting.values():
            each.extend(self.state.changes)
        self.state.changes.clear()
        waiting = self._waiting[function]
        while some := waiting[: STATE_RECORDS[function]]:
            if not self._invoke(self._others[function], partial(getattr(deployed, function), state_event(some), None)):
                return True
            del waiting[: len(some)]
        return False

    def _ring_deliveries(self) -> None:
        for bell in self._deliveries:
            bell.ring()

    def _sweep(self) -> None:
        self._invoke(self._others["sweep"], partial(deployed.sweep, schedule_event(), None))

    def _invoke(self, container: Services, handler: Callable[[], object]) -> bool:
        """Whether the invocation succeeded; as in Lambda, an error costs a retry and nothing else."""
        try:
            with running_in(container):
                handler()
        except Exception as exc:
            self.invocation_failures.append(f"{type(exc).__name__}: {exc}")
            if len(self.invocation_failures) > MOST_FAILURES:
                raise
            return False
        return True


def kinesis_event(stream: str, shard: str, records: Sequence[Record]) -> dict[str, Any]:
    """The event Lambda makes of ``records``."""
    arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream}"
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "0",
                    "sequenceNumber": str(record.sequence),
                    "data": b64encode(record.data).decode(),
                    "approximateArrivalTimestamp": round(record.arrived, 3),
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{shard}:{record.sequence}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/sluice-ingest",
                "awsRegion": "us-east-1",
                "eventSourceARN": arn,
            }
            for record in records
        ]
    }


def schedule_event() -> dict[str, Any]:
    """The event of the schedule."""
    event = dict.fromkeys(("version", "account", "region", "id", "time"), "0")
    return {**event, "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "resources": []}


def state_event(changes: Sequence[StateChange]) -> dict[str, Any]:
    """The event Lambda makes of changes of the state table."""
    return {"Records": [_state_record(change) for change in changes]}


def _state_record(change: StateChange) -> dict[str, Any]:
    item = change.new or change.old
    assert item is not None
    images = {"OldImage": change.old, "NewImage": change.new}
    name = "MODIFY" if change.old and change.new else "INSERT" if change.new else "REMOVE"
    return {
        "eventName": name,
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "Keys": {"kind": {"S": item.kind}, "id": {"S": item.id}},
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **{image: attributes_of(held) for image, held in images.items() if held is not None},
        },
    }
