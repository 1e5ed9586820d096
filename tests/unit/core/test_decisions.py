"""Decisions about one client: tables of cases, with the time line of each.

All times are seconds after NOON. A block counts from the moment of the decision, which is second 6 unless a case says
otherwise; AWS WAF may need PROPAGATION seconds to apply a change.
"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.decisions import (
    DEFAULT_MEMORY_S,
    Decision,
    Outcome,
    RefusalSpan,
    Standing,
    decide,
    duration_s,
    ended,
    noted,
    refusals,
    unenforced,
)
from chalicelib.core.logs.requests import Source
from chalicelib.core.portraits import Portrait
from chalicelib.core.responses import Response
from chalicelib.core.rules import Action, Escalation
from chalicelib.core.state.blocks import Block, History, Past
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT, Detection, Evidence, Offender, Terms
from chalicelib.core.tally import LONGEST_RETENTION_S, RETENTION_S

NOON = 1_760_000_400
CLIENT = "203.0.113.9/32"
PROPAGATION = 60
SOURCE = Source.CLOUDFRONT
DOUBLING = Escalation(factor=2, max_s=2000, memory_s=3600)
TERMS = Terms(name="burst", limit=50, window_s=5, action=Action.BLOCK, block_for_s=600)
REFUSED = SERVED_WITHIN_LIMIT


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


def history(
    until: int | None = None,
    offence: int = 1,
    rule: str = "burst",
    outcome: Outcome = Outcome.BLOCKED,
    *,
    refused_from: int | None = None,
    ended_at: int | None = None,
    forgiven_at: int | None = None,
) -> History:
    """Returns a history with, if ``until`` is given, an offence that is punished until then."""
    past = Past(offence=offence, until=NOON + (until or 0), outcome=outcome, evidence=evidence(rule))
    return History(
        network=CLIENT,
        refused_from=0 if refused_from is None else NOON + refused_from,
        ended_at=0 if ended_at is None else NOON + ended_at,
        forgiven_at=0 if forgiven_at is None else NOON + forgiven_at,
        rules={} if until is None else {rule: past},
    )


def block(until: int, rule: str = "burst", offence: int = 1, blocked_at: int = -10) -> Block:
    return Block(network=CLIENT, blocked_at=NOON + blocked_at, until=NOON + until, rule=rule, offence=offence)


def detected(
    terms: Terms = TERMS, *, since: float = 0, last: float = 4.999, served: float | None = None
) -> tuple[Detection, Offender]:
    """Returns the detection of an offence whose requests were made from ``since`` to ``last``.

    ``served``: since when the served ones alone exceed the limit, or ``REFUSED``; by default nothing looks refused.
    """
    served_ms = 0 if served is None else REFUSED if served == REFUSED else _ms(served)
    offender = Offender(CLIENT, 51, _ms(since), _ms(last), _ms(since), served_ms)
    detection = Detection(
        id="d", terms=terms, source=Source.CLOUDFRONT, offenders=(offender,), detected_ms=_ms(6), arrived_ms=_ms(6)
    )
    return detection, offender


def decided(
    terms: Terms = TERMS,
    *,
    now: int = 6,
    block: Block | None = None,
    history: History | None = None,
    wider: tuple[RefusalSpan, ...] = (),
    since: float = 0,
    last: float = 4.999,
    served: float | None = None,
) -> Decision:
    standing = Standing(history or History(network=CLIENT), block)
    detection, offender = detected(terms, since=since, last=last, served=served)
    decision = decide(detection, offender, standing, others=wider, propagation_s=PROPAGATION, now=NOON + now)
    assert (decision.outcome is Outcome.KNOWN) == (decision.standing is standing), "only then nothing is stored"
    return decision


def _ms(second: float) -> int:
    return NOON * 1000 + round(second * 1000)


def span(start: float, end: float) -> tuple[RefusalSpan, ...]:
    return (RefusalSpan(_ms(start), _ms(end)),)


def test_a_first_offence_leads_to_a_block_with_its_evidence() -> None:
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
    past = Past(offence=1, until=NOON + 606, outcome=Outcome.BLOCKED, evidence=why)
    assert decided() == Decision(
        Outcome.BLOCKED,
        Standing(
            History(network=CLIENT, rules={"burst": past}),
            Block(
                network=CLIENT,
                blocked_at=NOON + 6,
                until=NOON + 606,
                rule="burst",
                offence=1,
                evidence=why,
                begun_at=NOON + 6,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("case", "outcome", "until"),
    [
        pytest.param({"now": 500}, Outcome.BLOCKED, 1100, id="a block counts from the decision"),
        pytest.param({"terms": terms(block_for_s=1), "now": 500}, Outcome.BLOCKED, 501, id="even the shortest"),
        # Offences against the same rule.
        pytest.param({"history": history(600), "block": block(600)}, Outcome.KNOWN, None, id="its punishment runs"),
        pytest.param({"history": history(1)}, Outcome.KNOWN, None, id="begun before its punishment ended"),
        pytest.param({"history": history(0)}, Outcome.BLOCKED, 606, id="begun when its punishment ended"),
        # Offences against other rules, and blocks by hand: what is in force is the latest end.
        pytest.param(
            {"history": history(700, rule="other"), "block": block(700, "other")},
            *(Outcome.BLOCKED, 700),
            id="another rule's block ends later",
        ),
        pytest.param(
            {"history": history(300, rule="other"), "block": block(300, "other")},
            *(Outcome.BLOCKED, 606),
            id="another rule's block ends earlier",
        ),
        pytest.param({"block": block(700, "manual", 0)}, Outcome.BLOCKED, 700, id="an operator's block ends later"),
        pytest.param({"block": block(300, "manual", 0)}, Outcome.BLOCKED, 606, id="an operator's block ends earlier"),
        # Blocks that are over.
        pytest.param({"block": block(0), "history": history(0)}, Outcome.BLOCKED, 606, id="over, not lifted yet"),
        pytest.param({"block": block(5), "history": history(5)}, Outcome.KNOWN, None, id="over since the offence"),
        pytest.param({"block": block(5, "manual", 0)}, Outcome.BLOCKED, 606, id="an operator's is over"),
        # Requests that look refused.
        pytest.param({"served": REFUSED}, Outcome.BLOCKED, 606, id="the origin's refusals count"),
        pytest.param({"block": block(600, "other"), "served": REFUSED}, Outcome.KNOWN, None, id="refused by its block"),
        pytest.param(
            {"block": block(600, "other", blocked_at=5), "served": REFUSED},
            *(Outcome.BLOCKED, 606),
            id="the origin's refusals before the block count",
        ),
        pytest.param(
            {"history": history(refused_from=-99, ended_at=-59), "served": REFUSED},
            *(Outcome.KNOWN, None),
            id="refused while the end of its block was not yet applied",
        ),
        pytest.param(
            {"history": history(refused_from=-99, ended_at=-60), "served": REFUSED},
            *(Outcome.BLOCKED, 606),
            id="the origin's refusals once the end of its block was applied",
        ),
        pytest.param(
            {"block": block(-59, "other"), "served": REFUSED}, Outcome.KNOWN, None, id="refused by a block not lifted"
        ),
        pytest.param(
            {"history": history(ended_at=4), "served": REFUSED}, Outcome.KNOWN, None, id="refused by an earlier version"
        ),
        pytest.param({"wider": span(-9, 9), "served": REFUSED}, Outcome.KNOWN, None, id="refused by a wider block"),
        pytest.param(
            {"wider": span(5, 9), "served": REFUSED}, Outcome.BLOCKED, 606, id="a wider block began after the requests"
        ),
        pytest.param(
            {"wider": span(-9, 0), "served": REFUSED}, Outcome.BLOCKED, 606, id="a wider block was over before them"
        ),
        pytest.param(
            {"block": block(300, "other"), "served": -3}, Outcome.BLOCKED, 606, id="served ones alone are too many"
        ),
        pytest.param(
            {"history": history(-1), "block": block(300, "other"), "served": -3},
            *(Outcome.KNOWN, None),
            id="served ones that are punished already",
        ),
        # Unblocked by an operator.
        pytest.param({"history": history(forgiven_at=1)}, Outcome.KNOWN, None, id="forgiven"),
        pytest.param({"history": history(forgiven_at=0)}, Outcome.BLOCKED, 606, id="made after it was forgiven"),
        pytest.param(
            {"history": history(forgiven_at=1), "terms": terms(extend=True)}, Outcome.KNOWN, None, id="extend: forgiven"
        ),
        # Not in force at the edge, because the client is served: blocked_at is renewed.
        pytest.param(
            {"history": history(600), "block": block(600, blocked_at=-60)}, Outcome.RENEWED, 600, id="served, blocked"
        ),
        pytest.param(
            {"history": history(600), "block": block(600, blocked_at=-59)},
            *(Outcome.KNOWN, None),
            id="served while the block was not yet applied",
        ),
        pytest.param(
            {"history": history(600), "block": block(600, blocked_at=-60), "served": REFUSED},
            *(Outcome.KNOWN, None),
            id="refused, blocked",
        ),
        pytest.param(
            {"history": history(600), "block": block(900, "manual", 0, -60)},
            *(Outcome.RENEWED, 900),
            id="served, blocked by hand",
        ),
        # extend
        pytest.param(
            {"history": history(600), "block": block(600), "terms": terms(extend=True), "served": REFUSED},
            *(Outcome.EXTENDED, 750),
            id="extend: prolonged from the last request, to the end of a quarter of the length",
        ),
        pytest.param(
            {"history": history(605), "block": block(605), "terms": terms(extend=True)},
            *(Outcome.KNOWN, None),
            id="extend: long enough",
        ),
        pytest.param(
            {"history": history(600), "block": block(900, "other"), "terms": terms(extend=True)},
            *(Outcome.EXTENDED, 900),
            id="extend: another rule's block ends later",
        ),
        pytest.param(
            {"history": history(600), "terms": terms(extend=True), "now": 605},
            *(Outcome.KNOWN, None),
            id="extend: too late to prolong",
        ),
        pytest.param(
            {"history": history(5, ended_at=5), "terms": terms(extend=True)},
            *(Outcome.EXTENDED, 750),
            id="extend: prolonged though the block has ended",
        ),
        pytest.param(
            {"history": history(0, refused_from=-9, ended_at=0), "terms": terms(extend=True), "served": REFUSED},
            *(Outcome.BLOCKED, 606),
            id="extend: refused requests offend",
        ),
        pytest.param(
            {
                "history": history(600, 2),
                "block": block(600, offence=2),
                "terms": terms(extend=True, escalate=DOUBLING),
            },
            *(Outcome.EXTENDED, 1500),
            id="extend: by the length for the offence",
        ),
        # escalate
        pytest.param({"terms": terms(escalate=DOUBLING)}, Outcome.BLOCKED, 606, id="escalate: first"),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": history(0)}, Outcome.BLOCKED, 1206, id="escalate: second"
        ),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": history(0, 2)},
            *(Outcome.BLOCKED, 2006),
            id="escalate: at most",
        ),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": history(6 - 3600, 9)},
            *(Outcome.BLOCKED, 2006),
            id="escalate: the last second of memory",
        ),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": history(5 - 3600, 9)},
            *(Outcome.BLOCKED, 606),
            id="escalate: forgotten",
        ),
        pytest.param(
            {"terms": terms(escalate=DOUBLING), "history": history(0, 3, "other")},
            *(Outcome.BLOCKED, 606),
            id="escalate: other rules' offences are not added",
        ),
        pytest.param({"history": history(0, 5)}, Outcome.BLOCKED, 606, id="without escalation nothing grows"),
        *(
            pytest.param(
                {"terms": terms(escalate=DOUBLING), "history": history(100, 3, outcome=outcome)},
                *(Outcome.BLOCKED, 606),
                id=f"escalate: what was {outcome} does not count",
            )
            for outcome in (Outcome.COUNTED, Outcome.ALLOWLISTED, Outcome.STALE)
        ),
    ],
)
def test_a_decision_follows_from_the_requests_and_the_standing(
    case: dict[str, object], outcome: Outcome, until: int | None
) -> None:
    decision = decided(**case)  # type: ignore[arg-type]
    assert decision.outcome is outcome
    if until is not None:
        assert decision.standing.block is not None
        assert decision.standing.block.until - NOON == until
    if outcome in (Outcome.BLOCKED, Outcome.EXTENDED):
        assert decision.standing.history.rules["burst"].outcome == outcome


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        pytest.param({}, None, id="enforced"),
        pytest.param({"allowed": True}, Outcome.ALLOWLISTED, id="allowlisted"),
        pytest.param({"terms": terms(action=Action.COUNT)}, Outcome.COUNTED, id="counted"),
        pytest.param({"terms": terms(action=Action.COUNT), "allowed": True}, Outcome.ALLOWLISTED, id="both"),
        pytest.param({"proxy": True}, Outcome.PROXY, id="a proxy"),
        pytest.param({"proxy": True, "allowed": True}, Outcome.ALLOWLISTED, id="an allowlisted proxy"),
        pytest.param({"now": 4 + 3600}, None, id="as old as it may be"),
        pytest.param({"now": 5 + 3600}, Outcome.STALE, id="too old"),
        pytest.param({"now": 5 + 3600, "terms": terms(action=Action.COUNT)}, Outcome.COUNTED, id="counted late"),
    ],
)
def test_offences_that_are_not_enforced(case: dict[str, object], outcome: Outcome | None) -> None:
    _, offender = detected(last=4)
    options: dict[str, object] = {"terms": TERMS, "allowed": False, "proxy": False, "now": 6, **case}
    options["now"] = NOON + options["now"]  # type: ignore[operator]
    assert unenforced(offender=offender, stale_after_s=RETENTION_S, **options) is outcome  # type: ignore[arg-type]


def test_an_unenforced_offence_is_noted_with_the_end_that_its_block_would_have_had() -> None:
    after = noted(*detected(), Outcome.COUNTED, History(network=CLIENT), NOON + 6)
    past = after.rules["burst"]
    assert (past.offence, past.until, past.outcome, past.evidence.count) == (1, NOON + 605, Outcome.COUNTED, 51)


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        pytest.param(history(300), True, id="a punishment"),
        pytest.param(history(-DEFAULT_MEMORY_S), False, id="a forgotten punishment"),
        pytest.param(history(1, outcome=Outcome.COUNTED), True, id="the same offence"),
        pytest.param(history(0, outcome=Outcome.COUNTED), False, id="an earlier offence"),
        pytest.param(history(1, outcome=Outcome.ALLOWLISTED), False, id="the same one for another reason"),
        pytest.param(history(300, rule="other"), False, id="another rule's"),
    ],
)
def test_what_is_noted_replaces_no_punishment_and_not_itself(before: History, kept: bool) -> None:
    after = noted(*detected(), Outcome.COUNTED, before, NOON + 6)
    assert (after is before) == kept
    assert before.rules.keys() <= after.rules.keys()


@pytest.mark.parametrize(
    ("before", "offence"),
    [
        pytest.param(None, 1, id="the first"),
        pytest.param(history(0), 2, id="the second"),
        pytest.param(history(6 - DEFAULT_MEMORY_S), 2, id="a week later"),
        pytest.param(history(5 - DEFAULT_MEMORY_S), 1, id="more than a week later"),
    ],
)
def test_offences_are_numbered_even_without_escalation(before: History | None, offence: int) -> None:
    made = decided(history=before).standing.block
    assert made is not None
    assert made.offence == offence


def test_the_history_of_other_rules_is_kept() -> None:
    after = decided(history=history(-50, 3, "other")).standing.history
    assert {name: past.offence for name, past in after.rules.items()} == {"other": 3, "burst": 1}


def test_an_extended_block_keeps_its_start_and_its_offence() -> None:
    longer = decided(terms(extend=True), block=block(600, offence=3), history=history(600, 3)).standing.block
    assert longer is not None
    assert (longer.blocked_at, longer.offence, longer.until) == (NOON - 10, 3, NOON + 750)


@pytest.mark.parametrize("rule", ["burst", "other", "manual"])
def test_a_client_that_is_served_although_it_is_blocked_is_ranked_again(rule: str) -> None:
    before = block(9000, rule, blocked_at=-60)
    renewed = msgspec.structs.replace(before, blocked_at=NOON + 6, begun_at=NOON - 60)
    assert decided(block=before).standing.block == renewed


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_of_two_rules_with_the_same_end_the_order_of_detections_does_not_matter(first: str, second: str) -> None:
    one = decided(terms(name=first)).standing
    both = decided(terms(name=second), block=one.block, history=one.history).standing
    assert both.block is not None
    assert both.block.rule == "b"
    assert {name: past.until for name, past in both.history.rules.items()} == {"a": NOON + 606, "b": NOON + 606}


def test_what_an_operator_has_shortened_is_not_punished_any_longer() -> None:
    """The operator's block replaced one of the rule's, which would have ended later."""
    before = Standing(history(9000), block(-1, "manual", 0))
    assert refusals(Standing(ended(before, NOON - 1)), SOURCE, PROPAGATION) == [
        RefusalSpan(_ms(-10), _ms(-1 + PROPAGATION))
    ]
    assert decided(block=before.block, history=before.history).outcome is Outcome.BLOCKED


def test_the_times_of_refusals_are_those_of_the_blocks() -> None:
    first = decided().standing
    assert refusals(first, SOURCE, PROPAGATION) == [*span(6, 606 + PROPAGATION)]
    after = Standing(ended(first, NOON + 606))
    assert refusals(after, SOURCE, PROPAGATION) == [*span(6, 606 + PROPAGATION)]
    second = decided(history=after.history, since=700, last=704, now=706).standing
    assert refusals(second, SOURCE, PROPAGATION) == [
        *span(6, 606 + PROPAGATION),
        *span(706, 1306 + PROPAGATION),
    ]
    assert refusals(Standing(ended(second, NOON + 1306)), SOURCE, PROPAGATION) == [*span(6, 1306 + PROPAGATION)]
    later = 607 + LONGEST_RETENTION_S
    third = decided(history=after.history, since=later - 1, last=later, now=later).standing
    assert refusals(Standing(ended(third, NOON + later + 9)), SOURCE, PROPAGATION) == [
        *span(later, later + 9 + PROPAGATION)
    ]
    assert refusals(Standing(History(network=CLIENT)), SOURCE, PROPAGATION) == []


def test_the_time_of_refusals_goes_back_to_the_start_of_a_block_that_was_replaced() -> None:
    longer = decided(block=block(300, "other", blocked_at=-50)).standing
    assert refusals(longer, SOURCE, PROPAGATION) == [*span(-50, 606 + PROPAGATION)]


@given(st.integers(1, 10_000), st.integers(2, 100), st.integers(0, 100_000), st.integers(1, 60))
def test_escalated_blocks_grow_by_the_factor_up_to_the_maximum(
    first: int, factor: int, more: int, offence: int
) -> None:
    escalating = terms(block_for_s=first, escalate=Escalation(factor, first + more, 1))
    assert duration_s(escalating, offence) == min(first * factor ** (offence - 1), first + more)


@given(st.integers(-2000, 2000), st.integers(0, 5), st.integers(6, 3000), st.booleans(), st.sampled_from([None, -1, 3]))
def test_a_block_never_gets_shorter_and_deciding_again_changes_nothing(
    until: int, offence: int, now: int, extend: bool, served: float | None
) -> None:
    before = block(until, "other") if offence else None
    after = decided(
        terms(extend=extend, escalate=DOUBLING),
        block=before,
        history=history(until, offence) if offence else None,
        now=now,
        served=served,
    ).standing
    if after.block is not before:
        assert after.block is not None
        assert after.block.until > NOON + now
        assert before is None or not before.in_force(NOON + now) or after.block.until >= before.until
        again = decided(
            terms(extend=extend, escalate=DOUBLING),
            block=after.block,
            history=after.history,
            now=now + 5,
            served=served,
        )
        assert again.outcome is Outcome.KNOWN


# --- responses

LADDER = terms(respond=(Response.WATCH, Response.CHALLENGE, Response.BLOCK), escalate=Escalation(1, 600, 3600))
"""Every offence is answered for 600 seconds, and remembered for an hour after that."""


def standing_after(*offences: tuple[float, int], of: Terms = LADDER) -> Standing:
    """Returns the standing after offences whose requests begin at a second and are decided about at another."""
    standing = Standing(History(network=CLIENT))
    for since, now in offences:
        detection, offender = detected(of, since=since, last=since + 1)
        standing = decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + now).standing
    return standing


def answers(standing: Standing, *moments: int) -> list[str | None]:
    """Returns the response to the client's requests at each of ``moments``."""
    block = standing.block
    return [None if block is None else block.response_at(NOON + moment) for moment in moments]


