"""Enforcers under interleavings: an offence is one offence however often it is delivered, and no block is lost.

A run is a series of rounds. In each, every client breaks one or two rules with blocks of different lengths. It is
detected several times, by several shards, and every detection is delivered at least once, to up to three enforcers at
once. Then the blocks run out, and sweeps lift them, or have not come yet when the clients offend again. AWS WAF
releases clients late: until then, they are detected for requests that were refused.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Action, Escalation
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT, Detection, Offender, Terms
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
DAY_S = 86_400
RULES = {
    "burst": Terms(
        name="burst",
        limit=10,
        window_s=5,
        action=Action.BLOCK,
        block_for_s=600,
        escalate=Escalation(factor=2, max_s=2000, memory_s=DAY_S),
    ),
    "trap": Terms(
        name="trap",
        limit=0,
        window_s=5,
        action=Action.BLOCK,
        block_for_s=400,
        escalate=Escalation(factor=20, max_s=20_000, memory_s=DAY_S),
    ),
}
LENGTHS_S = {"burst": [600, 1200, 2000, 2000], "trap": [400, 8000, 20_000, 20_000]}
"""Length of the block for each offence."""

SCANNER = Terms(name="scanner", limit=10, window_s=5, action=Action.BLOCK, block_for_s=99_999)
"""A rule that is broken by nothing but refused requests."""


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
        self.rounds = random.randint(1, 3)
        self.offences: Counter[str] = Counter()
        """Number of offences of every client, by rule."""
        self._ids = 0

    def play(self) -> None:
        """Raises Violation."""
        for number in range(self.rounds):
            if number:
                self._let_the_blocks_run_out()
            broken = self.random.choice([["burst"], ["trap"], list(RULES)])
            self.offences.update(broken)
            begun = int(self.schedule.now)
            self._detect(broken)
            self._settle()
            for client in self.clients:
                self._judge(client, broken, range(begun, int(self.schedule.now) + 1))

    def _detect(self, rules: Sequence[str]) -> None:
        """Detects every client for each rule, some several times, in any order."""
        now_ms = int(self.schedule.now * 1000)
        detected = [(self.clients, rule, now_ms) for rule in rules]
        for _ in range(self.random.randint(1, 4)):
            chosen = self.random.sample(self.clients, self.random.randint(1, len(self.clients)))
            detected.append((chosen, self.random.choice(rules), now_ms - self.random.randint(0, 4000)))
        self.random.shuffle(detected)
        for clients, rule, last_ms in detected:
            self._store(clients, RULES[rule], last_ms)

    def _store(self, clients: Sequence[str], terms: Terms, last_ms: int, served_since_ms: int = 0) -> None:
        self._ids += 1
        now_ms = int(self.schedule.now * 1000)
        first_ms, since_ms = last_ms - 2000, last_ms - 1000
        detection = Detection(
            id=f"logs/shardId-000000000000@0/{self._ids:012d}/{terms.name}/cloudfront",
            terms=terms,
            source=Source.CLOUDFRONT,
            offenders=tuple(Offender(name, 11, first_ms, last_ms, since_ms, served_since_ms) for name in clients),
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
            elif choice < 0.342:
                self._sweep()
            elif not self.schedule.step() and self.enforce.settled and not self.state.changes:
                return
        raise Violation(f"nothing settled within {MOST_STEPS} steps")

    def _let_the_blocks_run_out(self) -> None:
        blocks = State(self.state).records(Block)
        self.schedule.now = max(block.until for block in blocks) + self.random.randint(0, 60)
        if self.random.random() < 0.5:
            while list(self.state.query(Block.kind)):
                for _ in range(self.random.randint(1, 2)):
                    self._sweep()
                self.schedule.run_out()
        for terms in (SCANNER, *RULES.values()):
            if self.random.random() < 0.5:
                self._store(self.clients, terms, int(self.schedule.now * 1000), SERVED_WITHIN_LIMIT)
        self._settle()
        if any(block.in_force(int(self.schedule.now)) for block in State(self.state).records(Block)):
            raise Violation("clients were blocked for requests that were refused")
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

    def _judge(self, client: str, broken: Sequence[str], decided: range) -> None:
        block, history = (State(self.state).get(of, client) for of in (Block, History))
        if block is None or not isinstance(block.record, Block):
            raise Violation(f"the block of {client} for breaking {broken} was lost")
        pasts = history.record.rules if history is not None and isinstance(history.record, History) else {}
        if {rule: past.offence for rule, past in pasts.items()} != self.offences:
            raise Violation(f"{client} offended {self.offences}, remembered are {pasts}")
        for rule in broken:
            if pasts[rule].until - LENGTHS_S[rule][self.offences[rule] - 1] not in decided:
                raise Violation(f"{client} is punished by {rule} until {pasts[rule].until}, decided within {decided}")
        until, longest = max((pasts[rule].until, rule) for rule in broken)
        if (block.record.until, block.record.rule) != (until, longest):
            raise Violation(f"{client} is blocked by {block.record.rule} until {block.record.until}, not by {longest}")
