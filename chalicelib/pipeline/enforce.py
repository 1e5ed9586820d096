"""Enforce: turns detections into blocks.

A detection may be delivered twice, late, or to two containers at once. Decisions are therefore based on what is stored,
written on condition that it has not changed, and made again if it has. Only the records of the networks concerned are
read, so the cost does not grow with the number of blocks. Many offenders are handled in slices, each of which is
written before the next is read: an invocation that is killed loses the work on one slice only.

The breakers of the rules judge new blocks before they are stored (``rule_breakers``). Offenders that they hold back
wait (``waiting``), and are decided about again with the sweep's heartbeat, once a minute.
"""

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from chalicelib.core.addresses import NetworkSet, parse_network, span_of
from chalicelib.core.breaker import Limits
from chalicelib.core.decisions import (
    PROPAGATION_S,
    PUNISHED,
    Outcome,
    RefusalSpan,
    Standing,
    decide,
    memory_s,
    noted,
    own_refusals,
    refusals,
    settled,
    unenforced,
)
from chalicelib.core.events import RECORDED, end_event, offence_event, unnamed_event
from chalicelib.core.exemptions import Exemptions
from chalicelib.core.state.blocks import Block, BlockLengths, History
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.events import HISTORY_S, Event
from chalicelib.core.state.publishing import GuiltyNetworks, Heartbeat
from chalicelib.core.state.records import Unreadable
from chalicelib.core.tally import LONGEST_RETENTION_S, RETENTION_S
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.block_lengths import name_lengths, read_lengths
from chalicelib.pipeline.lifting import CLIENTS_PER_WRITE, history_kept_until
from chalicelib.pipeline.network_blocks import block_networks
from chalicelib.pipeline.recording import recorded
from chalicelib.pipeline.rule_breakers import PlannedBlock, RuleBreakers, stopped_rules
from chalicelib.pipeline.stored import State, Stored
from chalicelib.pipeline.waiting import Case, Due, WaitingOffenders, key_of
from chalicelib.ports import Conflict, Contended, StreamChange, Write
from chalicelib.reports import EnforceReport

TRIES = 5

OFFENDERS_PER_SLICE = 1000
"""Offenders that are decided, and written, before the next are read: at most two seconds of work."""

SAMPLE = 20
"""Most offences per slice that are noted in histories although no client is blocked for them: the highest counts."""

SLICES_RESUMED = 10
"""Most slices of offenders that have waited, per minute: as many as are stored and published in a few seconds."""

PAUSED, BREAKER, PACE, SPARED = "paused", "breaker", "pace", "spared"
"""Outcomes of offenders about whom nothing is decided."""

_T = TypeVar("_T")


@dataclass(slots=True)
class Pending:
    """One network's stored records, and its standing before and after the decisions so far."""

    block: Stored[Block] | None
    history: Stored[History] | None
    before: Standing
    standing: Standing
    cases: list[Case] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """Events of the decisions, in their order."""

    @property
    def familiar(self) -> bool:
        """True if no rule is remembered to have blocked the network."""
        return all(past.outcome not in PUNISHED for past in self.before.history.rules.values())

    @property
    def new_block(self) -> Block | None:
        """The block to store; None if it is as it was."""
        return self.standing.block if self.standing.block is not self.before.block else None

    def add(self, case: Case, outcome: Outcome, standing: Standing) -> None:
        (detection, offender), before = case, self.standing.history
        self.cases.append(case)
        self.outcomes.append(outcome)
        self.standing = standing
        if outcome in RECORDED and standing.history is not before:
            past = standing.history.rules[detection.terms.name]
            self.events.append(offence_event(offender.network, past, detection.terms))

    def recorded_events(self, now: int) -> list[Event]:
        """Returns the events to store. If the new block replaces one that was over, the end of that one comes first."""
        former = self.before.block
        if self.new_block is None or former is None or former.in_force(now):
            return self.events
        return [end_event(former, former.ends_at), *self.events]

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
    rest: Counter[tuple[Outcome, str]]
    """Number of the rest, by outcome and rule."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The records of a slice's networks, as they were read at ``now``."""

    blocks: Mapping[str, Stored[Block]]
    histories: Mapping[str, Stored[History]]
    wider: Mapping[str, Sequence[Standing]]
    """Standings of wider networks whose blocks may have refused a network's requests."""
    within: Mapping[str, RefusalSpan]
    """When blocks of narrower networks may have refused a network's requests."""
    propagation_s: int
    now: int

    def decided(self, enforced: Iterable[Case], sample: Iterable[tuple[Case, Outcome]]) -> list[Pending]:
        """Returns the networks with what is decided about them."""
        enforced, sample = list(enforced), list(sample)
        cases = [*enforced, *(case for case, _ in sample)]
        clients = {name: self._pending(name) for name in dict.fromkeys(offender.network for _, offender in cases)}
        for case in enforced:
            detection, offender = case
            client = clients[offender.network]
            standings = self.wider.get(offender.network, ())
            others = [span for each in standings for span in refusals(each, detection.source, self.propagation_s)]
            others += [self.within[offender.network]] if offender.network in self.within else []
            decision = decide(
                detection, offender, client.standing, others=others, propagation_s=self.propagation_s, now=self.now
            )
            client.add(case, decision.outcome, decision.standing)
        for case, outcome in sample:
            detection, offender = case
            client = clients[offender.network]
            history = noted(detection, offender, outcome, client.standing.history, self.now)
            client.add(case, outcome, Standing(history, client.standing.block))
        return list(clients.values())

    def _pending(self, name: str) -> Pending:
        standing = _standing(name, self.histories, self.blocks)
        return Pending(self.blocks.get(name), self.histories.get(name), standing, standing)


