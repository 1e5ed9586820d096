"""The decision about one client of a detection: a pure function of the rule's terms, the client's past, and the time.

A block is measured from the last request of the offence, by the time in its log line, so that a delayed request does
not lead to a longer block than a punctual one.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from chalicelib.core.rules import Action
from chalicelib.core.state import Block, Detection, Evidence, History, Offender, Past, Terms

DEFAULT_MEMORY_S = 7 * 86400
"""Seconds for which offences are remembered if a rule does not escalate."""


class Outcome(StrEnum):
    BLOCKED = "blocked"
    EXTENDED = "extended"
    COUNTED = "counted"
    """The rule only counts."""
    ALLOWLISTED = "allowlisted"
    STALE = "stale"
    """The block would already have ended."""
    KNOWN = "known"
    """The client is already blocked, made the requests before its last block ended, or has been judged for them."""


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    block: Block | None = None
    """The new or extended block to store."""
    history: History | None = None
    """The new history to store."""


KNOWN = Decision(Outcome.KNOWN)


def decide(
    detection: Detection, offender: Offender, *, block: Block | None, history: History | None, allowed: bool, now: int
) -> Decision:
    """Decides about one offender.

    ``block`` is the stored block of exactly this network, even if it has expired; None once it is lifted.
    ``allowed``: whether the network overlaps the allowlist. ``now``: epoch seconds.
    """
    terms = detection.terms
    history = history or History(network=offender.network)
    past = history.rules.get(terms.name)
    evidence = _evidence(detection, offender)
    if block is not None:
        return _extended(terms, block, offender, history, evidence) if terms.extend else KNOWN
    if offender.since_ms < history.ended_at * 1000 and not terms.extend:
        return KNOWN
    judged = past is not None and offender.since_ms < past.until * 1000
    offence = past.offence if past is not None and judged else _offence_number(terms, past, offender)
    offended_at = offender.last_ms // 1000 + 1
    until = offended_at + duration_s(terms, offence)
    if allowed:
        outcome = Outcome.ALLOWLISTED
    elif terms.action is Action.COUNT:
        outcome = Outcome.COUNTED
    elif until <= now:
        outcome = Outcome.STALE
    else:
        outcome = Outcome.BLOCKED
    # A client whose offence was only counted, allowlisted or stale is blocked once that reason no longer applies.
    if past is not None and judged and past.outcome in (outcome, Outcome.BLOCKED, Outcome.EXTENDED):
        return KNOWN
    new_block = Block(
        network=offender.network, blocked_at=now, until=until, rule=terms.name, offence=offence, evidence=evidence
    )
    past = Past(offence=offence, until=until, outcome=outcome, evidence=evidence)
    return Decision(outcome, new_block if outcome is Outcome.BLOCKED else None, _with(history, past))


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


def _offence_number(terms: Terms, past: Past | None, offender: Offender) -> int:
    remembered = past is not None and offender.last_ms // 1000 <= past.until + memory_s(terms)
    return past.offence + 1 if past is not None and remembered else 1


def _extended(terms: Terms, block: Block, offender: Offender, history: History, evidence: Evidence) -> Decision:
    if block.rule != terms.name:
        return KNOWN
    until = offender.last_ms // 1000 + 1 + duration_s(terms, block.offence)
    if until <= block.until:
        return KNOWN
    longer = msgspec.structs.replace(block, until=until, evidence=evidence)
    past = Past(offence=block.offence, until=until, outcome=Outcome.EXTENDED, evidence=evidence)
    return Decision(Outcome.EXTENDED, longer, _with(history, past))


def _with(history: History, past: Past) -> History:
    return msgspec.structs.replace(history, rules={**history.rules, past.evidence.rule: past})


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
    )