def test_each_remembered_offence_climbs_one_rung_and_the_last_one_stays() -> None:
    standing = standing_after((0, 6))
    assert answers(standing, 6, 605, 606) == ["watch", "watch", None]
    standing = standing_after((0, 6), (700, 706))
    assert answers(standing, 706, 1306) == ["challenge", None]
    standing = standing_after((0, 6), (700, 706), (1400, 1406), (2100, 2106))
    assert answers(standing, 2106, 2705, 2706) == ["block", "block", None]
    assert standing.block is not None
    assert (standing.block.offence, standing.block.until) == (4, NOON + 2706)


def test_a_ladder_comes_down_when_its_memory_ends() -> None:
    assert answers(standing_after((0, 6), (4206, 4206)), 4206) == ["challenge"], "606 + 3600 is remembered"
    assert answers(standing_after((0, 6), (4207, 4207)), 4207) == ["watch"]


def test_a_client_that_is_served_on_after_a_softer_response_applies_everywhere_climbs() -> None:
    standing = standing_after((0, 6), (6 + PROPAGATION, 80))
    assert answers(standing, 80, 679, 680) == ["challenge", "challenge", None]
    standing = standing_after((0, 6), (6 + PROPAGATION, 80), (80 + PROPAGATION, 150))
    assert answers(standing, 150, 749, 750) == ["block", "block", None]


