"""The decision about one client of a detection: a pure function of the rule's terms, the standing, and the time.

For each rule, a network's standing holds the number of its offences, and the response to the last of them with its
end. Its block has, for each response, the latest of these ends; of those in force, the hardest is published. An
offence is judged by the requests that make it up, not by the moment at which it becomes known: requests that were
served count, whatever else is in force, and requests that Sluice itself refused do not. So detections lead to the same
standing in any order and however often they arrive.

A client that continues although a response softer than block applies everywhere has committed a further offence: it has
solved the challenge, or is not deterred by the lower rate or by being watched. So it climbs its rule's ladder.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from msgspec.structs import replace

from chalicelib.core.logs.requests import Source
from chalicelib.core.refusals import TELLING_ACTIONS
from chalicelib.core.responses import Response, answer, hardness, prolonged
from chalicelib.core.rules import NETWORKS, Action
from chalicelib.core.state.blocks import MANUAL, Block, History, Past
from chalicelib.core.state.detections import Detection, Evidence, Offender, Terms
from chalicelib.core.tally import LONGEST_RETENTION_S

DEFAULT_MEMORY_S = 7 * 86400
"""Seconds for which offences are remembered if a rule does not escalate."""

PROPAGATION_S = 300
"""Longest time until AWS WAF applies a change everywhere, in seconds, where no other is configured: "a few seconds to a
number of minutes" (UpdateIPSet, AWS WAF API reference)."""


PROLONGED_IN = 4
"""Most times that a client can prolong its block, by further offences, within the block's length."""


class Outcome(StrEnum):
    BLOCKED = "blocked"
    EXTENDED = "extended"
    RENEWED = "renewed"
    """The client was served although it is blocked: the block is not in force at the edge, and is ranked again."""
    COUNTED = "counted"
    """The rule only counts."""
    ALLOWLISTED = "allowlisted"
    PROXY = "proxy"
    """The address belongs to a CDN, so a block would hit every client behind it."""
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


def unenforced(
    terms: Terms, offender: Offender, *, allowed: bool, proxy: bool, stale_after_s: int, now: int
) -> Outcome | None:
    """Returns the outcome of an offence that is not enforced, whatever the client's standing; None for one that is.

    ``allowed``: whether this rule must not block the network. ``proxy``: whether it overlaps a CDN's networks. ``now``:
    epoch seconds.
    """
    if allowed:
        return Outcome.ALLOWLISTED
    if terms.action is Action.COUNT:
        return Outcome.COUNTED
    if proxy:
        return Outcome.PROXY
    return Outcome.STALE if offender.last_ms < (now - stale_after_s) * 1000 else None


