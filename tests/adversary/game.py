"""One game: an adversary, visitors and other attackers in front of the local cloud, and the score."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from heapq import heappop, heappush, merge
from itertools import count
from math import inf
from random import Random

from bench.units import MeteredStore
from chalicelib.core.addresses import pack
from sluice.demo.actors import Request, log_line
from sluice.demo.demonstration import stopped_rules
from sluice.demo.edge import LOG_DELAY_S, Edge
from sluice.deploy.costs import PRICES
from sluice.local.cloud import LocalCloud
from sluice.local.loop import SimulatedClock
from tests.adversary.tactics import VISITORS, Adversary, Tactic
from tests.support.known import remember
from tests.support.target import CountedLogs

START = 1_764_000_000.0
SECONDS = 140
TICK_S = 0.1
QUIET_S = 15.0
"""Seconds after the last request for which the pipeline goes on."""

BURST, BURST_S = 20, 5
RULES = f"""
[networks]

[[rule]]
name = "burst"
limit = {BURST}
window = "{BURST_S}s"
block_for = "60s"

[[rule]]
name = "login"
limit = 5
window = "60s"
block_for = "5m"
scope = {{ method = ["POST"], path_prefix = ["/login"], normalise = true }}
"""

OTHERS = [f"10.{number}.0.1" for number in range(6)]
"""Other attackers, every twenty seconds one: each makes forty requests within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What an adversary has achieved, by goal."""

    served: float
    """Share of its requests that were served."""
    gain: float
    """Its requests that were served, divided by those of as many clients that never exceed the limit of ``burst``."""
    guesses: int
    """Most log-ins of one of its clients that were served."""
    victims: int
    """Requests of visitors that were refused."""
    hidden: int
    """Requests that were made, and neither counted nor named as unreadable."""
    slowest_s: float
    """Longest time from the request with which another attacker exceeded the limit until it was refused."""
    stopped: tuple[str, ...]
    """Rules that were stopped, and failed invocations."""
    dollars: float
    """What it adds to the bill of DynamoDB in an hour."""


def visits() -> Iterator[Request]:
    """Yields the requests of twenty visitors: pages of ten requests, one each eight to fifteen seconds."""
    random = Random("visitors")

    def visitor(address: str) -> Iterator[Request]:
        at = random.uniform(0, 10)
        while at < SECONDS:
            for part in range(10):
                yield Request(at + part / 10, address)
            at += random.uniform(8, 15)

    return merge(*map(visitor, VISITORS), key=_time)


def other_attacks() -> Iterator[Request]:
    """Yields forty requests within a second of each of ``OTHERS``."""
    for number, address in enumerate(OTHERS):
        for request in range(40):
            yield Request(first_request(number) + request / 40, address)


def first_request(other: int) -> float:
    """Returns the time of the first request of another attacker. Seconds from the start."""
    return 10.0 + 20 * other


class Game:
    """The adversary sees which of its requests are refused, and nothing else."""

    def __init__(self, tactic: Tactic | None, rules: str = RULES, edge_s: float = 1.0) -> None:
        """``edge_s``: seconds until an update of an IP set takes effect. Without a tactic, there is no adversary."""
        self.adversary = None if tactic is None else Adversary(tactic)
        self.cloud = LocalCloud(SimulatedClock(START), rules=rules)
        remember(self.cloud.state, (f"{address}/32" for address in VISITORS), int(START))
        self._logs, self._state = CountedLogs(), MeteredStore(self.cloud.state)
        self.cloud.tally_logs = self._logs
        self.cloud.world = replace(self.cloud.world, tally_logs=self._logs, state=self._state)
        self.cloud.deploy()
        self._edge, self._edge_s = Edge(self.cloud.waf.updates, edge_s), edge_s
        self._others = merge(visits(), other_attacks(), key=_time)
        self._next = next(self._others, None)
        self._random, self._numbers = Random("delays"), count()
        self._in_transit: list[tuple[float, int, bytes]] = []
        self._guesses: Counter[str] = Counter()
        self._made = self._refused = self._victims = 0

    def play(self) -> Score:
        """Plays to the end. The same game has the same score."""
        self.cloud.start()
        self.cloud.loop.every(TICK_S, self._tick, first=START)
        self.cloud.loop.run(START + SECONDS + QUIET_S)
        ingests, served = self.cloud.telemetry.ingests, self._made - self._refused
        return Score(
            served=served / max(1, self._made),
            gain=served / self._permitted(),
            guesses=max(self._guesses.values(), default=0),
            victims=self._victims,
            hidden=next(self._numbers) - ingests.requests - sum(ingests.malformed.values()),
            slowest_s=max(map(self._seconds_until_refused, range(len(OTHERS)))),
            stopped=(*stopped_rules(self.cloud), *self.cloud.invocation_failures, *self.cloud.telemetry.failures),
            dollars=(self.dollars - dollars_without()) * 3600 / SECONDS if self.adversary else 0.0,
        )

    @property
    def dollars(self) -> float:
        """What DynamoDB has charged so far."""
        logs, state = self._logs, self._state
        writes, reads = logs.write_units + logs.position_units + state.writes, logs.read_units + state.reads
        return writes * PRICES["dynamodb.write_unit"] + reads * PRICES["dynamodb.read_unit"]

    def _permitted(self) -> float:
        """Returns the most requests that as many clients can make without ever exceeding the limit of ``burst``."""
        clients = len(self.adversary.clients) if self.adversary else 0
        return max(1, clients) * BURST * (SECONDS / BURST_S + 1)

    def _tick(self) -> None:
        """Answers the requests of the next ``TICK_S`` seconds, and puts the lines that have arrived into the stream."""
        now = self.cloud.now() - START
        until = min(now + TICK_S, SECONDS)
        attacks = list(self.adversary.requests(now, until)) if self.adversary else []
        others = []
        while self._next is not None and self._next.at < until:
            others.append(self._next)
            self._next = next(self._others, None)
        refused = []
        requests = merge(
            ((request, True) for request in sorted(attacks, key=_time)),
            ((request, False) for request in others),
            key=lambda each: each[0].at,
        )
        for request, is_attack in requests:
            served = self._answer(request)
            if not is_attack:
                self._victims += not served and request.address not in OTHERS
                continue
            self._made += 1
            if not served:
                refused.append(request.address)
            elif request.path == "/login":
                self._guesses[request.address] += 1
        self._refused += len(refused)
        if self.adversary:
            self.adversary.refused(refused, until)
        while self._in_transit and self._in_transit[0][0] <= self.cloud.now():
            self.cloud.put(heappop(self._in_transit)[2])

    def _answer(self, request: Request) -> bool:
        """Logs a request. Returns whether it is served."""
        at = START + request.at
        served = self._edge.answer(pack(request.address) or b"", at) is None
        status = request.status if served else self.cloud.config.block_status
        number = next(self._numbers)
        line = log_line(request, at, status, number)
        heappush(self._in_transit, (at + self._random.uniform(*LOG_DELAY_S), number, line))
        return served

    def _seconds_until_refused(self, other: int) -> float:
        """Returns the time that another attacker was served after the request with which it exceeded the limit."""
        exceeded = START + first_request(other) + BURST / 40
        network = f"{OTHERS[other]}/32"
        blocked = (at for at, _, networks in self.cloud.waf.updates if network in networks)
        return next(blocked, inf) + self._edge_s - exceeded


def _time(request: Request) -> float:
    return request.at


@cache
def dollars_without() -> float:
    """Returns what the same game without an adversary costs."""
    game = Game(None)
    game.play()
    return game.dollars