def test_what_is_served_before_a_softer_response_applies_everywhere_is_the_same_offence() -> None:
    standing = standing_after((0, 6), (6 + PROPAGATION - 0.001, 80))
    assert standing == standing_after((0, 6))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(Source.WAF, ["challenge"], id="AWS WAF's log tells that it asked for a token"),
        pytest.param(Source.CLOUDFRONT, ["block"], id="in CloudFront's log only the origin can have answered so"),
    ],
)
def test_requests_refused_by_a_challenge_are_no_further_offence(source: Source, expected: list[str]) -> None:
    ladder = terms(respond=(Response.CHALLENGE, Response.BLOCK))
    standing = standing_after((0, 6), of=ladder)
    detection, offender = detected(ladder, since=100, last=101, served=REFUSED)
    detection = msgspec.structs.replace(detection, source=source)
    standing = decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + 110).standing
    assert answers(standing, 110) == expected


def test_the_requests_of_a_watched_client_are_never_taken_for_refused() -> None:
    standing = standing_after((0, 6), of=terms(respond=(Response.WATCH,)))
    assert refusals(standing, Source.WAF, PROPAGATION) == []
    detection, offender = detected(LADDER, since=100, last=101, served=REFUSED)
    assert decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + 110).outcome is Outcome.BLOCKED


