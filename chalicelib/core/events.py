"""Turns decisions about clients and rules into events."""

from chalicelib.core.decisions import Outcome
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.responses import Response, answer, hardness
from chalicelib.core.state.blocks import Block, Past
from chalicelib.core.state.breakers import RuleBreaker
from chalicelib.core.state.detections import Terms
from chalicelib.core.state.events import Event

RECORDED = frozenset((Outcome.BLOCKED, Outcome.COUNTED, Outcome.ALLOWLISTED, Outcome.PROXY, Outcome.STALE))
"""Outcomes that are events. Prolonging a block is not one, as a client could cause one per second; the end of the block
is."""


def offence_event(network: str, past: Past, terms: Terms) -> Event:
    """Returns the event for an offence that was noted as ``past``."""
    blocked = past.outcome == Outcome.BLOCKED
    return Event(
        outcome=past.outcome,
        network=network,
        rule=terms.name,
        until=past.until,
        response=past.response if blocked else answer(terms.respond, past.offence),
        offence=past.offence,
        evidence=past.evidence,
    )


def unnamed_event(outcome: Outcome, rule: str, number: int) -> Event:
    """Returns the event for offences of which neither clients nor evidence are noted."""
    return Event(outcome=outcome, rule=rule, number=number)


def block_event(block: Block) -> Event:
    """Returns the event for a block that no offence was noted for: by an operator, or of a guilty network."""
    return Event(
        outcome="blocked",
        network=block.network,
        rule=block.rule,
        until=block.ends_at,
        response=_hardest(block),
        by=block.by,
        comment=block.comment,
    )


def end_event(block: Block, at: int, by: str = "") -> Event:
    """Returns the event for the end of a block at the epoch second ``at``; ``by``: the operator who lifted it."""
    return Event(
        outcome="ended",
        network=block.network,
        rule=block.rule,
        until=at,
        since=block.refuses_from,
        response=_hardest(block),
        offence=block.offence,
        by=by,
    )


def breaker_event(outcome: str, breaker: RuleBreaker) -> Event:
    """Returns the event for a rule that its breaker has 'stopped' or 'resumed'."""
    return Event(outcome=outcome, rule=breaker.rule, number=breaker.would_hit)


def full_event(group: SetGroup, percent: int) -> Event:
    """Returns the event for the IP sets of a group; ``percent``: the share of their capacity that is in use."""
    return Event(outcome="full", rule="", response=group.response, number=percent, comment=f"IPv{group.family}")


def unreadable_event(number: int) -> Event:
    """Returns the event for ``number`` malformed pieces of logs, more than there were requests."""
    return Event(outcome="unreadable", rule="", number=number)


def _hardest(block: Block) -> Response:
    return max(block.ends, key=hardness, default=Response.BLOCK)
