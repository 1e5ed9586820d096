"""Enforce: turns detections into blocks.

A detection may be delivered twice, late, or to two containers at once. Decisions are therefore based on what is stored,
written on condition that it has not changed, and made again if it has. Only the records of the networks concerned are
read, so the cost does not grow with the number of blocks. Many offenders are handled in slices, each of which is
written before the next is read: an invocation that is killed has got on.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from chalicelib.core.addresses import NetworkSet, parse_network, span_of
from chalicelib.core.decisions import (
    PROPAGATION_S,
    Outcome,
    RefusalSpan,
    Standing,
    decide,
    memory_s,
    noted,
    refusals,
    unenforced,
)
from chalicelib.core.state import Block, BlockLengths, Breaker, Detection, History, Offender, Unreadable
from chalicelib.core.tally import LONGEST_RETENTION_S, RETENTION_S
from chalicelib.pipeline.block_lengths import name_lengths, read_lengths
from chalicelib.pipeline.lifting import CLIENTS_PER_WRITE, history_kept_until
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Contended, StreamChange, Write
from chalicelib.reports import EnforceReport

TRIES = 5

OFFENDERS_PER_SLICE = 1000
"""Offenders that are decided, and written, before the next are read: at most two seconds of work."""

SAMPLE = 20
"""Most offences per slice that are noted in histories though no client is blocked for them: the highest counts."""

BREAKER_WINDOW_S = 60
"""Time within which new blocks by rules are counted for the circuit breaker."""

PAUSED, BREAKER = "paused", "breaker"
"""Outcomes of offenders about whom nothing is decided."""

_T = TypeVar("_T")
Case = tuple[Detection, Offender]


@dataclass(slots=True)
class Pending:
    """One network's stored records, and its standing before and after the decisions so far."""

    block: Stored[Block] | None
    history: Stored[History] | None
    before: Standing
    standing: Standing
    cases: list[Case] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def new_block(self) -> Block | None:
        """The block to store; None if it is as it was."""
        return self.standing.block if self.standing.block is not self.before.block else None

    def begins_at(self, now: int) -> bool:
        """Returns whether the network is to be blocked and was not before."""
        before = self.before.block
        return self.new_block is not None and (before is None or not before.in_force(now))

    def add(self, case: Case, outcome: Outcome, standing: Standing) -> None:
        self.cases.append(case)
        self.outcomes.append(outcome)
        self.standing = standing

    def writes(self) -> list[Write]:
        writes: list[Write] = []
        if self.new_block is not None:
            writes.append(State.put(self.new_block, over=self.block))
        history = self.standing.history
        if history is not self.before.history:
            longest_s = max(memory_s(detection.terms) for detection, _ in self.cases)
            kept_until = history_kept_until(history, self.history, longest_s)
            writes.append(State.put(history, over=self.history, expires_at=kept_until))
        return writes


class Divided(NamedTuple):
    """A slice of offences: those to enforce; of the others, a sample to note, and the outcomes of the rest."""

    enforced: list[Case]
    sample: list[tuple[Case, Outcome]]
    rest: Counter[str]


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
    breaker_opened: bool = False