def test_when_a_watched_client_is_blocked_its_refusals_begin_with_the_block() -> None:
    standing = standing_after((0, 6), (100, 106), of=terms(respond=(Response.WATCH, Response.BLOCK)))
    assert refusals(standing, SOURCE, PROPAGATION) == [*span(106, 706 + PROPAGATION)]


def test_of_two_rules_the_harder_response_applies_and_then_the_one_that_lasts_longer() -> None:
    short = terms(name="short", block_for_s=100)
    long = terms(name="long", respond=(Response.CHALLENGE,))
    for first, second in ((short, long), (long, short)):
        standing = standing_after((0, 6), of=first)
        detection, offender = detected(second, since=0, last=1)
        standing = decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + 6).standing
        assert answers(standing, 6, 105, 106, 605, 606) == ["block", "block", "challenge", "challenge", None]
        assert standing.block is not None
        assert standing.block.rule == "short"
        # With the next decision after the end of the harder one, the block names the rule that is left.
        detection, offender = detected(terms(name="third", respond=(Response.WATCH,)), since=200, last=201)
        standing = decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + 206).standing
        assert standing.block is not None
        assert (standing.block.rule, standing.block.ends) == (
            "long",
            {Response.CHALLENGE: NOON + 606, Response.WATCH: NOON + 806},
        )


