"""The local cloud: stream, bucket, tables, IP sets, and the event source mappings that invoke the deployed handlers.

It imitates Lambda as far as Sluice can observe it: JSON events of at most 6 MB and 10,000 records of one shard, one
batch at a time per shard, failed batches delivered again with other bounds, parent shards before their children,
several containers, a queue of notifications about objects, both tables' streams, and the schedule.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from random import Random
from typing import Any, TypeVar

from chalicelib import handlers
from chalicelib.bootstrap import NoFeeds, NoObjects, Services, World, compose, running_in
from chalicelib.config import Config, read_config
from chalicelib.core.responses import SOFTER, Response
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules, version_id
from chalicelib.edges.waf_ip_sets import WafIpSets
from chalicelib.pipeline.stored import State
from chalicelib.ports import Announcements, Feeds, LogKey, LogObject, LogObjects
from sluice.local.events import (
    MOST_BYTES,
    MOST_RECORDS,
    RECORD_FRAME,
    kinesis_event,
    objects_event,
    schedule_event,
    state_event,
    tally_event,
)
from sluice.local.kinesis import Shard, Stream, StreamRecord
from sluice.local.loop import Bell, Clock, Loop
from sluice.local.stores import MemoryRollUps, MemoryStateStore, MemoryTallyLogs, StateChange
from sluice.local.telemetry import ReportTotals
from sluice.local.waf import WafStandIn

POLL_S = 1.0
"""Seconds between polls of a Kinesis shard (Lambda polls each shard once per second)."""

TABLE_POLL_S = 0.25
"""Seconds between polls of a table's stream (Lambda polls each shard four times per second)."""

MEMORY_MB = 1769
"""Memory of a function, as deployed: it bounds the view."""

QUEUE_POLL_S = 1.0
"""Seconds between polls of the queue of notifications, and after which a failed one is delivered again."""

MOST_RECEIVES = 5
"""Deliveries of a message before it is moved to the dead-letter queue."""

SWEEP_S = 60.0
BATCHES = {"evaluate": 10_000, "enforce": 10, "publish": 1000}
"""Most changes of a table per event, by the function that reads its stream."""

MOST_FAILURES = 100
"""Failed invocations that are retried; the next one raises, so that a broken handler ends the run."""

T = TypeVar("T")


@dataclass(slots=True)
class _Message:
    """A message of the queue of notifications."""

    object: LogObject
    created: float
    """Epoch seconds."""
    received: int = 0
    """Deliveries so far."""


