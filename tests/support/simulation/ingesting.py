"""Ingest and evaluate under interleavings: each request is counted once, exactly the offenders are detected (G1 to G3).

A run has a stream of a few shards, a bucket of objects, up to four ingest containers, three importers and three
evaluators, and several phases. Notifications about objects come twice, and in any order. Hours lie
between the phases, so logs become dormant, items expire, shards split and merge, and a stream is recreated with lower
sequence numbers. Lambda gives up on invocations that still run, and delivers their records again, in other batches, to
other containers. Containers crash, or are frozen for hours and resume with stale memories; their clocks differ by
seconds.
"""

import gzip
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import inf
from random import Random

from chalicelib.bootstrap import PARTS, Parts, Services, World, compose
from chalicelib.config import read_config
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.rules import TOPIC_BYTES, Rule, RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules, version_id
from chalicelib.core.tally import unpack
from chalicelib.pipeline.import_objects import NewObject, Notification
from chalicelib.pipeline.ingest import Batch
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.tally_logs import OutOfTime
from chalicelib.ports import Contended, LogItem, LogKey, LogObject, Unavailable
from sluice.local.kinesis import Shard, Stream, StreamRecord
from sluice.local.stores import MemoryStateStore, StateChange
from sluice.local.telemetry import ReportTotals
from tests.support.buckets import exceeds_in_slots
from tests.support.objects import MemoryObjects
from tests.support.simulation.listening import Listener
from tests.support.simulation.ports import (
    LedgerTallyLogs,
    SwitchingObjects,
    SwitchingStateStore,
    SwitchingTallyLogs,
)
from tests.support.simulation.schedule import Crash, Faults, Schedule, Task
from tests.support.tally_logs import DORMANT_MS, EXPIRE_MS

START = 1_760_000_000.0
MOST_CONTAINERS = 4
MOST_EVALUATORS = 3
MOST_IMPORTERS = 3
NOTIFIED_AGAIN = 0.3
"""Share of objects that are notified twice."""
DORMANT_S = DORMANT_MS / 1000
SILENCES_S = [1200, 4500, 6000, DORMANT_S, DORMANT_S, 11_000, 40_000]
"""Between two phases; that of a log about to fall dormant takes up to five seconds less."""

MOST_STEPS = 20_000
HURRIED = 0.1
"""Share of evaluators' invocations that have no time for more than one log or item."""

FIELDS = "timestamp,c-ip,sc-status,x-edge-request-id"
RULES = """
[[rule]]
name = "burst"
limit = {limit}
window = "10s"
resolution = 10

[[rule]]
name = "sustained"
limit = {more}
window = "30s"
resolution = 10

[[rule]]
name = "network"
limit = {many}
window = "15s"
resolution = 10
aggregate = {{ ipv4 = 24 }}

[[rule]]
name = "pace"
bucket = {{ rate = "1/5s", burst = {more}, memory = "60s" }}
resolution = 10
"""
"""Two rules share a meter at slots of 1 s and 3 s; the third counts networks in slots of 1.5 s. The last is
a bucket."""


class Violation(AssertionError):
    """A guarantee that did not hold."""


@dataclass(frozen=True, slots=True)
class Made:
    """A request: its client and its time, in milliseconds."""

    client: str
    time_ms: int
    refused: bool = False
    """True if it was answered as Sluice's rule group answers those it refuses."""


@dataclass(slots=True)
class Container:
    name: str
    services: Services
    skew: float
    busy: bool = False
    frozen: bool = False
    """Not called in this phase, and not gone."""


@dataclass(slots=True)
class Delivery:
    """A batch that is being delivered. ``given_up``: Lambda no longer waits for its end."""

    shard: Shard
    records: int
    container: Container
    begun: float
    given_up: bool = False
    task: Task | None = None


@dataclass(slots=True)
class Run:
    """The events of a run, to be judged and printed."""

    made: list[Made] = field(default_factory=list)
    invocations: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


@cache
def rules_of(limit: int) -> RuleSet:
    return parse_rules(RULES.format(limit=limit, more=limit + 1, many=limit + 2))


