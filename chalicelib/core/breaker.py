"""The circuit breaker of a rule: it examines which clients the rule would block, not how many.

A rule is stopped when it would block more than a set share of the known clients within ten minutes. Only a wrong rule
hits clients of all kinds that have come for days, so strangers never stop a rule, however many they are, and one rule
never stops another. A client that was blocked before and is still remembered for it does not count as known.

While a rule is stopped, its offenders wait. It is resumed when those of the last ten minutes hit no more than half of
the share, or by an operator. Until clients have been remembered for a day, a pace stands in: the rule blocks a set
number of clients per minute, the worst first, and the others wait for the next minute.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from chalicelib.core.addresses import parse_network
from chalicelib.core.known_clients import KnownClients, Mark, mark_of
from chalicelib.core.state.breakers import Breaker, RuleBreaker

WINDOW_S = 600
"""Time within which hits of known clients are added up."""

FEWEST_HIT = 2
"""Known clients that a rule may always hit: on a site with few, a share of them would be less than one."""

MOST_NOTED = 8_000
"""Most hits, and most /48's of a minute, that a breaker holds, so that its record stays below DynamoDB's 400 KB."""

CALM = 0.5
"""Share of the allowed hits at which a stopped rule is resumed."""

RENEWED_S = 60
"""Age of a hit from which a further offence of the client renews it. A shorter one would cost a write each time."""

EXAMPLES = 10
"""Most clients named of those that a stopped rule would have hit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds within which a rule is neither stopped nor made to wait."""

    share: float
    """Percentage of the known clients that it may hit within ``WINDOW_S``."""
    pace: int
    """New blocks per minute while no clients are known."""

    def most_hits(self, known: KnownClients | None) -> int:
        """Returns how many known clients a rule may hit within ``WINDOW_S``."""
        share = int(known.marks * self.share / 100) if known is not None else 0
        return min(max(FEWEST_HIT, share), MOST_NOTED)


class Candidate(NamedTuple):
    """A network that a rule would block now."""

    network: str
    excess: float
    """Its requests in the window as a multiple of the limit."""
    hits: Sequence[Mark] = ()
    """The known clients in it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a rule's candidates."""

    breaker: RuleBreaker
    """The breaker to store; equal to the former one if nothing has changed."""
    waiting: frozenset[str]
    """The networks that it may not block yet."""
    stopped: bool = False
    """True if this judgement has stopped the rule."""


def judge(
    breaker: RuleBreaker, candidates: Collection[Candidate], known: KnownClients | None, limits: Limits, now: int
) -> Judgement:
    """Judges the networks that a rule would block at ``now``, in epoch seconds."""
    if now < breaker.ignore_until:
        return Judgement(breaker, frozenset())
    if known is None and not breaker.stopped_at:
        return _paced(breaker, candidates, limits, now)
    most, networks = limits.most_hits(known), frozenset(candidate.network for candidate in candidates)
    hits = _with_hits(breaker.hits, candidates, now)
    if breaker.stopped_at:
        fresh = sum(now - time < RENEWED_S for time in breaker.hits.values())
        # This many suffice to keep the rule stopped. Noting more would cost a write and change nothing.
        breaker = breaker if fresh > most else replace(breaker, hits=_latest(hits, most + 1))
        return Judgement(breaker, networks)
    if len(hits) <= most:
        return Judgement(replace(breaker, hits=hits), frozenset())
    assert known is not None
    worst = sorted((c for c in candidates if c.hits), key=_worst_first)
    stopped = replace(
        breaker,
        stopped_at=now,
        hits=_latest(hits, most + 1),
        would_hit=len(hits) * known.estimate // known.marks,
        known=known.estimate,
        clients=tuple(candidate.network for candidate in worst[:EXAMPLES]),
    )
    return Judgement(stopped, networks, stopped=True)


def calmed(breaker: RuleBreaker, known: KnownClients | None, limits: Limits, now: int) -> RuleBreaker:
    """Returns the breaker, closed if its rule was stopped and has hit few known clients in the last ten minutes.

    The known clients that wait are then spared, because they were too many when they offended.
    """
    if not breaker.stopped_at or len(_recent(breaker.hits, now)) > limits.most_hits(known) * CALM:
        return breaker
    return replace(breaker, stopped_at=0, hits={}, spared_until=now)


