"""Enforcers under interleavings: an offence is one offence however often it is delivered, and no block is lost.

A run is a series of offences. In each, every client is detected several times, by several shards, and every detection
is delivered at least once, to up to three enforcers at a time; then the blocks run out and sweeps lift them.
"""

from random import Random

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Action, Escalation
from chalicelib.core.state import Block, Detection, History, Offender, Terms
from chalicelib.pipeline.enforce import Enforce
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import Unavailable
from sluice.local.stores import MemoryStateStore
from tests.support.simulation.ingesting import START, Violation
from tests.support.simulation.listening import Listener, add_changes
from tests.support.simulation.ports import SwitchingStateStore
from tests.support.simulation.schedule import Crash, Faults, Schedule, Task
from tests.support.state import new_enforcer

MOST_STEPS = 20_000
TERMS = Terms(
    name="burst",
    limit=10,
    window_s=5,
    action=Action.BLOCK,
    block_for_s=600,
    escalate=Escalation(factor=2, max_s=2000, memory_s=86400),
)
LENGTHS_S = [600, 1200, 2000, 2000]


class Enforcing:
    """Prepares a run. Tests of the simulation pass a broken ``enforcer``, which it must detect."""

    def __init__(self, seed: int, *, enforcer: type[Enforce] = Enforce, faults: Faults | None = None) -> None:
        self.random = random = Random(seed)
        faults = faults or Faults(random, chance=random.choice([0, 0.02, 0.1]), most=5)
        self.schedule = Schedule(random, faults, start=START)
        self.state = MemoryStateStore()
        self.switching = SwitchingStateStore(self.state, self.schedule)
        self.enforce = Listener(self.schedule, "enforce", lambda: self._enforcer(enforcer).run)
        self.clients = [f"192.0.2.{host}/32" for host in range(random.randint(1, 4))]
        self.offences = random.randint(1, 4)
        self._ids = 0

    def play(self) -> None:
        """Raises Violation."""
        for offence in range(self.offences):
            if offence:
                self._let_the_blocks_run_out()
            begun = int(self.schedule.now)
            self._detect()
            self._settle()
            for client in self.clients:
                self._judge(client, offence, range(begun, int(self.schedule.now) + 1))

    def _detect(self) -> None:
        """Detects every client, some several times."""
        now_ms = int(self.schedule.now * 1000)
        for _ in range(self.random.randint(1, 4)):
            last_ms = now_ms - self.random.randint(0, 4000)
            chosen = self.random.sample(self.clients, self.random.randint(1, len(self.clients)))
            self._store(chosen, last_ms, now_ms)
        self._store(self.clients, now_ms, now_ms)

    def _store(self, clients: list[str], last_ms: int, now_ms: int) -> None:
        self._ids += 1
        detection = Detection(
            id=f"logs/shardId-000000000000@0/{self._ids:012d}/burst/cloudfront",
            terms=TERMS,
            source=Source.CLOUDFRONT,
            offenders=tuple(Offender(client, 11, last_ms - 2000, last_ms, last_ms - 1000) for client in clients),
            detected_ms=now_ms,
            arrived_ms=now_ms,
        )
        State(self.state).overwrite(detection)

    def _settle(self) -> None:
        for _ in range(MOST_STEPS):
            self.schedule.now += self.random.choice([0, 0, 0.05])
            detections = [c for c in self.state.changes if c.new is not None and c.new.kind == Detection.kind]
            add_changes(detections, self.enforce)
            self.state.changes.clear()
            choice = self.random.random()
            if choice < 0.3:
                self.enforce.deliver()
            elif choice < 0.34:
                self.enforce.give_up()
            elif choice < 0.35:
                self._sweep()
            elif not self.schedule.step() and self.enforce.settled and not self.state.changes:
                return
        raise Violation(f"nothing settled within {MOST_STEPS} steps")

    def _let_the_blocks_run_out(self) -> None:
        blocks = [Block.from_json(item.body) for item in self.state.query(Block.kind)]
        self.schedule.now = max(block.until for block in blocks) + self.random.randint(0, 60)
        while list(self.state.query(Block.kind)):
            for _ in range(self.random.randint(1, 2)):
                self._sweep()
            self.schedule.run_out()
        self.schedule.now += 10

    def _sweep(self) -> None:
        def ended(task: Task) -> None:
            if task.failure is not None and not isinstance(task.failure, (Crash, Unavailable)):
                raise task.failure

        self.schedule.spawn("sweep", Sweep(state=State(self.switching), clock=self._now).run, ended)

    def _enforcer(self, enforcer: type[Enforce]) -> Enforce:
        return new_enforcer(self.switching, self._now, enforcer=enforcer)

    def _now(self) -> float:
        return self.schedule.now

    def _judge(self, client: str, offence: int, decided: range) -> None:
        item = self.state.get(Block.kind, client)
        if item is None:
            raise Violation(f"the block of {client} for offence {offence + 1} was lost")
        block = Block.from_json(item.body)
        history = self.state.get(History.kind, client)
        past = History.from_json(history.body).rules[TERMS.name] if history else None
        if block.offence != offence + 1 or past is None or past.offence != offence + 1:
            raise Violation(f"{client}: offence {offence + 1} was numbered {block.offence}, remembered as {past}")
        if block.until - LENGTHS_S[offence] not in decided or past.until != block.until:
            raise Violation(f"{client}: offence {offence + 1} is blocked until {block.until}, decided within {decided}")
