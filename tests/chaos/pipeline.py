"""One run of the whole pipeline: its functions over memory stores and the stand-in for WAF.

A run has one or two phases with hours between them. In each of them a few clients attack and others do not; then
mishaps end, two sweeps go by, and everything that Sluice promises is judged.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from random import Random
from unittest.mock import patch

from chalicelib.bootstrap import PARTS, Parts, Services, World, compose
from chalicelib.config import read_config
from chalicelib.core.ipsets import CAPACITY, SetGroup
from chalicelib.core.responses import Response
from chalicelib.core.rules import NETWORKS as BY_NETWORKS
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, Item, LogKey, StreamChange, Unavailable
from sluice.local.kinesis import Shard
from sluice.local.stores import StateChange
from sluice.local.telemetry import ReportTotals
from sluice.local.waf import WafStandIn
from tests.chaos.edge import Edge
from tests.chaos.judging import MANUAL_BLOCK, Judge
from tests.chaos.mishaps import BETWEEN_PHASES, WORLD, Mishap, Mishaps, plan
from tests.support.damaged import DAMAGED, OFFENDER
from tests.support.known import remember
from tests.support.simulation.ingesting import FIELDS, Container, Delivery, Ingesting, Made, Run, Violation
from tests.support.simulation.listening import Listener, add_changes
from tests.support.simulation.ports import BusyStateStore, LedgerTallyLogs, SwitchingObjects
from tests.support.simulation.publishing import HOLDING_CAPACITY, WatchedIpSets, allowed
from tests.support.simulation.schedule import Crash, Task
from tests.support.tally_logs import EXPIRE_MS

LENGTH_S = 240.0
"""Seconds of traffic per phase."""

TIMEOUT_S, EVALUATE_TIMEOUT_S = 60.0, 300.0
"""Seconds after which Lambda gives up on an invocation, and on one of evaluate, and delivers the batch again."""

BACKOFF_S = 4.0
"""Seconds within which a failed batch is retried."""

OBJECT_S = 20.0
"""Seconds between two objects, whose requests arrive together."""

SWEEP_S = 60.0
BLOCK_FOR_S = 10_800
SHORT_BLOCK_S = 40
"""Length of a block that is over, and may be followed by the next, within a phase."""

EDGES_S = (None, 0.0, 1.0, 60.0)
"""Seconds by which the edge applies an update late; None: it refuses nothing."""

CAPACITIES = (CAPACITY, CAPACITY, CAPACITY, 2)
"""Networks that fit into an IP set."""

ITEM_S, OFFENDERS_AT_ONCE = 4.0, 1
"""Seconds that enforce needs for each block and each history, in runs in which invocations end for want of time; and
the offenders that it writes at once in them. It has time for seven."""
LAG_S = 600.0
"""Seconds within which everything is processed once the mishaps are over: twice the time-out of evaluate."""

MOST_STEPS = 120_000
SILENCES_S = (1200.0, 7200.0, 15_000.0)
NETWORKS = """
[networks]
members = 4
"""
RULES = """
[[rule]]
name = "burst"
limit = 3
window = "10s"
resolution = 10
block_for = "{burst}"

[[rule]]
name = "sustained"
limit = 5
window = "30s"
resolution = 10
block_for = "{sustained}"
respond = ["watch", "challenge", "block"]

[[rule]]
name = "network"
limit = 12
window = "15s"
resolution = 10
block_for = "{network}"
aggregate = {{ ipv4 = 24 }}