class Written(NamedTuple):
    """The decisions that were stored, and the cases that must be decided again."""

    outcomes: Counter[str]
    blocks: list[Block]
    overtaken: list[Case]
    """Cases whose network's records were changed concurrently."""


class Judged(NamedTuple):
    """The decisions about a slice, without those that the breakers hold back."""

    report: EnforceReport
    clients: list[Pending]
    waiting: list[Case]


class Done(NamedTuple):
    """The outcome of a slice."""

    report: EnforceReport
    waiting: list[Case]
    """Cases that their rules' breakers hold back."""


class Enforce:
    """One container's enforcer."""

    def __init__(
        self,
        *,
        state: State,
        clock: Callable[[], float],
        limits: Limits,
        rules: Callable[[int], RulesInUse],
        stale_after_s: int = RETENTION_S,
        propagation_s: int = PROPAGATION_S,
        proxies: NetworkSet | None = None,
        history_s: int = HISTORY_S,
    ) -> None:
        """``clock``: epoch seconds. ``limits``: those of the breakers. ``rules`` returns those in use at a time in ms.

        ``stale_after_s``: the age beyond which an offence is not enforced. ``proxies``: networks that no rule blocks,
        because other clients are behind them. ``history_s``: how long events are kept.
        """
        self._state = state
        self._clock = clock
        self._rules = rules
        self._breakers = RuleBreakers(state, limits, history_s)
        self._waiting = WaitingOffenders(state)
        self._stale_after_s = stale_after_s
        self._propagation_s = propagation_s
        self._proxies = proxies or NetworkSet(())
        self._history_s = history_s
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
            report += self._enforce(part).report
        if any((change.kind, change.id) == (Heartbeat.kind, Heartbeat.id) for change in changes):
            report += self._resume()
        if any((change.kind, change.id) == (GuiltyNetworks.kind, GuiltyNetworks.id) for change in changes):
            report += self._block_networks()
        return report

    def _block_networks(self) -> EnforceReport:
        """Blocks the networks that the publisher has found guilty, if the rules still say so."""
        now = int(self._clock())
        if self._state.pause(now).paused or self._rules(now * 1000).rules.networks is None:
            return EnforceReport()
        blocks = block_networks(
            self._state, self._name_lengths, proxies=self._proxies, history_s=self._history_s, now=now
        )
        return EnforceReport(blocks=blocks)

    def _resume(self) -> EnforceReport:
        """Resumes the rules that now hit few known clients, and decides about waiting offenders, the worst first."""
        report, now = EnforceReport(), int(self._clock())
        notes = self._waiting.notes()
        if self._state.pause(now).paused or not (notes or any(stopped_rules(self._state))):
            return report
        in_use = self._rules(now * 1000)
        if in_use.problem is not None and not in_use.rules.rules:
            return report  # the rules are unknown at the moment
        breakers = self._breakers.resume(in_use.rules, now)
        report.resumed += breakers.resumed
        due = self._waiting.due(notes, breakers.present, in_use.rules)
        rest, waiting = list(due.cases), list[Case]()
        for _ in range(SLICES_RESUMED):
            if not rest:
                break
            done = self._enforce(rest[:OFFENDERS_PER_SLICE], due)
            report += done.report
            # A rule that is stopped, or whose pace is used up, blocks no other client in this minute.
            used_up = {detection.terms.name for detection, _ in done.waiting}
            following = rest[OFFENDERS_PER_SLICE:]
            waiting += [*done.waiting, *(case for case in following if case[0].terms.name in used_up)]
            rest = [case for case in following if case[0].terms.name not in used_up]
        self._waiting.release(due, [*waiting, *rest])
        return report

    def _enforce(self, cases: list[Case], resumed: Due | None = None) -> Done:
        """Decides about one slice of offenders, and stores the decisions. ``resumed``: the waiting ones that they are
        among."""
        report = EnforceReport()
        waiting: list[Case] = []
        for attempt in range(TRIES):
            now = int(self._clock())
            if self._state.pause(now).paused:
                report.outcomes[PAUSED] += len(cases)
                return Done(report, [*waiting, *cases] if resumed else waiting)
            exempt = self._state.exemptions(now)
            divided = self._divide(cases, exempt, sys.maxsize if resumed else self._stale_after_s, now)
            for (outcome, _), number in divided.rest.items():
                report.outcomes[outcome] += number
            situation = self._read(divided, now, again=attempt > 0)
            try:
                judged = self._judge(situation, divided, resumed)
            except Conflict:
                cases = [*divided.enforced, *(case for case, _ in divided.sample)]
                continue
            report += judged.report
            waiting += judged.waiting
            unnamed = [unnamed_event(outcome, rule, number) for (outcome, rule), number in divided.rest.items()]
            written = self._write(judged.clients, unnamed, now)
            report.outcomes += written.outcomes
            report.blocks += written.blocks
            cases = written.overtaken
            if not cases:
                return Done(report, waiting)
        raise Contended(f"conflicts with concurrent changes {TRIES} times in a row; undecided offenders: {len(cases)}")

    def _judge(self, situation: Situation, divided: Divided, resumed: Due | None) -> Judged:
        """Decides, and holds back the offenders that their rules' breakers do not admit. Raises Conflict."""
        report = EnforceReport()
        now, enforced = situation.now, divided.enforced
        clients = situation.decided(enforced, divided.sample)
        if resumed is not None and resumed.spare:
            familiar = self._breakers.hits(_new_blocks(clients), now) & resumed.spare
            spared = [case for case in enforced if key_of(case) in familiar]
            if spared:
                report.outcomes[SPARED] += len(spared)
                enforced = [case for case in enforced if key_of(case) not in familiar]
                clients = situation.decided(enforced, divided.sample)
        verdict = self._breakers.judge(_new_blocks(clients), now)
        report.stopped += verdict.stopped
        waiting = [case for case in enforced if key_of(case) in verdict.waiting]
        if waiting:
            report.outcomes.update(BREAKER if case[0].terms.name in verdict.halted else PACE for case in waiting)
            clients = situation.decided(
                [case for case in enforced if key_of(case) not in verdict.waiting], divided.sample
            )
            if resumed is None:
                self._waiting.hold(waiting, now)
        self._name_lengths([client.new_block for client in clients if client.new_block is not None])
        return Judged(report, clients, waiting)

    def _divide(self, cases: Iterable[Case], exempt: Exemptions, stale_after_s: int, now: int) -> Divided:
        enforced: list[Case] = []
        others: list[tuple[Case, Outcome]] = []
        for case in cases:
            detection, offender = case
            span = span_of(offender.network)
            outcome = unenforced(
                detection.terms,
                offender,
                allowed=exempt.spares(span, detection.terms.name),
                proxy=self._proxies.meets(span),
                stale_after_s=stale_after_s,
                now=now,
            )
            if outcome is None:
                enforced.append(case)
            else:
                others.append((case, outcome))
        others.sort(key=lambda other: -other[0][1].count)
        rest = Counter((outcome, detection.terms.name) for (detection, _), outcome in others[SAMPLE:])
        return Divided(enforced, others[:SAMPLE], rest)

    def _read(self, divided: Divided, now: int, *, again: bool) -> Situation:
        """Reads the records of the networks concerned. ``again``: whether an attempt has met a conflict."""
        names = {offender.network: None for _, offender in divided.enforced}
        noted_names = {offender.network: None for (_, offender), _ in divided.sample}
        histories = self._state.get_many(History, names | noted_names)
        # Only a network with a punishment that has not ended has a rule's block. If another network is blocked by hand,
        # the write fails and shows it. Requests that look refused may be explained by such a block even if nothing is
        # written.
        blocked = {
            offender.network: None
            for _, offender in divided.enforced
            if (stored := histories.get(offender.network)) is not None
            and (offender.served_since_ms != 0 or _has_unended(stored.record))
        }
        blocks = self._state.get_many(Block, names if again else blocked)
        standings = {name: settled(_standing(name, histories, blocks), now) for name in names}
        # Requests that look refused are explained by the network's own blocks, or else by those of other networks.
        unexplained = {
            offender.network: None
            for detection, offender in divided.enforced
            if offender.served_since_ms != 0
            and not own_refusals(offender, refusals(standings[offender.network], detection.source, self._propagation_s))
        }
        # An offence is reported within the retention of tallies, and its requests are no older than its window.
        oldest_s = LONGEST_RETENTION_S + max((detection.terms.window_s for detection, _ in divided.enforced), default=0)
        wider, within = self._refusals_by_others(unexplained, now - oldest_s) if unexplained else ({}, {})
        return Situation(blocks, histories, wider, within, self._propagation_s, now)

    def _refusals_by_others(
        self, networks: Collection[str], since: int
    ) -> tuple[Mapping[str, Sequence[Standing]], Mapping[str, RefusalSpan]]:
        """Returns ``wider`` and ``within`` of a situation, as far as blocks were in force since ``since``.

        A network may contain very many clients, so their blocks are not read: it is enough that such blocks exist
        anywhere.
        """
        lengths = read_lengths(self._state).record
        containing = {name: list(map(str, lengths.wider(parse_network(name), since))) for name in networks}
        names = {wider for all_wider in containing.values() for wider in all_wider}
        blocks = self._state.get_many(Block, names)
        histories = self._state.get_many(History, names)
        standings = {name: _standing(name, histories, blocks) for name in names}
        wider = {name: [standings[each] for each in all_wider] for name, all_wider in containing.items()}
        narrower_until = {name: lengths.narrower_until(parse_network(name)) for name in networks}
        within = {
            name: RefusalSpan(0, (end + self._propagation_s) * 1000) for name, end in narrower_until.items() if end
        }
        return wider, within

    def _name_lengths(self, blocks: Collection[Block]) -> None:
        if not self._lengths.covers(blocks):
            self._lengths = name_lengths(self._state, blocks)

    def _write(self, clients: Iterable[Pending], unnamed: Sequence[Event], now: int) -> Written:
        """Stores the decisions, in as many transactions as necessary, each with its events.

        ``unnamed``: events that are recorded only with others, because they would recur with each batch.
        """
        written = Written(Counter(), [], [])
        for chunk in _chunks(clients, CLIENTS_PER_WRITE):
            writes = [write for client in chunk for write in client.writes()]
            events = [event for client in chunk for event in client.recorded_events(now)]
            if events:
                writes += recorded([*events, *unnamed], now * 1000, self._history_s)
            try:
                if writes:
                    self._state.write(writes)
            except Conflict:
                written.overtaken.extend(case for client in chunk for case in client.cases)
                continue
            if events:
                unnamed = []
            for client in chunk:
                written.outcomes.update(client.outcomes)
                if client.new_block is not None:
                    written.blocks.append(client.new_block)
        return written


def _new_blocks(clients: Iterable[Pending]) -> list[PlannedBlock]:
    """Returns the blocks that rules would make for offences that they have not punished yet."""
    return [
        PlannedBlock(detection.terms, offender, client.familiar)
        for client in clients
        for (detection, offender), outcome in zip(client.cases, client.outcomes, strict=True)
        if outcome is Outcome.BLOCKED
    ]


def _standing(name: str, histories: Mapping[str, Stored[History]], blocks: Mapping[str, Stored[Block]]) -> Standing:
    history, block = histories.get(name), blocks.get(name)
    return Standing(history.record if history else History(network=name), block.record if block else None)


def _has_unended(history: History) -> bool:
    """Returns whether a punishment of the network lasts beyond the end of its last block."""
    return any(past.outcome in PUNISHED and past.until > history.ended_at for past in history.rules.values())


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
