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
from chalicelib.core.rules import Action, Escalation
from chalicelib.core.state import MANUAL, SERVED_WITHIN_LIMIT, Detection, Evidence, History, Offender, Past, Terms
from tests.support.clock import Clock
from tests.support.state import CLIENT, NOW, Store, new_enforcer, stream_changes

LENGTHS_S = {"short": 400, "long": 4000, "as long": 4000, "longest": 40_000}
FACTOR, LONGEST_S, MEMORY_S = 3, 50_000, 1000
EARLIER_OFFENCES = 2
BLOCKED_S = 400
"""How long ago an operator blocked the client, or a network that contains it."""


@dataclass(frozen=True, slots=True)
class Case:
    """Offences by rule, and what is stored before they are detected. Times are seconds after NOW."""

    offences: list[tuple[str, Offender]]
    punished_until: dict[str, int]
    ended_at: int | None
    forgiven_at: int | None
    by_hand_until: int | None
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
                rule: Past(offence=EARLIER_OFFENCES, until=NOW + until, outcome="blocked", evidence=evidence)
                for rule, until in self.punished_until.items()
            },
        )
        store.put(history, CLIENT)
        for network, until in ((CLIENT, self.by_hand_until), ("192.0.2.0/24", self.wider_until)):
            if until is not None:
                store.block(network, until=NOW + until, rule="manual", at=NOW - BLOCKED_S)
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
        if self.ended_at is not None:
            over = self.by_hand_until if self.by_hand_until is not None and self.by_hand_until <= at else self.ended_at
            yield -NOW, over + PROPAGATION_S
        for until in (self.by_hand_until, self.wider_until):
            if until is not None:
                yield -BLOCKED_S, until + PROPAGATION_S

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
                earlier = self.punished_until.get(rule, -NOW)
                if self.by_hand_until is not None and self.by_hand_until <= at:
                    earlier = min(earlier, self.by_hand_until)
                forgiven = -NOW if self.forgiven_at is None else self.forgiven_at
                if rule in found or begins is None or begins < max(earlier, forgiven):
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
        punished_until=draw(st.dictionaries(rules, moments(-1500, 0))),
        ended_at=draw(earlier),
        forgiven_at=draw(earlier),
        by_hand_until=draw(blocked),
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
    ends = [(until, False, rule) for rule, (_, until) in expected.items()]
    if case.by_hand_until is not None:
        ends.append((case.by_hand_until, True, MANUAL))
    block = store.blocks().get(CLIENT)
    assert (block and (block.until - NOW, block.manual, block.rule)) == max(ends, default=None)
