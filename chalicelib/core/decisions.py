"""The decision about one client of a detection: a pure function of the rule's terms, the standing, and the time.

For each rule, a network's standing holds the number of its offences and the time until which it is punished for the
last of them. Its block lasts until the latest of these times. An offence is judged by the requests that make it up,
not by the moment at which it becomes known: requests that were served count, whatever else is in force, and requests
that Sluice itself refused do not. So detections lead to the same standing in any order and however often they arrive.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from msgspec.structs import replace

from chalicelib.core.rules import Action
from chalicelib.core.state import Block, Detection, Evidence, History, Offender, Past, Terms
from chalicelib.core.tally import LONGEST_RETENTION_S

DEFAULT_MEMORY_S = 7 * 86400
"""Seconds for which offences are remembered if a rule does not escalate."""

PROPAGATION_S = 300
"""Longest time until AWS WAF applies a change everywhere, in seconds, where no other is configured: "a few seconds to a
number of minutes" (UpdateIPSet, AWS WAF API reference)."""


class Outcome(StrEnum):
    BLOCKED = "blocked"
    EXTENDED = "extended"
    RENEWED = "renewed"
    """The client was served although it is blocked: the block is not in force at the edge, and is ranked again."""
    COUNTED = "counted"
    """The rule only counts."""
    ALLOWLISTED = "allowlisted"
    STALE = "stale"
    """The offence is too old."""
    KNOWN = "known"
    """The offence is punished already, was forgiven by an operator, or consists of requests that Sluice refused."""


PUNISHED = frozenset((Outcome.BLOCKED, Outcome.EXTENDED))
"""Outcomes of offences that count towards escalation. Others are noted in the history as a sample."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything stored about one network."""

    history: History
    block: Block | None = None
    """May be over already: it has then ended at its ``until``, whether or not it has been lifted."""


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    standing: Standing
    """The standing after the decision; the same object if nothing changes."""


class RefusalSpan(NamedTuple):
    """The time in which Sluice may have refused a network's requests. Epoch milliseconds, the end exclusive."""

    start_ms: int
    end_ms: int

    def meets(self, first_ms: int, last_ms: int) -> bool:
        return first_ms < self.end_ms and self.start_ms <= last_ms


def unenforced(terms: Terms, offender: Offender, *, allowed: bool, stale_after_s: int, now: int) -> Outcome | None:
    """Returns the outcome of an offence that is not enforced, whatever the client's standing; None of one that is.

    ``allowed``: whether the network overlaps the allowlist. ``now``: epoch seconds.
    """
    if allowed:
        return Outcome.ALLOWLISTED
    if terms.action is Action.COUNT:
        return Outcome.COUNTED
    return Outcome.STALE if offender.last_ms < (now - stale_after_s) * 1000 else None


def noted(detection: Detection, offender: Offender, outcome: Outcome, history: History, now: int) -> History:
    """Returns ``history`` with an unenforced offence in it; unchanged if it is there, or if a punishment stands there.

    A noted offence changes nothing for later ones.
    """
    terms = detection.terms
    past = history.rules.get(terms.name)
    if past is not None:
        if past.outcome in PUNISHED and _is_remembered(terms, past, now):
            return history
        if past.outcome == outcome and offender.since_ms < past.until * 1000:
            return history
    until = offender.last_ms // 1000 + 1 + terms.block_for_s
    return _with(history, Past(offence=1, until=until, outcome=outcome, evidence=_evidence(detection, offender)))


def decide(
    detection: Detection,
    offender: Offender,
    standing: Standing,
    *,
    wider: Iterable[RefusalSpan] = (),
    propagation_s: int,
    now: int,
) -> Decision:
    """Decides about one offender whose offence is to be enforced.

    ``wider``: when Sluice may have refused the requests of wider networks that contain it. ``propagation_s``: the
    longest time until AWS WAF applies a change everywhere. ``now``: epoch seconds.
    """
    terms = detection.terms
    unchanged = Decision(Outcome.KNOWN, standing)
    standing = settled(standing, now)
    served_ms = _served_since_ms(offender, [*wider, *refusals(standing, propagation_s)])
    since_ms = offender.since_ms if terms.extend else served_ms
    if since_ms is None or since_ms < standing.history.forgiven_at * 1000:
        return unchanged
    block = standing.block
    served_although_blocked = (
        block is not None and served_ms is not None and served_ms >= (block.blocked_at + propagation_s) * 1000
    )
    past = standing.history.rules.get(terms.name)
    if past is None or past.outcome not in PUNISHED or since_ms >= past.until * 1000:
        outcome, offence = Outcome.BLOCKED, _offence_number(terms, past, now)
        until = now + duration_s(terms, offence)
    else:
        # The same offence. It is prolonged by the time of its requests, so that a repeated detection changes nothing.
        outcome, offence = Outcome.EXTENDED, past.offence
        until = offender.last_ms // 1000 + 1 + duration_s(terms, offence)
        if not terms.extend or until <= max(past.until, now):
            if block is None or not served_although_blocked:
                return unchanged
            return Decision(Outcome.RENEWED, Standing(standing.history, _ranked_again(block, now)))
    past = Past(offence=offence, until=until, outcome=outcome, evidence=_evidence(detection, offender))
    if block is None or _outlasts(until, terms.name, block):
        prolonged = block is not None and outcome is Outcome.EXTENDED and not served_although_blocked
        block = Block(
            network=offender.network,
            blocked_at=block.blocked_at if block is not None and prolonged else now,
            until=until,
            rule=terms.name,
            offence=offence,
            evidence=past.evidence,
            begun_at=block.refuses_from if block is not None else now,
        )
    elif served_although_blocked:
        block = _ranked_again(block, now)
    return Decision(outcome, Standing(_with(standing.history, past), block))