def noted(detection: Detection, offender: Offender, outcome: Outcome, history: History, now: int) -> History:
    """Returns ``history`` with an unenforced offence in it; unchanged if it is there already, or if a punishment is.

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
    others: Iterable[RefusalSpan] = (),
    propagation_s: int,
    now: int,
) -> Decision:
    """Decides about one offender whose offence is to be enforced.

    ``others``: when blocks of wider or narrower networks may have refused its requests. ``propagation_s``: the longest
    time until AWS WAF applies a change everywhere. ``now``: epoch seconds.
    """
    terms = detection.terms
    unchanged = Decision(Outcome.KNOWN, standing)
    standing = settled(standing, now)
    served_ms = _served_since_ms(offender, [*others, *refusals(standing, detection.source, propagation_s)])
    since_ms = offender.since_ms if terms.extend else served_ms
    if since_ms is None or since_ms < standing.history.forgiven_at * 1000:
        return unchanged
    block = standing.block

    def served_after(at: int) -> bool:
        return served_ms is not None and served_ms >= (at + propagation_s) * 1000

    served_although_blocked = (
        block is not None and block.response_at(now) is Response.BLOCK and served_after(block.blocked_at)
    )
    past = standing.history.rules.get(terms.name)
    punished = past is not None and past.outcome in PUNISHED and since_ms < past.until * 1000
    if past is None or not punished or (past.response is not Response.BLOCK and served_after(past.answered_at)):
        outcome, offence = Outcome.BLOCKED, _offence_number(terms, past, now)
        until, response = now + duration_s(terms, offence), answer(terms.respond, offence)
        answered_at = 0 if response is Response.BLOCK else now
    else:
        # The same offence. It is prolonged by the time of its requests, so that a repeated detection changes nothing.
        outcome, offence = Outcome.EXTENDED, past.offence
        length_s = duration_s(terms, offence)
        until = offender.last_ms // 1000 + 1 + length_s
        response, answered_at = past.response, past.answered_at
        if not terms.extend or until <= max(past.until, now):
            if block is None or not served_although_blocked:
                return unchanged
            return Decision(Outcome.RENEWED, Standing(standing.history, _ranked_again(block, now)))
        until = _step_end(until, length_s)
    past = Past(
        offence=offence,
        until=until,
        outcome=outcome,
        evidence=_evidence(detection, offender),
        response=response,
        answered_at=answered_at,
    )
    if block is not None and served_although_blocked:
        block = _ranked_again(block, now)
    blocked = _blocked(block, offender.network, past, now, prolongs=outcome is Outcome.EXTENDED)
    history = _with(standing.history, past)
    if block is not None and Response.SLOW in block.softer and Response.SLOW not in blocked.softer:
        # A harder response takes its place, whose refusals look different.
        history = _refused(history, block, now)
    return Decision(outcome, Standing(history, blocked))


def refusals(standing: Standing, source: Source, propagation_s: int) -> list[RefusalSpan]:
    """Returns when Sluice may have refused a network's requests: from the start of its blocks until their ends took
    effect.

    ``source``: the log with the requests. Only some logs distinguish the requests that Sluice asked for a token from
    those that the origin answered with the same status.
    """
    history, block = standing.history, standing.block
    spans = [(history.refused_from, history.ended_at)] if history.ended_at else []
    if block is not None:
        asks = source in TELLING_ACTIONS
        until = block.refuses_until if asks else max(block.until, block.softer.get(Response.SLOW, 0))
        spans += [(block.refuses_from, until)] if until else []
    return [RefusalSpan(start * 1000, (end + propagation_s) * 1000) for start, end in spans]


def causes(standing: Standing, now: int) -> frozenset[str]:
    """Returns the rules that hold a network's block at the epoch second ``now``.

    ``MANUAL`` and ``NETWORKS`` stand for an operator and for the clients of a guilty network.
    """
    history, block = standing.history, standing.block
    if block is None or not block.in_force(now):
        return frozenset()
    punishing = {name for name, past in history.rules.items() if past.outcome in PUNISHED and now < past.until}
    by_hand = {MANUAL} if block.by else set()
    by_members = {NETWORKS} if block.members is not None else set()
    return frozenset({block.rule} | punishing | by_hand | by_members)


def own_refusals(offender: Offender, spans: Iterable[RefusalSpan]) -> bool:
    """Returns whether Sluice may have refused requests of the offence; ``spans``: when it refused the client's."""
    return offender.served_since_ms != 0 and any(span.meets(offender.since_ms, offender.last_ms) for span in spans)


def settled(standing: Standing, now: int) -> Standing:
    """Returns the standing without its block if that is over, or else without the responses of the block that are
    over."""
    history, block = standing.history, standing.block
    if block is None or all(now < end for end in block.ends.values()):
        return standing
    if not block.in_force(now):
        return Standing(ended(standing, block.ends_at))
    over = [end for response, end in block.ends.items() if end <= now and response is not Response.WATCH]
    if over:  # its refusals are remembered, because the softer response that remains does not tell of them
        history = _refused(history, block, max(over))
    ends = {response: end for response, end in block.ends.items() if now < end}
    response = max(ends, key=hardness)
    causes = [past for past in history.rules.values() if past.outcome in PUNISHED and past.response is response]
    cause = max(causes, key=lambda past: (past.until, past.evidence.rule), default=None)
    rule, offence, evidence = NETWORKS if block.rule == NETWORKS else MANUAL, 0, None
    if cause is not None:
        rule, offence, evidence = cause.evidence.rule, cause.offence, cause.evidence.without_portrait()
    return Standing(history, replace(block.with_other_ends(ends), rule=rule, offence=offence, evidence=evidence))