[[rule]]
name = "pace"
bucket = {{ rate = "1/5s", burst = 4, memory = "60s" }}
resolution = 10
block_for = "3h"
"""
GARBAGE = (
    b"",
    b"\xff\xfe\t\t",
    b"\x1f\x8b\x08broken",
    b'{"timestamp": 1}',
    b"4000000000.000\t192.0.0.1\t200\t-",
    b"a\tb\tc\td" * 99,
)
"""Records that are not log lines, as any client could cause them."""

GARBAGE_SHARE = 0.1
NETWORKS_SHARE = 0.5
"""Share of runs whose rules block guilty networks."""
UNDONE_SHARE = 0.5
"""Share of the blocks of guilty networks that an operator undoes, within ``UNDONE_WITHIN_S``."""
UNDONE_WITHIN_S = 150.0
ALLOWLISTED = "192.0.9.0/24"
LATER_ALLOWLISTED = "192.0.8.1"


class Chaos(Ingesting):
    """One run. ``mishaps``: those of the seed if None. Other arguments replace parts by broken ones."""

    def __init__(
        self,
        seed: int,
        *,
        mishaps: Sequence[Mishap] | None = None,
        parts: Parts = PARTS,
        logs: LedgerTallyLogs | None = None,
        rules: RuleSet | None = None,
    ) -> None:
        self.planned = Random(f"plan {seed}")
        faults = Mishaps()
        phases = self.planned.choice([1, 1, 2, 3])
        edge = Random(f"edge {seed}")
        self._crowds = Random(f"networks {seed}")
        self._undos = Random(f"undos {seed}")
        self._undoing: list[tuple[float, str]] = []
        """Networks whose blocks an operator undoes, and when."""
        networks = self._crowds.random() < NETWORKS_SHARE
        lengths = {name: edge.choice(["3h", "3h", f"{SHORT_BLOCK_S}s"]) for name in ("burst", "sustained", "network")}
        super().__init__(
            seed,
            faults=faults,
            parts=parts,
            logs=logs,
            phases=phases,
            rules=rules or parse_rules((NETWORKS if networks else "") + RULES.format_map(lengths)),
            backoff_s=BACKOFF_S,
            in_objects=Random(f"objects {seed}").choice([0, 0, 0.3, 1]),
        )
        faults.schedule = self.schedule
        self.mishap_faults = faults
        self.mishaps = plan(self.planned, phases=phases, length_s=LENGTH_S)
        if mishaps is not None:
            self.mishaps = list(mishaps)
        self.most_skew_s = self.planned.choice([0.0, 3.0, 60.0, 120.0])
        self.waf = WafStandIn(lambda: self.schedule.now, self.schedule.sleep)
        late_s = edge.choice(EDGES_S)
        refusing = [_set_name(SetGroup(Response.BLOCK, family)) for family in (4, 6)]
        self.edge = None if late_s is None else Edge(self.waf.updates, refusing, late_s)
        self.capacity = edge.choice(CAPACITIES)
        self.busy = edge.random() < 0.2
        """True if enforce needs ``ITEM_S`` for each item, and is killed when its time is up."""
        self.switching = BusyStateStore(self.state, self.schedule, ITEM_S if self.busy else 0)
        self.ip_sets = WatchedIpSets(self.waf, self.schedule, lambda: allowed(self.state))
        self._sets: dict[SetGroup, str] = {}
        """Name and id of each group's IP set."""
        for response in (Response.BLOCK, Response.CHALLENGE, Response.WATCH):
            for family in (4, 6):
                self._make_set(SetGroup(response, family))
        self._read_config()
        self.enforce = Listener(self.schedule, "enforce", lambda: self._skewed().enforce.run, backoff_s=BACKOFF_S)
        self.publish = Listener(self.schedule, "publish", self._publisher, backoff_s=BACKOFF_S)
        self.changes: list[StateChange] = []
        self.judge = Judge(self.rules, self.most_skew_s)
        self._happening: list[tuple[float, Mishap]] = []
        self._arriving: list[tuple[float, Made]] = []
        self._held: dict[str, float] = {}
        """Shards whose delivery is delayed, and until when."""
        self._unwritten: list[bytes] = []
        """Lines of the object that is written next."""
        self._written_at = 0.0
        self._sweep_at = 0.0
        self._over_at = 0.0
        """Time at which the mishaps were over and the last request had arrived."""
        self._processed_at = 0.0
        self._allow(ALLOWLISTED, 1)
        if networks:
            remember(self.state, ["9.9.9.9"], int(self.schedule.now))
        manual = Block(network=MANUAL_BLOCK, blocked_at=int(self.schedule.now), until=int(self.schedule.now) + 10**6)
        State(self.state).overwrite(manual)

    def play(self) -> Run:
        """Raises Violation."""
        with ExitStack() as patches:
            for module in HOLDING_CAPACITY:
                patches.enter_context(patch(f"{module}.CAPACITY", self.capacity))
            if self.busy:
                patches.enter_context(patch("chalicelib.pipeline.enforce.OFFENDERS_PER_SLICE", OFFENDERS_AT_ONCE))
            return self._play()

    def _play(self) -> Run:
        for phase in range(self.phases):
            if phase:
                self._let_silence_pass()
            self._attack(phase)
            self._play_to_the_end()
            self._calm_down()
            self.judge.phase(self)
        self._let_the_blocks_run_out()
        self.judge.end(self)
        self.run.trace = self.schedule.trace
        return self.run

    def _attack(self, phase: int) -> None:
        """Schedules the requests and the mishaps of a phase."""
        random, now = self.planned, self.schedule.now + 300
        mishaps = [mishap for mishap in self.mishaps if mishap.phase == phase]
        self.mishap_faults.begin(mishaps, now)
        self._happening = sorted(((now + m.at, m) for m in mishaps if m.kind in WORLD), key=_when)
        made: list[Made] = []
        for number in range(random.randint(3, 7)):
            client = random.choice(
                [f"192.0.{random.randint(0, 1)}.{number + 1}", f"192.0.9.{number + 1}", LATER_ALLOWLISTED]
            )
            for _ in range(random.choice([1, 1, 2, 6, 12])):
                start = now + random.uniform(0, LENGTH_S)
                span = random.choice([0.5, 9.0, 9.9, 12.0, 28.0, 31.0])
                requests = random.randint(1, 6)
                made += [Made(client, int((start + random.uniform(0, span)) * 1000)) for _ in range(requests)]
        if self.rules.networks is not None:
            made += self._crowd(now)
        self._arriving = sorted(((each.time_ms / 1000 + random.uniform(0, 4), each) for each in made), key=_when)
        self.run.made += made
        self.judge.begin(made, self)
        self._sweep_at = self.schedule.now
        self.schedule.now = now
        self._over_at = max([self.mishap_faults.over_at, *(at for at, _ in (*self._happening, *self._arriving))])
        if random.random() < 0.3:
            self._allow(LATER_ALLOWLISTED, 2 + phase)

    def _crowd(self, now: float) -> list[Made]:
        """Returns the requests of clients of one network, enough to make it guilty, or too few unless sets are full.

        One of them may be on the allowlist, so that it is carved out.
        """
        random = self._crowds
        start = now + random.uniform(0, LENGTH_S / 2)
        clients = [f"192.0.5.{8 * number + random.randint(0, 7)}" for number in range(random.choice([3, 3, 6, 8]))]
        if random.random() < 0.3:
            self._allow(random.choice(clients), 1000)
        return [Made(each, int((start + random.uniform(0, 9)) * 1000)) for each in clients for _ in range(6)]

    def _play_to_the_end(self) -> None:
        """Continues until all traffic is ingested and decided, and the mishaps are over."""
        for _ in range(MOST_STEPS):
            self.schedule.now += self.random.choice([0, 0, 0.01, 0.2])
            self._let_things_happen()
            choice = self.random.random()
            if choice < 0.12:
                self._deliver()
            elif choice < 0.24:
                self.evaluators.deliver()
                self.importers.deliver()
            elif choice < 0.36:
                self.enforce.deliver()
            elif choice < 0.48:
                self.publish.deliver()
            elif not self.schedule.step() and self._idle():
                soonest = self._next_moment()
                if soonest is None:
                    self._judge_lag()
                    return
                self.schedule.now = max(self.schedule.now, soonest)
        raise Violation(f"nothing settled within {MOST_STEPS} steps")

    def _judge_lag(self) -> None:
        processed_at = max(self._processed_at, self.importers.ended_at, self.evaluators.ended_at)
        over_at = max(self._over_at, self.mishap_faults.struck_at)
        if processed_at > over_at + LAG_S:
            raise Violation(f"the lag had not recovered {processed_at - over_at:.0f} s after the last mishap")

    def _ring(self) -> None:
        """Rings for what was appended. If it was all that was left to do, and by an invocation that Lambda gave up on
        long ago, as one that was frozen, its age is no lag."""
        task = self.schedule.running
        gave_up = self.importers.has_given_up_on(task) or any(d.given_up for d in self.deliveries if d.task is task)
        if gave_up and not (self._backlog() or self.importers.is_behind or self.evaluators.is_behind):
            self._judge_lag()
            self._over_at = max(self._over_at, self.schedule.now)
        super()._ring()

    def _idle(self) -> bool:
        listeners = self.importers, self.evaluators, self.enforce, self.publish
        return (
            not self._ready()
            and not self._unwritten
            and not self.state.changes
            and all(listener.settled for listener in listeners)
        )

    def _next_moment(self) -> float | None:
        """Returns the time of the next scheduled event; None if there is none."""
        waited = [at for first in (self._happening[:1], self._arriving[:1], self._undoing[:1]) for at, _ in first]
        waited += self._held.values()
        if self.mishap_faults.over_at > self.schedule.now:
            waited.append(self.mishap_faults.over_at)
        if self._unwritten:
            waited.append(self._written_at)
        return min([*waited, self._sweep_at]) if waited else None

    def _let_things_happen(self) -> None:
        now = self.schedule.now
        while self._arriving and self._arriving[0][0] <= now:
            if self.random.random() < GARBAGE_SHARE:
                self.stream.put(self.random.choice(GARBAGE), now)
            made = self._arriving.pop(0)[1]
            if self.edge is not None and self.edge.refuses(made.client, made.time_ms / 1000):
                made = replace(made, refused=True)
            self.judge.logged(made, self)
            self._put([made], 1)
        if self._unwritten and self._written_at <= now:
            self._write_object()
        while self._undoing and self._undoing[0][0] <= now:
            self._undo(self._undoing.pop(0)[1])
        while self._happening and self._happening[0][0] <= now:
            self._happen(self._happening.pop(0)[1])
        for shard in [shard for shard, until in self._held.items() if until <= now]:
            del self._held[shard]
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            self._sweep()
        self._tell()
        self._time_out(now - TIMEOUT_S)

    def _put_object(self, content: bytes) -> None:
        """Logs lines in the object that is written at most ``OBJECT_S`` later."""
        if not self._unwritten:
            self._written_at = self.schedule.now + OBJECT_S
            self._over_at = max(self._over_at, self._written_at)
        self._unwritten.append(content)

    def _write_object(self) -> None:
        super()._put_object(b"".join(self._unwritten))
        self._unwritten.clear()

    def _tell(self) -> None:
        if self.state.changes:
            for network in map(_blocked_as_guilty, self.state.changes):
                if network is not None and self._undos.random() < UNDONE_SHARE:
                    self._undoing.append((self.schedule.now + self._undos.uniform(0, UNDONE_WITHIN_S), network))
            self._undoing.sort()
            self.judge.saw(self.state.changes, self.schedule.now)
            self.changes += self.state.changes
            add_changes(self.state.changes, self.enforce, self.publish)
            self.state.changes.clear()

    def _time_out(self, moment: float) -> None:
        """Gives up on slow invocations, as Lambda does: their containers are replaced, though they may still run."""
        for delivery in self.deliveries:
            if delivery.begun < moment:
                delivery.given_up = True
                self.containers = [each for each in self.containers if each is not delivery.container]
        self.importers.give_up_on_those_before(moment)
        self.evaluators.give_up_on_those_before(moment + TIMEOUT_S - EVALUATE_TIMEOUT_S)
        self.enforce.give_up_on_those_before(moment, killed=self.busy)
        self.publish.give_up_on_those_before(moment)

    def _ready(self) -> list[Shard]:
        return [shard for shard in self._backlog() if shard.id not in self._held]

    def _ended(self, task: Task, delivery: Delivery, container: Container) -> None:
        super()._ended(task, delivery, container)
        if not delivery.given_up:
            self._processed_at = self.schedule.now
        if task.failure is not None:
            soon = self.schedule.now + self.random.uniform(0, BACKOFF_S)
            self._held[delivery.shard.id] = max(soon, self._held.get(delivery.shard.id, 0.0))

    def _happen(self, mishap: Mishap) -> None:
        self.mishap_faults.struck[mishap.kind] += 1
        self.schedule.trace.append(f"--- {mishap}")
        shards = self.stream.open_shards
        shard = shards[mishap.number % len(shards)]
        match mishap.kind:
            case "given up":
                self._give_up()
                self.importers.give_up()
                self.evaluators.give_up()
                self.enforce.give_up()
                self.publish.give_up()
            case "delivered twice":
                self.positions[shard.id] = max(0, self.positions[shard.id] - 1 - mishap.number % 5)
            case "notified again":
                if self._written:
                    object = self._written[mishap.number % len(self._written)]
                    self.importers.waiting[f"{object} again"].append(object)
            case "late shard":
                self._held[shard.id] = self.schedule.now + mishap.lasts
                self._over_at = max(self._over_at, self._held[shard.id])
            case "split" if len(shards) < 4:
                self.stream.split(shard)
            case "merge" if len(shards) > 1:
                self.stream.merge(*self.random.sample(shards, 2))
            case "redeployed":
                self._redeploy()
            case "IP set edited":
                ip_set = self.config.ip_sets[mishap.number % len(self.config.ip_sets)]
                if held := self.waf._sets.get(ip_set.id):
                    held.addresses = ["198.51.100.0/24"] if ip_set.family == 4 and mishap.number % 3 else []
                    held.version += 1
            case "IP set deleted":
                self._delete_a_set(mishap)
            case "ring lost":
                # The next item rings for this one too, so one more request has to follow.
                self._rings(lambda keys: keys.clear())
                self._arriving.append((self.schedule.now + 1, self._one_more_request()))
            case "ring doubled":
                self._rings(lambda keys: keys.extend(list(keys)))
            case "rings late":
                self.evaluators.hold_until(self.schedule.now + mishap.lasts)
                self._over_at = max(self._over_at, self.schedule.now + mishap.lasts)
            case "position from the future":
                position = self.ledger.position() or {}
                self.ledger.store_position({log: offset + 10**6 for log, offset in position.items()})
            case "position lost":
                self.ledger.store_position({})
            case "unreadable records":
                items = Random(mishap.number).sample(sorted(DAMAGED), 5)
                self.state.put_over([DAMAGED[what] for what in items])
                if mishap.number % 3 == 0:
                    self.state.put_over([Item(kind=Allow.kind, id=OFFENDER, body=b"{}")])
            case "records damaged":
                stored = [*self.state.query(Block.kind), *self.state.query(History.kind)]
                damaged = Random(mishap.number).sample(stored, min(3, len(stored)))
                self.state.put_over([replace(i, body=i.body[:-1]) for i in damaged if i.id != MANUAL_BLOCK])
                self.judge.damaged |= {item.id for item in damaged}

    def _rings(self, change: Callable[[list[LogKey]], object]) -> None:
        """Changes the queues of rings, but not of those that are being delivered."""
        for keys in self.evaluators.idle():
            change(keys)

    def _one_more_request(self) -> Made:
        made = Made("192.0.7.1", int(self.schedule.now * 1000))
        self.run.made.append(made)
        return made

    def _delete_a_set(self, mishap: Mishap) -> None:
        """Deletes an IP set until an operator recreates it under another id and deploys that."""
        ip_set = self.config.ip_sets[mishap.number % len(self.config.ip_sets)]
        if ip_set.id not in self.waf._sets:
            return
        del self.waf._sets[ip_set.id]

        def mend() -> None:
            self.schedule.sleep(mishap.lasts)
            self._make_set(ip_set.group)
            self._redeploy()

        self._over_at = max(self._over_at, self.schedule.now + mishap.lasts)
        self.schedule.spawn("operator", mend, lambda task: None)

    def _undo(self, network: str) -> None:
        """Lifts the block of a guilty network, as an operator does."""
        state, now = State(self.state), int(self.schedule.now)
        block = state.get(Block, network)
        if block is not None and block.record.rule == BY_NETWORKS and block.record.in_force(now):
            self.schedule.trace.append(f"--- an operator lifts the block of {network}")
            self.judge.undone[network] = now
            lift(state, [block], now, by="alice")

    def _redeploy(self) -> None:
        self._read_config()
        self.containers = []
        self.importers.replace_containers()
        self.evaluators.replace_containers()
        self.enforce.replace_containers()
        self.publish.replace_containers()

    def _make_set(self, group: SetGroup) -> None:
        name, family = _set_name(group), f"IPV{group.family}"
        made = self.waf.create_ip_set(Name=name, Scope="CLOUDFRONT", IPAddressVersion=family, Addresses=[])
        self._sets[group] = f"{name}/{made['Summary']['Id']}"

    def _read_config(self) -> None:
        lateness_s = str(self.config.lateness_s)
        settings = {"CLOUDFRONT_FIELDS": FIELDS, "LATENESS_S": lateness_s}
        softer = {group: pair for group, pair in self._sets.items() if group.response is not Response.BLOCK}
        settings["SOFTER_IP_SETS"] = ",".join(f"{each.response}/v{each.family}/{pair}" for each, pair in softer.items())
        settings |= {f"IP_SETS_V{family}": self._sets[SetGroup(Response.BLOCK, family)] for family in (4, 6)}
        self.config = read_config(settings)

    def _services(self, skew: float) -> Services:
        world = World(
            tally_logs=self.tally_logs,
            state=self.switching,
            ip_sets=self.ip_sets,
            clock=lambda: self.schedule.now + skew,
            sleep=self.schedule.sleep,
            telemetry=ReportTotals(),
            objects=SwitchingObjects(self.bucket, self.schedule),
        )
        return compose(self.config, world, self.parts)

    def _skewed(self) -> Services:
        """A container with its own clock."""
        return self._services(self.random.uniform(-self.most_skew_s, self.most_skew_s))

    def _publisher(self) -> Callable[[Sequence[StreamChange]], object]:
        return partial(self._skewed().publish.run, waits=False)

    def _sweep(self) -> None:
        def ended(task: Task) -> None:
            if task.failure is not None and not isinstance(task.failure, (Crash, Unavailable, Conflict)):
                raise task.failure

        def sweep() -> None:
            container = self._skewed()
            container.sweep.run()
            container.add_up.run()

        self.schedule.spawn("sweep", sweep, ended)

    def _calm_down(self) -> None:
        """Waits without mishaps for longer than the clocks differ, so that sweeps repair everything they can."""
        self.mishap_faults.begin([], self.schedule.now)
        for wait_s in (0.0, SWEEP_S + 2 * self.most_skew_s):
            self.schedule.now += wait_s
            self._sweep_at = self._over_at = self.schedule.now
            self._play_to_the_end()

    def _let_silence_pass(self) -> None:
        self.schedule.now += self.random.choice(SILENCES_S)
        self.ledger.expire_at_random(self.random, int(self.schedule.now * 1000) - EXPIRE_MS)
        for container in self.containers:
            container.frozen = self.random.random() < 0.4
        for container in self.containers[:1]:
            container.frozen = False
        if any(mishap.kind == BETWEEN_PHASES for mishap in self.mishaps):
            self.mishap_faults.struck[BETWEEN_PHASES] += 1
            self._recreate_the_stream()
        self._calm_down()

    def _let_the_blocks_run_out(self) -> None:
        self.schedule.now += BLOCK_FOR_S + LAG_S
        self._calm_down()

    def _allow(self, network: str, number: int) -> None:
        entry = Allow(network=str(ip_network(network)), added_at=number)
        State(self.state).overwrite(entry)


def _set_name(group: SetGroup) -> str:
    return f"sluice-{group.response}-v{group.family}"


def _blocked_as_guilty(change: StateChange) -> str | None:
    """Returns the guilty network that a change blocks; None if it does something else."""
    new = change.new
    blocks = change.old is None and new is not None and new.kind == Block.kind and b'"[networks]"' in new.body
    return new.id if new is not None and blocks else None


def _when(event: tuple[float, object]) -> float:
    return event[0]