def refusals(standing: Standing, propagation_s: int) -> list[RefusalSpan]:
    """Returns when Sluice may have refused a network's requests: during its blocks, and until their ends applied."""
    history, block = standing.history, standing.block
    spans = [(history.refused_from, history.ended_at)] if history.ended_at else []
    if block is not None:
        spans.append((block.refuses_from, block.until))
    return [RefusalSpan(start * 1000, (end + propagation_s) * 1000) for start, end in spans]


def own_refusals(offender: Offender, spans: Iterable[RefusalSpan]) -> bool:
    """Returns whether Sluice may have refused requests of the offence; ``spans``: when it refused such a network's."""
    return offender.served_since_ms != 0 and any(span.meets(offender.since_ms, offender.last_ms) for span in spans)


def settled(standing: Standing, now: int) -> Standing:
    """Returns the standing without a block that is over."""
    block = standing.block
    return standing if block is None or block.in_force(now) else Standing(ended(standing, block.until))


def ended(standing: Standing, at: int) -> History:
    """Returns the history after the network's block has ended at ``at``; nothing is punished beyond that.

    Blocks that followed each other within ``LONGEST_RETENTION_S`` are remembered as one: no older request counts.
    """
    history, block = standing.history, standing.block
    rules = {name: replace(past, until=min(past.until, at)) for name, past in history.rules.items()}
    refused_from = history.refused_from
    if block is not None and (not history.ended_at or block.refuses_from > history.ended_at + LONGEST_RETENTION_S):
        refused_from = block.refuses_from
    return replace(history, rules=rules, ended_at=at, refused_from=refused_from)


def duration_s(terms: Terms, offence: int) -> int:
    """Returns the length, in seconds, of the block for the ``offence``-th remembered offence.

    >>> from chalicelib.core.rules import Escalation
    >>> doubling = Escalation(factor=2, max_s=2000, memory_s=1)
    >>> terms = Terms(name="r", limit=1, window_s=1, action=Action.BLOCK, block_for_s=600, escalate=doubling)
    >>> [duration_s(terms, offence) for offence in (1, 2, 3, 1000)]
    [600, 1200, 2000, 2000]
    """
    if terms.escalate is None:
        return terms.block_for_s
    length = terms.block_for_s
    for _ in range(offence - 1):
        length *= terms.escalate.factor
        if length >= terms.escalate.max_s:
            return terms.escalate.max_s
    return length


def memory_s(terms: Terms) -> int:
    return terms.escalate.memory_s if terms.escalate else DEFAULT_MEMORY_S


def _served_since_ms(offender: Offender, spans: Iterable[RefusalSpan]) -> int | None:
    """Returns the time from which the requests that Sluice did not refuse are over the limit; None if they are not.

    Requests that look like Sluice's refusals are the origin's own answers, and count, unless Sluice refused then.
    """
    if own_refusals(offender, spans):
        return offender.served_since_ms if offender.served_since_ms > 0 else None
    return offender.since_ms


def _ranked_again(block: Block, now: int) -> Block:
    return replace(block, blocked_at=now, begun_at=block.refuses_from)


def _outlasts(until: int, rule: str, block: Block) -> bool:
    # Of two rules with the same end, the order of their names decides and not that of their detections.
    return until > block.until or (until == block.until and not block.manual and rule > block.rule)


def _offence_number(terms: Terms, past: Past | None, now: int) -> int:
    counts = past is not None and past.outcome in PUNISHED and _is_remembered(terms, past, now)
    return past.offence + 1 if past is not None and counts else 1


def _is_remembered(terms: Terms, past: Past, now: int) -> bool:
    return now <= past.until + memory_s(terms)


def _with(history: History, past: Past) -> History:
    return replace(history, rules={**history.rules, past.evidence.rule: past})


def _evidence(detection: Detection, offender: Offender) -> Evidence:
    terms = detection.terms
    return Evidence(
        rule=terms.name,
        count=offender.count,
        limit=terms.limit,
        window_s=terms.window_s,
        first_ms=offender.first_ms,
        last_ms=offender.last_ms,
        source=detection.source,
        detection=detection.id,
        arrived_ms=detection.arrived_ms,
        rate=terms.rate,
    )
