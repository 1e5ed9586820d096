"""The standing that detections lead to, against a slow and obvious oracle.

Every detection is enforced at least once, in any order, in batches of any size, and with any delay shorter than the
shortest block. What is stored is compared with what follows from the set of the detections.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.decisions import PROPAGATION_S
from chalicelib.core.logs.requests import Source
from chalicelib.core.responses import Response, hardness
from chalicelib.core.rules import Action, Escalation
from chalicelib.core.state.blocks import MANUAL, Block, History, Past
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT, Detection, Evidence, Offender, Terms
from tests.support.clock import Clock
from tests.support.state import CLIENT, NOW, Store, detection, new_enforcer, stream_changes, terms

LENGTHS_S = {"short": 400, "long": 4000, "as long": 4000, "longest": 40_000}
LADDERS = {
    "short": (Response.WATCH, Response.BLOCK),
    "long": (Response.BLOCK,),
    "as long": (Response.CHALLENGE, Response.CAPTCHA),
    "longest": (Response.SLOW, Response.SLOW, Response.CAPTCHA),
}
FACTOR, LONGEST_S, MEMORY_S = 3, 50_000, 1000
EARLIER_OFFENCES = 2
EXTENDED_S = 402
BLOCKED_S = 400
"""How long ago an operator blocked the client, or a network that contains it."""


@dataclass(frozen=True, slots=True)
class Case:
    """Offences by rule, and what is stored before they are detected. Times are seconds after NOW."""

    offences: list[tuple[str, Offender]]
    punished: dict[str, tuple[Response, int, int]]
    """By rule, the response to the last offence, when it began, and when it ends."""
    ended_at: int | None
    forgiven_at: int | None
    by_hand_until: int | None
    by_hand: Response
    wider_until: int | None
    deliveries: list[tuple[int, list[int]]] = field(default_factory=list)
    """When batches are delivered, in order, and which offences each reports."""

    def store(self) -> Store:
        store = Store()
        evidence = Evidence(
            rule="", count=1, limit=1, window_s=1, first_ms=0, last_ms=0, source="waf", detection="", arrived_ms=0
        )
        history = History(
            network=CLIENT,
            ended_at=0 if self.ended_at is None else NOW + self.ended_at,
            forgiven_at=0 if self.forgiven_at is None else NOW + self.forgiven_at,
            rules={
                rule: Past(
                    offence=EARLIER_OFFENCES,
                    until=NOW + until,
                    outcome="blocked",
                    evidence=evidence,
                    response=response,
                    answered_at=NOW + since,
                )
                for rule, (response, since, until) in self.punished.items()
            },
        )
        store.put(history, CLIENT)
        if self.by_hand_until is not None:
            ends = {self.by_hand: NOW + self.by_hand_until}
            store.put(Block.with_ends(ends, network=CLIENT, blocked_at=NOW - BLOCKED_S), CLIENT)
        if self.wider_until is not None:
            store.block("192.0.2.0/24", until=NOW + self.wider_until, rule="manual", at=NOW - BLOCKED_S)
        return store

    def detection(self, number: int) -> Detection:
        rule, offender = self.offences[number]
        return Detection(
            id=f"log/{number:012d}/{rule}/cloudfront",
            terms=Terms(
                name=rule,
                limit=10,
                window_s=60,
                action=Action.BLOCK,
                block_for_s=LENGTHS_S[rule],
                escalate=Escalation(factor=FACTOR, max_s=LONGEST_S, memory_s=MEMORY_S),
                respond=LADDERS[rule],
            ),
            source=Source.CLOUDFRONT,
            offenders=(offender,),
            detected_ms=NOW * 1000,
            arrived_ms=NOW * 1000,
        )

    def refused(self, at: int) -> Iterator[tuple[int, int]]:
        """Yields when Sluice may have refused the client's requests, in seconds after NOW.

        Two blocks of the client that are over by ``at`` are remembered as one.
        """
        by_hand = self.by_hand_until if self.by_hand is not Response.WATCH else None
        is_over = by_hand is not None and by_hand <= at
        if self.ended_at is not None:
            yield -NOW, (by_hand if by_hand is not None and is_over else self.ended_at) + PROPAGATION_S
        # CloudFront's log does not tell a challenge, but of a block that is over only its time is known.
        if by_hand is not None and (is_over or self.by_hand in (Response.BLOCK, Response.SLOW)):
            yield -BLOCKED_S, by_hand + PROPAGATION_S
        if self.wider_until is not None:
            yield -BLOCKED_S, self.wider_until + PROPAGATION_S

    def begins(self, offender: Offender, at: int) -> float | None:
        """Returns when the requests that count began to exceed the limit, in seconds after NOW; None if they do not."""
        since, last, served = (
            ms / 1000 - NOW for ms in (offender.since_ms, offender.last_ms, offender.served_since_ms)
        )
        looks_refused = offender.served_since_ms != 0
        if looks_refused and any(since < end and start <= last for start, end in self.refused(at)):
            return None if offender.served_since_ms == SERVED_WITHIN_LIMIT else served
        return since

    def punishments(self) -> dict[str, tuple[int, int]]:
        """Returns, for each rule that punishes the client, the number of its offence and the end in seconds."""
        found: dict[str, tuple[int, int]] = {}
        for at, numbers in self.deliveries:
            for rule, offender in (self.offences[number] for number in numbers):
                begins = self.begins(offender, at)
                response, answered_at, earlier = self.punished.get(rule, (Response.BLOCK, -NOW, -NOW))
                if self.by_hand_until is not None and self.by_hand_until <= at:
                    earlier = min(earlier, self.by_hand_until)
                forgiven = -NOW if self.forgiven_at is None else self.forgiven_at
                if rule in found or begins is None or begins < forgiven:
                    continue
                goes_on = response is not Response.BLOCK and begins >= answered_at + PROPAGATION_S
                if begins < earlier and not goes_on:
                    continue
                number = EARLIER_OFFENCES + 1 if earlier > -NOW and at <= earlier + MEMORY_S else 1
                found[rule] = number, at + min(LENGTHS_S[rule] * FACTOR ** (number - 1), LONGEST_S)
        return found


def offenders() -> st.SearchStrategy[Offender]:
    def made(last_ms: int, length_ms: int, served: int) -> Offender:
        since_ms = last_ms - length_ms
        return Offender(CLIENT, 11, since_ms, last_ms, since_ms, served)

    times = st.builds(lambda at, ms: (NOW + at) * 1000 + ms, moments(-1000, -100), st.sampled_from([0, 1, 60_000]))
    served = st.one_of(st.sampled_from([0, SERVED_WITHIN_LIMIT]), times)
    return st.builds(made, times, st.sampled_from([0, 1, 60_000]), served)


def moments(first: int, last: int) -> st.SearchStrategy[int]:
    """Returns multiples of 100 seconds, so that many times are equal."""
    return st.integers(first // 100, last // 100).map(lambda number: number * 100)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rules = st.sampled_from(list(LENGTHS_S))
    earlier = st.one_of(st.none(), moments(-1500, 0))
    blocked = st.one_of(st.none(), moments(-BLOCKED_S, 4500))
    case = Case(
        offences=draw(st.lists(st.tuples(rules, offenders()), min_size=1, max_size=6)),
        punished=draw(
            st.dictionaries(rules, st.tuples(st.sampled_from(Response), moments(-2000, -500), moments(-500, 0)))
        ),
        ended_at=draw(earlier),
        forgiven_at=draw(earlier),
        by_hand_until=draw(blocked),
        by_hand=draw(st.sampled_from(Response)),
        wider_until=draw(blocked),
    )
    numbers = list(range(len(case.offences)))
    order = draw(st.permutations(numbers + draw(st.lists(st.sampled_from(numbers), max_size=4))))
    for at in sorted(draw(st.lists(moments(0, min(LENGTHS_S.values()) - 1), max_size=3))):
        cut = draw(st.integers(0, len(order)))
        case.deliveries.append((at, order[:cut]))
        order = order[cut:]
    case.deliveries.append((min(LENGTHS_S.values()) - 1, order))
    return case


@given(st.lists(st.tuples(st.integers(0, 300), st.lists(st.integers(1, 90), min_size=1, max_size=3)), min_size=1))
@settings(deadline=None)
def test_detections_in_any_order_and_number_prolong_a_block_to_the_same_end(made: list[tuple[int, list[int]]]) -> None:
    """``made``: times of the last requests, in seconds after NOW, and the delays of the deliveries after them."""
    store, clock = Store(), Clock()
    extending = terms(extend=True, block_for_s=EXTENDED_S)
    deliveries = sorted((last + delay, last) for last, delays in made for delay in delays)
    for at, last in deliveries:
        clock.now = NOW + at
        new_enforcer(store, clock).run(stream_changes(detection(at=NOW + last, of=extending, id=f"{last}")))
    begun = deliveries[0][0] + EXTENDED_S
    promised = max(last for last, _ in made) + 1 + EXTENDED_S
    step_s = EXTENDED_S // 4
    steps = (NOW + promised + step_s - 1) // step_s
    (block,) = store.blocks().values()
    assert block.until == store.history().rules[extending.name].until
    assert block.until == (NOW + begun if promised <= begun else steps * step_s)


@given(cases())
@settings(deadline=None)
def test_detections_in_any_order_batching_and_number_lead_to_the_same_standing(case: Case) -> None:
    store, clock = case.store(), Clock()
    for at, numbers in case.deliveries:
        clock.now = NOW + at
        enforce = new_enforcer(store, clock)
        enforce.run(stream_changes(*map(case.detection, numbers)))

    expected = case.punishments()
    pasts = store.history().rules
    assert {rule: (past.offence, past.until - NOW) for rule, past in pasts.items() if past.evidence.rule} == expected
    now = case.deliveries[-1][0]
    answers = [
        (hardness(response), until, False, rule)
        for rule, (number, until) in expected.items()
        for response in [LADDERS[rule][min(number, len(LADDERS[rule])) - 1]]
    ]
    if case.by_hand_until is not None:
        answers.append((hardness(case.by_hand), case.by_hand_until, True, MANUAL))
    block = store.blocks().get(CLIENT)
    for moment in {now, *(until for _, until, _, _ in answers), *(until - 1 for _, until, _, _ in answers)}:
        if moment >= now:
            applying = max((hard for hard, until, _, _ in answers if moment < until), default=None)
            response = block.response_at(NOW + moment) if block is not None else None
            assert (response and hardness(response)) == applying
    if block is not None and now < max(answers)[1]:
        assert (block.manual, block.rule) == max(answers)[2:]