def ended(standing: Standing, at: int) -> History:
    """Returns the history after the network's block has ended at ``at``; no offence is punished beyond that time."""
    history, block = standing.history, standing.block
    rules = {name: replace(past, until=min(past.until, at)) for name, past in history.rules.items()}
    history = replace(history, rules=rules)
    return history if block is None else _refused(history, block, at)


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


def _step_end(until: int, length_s: int) -> int:
    """Returns the first end of a step of a quarter of ``length_s`` that is not before ``until``.

    Without steps, a client that keeps offending would cause one write per detection. The steps follow the clock, so the
    end depends only on the last request.

    >>> [_step_end(until, 400) for until in (999, 1000, 1001)], _step_end(7, 3)
    ([1000, 1000, 1100], 7)
    """
    step_s = max(1, length_s // PROLONGED_IN)
    return -(-until // step_s) * step_s


def memory_s(terms: Terms) -> int:
    return terms.escalate.memory_s if terms.escalate else DEFAULT_MEMORY_S


def _served_since_ms(offender: Offender, spans: Iterable[RefusalSpan]) -> int | None:
    """Returns the time from which the requests that Sluice did not refuse are over the limit; None if they are not.

    Requests that look like Sluice's refusals are the origin's own answers, and count, unless Sluice refused then.
    """
    if own_refusals(offender, spans):
        return offender.served_since_ms if offender.served_since_ms > 0 else None
    return offender.since_ms


def _refused(history: History, block: Block, at: int) -> History:
    """Returns the history after AWS WAF stopped, at ``at``, answering the requests of a block's network itself.

    Blocks that followed each other within ``LONGEST_RETENTION_S`` are remembered as one: no older request counts.
    """
    until = min(block.refuses_until, at)
    if not until:
        return history
    follows = history.ended_at and block.refuses_from <= history.ended_at + LONGEST_RETENTION_S
    return replace(history, ended_at=until, refused_from=history.refused_from if follows else block.refuses_from)


def _blocked(block: Block | None, network: str, past: Past, now: int, *, prolongs: bool) -> Block:
    """Returns the network's block, so far ``block``, with a rule's response to an offence.

    It names the rule of the hardest response and, of several such rules, the one whose response ends last.
    """
    ends = prolonged({} if block is None else block.ends, past.response, past.until)
    if block is not None and not _leads(past, block, now):
        return block if ends == block.ends else block.with_other_ends(ends)
    begun_at = block.refuses_from if block is not None and block.refuses_until else now
    beside = block if block is not None and len(ends) > 1 else None
    return Block.with_ends(
        ends,
        network=network,
        blocked_at=block.blocked_at if block is not None and prolongs else now,
        rule=past.evidence.rule,
        offence=past.offence,
        evidence=past.evidence.without_portrait(),
        comment=beside.comment if beside else "",
        by=beside.by if beside else "",
        begun_at=begun_at,
    )


def _leads(past: Past, block: Block, now: int) -> bool:
    """Returns whether a rule's response is harder than those of ``block`` or, equally hard, ends later."""
    leading = block.response_at(now)
    assert leading is not None
    new, present = (hardness(past.response), past.until), (hardness(leading), block.ends[leading])
    # Of two rules with the same end, the order of their names decides and not that of their detections.
    return new > present or (new == present and not block.manual and past.evidence.rule > block.rule)


def _ranked_again(block: Block, now: int) -> Block:
    return replace(block, blocked_at=now, begun_at=block.refuses_from)


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
        measure=terms.measure,
        portrait=offender.portrait,
    )
