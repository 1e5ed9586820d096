"""Decisions about one client: tables of cases, with the time line of each.

All times are seconds after NOON. A block of 600 s for an offence whose last request was made at second t ends at
t + 601: the second the request was made in counts as a whole.
"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.decisions import DEFAULT_MEMORY_S, KNOWN, Decision, Outcome, decide, duration_s
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Action, Escalation
from chalicelib.core.state import Block, Detection, Evidence, History, Offender, Past, Terms

NOON = 1_760_000_400
CLIENT = "203.0.113.9/32"
DOUBLING = Escalation(factor=2, max_s=2000, memory_s=3600)
TERMS = Terms(name="burst", limit=50, window_s=5, action=Action.BLOCK, block_for_s=600)


def terms(**changes: object) -> Terms:
    return msgspec.structs.replace(TERMS, **changes)


def evidence(rule: str = "burst") -> Evidence:
    return Evidence(
        rule=rule,
        count=51,
        limit=50,
        window_s=5,
        first_ms=0,
        last_ms=0,
        source="cloudfront",
        detection="d",
        arrived_ms=0,
    )


def past(offence: int, until: int, rule: str = "burst", outcome: Outcome = Outcome.BLOCKED) -> History:
    return History(
        network=CLIENT,
        rules={rule: Past(offence=offence, until=NOON + until, outcome=outcome, evidence=evidence(rule))},
    )


def block(until: int, rule: str = "burst", offence: int = 1) -> Block:
    return Block(network=CLIENT, blocked_at=NOON - 10, until=NOON + until, rule=rule, offence=offence)


def decided(
    terms: Terms = TERMS,
    *,
    since: float = 0,
    last: float = 4.999,
    now: int = 6,
    block: Block | None = None,
    history: History | None = None,
    allowed: bool = False,
) -> Decision:
    """Returns the decision, at ``now``, about an offence whose requests were made from ``since`` to ``last``."""
    offender = Offender(CLIENT, 51, _ms(since), _ms(last), _ms(since))
    detection = Detection(
        id="d", terms=terms, source=Source.CLOUDFRONT, offenders=(offender,), detected_ms=_ms(now), arrived_ms=_ms(now)
    )
    return decide(detection, offender, block=block, history=history, allowed=allowed, now=NOON + now)


def _ms(second: float) -> int:
    return NOON * 1000 + round(second * 1000)


def test_a_first_offence_leads_to_a_block_with_its_evidence() -> None:
    decision = decided()
    why = Evidence(
        rule="burst",
        count=51,
        limit=50,
        window_s=5,
        first_ms=_ms(0),
        last_ms=_ms(4.999),
        source="cloudfront",
        detection="d",
        arrived_ms=_ms(6),
    )
    assert decision == Decision(
        Outcome.BLOCKED,
        Block(network=CLIENT, blocked_at=NOON + 6, until=NOON + 605, rule="burst", offence=1, evidence=why),
        History(
            network=CLIENT, rules={"burst": Past(offence=1, until=NOON + 605, outcome=Outcome.BLOCKED, evidence=why)}
        ),
    )


def test_late_records_block_for_no_longer_than_punctual_ones() -> None:
    punctual, late = decided(now=6).block, decided(now=500).block
    assert punctual is not None
    assert late is not None
    assert punctual.until == late.until == NOON + 605


@pytest.mark.parametrize(
    ("case", "outcome", "until"),
    [
        pytest.param({"now": 604}, Outcome.BLOCKED, 605, id="a block of one second is a block"),
        pytest.param({"now": 605}, Outcome.STALE, None, id="one that would be over is stale"),
        pytest.param({"now": 2 * 365 * 86400}, Outcome.STALE, None, id="two years later"),
        pytest.param({"allowed": True}, Outcome.ALLOWLISTED, None, id="an allowlisted client"),
        pytest.param({"terms": terms(action=Action.COUNT)}, Outcome.COUNTED, None, id="a rule that counts"),
        pytest.param(
            {"terms": terms(action=Action.COUNT), "allowed": True}, Outcome.ALLOWLISTED, None, id="allowlisted, counted"
        ),
        pytest.param({"terms": terms(action=Action.COUNT), "now": 9999}, Outcome.COUNTED, None, id="counted late"),
        pytest.param({"allowed": True, "now": 9999}, Outcome.ALLOWLISTED, None, id="allowlisted, late"),
        # Its own refused requests.
        pytest.param({"block": block(600)}, Outcome.KNOWN, None, id="blocked already"),
        pytest.param({"block": block(600, "other")}, Outcome.KNOWN, None, id="blocked by another rule"),
        pytest.param({"block": block(600, "manual", 0)}, Outcome.KNOWN, None, id="blocked by an operator"),
        pytest.param({"history": past(1, 100)}, Outcome.KNOWN, None, id="made before the last block's end"),
        pytest.param({"history": past(1, 1)}, Outcome.KNOWN, None, id="begun before the last block's end"),
        pytest.param({"history": past(1, 0)}, Outcome.BLOCKED, 605, id="begun at the last block's end"),
        pytest.param({"history": past(1, 100, "other")}, Outcome.BLOCKED, 605, id="what another rule found"),
        pytest.param(
            {"history": History(network=CLIENT, ended_at=NOON + 1)}, Outcome.KNOWN, None, id="lifted after it began"
        ),
        pytest.param(
            {"history": History(network=CLIENT, ended_at=NOON)}, Outcome.BLOCKED, 605, id="lifted before it began"
        ),
        pytest.param(
            {"history": past(1, 100, outcome=Outcome.COUNTED), "terms": terms(action=Action.COUNT)},
            *(Outcome.KNOWN, None),
            id="counted a moment ago",
        ),
        pytest.param(
            {"history": past(1, 100, outcome=Outcome.COUNTED)},
            *(Outcome.BLOCKED, 605),
            id="counted a moment ago by a rule that now blocks",
        ),
        pytest.param(
            {"history": past(1, 100, outcome=Outcome.ALLOWLISTED), "allowed": True},
            *(Outcome.KNOWN, None),
            id="allowlisted a moment ago",
        ),
        pytest.param(
            {"history": past(1, 100, outcome=Outcome.ALLOWLISTED)},
            *(Outcome.BLOCKED, 605),
            id="allowlisted a moment ago and no more",
        ),
        pytest.param(
            {"history": past(1, 2, outcome=Outcome.STALE)}, Outcome.BLOCKED, 605, id="stale a moment ago and no more"
        ),
        pytest.param(
            {"history": past(1, 2, outcome=Outcome.STALE), "now": 9999}, Outcome.KNOWN, None, id="stale again"
        ),
        # extend
        pytest.param({"block": block(600), "terms": terms(extend=True)}, Outcome.EXTENDED, 605, id="extend: prolonged"),
        pytest.param({"block": block(605), "terms": terms(extend=True)}, Outcome.KNOWN, None, id="extend: long enough"),
        pytest.param(
            {"block": block(600, "other"), "terms": terms(extend=True)},
            *(Outcome.KNOWN, None),
            id="extend: another rule's block",
        ),
        pytest.param(
            {"block": block(600, "manual", 0), "terms": terms(extend=True)},
            *(Outcome.KNOWN, None),
            id="extend: an operator's block",
        ),
        pytest.param(
            {"history": History(network=CLIENT, ended_at=NOON + 1), "terms": terms(extend=True)},
            *(Outcome.BLOCKED, 605),
            id="extend: refused requests re-offend",
        ),
        pytest.param(
            {"block": block(600, offence=2), "terms": terms(extend=True, escalate=DOUBLING)},
            *(Outcome.EXTENDED, 1205),
            id="extend: by the length of the offence it answers",
        ),
        # escalate
        pytest.param({"terms": terms(escalate=DOUBLING)}, Outcome.BLOCKED, 605, id="escalate: first"),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": past(1, 0)}, Outcome.BLOCKED, 1205, id="escalate: second"
        ),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": past(2, 0)}, Outcome.BLOCKED, 2005, id="escalate: at most"
        ),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": past(9, 4 - 3600)},
            *(Outcome.BLOCKED, 2005),
            id="escalate: the last second of memory",
        ),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": past(9, 3 - 3600)},
            *(Outcome.BLOCKED, 605),
            id="escalate: forgotten",
        ),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": past(3, 0, "other")},
            *(Outcome.BLOCKED, 605),
            id="escalate: other rules' offences are not added",
        ),
        pytest.param({"history": past(5, 0)}, Outcome.BLOCKED, 605, id="without escalation nothing grows"),
    ],
)
def test_a_decision_depends_on_terms_history_allowlist_and_time(
    case: dict[str, object], outcome: Outcome, until: int | None
) -> None:
    decision = decided(**case)  # type: ignore[arg-type]
    assert decision.outcome is outcome
    assert (decision.block.until - NOON if decision.block else None) == until
    if outcome is Outcome.KNOWN:
        assert decision == KNOWN, "nothing is stored"
    else:
        assert decision.history is not None
        assert decision.history.rules["burst"].outcome == outcome


@pytest.mark.parametrize(
    ("history", "offence"),
    [
        pytest.param(None, 1, id="the first"),
        pytest.param(past(1, 0), 2, id="the second"),
        pytest.param(past(1, 4 - DEFAULT_MEMORY_S), 2, id="a week later"),
        pytest.param(past(3, 100, outcome=Outcome.COUNTED), 3, id="the same one, which was only counted so far"),
        pytest.param(past(1, 3 - DEFAULT_MEMORY_S), 1, id="more than a week later"),
    ],
)
def test_offences_are_numbered_even_without_escalation(history: History | None, offence: int) -> None:
    decision = decided(history=history)
    assert decision.block is not None
    assert decision.block.offence == offence


def test_the_history_of_other_rules_is_kept() -> None:
    decision = decided(history=past(3, -50, "other"))
    assert decision.history is not None
    assert {name: past.offence for name, past in decision.history.rules.items()} == {"other": 3, "burst": 1}


def test_an_extended_block_keeps_its_start_and_its_offence() -> None:
    longer = decided(terms(extend=True), block=block(600, offence=3)).block
    assert longer is not None
    assert (longer.blocked_at, longer.offence, longer.until) == (NOON - 10, 3, NOON + 605)


@given(st.integers(1, 10_000), st.integers(2, 100), st.integers(0, 100_000), st.integers(1, 60))
def test_escalated_blocks_grow_by_the_factor_up_to_the_maximum(
    first: int, factor: int, more: int, offence: int
) -> None:
    escalating = terms(block_for_s=first, escalate=Escalation(factor, first + more, 1))
    assert duration_s(escalating, offence) == min(first * factor ** (offence - 1), first + more)


@given(st.integers(-2000, 2000), st.integers(0, 5), st.integers(0, 3000), st.booleans(), st.booleans())
def test_a_new_block_has_not_expired_and_is_never_of_an_allowlisted_client(
    until: int, offence: int, now: int, allowed: bool, extend: bool
) -> None:
    history = past(offence, until) if offence else None
    decision = decided(terms(extend=extend, escalate=DOUBLING), history=history, allowed=allowed, now=now)
    if decision.block is not None:
        assert not allowed
        assert decision.block.until > NOON + now
        assert decision.block.until <= NOON + 5 + DOUBLING.max_s
