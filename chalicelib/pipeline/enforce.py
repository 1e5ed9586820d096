"""Enforce: turns detections into blocks.

A detection may be delivered twice, late, or at the same time to another container. Decisions are therefore based on
what is stored, written on condition that it has not changed, and made again if it has.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from chalicelib.core.addresses import Network, NetworkSet, parse_network, supernets
from chalicelib.core.decisions import KNOWN, Outcome, decide, memory_s
from chalicelib.core.state import Block, Breaker, Detection, History, Offender
from chalicelib.pipeline.lifting import CLIENTS_PER_WRITE, history_kept_until
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Contended, StreamChange, Write
from chalicelib.reports import EnforceReport

TRIES = 5

BREAKER_WINDOW_S = 60
PAUSED, BREAKER = "paused", "breaker"


_T = TypeVar("_T")
Case = tuple[Detection, Offender]


@dataclass(slots=True)
class Pending:
    """One network's stored records, and the new ones that have been decided."""

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


class Enforce:
    """One container's enforcer."""

    def __init__(self, *, state: State, clock: Callable[[], float], breaker_blocks_per_minute: int) -> None:
        """``clock``: epoch seconds."""
        self._state = state
        self._clock = clock
        self._most = breaker_blocks_per_minute

    def __call__(self, changes: Sequence[StreamChange]) -> EnforceReport:
        """Enforces the detections among ``changes``. Raises Contended and what the state store raises."""
        report = EnforceReport()
        detections = [Detection.from_json(c.body) for c in changes if c.kind == Detection.kind and c.body is not None]
        report.detections = len(detections)
        cases = [(detection, offender) for detection in detections for offender in detection.offenders]
        if cases:
            self._enforce(cases, report)
        return report

    def _enforce(self, cases: list[Case], report: EnforceReport) -> None:
        for _ in range(TRIES):
            if self._state.pause().paused:
                report.outcomes[PAUSED] += len(cases)
                return
            now = int(self._clock())
            stored = {block.id: block.record for block in self._state.all(Block)}
            clients = self._decide(cases, stored, now)
            if self._breaks(clients, stored, now, report):
                report.outcomes[BREAKER] += len(cases)
                return
            cases = self._write(clients, report)
            if not cases:
                return
        raise Contended(f"decisions about {len(cases)} offenders were overtaken {TRIES} times")

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

    def _breaks(self, clients: dict[str, Pending], stored: dict[str, Block], now: int, report: EnforceReport) -> bool:
        """Returns whether the circuit breaker is open, after opening it if the new blocks are implausibly many."""
        breaker = self._state.control(Breaker)
        if breaker.record.open:
            return True
        new = sum(client.new_block is not None and client.block is None for client in clients.values())
        recent = sum(not block.manual and block.blocked_at > now - BREAKER_WINDOW_S for block in stored.values())
        if not new or recent + new <= self._most or now < breaker.record.ignore_until:
            return False
        opened = Breaker(open=True, at=now, would_block=recent + new)
        # On a conflict, another container opened it or an operator has just reset it. The next detections decide.
        with suppress(Conflict):
            self._state.write([State.put(opened, over=breaker)])
        report.breaker_opened = True
        return True

    def _write(self, clients: dict[str, Pending], report: EnforceReport) -> list[Case]:
        """Stores the decisions. Returns the cases whose network was changed concurrently."""
        lost: list[Case] = []
        for chunk in _chunks(clients.values(), CLIENTS_PER_WRITE):
            writes = [write for client in chunk for write in client.writes()]
            try:
                if writes:
                    self._state.write(writes)
            except Conflict:
                lost += [case for client in chunk for case in client.cases]
                continue
            for client in chunk:
                report.outcomes.update(client.outcomes)
                if client.new_block is not None:
                    report.blocks.append(client.new_block)
        return lost


def _covered(network: Network, stored: dict[str, Block], allowed: NetworkSet) -> bool:
    """Returns whether a block of a wider network covers ``network``. Blocks that overlap the allowlist do not count."""
    return any(str(wider) in stored and not allowed.overlaps(wider) for wider in supernets(network))


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