@pytest.mark.parametrize("served", [REFUSED, None], ids=["refused", "served"])
def test_requests_refused_while_the_edge_releases_late_are_no_offence_although_a_softer_response_goes_on(
    served: float | None,
) -> None:
    standing = standing_after((0, 6), of=terms(name="long", respond=(Response.CHALLENGE,)))
    detection, offender = detected(terms(name="short", block_for_s=100), since=0, last=1)
    standing = decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + 6).standing
    assert answers(standing, 105, 106) == ["block", "challenge"]
    detection, offender = detected(terms(name="other"), since=110, last=111, served=served)
    decision = decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + 200)
    assert decision.outcome is (Outcome.KNOWN if served == REFUSED else Outcome.BLOCKED)


def test_the_evidence_says_what_was_counted_and_at_which_rate() -> None:
    block = decided(terms(rate="1/5s", measure="bytes")).standing.block
    assert block is not None
    assert block.evidence is not None
    assert (block.evidence.rate, block.evidence.measure) == ("1/5s", "bytes")


def test_what_requests_looked_like_is_in_the_history_and_in_no_block() -> None:
    standing = Standing(History(network=CLIENT))
    steps = [
        (terms(name="short", block_for_s=100), 0, 6),
        (terms(name="long", respond=(Response.CHALLENGE,)), 0, 6),
        (terms(name="third", block_for_s=9, respond=(Response.WATCH,)), 200, 206),
    ]
    for of, since, now in steps:
        detection, offender = detected(of, since=since, last=since + 1)
        offender = msgspec.structs.replace(offender, portrait=Portrait(requests=now))
        standing = decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + now).standing
        assert standing.block is not None
        assert standing.block.evidence is not None
        assert standing.block.evidence.portrait is None
    assert standing.block is not None
    assert standing.block.rule == "long"
    assert [past.evidence.portrait for past in standing.history.rules.values()] == [
        Portrait(requests=6),
        Portrait(requests=6),
        Portrait(requests=206),
    ]


