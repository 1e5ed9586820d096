"""Enforce: turns detections into blocks.

A detection may be delivered twice, late, or to two containers at once. Decisions are therefore based on what is stored,
written on condition that it has not changed, and made again if it has.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice
from typing import NamedTuple, TypeVar

from chalicelib.core.addresses import Network, NetworkSet, parse_network, supernets
from chalicelib.core.decisions import KNOWN, Outcome, decide, memory_s
from chalicelib.core.state import Block, Breaker, Detection, History, Offender, Unreadable
from chalicelib.pipeline.lifting import CLIENTS_PER_WRITE, history_kept_until
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Contended, StreamChange, Write
from chalicelib.reports import EnforceReport

TRIES = 5

BREAKER_WINDOW_S = 60
"""Time within which new blocks by rules are counted for the circuit breaker."""

PAUSED, BREAKER = "paused", "breaker"
"""Outcomes of offenders about whom nothing is decided."""

_T = TypeVar("_T")
Case = tuple[Detection, Offender]


@dataclass(slots=True)
class Pending:
    """One network's stored records, and the new ones that have been decided on."""

    block: Stored[Block] | None
    history: Stored[History] | None
    new_block: Block | None = None
    new_history: History | None = None
    cases: list[Case] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def writes(self) -> list[Write]:
        writes: list[Write] = []
        if self.new_block is not None:
            writes.append(State.put(self.new_block, over=self.block))
        if self.new_history is not None:
            longest_s = max(memory_s(detection.terms) for detection, _ in self.cases)
            kept_until = history_kept_until(self.new_history, self.history, longest_s)
            writes.append(State.put(self.new_history, over=self.history, expires_at=kept_until))
        return writes


class BreakerState(Enum):
    """State of the circuit breaker."""

    CLOSED = auto()
    OPEN = auto()
    OPENED = auto()
    """Opened by this invocation."""


class Written(NamedTuple):
    """The decisions that were stored, and the cases that must be decided again."""

    outcomes: Counter[str]
    blocks: list[Block]
    overtaken: list[Case]
    """Cases whose network's records were changed concurrently."""


class Enforce:
    """One container's enforcer."""

    def __init__(self, *, state: State, clock: Callable[[], float], breaker_blocks_per_minute: int) -> None:
        """``clock``: epoch seconds."""
        self._state = state
        self._clock = clock
        self._most = breaker_blocks_per_minute

    def run(self, changes: Sequence[StreamChange]) -> EnforceReport:
        """Enforces the detections among ``changes``. Raises Contended and what the state store raises."""
        read = [Detection.read(c.id, c.body) for c in changes if c.kind == Detection.kind and c.body is not None]
        detections = [each for each in read if isinstance(each, Detection)]
        # One that cannot be read, for example of a newer version, would fail again each time it is delivered.
        unreadable = [each for each in read if isinstance(each, Unreadable)]
        report = EnforceReport(detections=len(detections), unreadable=unreadable)
        cases = [(detection, offender) for detection in detections for offender in detection.offenders]
        tries = 0
        while cases:
            if tries == TRIES:
                raise Contended(
                    f"conflicts with concurrent changes {TRIES} times in a row; undecided offenders: {len(cases)}"
                )
            tries += 1
            if self._state.pause().paused:
                report.outcomes[PAUSED] += len(cases)
                break
            now = int(self._clock())
            stored = {block.network: block for block in self._state.records(Block)}
            clients = list(self._decide(cases, stored, now).values())
            position = self._breaker(clients, stored.values(), now)
            if position is not BreakerState.CLOSED:
                report.outcomes[BREAKER] += len(cases)
                report.breaker_opened = position is BreakerState.OPENED
                break
            written = self._write(clients)
            report.outcomes += written.outcomes
            report.blocks += written.blocks
            cases = written.overtaken
        return report

    def _decide(self, cases: list[Case], stored: dict[str, Block], now: int) -> dict[str, Pending]:
        allowed = self._state.allowlist(now)
        networks = {offender.network for _, offender in cases}
        blocks = self._state.get_many(Block, networks & stored.keys())
        histories = self._state.get_many(History, networks)
        clients: dict[str, Pending] = {}
        for detection, offender in cases:
            name = offender.network
            client = clients.get(name)
            if client is None:
                client = clients[name] = Pending(blocks.get(name), histories.get(name))
            network = parse_network(name)
            block = client.new_block or (client.block.record if client.block else None)
            history = client.new_history or (client.history.record if client.history else None)
            if block is None and _covered(network, stored, allowed):
                decision = KNOWN
            else:
                decision = decide(
                    detection, offender, block=block, history=history, allowed=allowed.overlaps(network), now=now
                )
            client.new_block = decision.block or client.new_block
            client.new_history = decision.history or client.new_history
            client.cases.append((detection, offender))
            client.outcomes.append(decision.outcome)
        return clients

    def _breaker(self, clients: Iterable[Pending], stored: Iterable[Block], now: int) -> BreakerState:
        """Returns the state of the circuit breaker, after opening it if there are implausibly many new blocks."""
        breaker = self._state.control(Breaker)
        if breaker.record.open:
            return BreakerState.OPEN
        new = sum(client.new_block is not None and client.block is None for client in clients)
        recent = sum(not block.manual and block.blocked_at > now - BREAKER_WINDOW_S for block in stored)
        if not new or recent + new <= self._most or now < breaker.record.ignore_until:
            return BreakerState.CLOSED
        opened = Breaker(open=True, at=now, would_block=recent + new)
        # On a conflict, another container has opened it or an operator has just reset it: the next detections decide.
        with suppress(Conflict):
            self._state.write([State.put(opened, over=breaker)])
        return BreakerState.OPENED

    def _write(self, clients: Iterable[Pending]) -> Written:
        """Stores the decisions, in as many transactions as necessary."""
        written = Written(Counter(), [], [])
        for chunk in _chunks(clients, CLIENTS_PER_WRITE):
            writes = [write for client in chunk for write in client.writes()]
            try:
                if writes:
                    self._state.write(writes)
            except Conflict:
                written.overtaken.extend(case for client in chunk for case in client.cases)
                continue
            for client in chunk:
                written.outcomes.update(client.outcomes)
                if client.new_block is not None:
                    written.blocks.append(client.new_block)
        return written


def _covered(network: Network, stored: dict[str, Block], allowed: NetworkSet) -> bool:
    """Returns whether a block of a wider network covers ``network``. Blocks that overlap the allowlist do not count."""
    return any(str(wider) in stored and not allowed.overlaps(wider) for wider in supernets(network))


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