class Enforce:
    """One container's enforcer."""

    def __init__(
        self,
        *,
        state: State,
        clock: Callable[[], float],
        breaker_blocks_per_minute: int,
        stale_after_s: int = RETENTION_S,
        propagation_s: int = PROPAGATION_S,
    ) -> None:
        """``clock``: epoch seconds. ``stale_after_s``: the age at which an offence is not enforced any more."""
        self._state = state
        self._clock = clock
        self._most = breaker_blocks_per_minute
        self._stale_after_s = stale_after_s
        self._propagation_s = propagation_s
        self._lengths = BlockLengths()
        """Prefix lengths that are certainly named in the stored record."""

    def run(self, changes: Sequence[StreamChange]) -> EnforceReport:
        """Enforces the detections among ``changes``. Raises Contended and what the state store raises."""
        read = [Detection.read(c.id, c.body) for c in changes if c.kind == Detection.kind and c.body is not None]
        detections = [each for each in read if isinstance(each, Detection)]
        # One that cannot be read, for example of a newer version, would fail again each time it is delivered.
        unreadable = [each for each in read if isinstance(each, Unreadable)]
        report = EnforceReport(detections=len(detections), unreadable=unreadable)
        cases = ((detection, offender) for detection in detections for offender in detection.offenders)
        for part in _chunks(cases, OFFENDERS_PER_SLICE):
            done = self._enforce(part)
            report.outcomes += done.outcomes
            report.blocks += done.blocks
            report.breaker_opened |= done.breaker_opened
        return report

    def _enforce(self, cases: list[Case]) -> EnforceReport:
        """Decides about one slice of offenders, and stores the decisions."""
        report = EnforceReport()
        for attempt in range(TRIES):
            if self._state.pause().paused:
                report.outcomes[PAUSED] += len(cases)
                return report
            now = int(self._clock())
            allowed = self._state.allowlist(now)
            divided = self._divide(cases, allowed, now)
            report.outcomes += divided.rest
            clients = self._decide(divided, allowed, now, again=attempt > 0)
            written = self._store(clients, now)
            report.outcomes += written.outcomes
            report.blocks += written.blocks
            report.breaker_opened |= written.breaker_opened
            cases = written.overtaken
            if not cases:
                return report
        raise Contended(f"conflicts with concurrent changes {TRIES} times in a row; undecided offenders: {len(cases)}")

    def _divide(self, cases: Iterable[Case], allowed: NetworkSet, now: int) -> Divided:
        enforced: list[Case] = []
        others: list[tuple[Case, Outcome]] = []
        for case in cases:
            detection, offender = case
            on_allowlist = allowed.meets(span_of(offender.network))
            outcome = unenforced(
                detection.terms, offender, allowed=on_allowlist, stale_after_s=self._stale_after_s, now=now
            )
            if outcome is None:
                enforced.append(case)
            else:
                others.append((case, outcome))
        others.sort(key=lambda other: -other[0][1].count)
        return Divided(enforced, others[:SAMPLE], Counter(outcome for _, outcome in others[SAMPLE:]))

    def _decide(self, divided: Divided, allowed: NetworkSet, now: int, *, again: bool) -> list[Pending]:
        """Returns the networks with what is decided about them. ``again``: whether an attempt has met a conflict."""
        names = {offender.network: None for _, offender in divided.enforced}
        noted_names = {offender.network: None for (_, offender), _ in divided.sample}
        histories = self._state.get_many(History, names | noted_names)
        # A rule's block has a history. If a network without one is blocked by hand, the write shows it.
        blocks = self._state.get_many(Block, names if again else names.keys() & histories.keys())
        wider = self._refusals_of_wider(divided.enforced, allowed, now)
        clients: dict[str, Pending] = {}
        for name in names | noted_names:
            standing = _standing(name, histories, blocks)
            clients[name] = Pending(blocks.get(name), histories.get(name), standing, standing)
        for detection, offender in divided.enforced:
            client = clients[offender.network]
            decision = decide(
                detection,
                offender,
                client.standing,
                wider=wider.get(offender.network, ()),
                propagation_s=self._propagation_s,
                now=now,
            )
            client.add((detection, offender), decision.outcome, decision.standing)
        for (detection, offender), outcome in divided.sample:
            client = clients[offender.network]
            history = noted(detection, offender, outcome, client.standing.history, now)
            client.add((detection, offender), outcome, Standing(history, client.standing.block))
        return list(clients.values())

    def _refusals_of_wider(
        self, cases: Iterable[Case], allowed: NetworkSet, now: int
    ) -> Mapping[str, Sequence[RefusalSpan]]:
        """Returns, by network, when wider blocks may have refused its requests, if any look as if they were refused.

        A block that overlaps the allowlist refuses nothing.
        """
        networks = {offender.network for _, offender in cases if offender.served_since_ms != 0}
        if not networks:
            return {}
        lengths = read_lengths(self._state).record
        since = now - LONGEST_RETENTION_S
        containing = {
            name: [str(wider) for wider in lengths.wider(parse_network(name), since) if not allowed.overlaps(wider)]
            for name in networks
        }
        names = {wider for all_wider in containing.values() for wider in all_wider}
        if not names:
            return {}
        blocks = self._state.get_many(Block, names)
        histories = self._state.get_many(History, names)
        spans = {name: refusals(_standing(name, histories, blocks), self._propagation_s) for name in names}
        return {name: [span for each in all_wider for span in spans[each]] for name, all_wider in containing.items()}

    def _breaker(self, new: int, now: int) -> BreakerState:
        """Returns the state of the circuit breaker, before ``new`` blocks are stored. Raises Conflict.

        It opens if they are implausibly many; otherwise they are counted.
        """
        stored = self._state.control(Breaker)
        breaker = stored.record
        if breaker.open:
            return BreakerState.OPEN
        recent = {second: number for second, number in breaker.recent.items() if second > now - BREAKER_WINDOW_S}
        total = sum(recent.values()) + new
        if new and total > self._most and now >= breaker.ignore_until:
            opened = Breaker(open=True, at=now, would_block=total)
            # On a conflict, another container has opened it or an operator has just reset it: the next detections
            # decide.
            with suppress(Conflict):
                self._state.write([State.put(opened, over=stored)])
            return BreakerState.OPENED
        if new:
            recent[now] = recent.get(now, 0) + new
            self._state.write([State.put(replace(breaker, recent=recent), over=stored)])
        return BreakerState.CLOSED

    def _store(self, clients: Sequence[Pending], now: int) -> Written:
        """Stores the decisions, but no block while the circuit breaker is open."""
        blocking = [client for client in clients if client.new_block is not None]
        if not blocking:
            return self._write(clients)
        try:
            breaker = self._breaker(sum(client.begins_at(now) for client in blocking), now)
        except Conflict:
            return Written(Counter(), [], [case for client in clients for case in client.cases])
        if breaker is BreakerState.CLOSED:
            self._name_lengths([client.new_block for client in blocking if client.new_block is not None])
            return self._write(clients)
        written = self._write([client for client in clients if client.new_block is None])
        withheld = Counter({BREAKER: sum(len(client.cases) for client in blocking)})
        return written._replace(outcomes=written.outcomes + withheld, breaker_opened=breaker is BreakerState.OPENED)

    def _name_lengths(self, blocks: Collection[Block]) -> None:
        if not self._lengths.covers(blocks):
            self._lengths = name_lengths(self._state, blocks)

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


def _standing(name: str, histories: Mapping[str, Stored[History]], blocks: Mapping[str, Stored[Block]]) -> Standing:
    history, block = histories.get(name), blocks.get(name)
    return Standing(history.record if history else History(network=name), block.record if block else None)


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