class Ingesting:
    """Prepares a run. Tests of the simulation pass broken ``parts`` or ``logs``, which it must detect."""

    def __init__(
        self,
        seed: int,
        *,
        faults: Faults | None = None,
        parts: Parts = PARTS,
        logs: LedgerTallyLogs | None = None,
        phases: int | None = None,
        silences_s: Sequence[float] = SILENCES_S,
        rules: RuleSet | None = None,
        backoff_s: float = 0.0,
        in_objects: float | None = None,
        most_skew_s: float = 3.0,
    ) -> None:
        """``in_objects``: share of requests that are logged in objects instead of the stream; drawn if None."""
        self.random = random = Random(seed)
        self.faults = faults or Faults(random, chance=random.choice([0, 0.02, 0.08]), most=6)
        self.schedule = Schedule(random, self.faults, start=START)
        limit = random.choice([0, 1, 1, 2, 3])
        self.rules = rules or rules_of(limit)
        self.ledger = logs or LedgerTallyLogs()
        self.tally_logs = SwitchingTallyLogs(self.ledger, self.schedule)
        self.state = MemoryStateStore()
        stored = StoredRules(text=self.rules.text)
        for id in (ACTIVE, version_id(1)):
            State(self.state).overwrite(stored, id=id)
        lateness_s = random.choice(["10", "300", "3600"])
        self.config = read_config({"CLOUDFRONT_FIELDS": FIELDS, "LATENESS_S": lateness_s})
        self.parts = parts
        self.most_skew_s = most_skew_s
        self.phases = phases or random.choice([1, 1, 2, 3, 4])
        self._silences_s = silences_s
        self._forgetful = random.choice([0, 0.002, 0.02])
        self.run = Run()
        self.stream = Stream("logs", random.randint(1, 4), random)
        self.bucket = MemoryObjects(block_bytes=random.choice([50, 1000]))
        drawn = random.choice([0, 0, 0.5, 1])
        self._in_objects = drawn if in_objects is None else in_objects
        self.importers: Listener[LogObject] = Listener(
            self.schedule, "import_objects", self._importer, most_containers=MOST_IMPORTERS, backoff_s=backoff_s
        )
        self.evaluators: Listener[LogKey] = Listener(
            self.schedule, "evaluate", self._evaluator, most_containers=MOST_EVALUATORS, backoff_s=backoff_s
        )
        self.ledger.on_append = self._ring
        self.containers: list[Container] = []
        self.positions: dict[str, int] = defaultdict(int)
        self.deliveries: list[Delivery] = []
        self._named = 0
        self._written: list[LogObject] = []

    def play(self) -> Run:
        """Raises Violation."""
        for phase in range(self.phases):
            if phase:
                self._let_hours_pass()
            self._play_phase(self._requests())
        self.run.trace = self.schedule.trace
        self._judge()
        return self.run

    def _requests(self) -> list[Made]:
        """Returns requests of a few clients around their limits, some of them late."""
        random = self.random
        made: list[Made] = []
        late_ms = random.choice([0, 0, 20_000, 3_000_000])
        for _ in range(random.randint(1, 3)):
            client = f"192.0.{random.randint(0, 1)}.{random.randint(1, 2)}"
            start = int(self.schedule.now * 1000) - random.randint(0, late_ms)
            span = random.choice([500, 9_000, 9_999, 12_000, 28_000, 31_000])
            number = self.rules.rules[0].limit + random.randint(0, 3)
            made += [Made(client, start - random.randint(0, span)) for _ in range(number)]
        random.shuffle(made)
        self.run.made += made
        return made

    def _play_phase(self, requests: list[Made]) -> None:
        random, schedule = self.random, self.schedule
        if random.random() < 0.2:
            self._put(requests, len(requests))
        for _ in range(MOST_STEPS):
            schedule.now += random.choice([0, 0, 0.01, 0.3])
            choice = random.random()
            if requests and choice < 0.2:
                self._put(requests, random.randint(1, 3))
            elif choice < 0.4:
                self._deliver()
            elif choice < 0.5:
                self.evaluators.deliver()
                self.importers.deliver()
            elif choice < 0.53:
                self._give_up()
                self.evaluators.give_up()
                self.importers.give_up()
            elif choice < 0.532:
                self._reshard()
            elif choice < 0.532 + self._forgetful:
                self._forget_a_container()
                self.evaluators.forget_a_container()
                self.importers.forget_a_container()
            elif not schedule.step() and not requests and self._settled():
                for listener in (self.evaluators, self.importers):
                    self.run.failures += listener.failures
                    listener.failures.clear()
                return
        raise Violation(f"nothing settled within {MOST_STEPS} steps")

    def _settled(self) -> bool:
        return not self._backlog() and self.evaluators.settled and self.importers.settled

    def _put(self, requests: list[Made], number: int) -> None:
        """Logs the first ``number`` of ``requests``, and removes them there."""
        lines = [_line(made) for made in requests[:number]]
        del requests[:number]
        if self.random.random() < self._in_objects:
            self._put_object(b"".join(line + b"\n" for line in lines))
            return
        for line in lines:
            self.stream.put(line, self.schedule.now)

    def _put_object(self, content: bytes) -> None:
        if self.random.random() < 0.5:
            content = gzip.compress(content)
        object = self.bucket.put("bucket", f"{len(self._written) + 1}.log", content)
        self._written.append(object)
        for number in range(2 if self.random.random() < NOTIFIED_AGAIN else 1):
            self.importers.waiting[f"{object} {number}"].append(object)

    def _backlog(self) -> list[Shard]:
        """Shards with records to deliver, whose parents have been read to their ends."""
        waiting = {s.id for s in self.stream.shards.values() if self.positions[s.id] < len(s.records)}
        shards = self.stream.shards.values()
        return [s for s in shards if s.id in waiting and waiting.isdisjoint(s.parents)]

    def _ready(self) -> list[Shard]:
        return self._backlog()

    def _deliver(self) -> None:
        busy = {delivery.shard.id for delivery in self.deliveries if not delivery.given_up}
        free = [shard for shard in self._ready() if shard.id not in busy]
        container = self._container()
        if not free or container is None:
            return
        shard = self.random.choice(free)
        start = self.positions[shard.id]
        records = shard.records[start : start + self.random.choice([1, 2, 3, 100])]
        delivery = Delivery(shard, len(records), container, self.schedule.now)
        self.deliveries.append(delivery)
        self.run.invocations += 1
        batch = _batch(self.stream.name, shard, records)
        container.busy = True

        def ended(task: Task) -> None:
            self._ended(task, delivery, container)

        now_ms = int((self.schedule.now + container.skew) * 1000)
        delivery.task = self.schedule.spawn(container.name, lambda: container.services.ingest.run(batch, now_ms), ended)

    def _ended(self, task: Task, delivery: Delivery, container: Container) -> None:
        container.busy = False
        self.deliveries.remove(delivery)
        failure = task.failure
        if failure is None:
            if not delivery.given_up:
                self.positions[delivery.shard.id] += delivery.records
            return
        self.run.failures[type(failure).__name__] += 1
        if isinstance(failure, Crash):
            self.containers = [each for each in self.containers if each is not container]
        elif not isinstance(failure, (Unavailable, Contended)):
            raise failure

    def _container(self) -> Container | None:
        idle = [container for container in self.containers if not container.busy and not container.frozen]
        if len(self.containers) < MOST_CONTAINERS and (not idle or self.random.random() < 0.3):
            self._named += 1
            skew = self.random.uniform(-self.most_skew_s, self.most_skew_s)
            container = Container(f"container {self._named}", self._services(skew), skew)
            self.containers.append(container)
            return container
        return self.random.choice(idle) if idle else None

    def _services(self, skew: float) -> Services:
        world = World(
            tally_logs=self.tally_logs,
            state=SwitchingStateStore(self.state, self.schedule),
            ip_sets=None,  # type: ignore[arg-type]
            clock=lambda: self.schedule.now + skew,
            sleep=self.schedule.sleep,
            telemetry=ReportTotals(),
            objects=SwitchingObjects(self.bucket, self.schedule),
        )
        return compose(self.config, world, self.parts)

    def _importer(self) -> Callable[[Sequence[LogObject]], object]:
        """Returns the handler of a new container, which cuts objects in its own way."""
        skew = self.random.uniform(-self.most_skew_s, self.most_skew_s)
        importer = self._services(skew).import_objects
        importer._part_bytes = self.random.choice([60, 60, 90, 10_000])

        def run(objects: Sequence[LogObject]) -> None:
            time_left_s = 0 if self.random.random() < HURRIED else inf
            new = [NewObject(object, int(self.schedule.now * 1000)) for object in objects]
            report = importer.run([Notification("0", new)], lambda: time_left_s)
            if report.failures:
                raise Unavailable(report.failures["0"])

        return run

    def _evaluator(self) -> Callable[[Sequence[LogKey]], object]:
        """Returns the handler of a new container."""
        skew = self.random.uniform(-self.most_skew_s, self.most_skew_s)
        evaluate = self._services(skew).evaluate

        def run(keys: Sequence[LogKey]) -> None:
            time_left_s = 0 if self.random.random() < HURRIED else inf
            report = evaluate.run(int((self.schedule.now + skew) * 1000), lambda: time_left_s)
            if report.unfinished is not None:
                raise OutOfTime(report.unfinished)

        return run

    def _ring(self) -> None:
        """Rings for the items that have just been appended."""
        for key in self.ledger.added:
            log = key[0]
            # A shard of the table's stream holds the changes of many logs.
            self.evaluators.waiting["s3" if log.startswith("s3/") else log].append(key)
        self.ledger.added.clear()

    def _give_up(self) -> None:
        """Gives up on a delivery, as Lambda does after a time-out; its invocation may still run."""
        waited_for = [delivery for delivery in self.deliveries if not delivery.given_up]
        if waited_for:
            self.random.choice(waited_for).given_up = True

    def _forget_a_container(self) -> None:
        idle = [container for container in self.containers if not container.busy]
        if idle:
            self.containers.remove(self.random.choice(idle))

    def _reshard(self) -> None:
        shards = self.stream.open_shards
        if len(self.stream.shards) > 7:
            return
        if len(shards) > 1 and self.random.random() < 0.5:
            self.stream.merge(*self.random.sample(shards, 2))
        elif len(shards) < 4:
            self.stream.split(self.random.choice(shards))

    def _let_hours_pass(self) -> None:
        random, schedule = self.random, self.schedule
        schedule.now += random.choice(self._silences_s) - random.uniform(0, 5)
        if random.random() < 0.7:
            self.ledger.expire_at_random(random, int(schedule.now * 1000) - EXPIRE_MS)
        for container in self.containers:
            container.frozen = random.random() < 0.4
        if all(container.frozen for container in self.containers) and self.containers:
            random.choice(self.containers).frozen = False
        if random.random() < 0.2:
            self._recreate_the_stream()

    def _recreate_the_stream(self) -> None:
        self.stream = Stream(self.stream.name, random=self.random, shards=self.random.randint(1, 4))
        self.stream._next = self.random.randrange(1, 1 << 40)
        self.positions.clear()

    def _judge(self) -> None:
        judge_counts(self.rules, self.run.made, self.ledger.appended)
        judge_detections(self.rules, self.run.made, self.state.changes)


