"""The local cloud: stream, tables, IP sets, and the event source mappings that invoke the deployed handlers.

It does what Lambda does as far as Sluice can tell: JSON events of at most 6 MB and 10,000 records of one shard, one
batch in flight a shard, a failed batch delivered again and cut anew, parent shards before their children, several
containers, the state table's stream, the schedule.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import app as deployed
from chalicelib.bootstrap import Services, World, compose, running_in
from chalicelib.config import Config, read_config
from chalicelib.core.rules import RuleSet, parse_rules
from chalicelib.core.state import ACTIVE, Allow, Block, StoredRules
from chalicelib.edges.state_table import attributes_of
from chalicelib.edges.waf_ip_sets import WafIpSets
from chalicelib.enforce import EnforceReport
from chalicelib.ingest import Report
from chalicelib.ports import Item
from chalicelib.publish import PublishReport
from chalicelib.sweep import SweepReport
from sluice.local.kinesis import Shard, Stream
from sluice.local.loop import Clock, Loop
from sluice.local.memory import MemoryStateStore, MemoryTallyLogs
from sluice.local.memory import StreamRecord as StateChange
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
RETRY_S = 1.0
MOST_FAILURES = 100
DEFAULT_RULES = Path(deployed.__file__).parent / "chalicelib" / "rules.toml"


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
        self.state.put_over([Item(kind=StoredRules.kind, id=ACTIVE, body=stored.body())])
        for network, comment in allow:
            entry = Allow(network=network, comment=comment, by="local", added_at=int(clock.now()))
            self.state.put_over([Item(kind=Allow.kind, id=network, body=entry.body())])
        self._ingesters = [self.container() for _ in range(containers)]
        self._others = {name: self.container() for name in ("enforce", "publish", "sweep")}
        self._waiting: dict[str, list[StateChange]] = {"enforce": [], "publish": []}
        self._positions: dict[str, int] = {}
        self._retries: dict[str, int] = {}
        self.invocation_failures: list[str] = []

    def container(self) -> Services:
        """One more container, cold."""
        return compose(self.config, self.world)

    def start(self) -> None:
        """Maps the event sources to the handlers."""
        now = self.loop.clock.now()
        self._map_new_shards()
        self.loop.every(POLL_S, self._map_new_shards, first=now + POLL_S)
        for function in self._waiting:
            self.loop.every(STATE_POLL_S, lambda name=function: self._deliver(name), first=now + STATE_POLL_S)  # type: ignore[misc]
        self.loop.every(SWEEP_S, self._sweep, first=now + 2)

    def put(self, line: bytes) -> None:
        """One Kinesis record, readable from now on."""
        self.stream.put(line, self.loop.clock.now())

    def now(self) -> float:
        return self.loop.clock.now()

    @property
    def backlog(self) -> int:
        """Records that have not been ingested, and state changes that have not been enforced."""
        records = sum(s.base + len(s.records) - self._positions.get(s.id, 0) for s in self.stream.shards.values())
        return records + len(self.state.changes) + sum(map(len, self._waiting.values()))

    def _map_new_shards(self) -> None:
        for shard in list(self.stream.shards.values()):
            if shard.id not in self._positions:
                self._positions[shard.id] = 0
                phase = self.random.uniform(0, POLL_S)
                self.loop.every(POLL_S, lambda shard=shard: self._poll(shard), first=self.now() + phase)  # type: ignore[misc]

    def _poll(self, shard: Shard) -> None:
        """Delivers what a shard holds; a failed batch is delivered again after a while, cut elsewhere."""
        parents = (self.stream.shards[parent] for parent in shard.parents)
        if any(self._positions.get(p.id, 0) < p.base + len(p.records) for p in parents):
            return
        while True:
            start = self._positions[shard.id] - shard.base
            records = self._cut(shard, start)
            if not records:
                return
            container = self.random.choice(self._ingesters)
            event = kinesis_event(self.stream.name, shard.id, records)
            if not self._invoke(container, lambda event=event: deployed.ingest(event, None)):  # type: ignore[misc]
                self._retries[shard.id] = self.random.randint(1, len(records))
                return
            self._retries.pop(shard.id, None)
            self._positions[shard.id] += len(records)
            del shard.records[: start + len(records)]
            shard.base += start + len(records)
            self.loop.sleep(0)

    def _cut(self, shard: Shard, start: int) -> list[Any]:
        most = self._retries.get(shard.id, MOST_RECORDS)
        taken: list[Any] = []
        size = 0
        for record in shard.records[start : start + most]:
            size += len(record.data) * 4 // 3 + RECORD_FRAME
            if taken and size > MOST_BYTES:
                break
            taken.append(record)
        return taken

    def _deliver(self, function: str) -> None:
        """Delivers changes of the state table to one of the functions that listen to its stream."""
        for each in self._waiting.values():
            each.extend(self.state.changes)
        self.state.changes.clear()
        waiting = self._waiting[function]
        while some := waiting[: STATE_RECORDS[function]]:
            handler = getattr(deployed, function)
            if not self._invoke(self._others[function], lambda: handler(state_event(some), None)):  # noqa: B023
                self.loop.sleep(RETRY_S)
                return
            del waiting[: len(some)]

    def _sweep(self) -> None:
        self._invoke(self._others["sweep"], lambda: deployed.sweep(schedule_event(), None))

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


def kinesis_event(stream: str, shard: str, records: Sequence[Any]) -> dict[str, Any]:
    """The event Lambda makes of ``records`` (each with ``sequence``, ``data`` and ``arrived``)."""
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
