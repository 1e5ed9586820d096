"""The breakers of the rules, as they are stored: one record per rule, changed under its version.

A breaker is stored before the blocks that it permits. If the invocation ends between the two, clients that are not
blocked yet are noted as hit; they are the same when the detections are delivered again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from chalicelib.core.addresses import parse_network
from chalicelib.core.breaker import (
    Candidate,
    Judgement,
    Limits,
    after_reset,
    calmed,
    judge,
    judge_superseded,
    reset_at,
    under_terms,
)
from chalicelib.core.events import breaker_event
from chalicelib.core.known_clients import KnownClients
from chalicelib.core.rules import RuleSet
from chalicelib.core.state.breakers import RuleBreaker
from chalicelib.core.state.detections import Offender, Terms
from chalicelib.core.state.events import HISTORY_S, Event
from chalicelib.core.state.rule_sets import version_number
from chalicelib.pipeline.client_memory import Acquaintances
from chalicelib.pipeline.recording import recorded
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Write

KEPT_S = 30 * 86400
"""Time for which a breaker is kept after its last change."""


class PlannedBlock(NamedTuple):
    """A block that a rule would make."""

    terms: Terms
    offender: Offender
    familiar: bool
    """True if its clients may count as known: no rule is remembered to have blocked the network."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of all breakers on new blocks."""

    waiting: frozenset[tuple[str, str]] = frozenset()
    """Rule and network of those that may not be blocked yet."""
    halted: frozenset[str] = frozenset()
    """The rules that are stopped."""
    stopped: tuple[RuleBreaker, ...] = ()
    """The breakers of those among them that were stopped now."""


@dataclass(frozen=True, slots=True)
class Breakers:
    """The breakers of all rules that have one, at one moment."""

    present: Mapping[str, RuleBreaker]
    """By rule."""
    resumed: Sequence[RuleBreaker]
    """Those that were closed at that moment."""


class RuleBreakers:
    """One container's judge of new blocks."""

    def __init__(self, state: State, limits: Limits, history_s: int = HISTORY_S) -> None:
        """``history_s``: how long events are kept."""
        self._state = state
        self._limits = limits
        self._history_s = history_s
        self._acquaintances = Acquaintances(state)

    def judge(self, blocks: Iterable[PlannedBlock], now: int) -> Verdict:
        """Judges ``blocks`` and stores what has changed. Raises Conflict if another container was faster."""
        by_rule: dict[str, list[PlannedBlock]] = {}
        for block in blocks:
            by_rule.setdefault(block.terms.name, []).append(block)
        if not by_rule:
            return Verdict()
        known = self._acquaintances.at(now)
        stored = self._state.get_many(RuleBreaker, by_rule)
        waiting: set[tuple[str, str]] = set()
        halted, stopped = set(), []
        for rule, members in by_rule.items():
            former = stored.get(rule)
            latest = max((block.terms for block in members), key=lambda terms: terms.version)
            breaker = _under(former.record if former else RuleBreaker(rule=rule), latest)
            judgement = self._judgement(breaker, members, known, now)
            if former is not None and _depends_on_reset(breaker, judgement, now):
                breaker = _under(after_reset(former.record, self._state.breaker()), latest)
                judgement = self._judgement(breaker, members, known, now)
            if judgement.breaker != breaker:
                events = [breaker_event("stopped", judgement.breaker)] if judgement.stopped else []
                self._store(judgement.breaker, former, events, now)
            waiting |= {(rule, network) for network in judgement.waiting}
            if judgement.breaker.stopped_at:
                halted.add(rule)
            if judgement.stopped:
                stopped.append(judgement.breaker)
        return Verdict(frozenset(waiting), frozenset(halted), tuple(stopped))

    def _judgement(
        self, breaker: RuleBreaker, blocks: Iterable[PlannedBlock], known: KnownClients | None, now: int
    ) -> Judgement:
        """Judges a rule's blocks: first those by the version that is judged, and then those by earlier ones."""
        by_present, by_earlier = list[Candidate](), list[Candidate]()
        for block in blocks:
            present = (block.terms.limit, block.terms.window_s) == (breaker.limit, breaker.window_s)
            (by_present if present else by_earlier).append(_candidate(block, known))
        first = judge(breaker, by_present, known, self._limits, now)
        second = judge_superseded(first.breaker, by_earlier, known, self._limits, now)
        return Judgement(second.breaker, first.waiting | second.waiting, first.stopped)

    def hits(self, blocks: Iterable[PlannedBlock], now: int) -> frozenset[tuple[str, str]]:
        """Returns rule and network of those of ``blocks`` that would hit known clients."""
        known = self._acquaintances.at(now)
        return frozenset((b.terms.name, b.offender.network) for b in blocks if _candidate(b, known).hits)

    def resume(self, rules: RuleSet, now: int) -> Breakers:
        """Resumes the rules that now hit few known clients, or were changed; ``rules``: those in use."""
        limits = {rule.name: (rule.limit, rule.window_s) for rule in rules.rules}
        version = version_number(rules.version)
        reset = self._state.breaker()
        breakers: dict[str, RuleBreaker] = {}
        resumed = []
        for former in self._state.all(RuleBreaker):
            breaker = after_reset(former.record, reset)
            if breaker.stopped_at:
                judged = under_terms(breaker, *limits.get(breaker.rule, (0, 0)), version)
                judged = calmed(judged, self._acquaintances.at(now), self._limits, now)
                if not judged.stopped_at:
                    # On a conflict, another container judges it, or an operator has reset it: the next minute decides.
                    with suppress(Conflict):
                        self._store(judged, former, [breaker_event("resumed", judged)], now)
                        resumed.append(judged)
                        breaker = judged
            breakers[breaker.rule] = breaker
        return Breakers(breakers, resumed)

    def _store(
        self, breaker: RuleBreaker, former: Stored[RuleBreaker] | None, events: Sequence[Event], now: int
    ) -> None:
        put = State.put(breaker, over=former, expires_at=now + KEPT_S)
        self._state.write([put, *recorded(events, now * 1000, self._history_s)])


def stopped_rules(state: State) -> Iterator[RuleBreaker]:
    """Yields the breakers of the rules that are stopped, by name."""
    reset = state.breaker()
    for breaker in state.records(RuleBreaker):
        present = after_reset(breaker, reset)
        if present.stopped_at:
            yield present


def reset_rule(state: State, rule: str, *, at: int, ignore_until: int, by: str) -> Write:
    """Returns the write that resets the breaker of one rule."""
    former = state.get(RuleBreaker, rule)
    breaker = after_reset(former.record if former else RuleBreaker(rule=rule), state.breaker())
    reset = reset_at(breaker, at=at, ignore_until=ignore_until, by=by)
    return State.put(reset, over=former, expires_at=at + KEPT_S)


def _under(breaker: RuleBreaker, terms: Terms) -> RuleBreaker:
    return under_terms(breaker, terms.limit, terms.window_s, terms.version)


def _depends_on_reset(breaker: RuleBreaker, judgement: Judgement, now: int) -> bool:
    """Returns whether a reset of all rules might change the judgement.

    Most judgements admit strangers and note nothing, which a reset does as well. So they cost no read of it.
    """
    return bool(judgement.waiting) or judgement.breaker.hits != breaker.hits or now < breaker.ignore_until


def _candidate(block: PlannedBlock, known: KnownClients | None) -> Candidate:
    network, excess = block.offender.network, block.offender.count / max(1, block.terms.limit)
    hits = known.within(parse_network(network)) if known is not None and block.familiar else ()
    return Candidate(network, excess, hits)