def judge_counts(rules: RuleSet, requests: Sequence[Made], appended: Sequence[LogItem]) -> None:
    """Raises Violation unless the logs hold every request once."""
    counted: Counter[tuple[int, int, str, int]] = Counter()
    for item in appended:
        for part in unpack(item.body) if item.body is not None else ():
            if len(part.topic) > TOPIC_BYTES:
                continue  # the refusals, which are counted like all others as well
            for key, slots in part.clients().items():
                client = ".".join(map(str, key))
                for slot, number in slots.items():
                    counted[part.ipv4_prefix, part.slot_ms, client, slot] += number
    expected = Counter(
        (meter.ipv4_prefix, meter.slot_ms, masked(made.client, meter.ipv4_prefix), made.time_ms // meter.slot_ms)
        for meter in rules.meters()
        for made in requests
    )
    if counted - expected:
        raise Violation(f"counted more than once: {dict(counted - expected)}")
    if expected - counted:
        raise Violation(f"not counted: {dict(expected - counted)}")


def judge_detections(rules: RuleSet, requests: Sequence[Made], changes: Iterable[StateChange]) -> None:
    """Raises Violation unless exactly the clients over a limit have been detected."""
    expected = {(rule.name, network) for rule in rules.rules for network in offenders(rule, requests)}
    detected = {
        (detection.terms.name, offender.network)
        for change in changes
        if change.new is not None and change.new.kind == Detection.kind
        for detection in [Detection.read(change.new.id, change.new.body)]
        if isinstance(detection, Detection)
        for offender in detection.offenders
    }
    if detected - expected:
        raise Violation(f"blocked early: {sorted(detected - expected)}")
    if expected - detected:
        raise Violation(f"missed: {sorted(expected - detected)}")


def offenders(rule: Rule, made: Sequence[Made]) -> set[str]:
    """Returns the clients over ``rule``'s limit in any window of whole slots, after trying every window."""
    slots: dict[str, list[int]] = defaultdict(list)
    for request in made:
        slots[masked(request.client, rule.ipv4_prefix)].append(request.time_ms // rule.slot_ms)
    return {f"{client}/{rule.ipv4_prefix}" for client, own in slots.items() if _exceeds(rule, own)}


def _exceeds(rule: Rule, slots: Sequence[int]) -> bool:
    if rule.rate is not None:
        return exceeds_in_slots(rule, slots)
    return any(sum(first <= slot < first + rule.resolution for slot in slots) > rule.limit for first in slots)


def _line(made: Made) -> bytes:
    return f"{made.time_ms / 1000:.3f}\t{made.client}\t{REFUSAL_STATUS if made.refused else 200}\t-".encode()


def masked(client: str, prefix: int) -> str:
    """Returns the first address of an IPv4 client's network of length 32 or 24."""
    return client if prefix == 32 else client.rpartition(".")[0] + ".0"


def _batch(stream: str, shard: Shard, records: Sequence[StreamRecord]) -> Batch:
    return Batch(
        shard=f"{stream}/{shard.id}",
        sequences=[str(record.sequence) for record in records],
        data=[record.data for record in records],
        arrived=[record.arrived for record in records],
    )