def under_terms(breaker: RuleBreaker, limit: int, window_s: int, rule_set: int) -> RuleBreaker:
    """Returns the breaker for a rule's limit in version ``rule_set``: a new one after a change, because another rule is
    judged then.

    A version earlier than the breaker's changes nothing: containers use it for a few seconds after a change, and would
    otherwise alternate with those that have read the new one in replacing the breaker.
    """
    if rule_set < breaker.rule_set:
        return breaker
    if (breaker.limit, breaker.window_s) == (limit, window_s):
        return replace(breaker, rule_set=rule_set)
    return RuleBreaker(
        rule=breaker.rule,
        limit=limit,
        window_s=window_s,
        rule_set=rule_set,
        ignore_until=breaker.ignore_until,
        by=breaker.by,
    )


def judge_superseded(
    breaker: RuleBreaker, candidates: Collection[Candidate], known: KnownClients | None, limits: Limits, now: int
) -> Judgement:
    """Judges the networks that an earlier version of a rule, with another limit, would block.

    What it blocks counts as blocked by the rule. What it may not block does not stop the rule, which might spare those
    clients as it stands now.
    """
    judgement = judge(breaker, candidates, known, limits, now)
    return Judgement(breaker, judgement.waiting) if judgement.breaker.stopped_at else judgement


def after_reset(breaker: RuleBreaker, reset: Breaker) -> RuleBreaker:
    """Returns the breaker after an operator's last reset of all rules."""
    if not reset.at or reset.open or reset.at < breaker.changed_at:
        return breaker
    return reset_at(breaker, at=reset.at, ignore_until=reset.ignore_until, by=reset.by)


def reset_at(breaker: RuleBreaker, *, at: int, ignore_until: int, by: str) -> RuleBreaker:
    """Returns the breaker after an operator has reset it at ``at``. Waiting offenders are then blocked."""
    hits = {mark: time for mark, time in breaker.hits.items() if time > at}
    return replace(breaker, stopped_at=0, hits=hits, spared_until=0, reset_at=at, ignore_until=ignore_until, by=by)


def _paced(breaker: RuleBreaker, candidates: Collection[Candidate], limits: Limits, now: int) -> Judgement:
    """Judges by pace. The networks of one IPv6 /48 count as one, so that one machine does not use it up."""
    minute = now // 60
    if breaker.minute != minute:
        breaker = replace(breaker, minute=minute, paced=0, paced_48s=())
    paced, taken = breaker.paced, set(breaker.paced_48s)
    waiting = []
    for candidate in sorted(candidates, key=_worst_first):
        network = parse_network(candidate.network)
        mark = mark_of(network).hex()
        if mark in taken:
            continue
        if paced >= limits.pace:
            waiting.append(candidate.network)
            continue
        paced += 1
        if network.version == 6 and len(taken) < MOST_NOTED:
            taken.add(mark)
    return Judgement(replace(breaker, paced=paced, paced_48s=tuple(sorted(taken))), frozenset(waiting))


def _worst_first(candidate: Candidate) -> tuple[float, str]:
    return -candidate.excess, candidate.network


def _with_hits(hits: Mapping[str, int], candidates: Collection[Candidate], now: int) -> dict[str, int]:
    """Returns the recent hits and those of ``candidates``."""
    recent = _recent(hits, now)
    for candidate in candidates:
        for mark in candidate.hits:
            if now - recent.get(mark.hex(), 0) >= RENEWED_S:
                recent[mark.hex()] = now
    return recent


def _recent(hits: Mapping[str, int], now: int) -> dict[str, int]:
    return {mark: time for mark, time in hits.items() if time > now - WINDOW_S}


def _latest(hits: Mapping[str, int], most: int) -> dict[str, int]:
    """Returns the latest of ``hits``, at most as many as show whether a rule stays stopped."""
    return dict(sorted(hits.items(), key=lambda hit: (-hit[1], hit[0]))[:most])