def test_requests_that_were_slowed_do_not_count_after_a_harder_response_has_taken_its_place() -> None:
    slowed = Block.with_ends({Response.SLOW: NOON + 300}, network=CLIENT, blocked_at=NOON - 10)
    asked = decided(terms(respond=(Response.CAPTCHA,)), block=slowed, served=-3).standing
    assert asked.block is not None
    assert asked.block.ends == {Response.CAPTCHA: NOON + 606}
    other = terms(name="other")
    refused, served = (
        decided(other, block=asked.block, history=asked.history, now=7, served=served) for served in (REFUSED, -3)
    )
    assert (refused.outcome, served.outcome) == (Outcome.KNOWN, Outcome.BLOCKED)


def test_an_operators_softer_response_is_left_when_a_rules_block_is_over() -> None:
    by_hand = Block.with_ends({Response.WATCH: NOON + 900}, network=CLIENT, blocked_at=NOON - 10, comment="?", by="al")
    standing = decided(block=by_hand).standing
    assert answers(standing, 6, 605, 606, 899, 900) == ["block", "block", "watch", "watch", None]
    detection, offender = detected(terms(name="other", block_for_s=50, respond=(Response.WATCH,)), since=700, last=701)
    standing = decide(detection, offender, standing, propagation_s=PROPAGATION, now=NOON + 800).standing
    assert standing.block is not None
    assert (standing.block.manual, standing.block.by, standing.block.comment) == (True, "al", "?")


def test_a_version_that_knows_only_blocks_takes_a_softer_response_for_a_block_that_is_over() -> None:
    standing = standing_after((0, 6))
    assert standing.block is not None
    assert msgspec.json.decode(standing.block.to_json())["until"] == 0


def test_what_was_stored_without_responses_is_a_block() -> None:
    old = b'{"network":"203.0.113.9/32","blocked_at":1,"until":9}'
    assert Block.from_json(old).ends == {Response.BLOCK: 9}
    assert TERMS.respond == (Response.BLOCK,)


def test_a_block_says_until_when_aws_waf_answers_for_the_origin() -> None:
    ends = {Response.BLOCK: 10, Response.SLOW: 20, Response.WATCH: 30}
    block = Block.with_ends(ends, network=CLIENT, blocked_at=0)
    assert (block.ends, block.ends_at, block.refuses_until, block.until) == (ends, 30, 20, 10)
    assert [block.response_at(now) for now in (9, 10, 20, 30)] == ["block", "slow", "watch", None]
