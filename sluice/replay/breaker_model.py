"""Interventions of the circuit breakers, which stop a rule in production, or slow it down while no client is known.

Clients are known by the log itself, as far as it covers the days before. Each rule is judged by ``core.breaker``, as
in Lambda: when it would block, and once a minute for those that wait.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from chalicelib.config import SETTINGS
from chalicelib.core.addresses import Network
from chalicelib.core.breaker import Candidate, Limits, judge
from chalicelib.core.known_clients import MEMORY_S, PERIOD_S, Digest, KnownClients, known_record, period_of
from chalicelib.core.rules import Action, Rule
from chalicelib.core.state.breakers import Known, RuleBreaker
from sluice.replay.breaches import Breach, minute_after
from sluice.replay.strips import Strip

LIMITS = Limits(float(SETTINGS["breaker_share"].default), int(SETTINGS["breaker_pace"].default))
"""Those of a stage with default settings."""


@dataclass(frozen=True, slots=True)
class Intervention:
    """A rule that would have been stopped, or slowed down. Times are epoch seconds."""

    rule: str
    at: int
    """When it would have been stopped, or first slowed down."""
    blocks: int
    """New blocks that it would have made: until it was stopped, or in all."""
    would_hit: int = 0
    """Known clients that it would have blocked within ten minutes; 0 if it was only slowed down."""
    known: int = 0
    """Known clients in all."""
    last_at: int = 0
    """When the last of its blocks would have been made; 0 if it was stopped."""

    @property
    def stopped(self) -> bool:
        return not self.last_at


class LogMemory:
    """The clients that are known at any moment of a log."""

    def __init__(self, strips: Iterable[Strip], span_ms: tuple[int, int]) -> None:
        """A log that covers less than a day is not read, because no client becomes known in it."""
        is_long = span_ms[1] - span_ms[0] >= MEMORY_S * 1000
        self._records = list(_records(strips)) if is_long else []
        self._known: dict[int, KnownClients] = {}
        """The known clients of each period, by its start."""

    def at(self, now: int) -> KnownClients | None:
        known = self._known.get(period_of(now)) or KnownClients.at(self._records, now)
        if known is not None:
            self._known[period_of(now)] = known
        return known


def _records(strips: Iterable[Strip]) -> Iterator[Known]:
    digests: dict[int, Digest] = {}
    since: dict[int, int] = {}
    for strip in strips:
        members: dict[int, list[bytes]] = {}
        for client, time in zip(strip.clients, strip.times, strict=True):
            members.setdefault(time // (PERIOD_S * 1000), []).append(client)
        for period, clients in members.items():
            digests[period] = digests.get(period, Digest()).plus(clients)
        for period in members:
            first = max(min(strip.times) // 1000, period * PERIOD_S)
            since[period] = min(since.get(period, first), first)
    return (known_record(period * PERIOD_S, since[period], digest) for period, digest in digests.items())


def interventions(breaches: Sequence[Breach], memory: LogMemory, limits: Limits = LIMITS) -> list[Intervention]:
    """Returns what would have been done to the rules, at most once each, in order of time."""
    new_blocks = _new_blocks(breaches)
    by_rule = (_first(rule, blocks, memory, limits) for rule, blocks in new_blocks.items())
    return sorted((each for each in by_rule if each is not None), key=lambda each: (each.at, each.rule))


class _NewBlock(NamedTuple):
    at: int
    network: Network
    excess: float
    familiar: bool
    """True if the network has not been blocked before, so that its clients may count as known."""

    def candidate(self, memory: LogMemory) -> Candidate:
        known = memory.at(self.at) if self.familiar else None
        return Candidate(str(self.network), self.excess, () if known is None else known.within(self.network))


def _new_blocks(breaches: Sequence[Breach]) -> Mapping[Rule, list[_NewBlock]]:
    """Returns the blocks of each rule, in order of time. A rule that only counts is taken as if it alone blocked."""
    first: dict[tuple[str, Network], int] = {}
    for breach in breaches:
        if breach.periods:
            key, at = (_blocking(breach.rule), breach.network), breach.periods[0].since
            first[key] = min(first.get(key, at), at)
    blocks: dict[Rule, list[_NewBlock]] = {}
    for breach in breaches:
        for period in breach.periods:
            familiar = period.since == first[_blocking(breach.rule), breach.network]
            block = _NewBlock(period.since, breach.network, period.count / max(1, breach.rule.limit), familiar)
            blocks.setdefault(breach.rule, []).append(block)
    return {rule: sorted(members, key=attrgetter("at")) for rule, members in blocks.items()}


def _blocking(rule: Rule) -> str:
    """Returns a key that a rule shares with the rules whose blocks make a client unfamiliar to it."""
    return "" if rule.action is Action.BLOCK else rule.name


def _first(rule: Rule, blocks: Iterable[_NewBlock], memory: LogMemory, limits: Limits) -> Intervention | None:
    breaker = RuleBreaker(rule=rule.name, limit=rule.limit, window_s=rule.window_s)
    made, slowed_at, now = 0, 0, 0
    waiting: dict[str, Candidate] = {}
    moments = groupby(blocks, key=attrgetter("at"))
    upcoming = next(moments, None)
    while upcoming is not None or waiting:
        minute = minute_after(now)
        if upcoming is not None and not (waiting and minute <= upcoming[0]):
            now, members = upcoming
            candidates = [block.candidate(memory) for block in members]
            upcoming = next(moments, None)
        else:
            now, candidates = minute, list(waiting.values())
        judgement = judge(breaker, candidates, memory.at(now), limits, now)
        breaker = judgement.breaker
        if judgement.stopped:
            return Intervention(rule.name, now, made, breaker.would_hit, breaker.known)
        for candidate in candidates:
            waiting.pop(candidate.network, None)
            if candidate.network in judgement.waiting:
                waiting[candidate.network] = candidate
            else:
                made += 1
        slowed_at = slowed_at or (now if waiting else 0)
    return Intervention(rule.name, slowed_at, made, last_at=now) if slowed_at else None