class LocalCloud:
    """A deployed Sluice in one process."""

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
        objects: LogObjects | None = None,
        ip_sets: int = 1,
        responses: Collection[Response] = (),
        announcements: Announcements | None = None,
        feeds: Feeds | None = None,
    ) -> None:
        """``rules``: TOML text. ``containers``: those of ingest. ``allow``: networks for the allowlist, with comments.

        ``ip_sets``: those of each family that block. ``responses``: softer ones with IP sets, besides those of the
        rules. ``objects``: the bucket that ``notify`` refers to, if there is one. ``announcements``: their receiver,
        likewise. ``feeds``: what reads them, by default nothing. Raises RulesError, ConfigError.
        """
        self.rules: RuleSet = parse_rules(rules)
        self.loop = Loop(clock)
        self.random = Random(seed)
        self._phases = Random(f"phases {seed}")
        self.stream = Stream("sluice-logs", shards, self.random)
        self.tally_logs = MemoryTallyLogs()
        self.roll_ups = MemoryRollUps()
        self.state = MemoryStateStore()
        self.waf = WafStandIn(clock.now, self.loop.sleep)
        self.telemetry = ReportTotals()
        answers = [*chain.from_iterable(rule.respond for rule in self.rules.rules)]
        answers += [feed.respond for feed in self.rules.feeds if feed.respond is not None]
        softer = {*responses, *answers} & set(SOFTER)
        sets = self._create_ip_sets(ip_sets, softer)
        self.config: Config = read_config({**sets, "LOG_STREAM": self.stream.name, **(settings or {})})
        self.world = World(
            tally_logs=self.tally_logs,
            state=self.state,
            ip_sets=WafIpSets(self.waf, self.config.waf_scope),  # type: ignore[arg-type] # has the calls it makes
            clock=clock.now,
            sleep=self.loop.sleep,
            telemetry=self.telemetry,
            objects=objects or NoObjects(),
            feeds=feeds or NoFeeds(),
            roll_ups=self.roll_ups,
            memory_mb=MEMORY_MB,
            announcements=announcements,
        )
        records, start = State(self.state), int(clock.now())
        for id in (ACTIVE, version_id(1)):
            records.overwrite(StoredRules(text=rules, by="local", saved_at=start), id=id)
        records.overwrite(*(Allow(network=name, comment=text, by="local", added_at=start) for name, text in allow))
        self._containers = containers
        self.deploy()
        self._added: list[LogKey] = []
        self._changed: dict[str, list[StateChange]] = {"enforce": [], "publish": []}
        self._polls: dict[str, Bell] = {}
        self._notified: list[_Message] = []
        self.dead_letters: list[LogObject] = []
        """Objects whose notification failed ``MOST_RECEIVES`` times."""
        self._retries: dict[str, int] = {}
        self.invocation_failures: list[str] = []

    def _create_ip_sets(self, number: int, softer: Collection[Response]) -> dict[str, str]:
        """Creates ``number`` blocking IP sets per family, and one of each softer response. Returns their settings."""
        settings = {}
        for family in (4, 6):
            names = [f"sluice-v{family}", *(f"sluice-v{family}-{each}" for each in range(2, number + 1))]
            settings[f"IP_SETS_V{family}"] = ",".join(f"{name}/{self._create_ip_set(name, family)}" for name in names)
        settings["SOFTER_IP_SETS"] = ",".join(
            f"{response}/v{family}/{name}/{self._create_ip_set(name, family)}"
            for response in SOFTER
            if response in softer
            for family in (4, 6)
            for name in [f"sluice-{response}-v{family}"]
        )
        return settings

    def _create_ip_set(self, name: str, family: int) -> str:
        answer = self.waf.create_ip_set(Name=name, Scope="CLOUDFRONT", IPAddressVersion=f"IPV{family}", Addresses=[])
        return str(answer["Summary"]["Id"])

    def container(self) -> Services:
        """Returns a new, cold container."""
        return compose(self.config, self.world)

    def deploy(self) -> None:
        """Replaces every container with a cold one; running invocations finish in the old one."""
        self._ingesters = [self.container() for _ in range(self._containers)]
        self._others = {name: self.container() for name in (*BATCHES, "import_objects", "sweep")}

    def start(self) -> None:
        """Connects the event sources to the handlers."""
        now = self.now()
        calls: dict[str, Callable[[], bool]] = {name: partial(self._deliver_state, name) for name in self._changed}
        calls["evaluate"] = self._deliver_tallies
        # As on Lambda, each function polls at times of its own.
        bells = {
            name: Bell(self.loop, TABLE_POLL_S, call, first=now + self._phases.uniform(0, TABLE_POLL_S))
            for name, call in calls.items()
        }
        self.tally_logs.on_append = bells["evaluate"].ring
        phase = self._phases.uniform(0, QUEUE_POLL_S)
        self._queue = Bell(self.loop, QUEUE_POLL_S, self._deliver_notifications, first=now + phase)

        def ring_for_state() -> None:
            for name in self._changed:
                bells[name].ring()

        self.state.on_change = ring_for_state
        ring_for_state()
        self.loop.every(SWEEP_S, self._sweep, first=now + 2)

    def put(self, line: bytes, shard: Shard | None = None) -> None:
        """Puts a record into ``shard``, or into a random one; it can be read at once."""
        shard = self.stream.put(line, self.now(), shard)
        if shard.id not in self._polls:
            phase = self.random.uniform(0, POLL_S)
            self._polls[shard.id] = Bell(self.loop, POLL_S, partial(self._poll, shard), first=self.now() + phase)
        self._polls[shard.id].ring()

    def notify(self, object: LogObject) -> None:
        """Puts a notification about a new object into the queue."""
        self._notified.append(_Message(object, self.now()))
        self._queue.ring()

    def now(self) -> float:
        return self.loop.clock.now()

    @property
    def backlog(self) -> int:
        """Number of records not ingested yet and changes of the tables not delivered yet."""
        records = sum(len(shard.records) for shard in self.stream.shards.values())
        tallies = len(self.tally_logs.added) + len(self._added)
        changes = len(self.state.changes) + sum(map(len, self._changed.values()))
        return records + len(self._notified) + tallies + changes

    def _poll(self, shard: Shard) -> bool:
        """Delivers a shard's records; a failed batch is delivered again at the next poll, cut elsewhere."""
        if any(self.stream.shards[parent].records for parent in shard.parents):
            return True
        while records := self._cut(shard):
            event = kinesis_event(self.stream.name, shard.id, records)
            if not self._invoke(self.random.choice(self._ingesters), partial(handlers.ingest, event, None)):
                self._retries[shard.id] = self.random.randint(1, len(records))
                return True
            self._retries.pop(shard.id, None)
            del shard.records[: len(records)]
            self.loop.sleep(0)
        return False

    def _cut(self, shard: Shard) -> list[StreamRecord]:
        batch: list[StreamRecord] = []
        size = 0
        for record in shard.records[: self._retries.get(shard.id, MOST_RECORDS)]:
            size += len(record.data) * 4 // 3 + RECORD_FRAME
            if batch and size > MOST_BYTES:
                break
            batch.append(record)
        return batch

    def _deliver_notifications(self) -> bool:
        """Delivers the notifications one by one. Returns whether one failed, to be delivered again at the next poll."""
        waiting, self._notified = self._notified, []
        for message in waiting:
            message.received += 1
            event = objects_event([(str(id(message)), message.object, message.created)])
            if self._invoke(self._others["import_objects"], partial(handlers.import_objects, event, None)):
                continue
            if message.received < MOST_RECEIVES:
                self._notified.append(message)
            else:
                self.dead_letters.append(message.object)
        return bool(self._notified)

    def _deliver_tallies(self) -> bool:
        """Delivers the keys of new tallies."""
        self._added += self.tally_logs.added
        self.tally_logs.added.clear()
        return self._deliver("evaluate", self._added, tally_event)

    def _deliver_state(self, function: str) -> bool:
        """Delivers state changes to one of the functions that read the state table's stream."""
        for queue in self._changed.values():
            queue.extend(self.state.changes)
        self.state.changes.clear()
        return self._deliver(function, self._changed[function], state_event)

    def _deliver(self, function: str, waiting: list[T], event: Callable[[Sequence[T]], dict[str, Any]]) -> bool:
        """Delivers changes of a table until none is ``waiting``. Returns whether an invocation failed."""
        handler = getattr(handlers, function)
        while batch := waiting[: BATCHES[function]]:
            if not self._invoke(self._others[function], partial(handler, event(batch), None)):
                return True
            del waiting[: len(batch)]
        return False

    def _sweep(self) -> None:
        self._invoke(self._others["sweep"], partial(handlers.sweep, schedule_event(), None))

    def _invoke(self, container: Services, handler: Callable[[], object]) -> bool:
        """Calls ``handler`` in ``container``. Returns whether it succeeded; readers of streams retry, as on Lambda.

        Raises the error of the invocation after ``MOST_FAILURES`` failed ones.
        """
        try:
            with running_in(container):
                handler()
        except Exception as exc:
            self.invocation_failures.append(f"{type(exc).__name__}: {exc}")
            if len(self.invocation_failures) > MOST_FAILURES:
                raise
            return False
        return True
