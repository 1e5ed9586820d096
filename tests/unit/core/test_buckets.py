"""A bucket's levels are those of an exact count over every interval, and are never too high."""

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.allowance import Allowance
from chalicelib.core.buckets import Drain, level_at, walk_levels
from chalicelib.core.logs.requests import Source
from chalicelib.core.rates import Rate
from chalicelib.core.rules import Rule
from chalicelib.core.sampling import Sampling
from chalicelib.core.windows import Window, over_allowance
from tests.support.buckets import exceeds

slots_of_a_client = st.dictionaries(st.integers(0, 60), st.integers(1, 9), min_size=1, max_size=14)
drains = st.builds(Drain, st.integers(1, 5), st.integers(1, 12), st.integers(1, 20))
resolutions = st.integers(1, 40)


def level(slots: dict[int, int], first: int, last: int, drain: Drain) -> Fraction:
    """Returns the requests of the interval ``first``..``last`` beyond what the drain takes off."""
    made = sum(number for slot, number in slots.items() if first <= slot <= last)
    return made - Fraction((last - first) * drain.per_slot + drain.last, drain.unit)


def highest(slots: dict[int, int], last: int, resolution: int, drain: Drain) -> int:
    """Returns the highest level of the intervals that end with ``last``, after trying each, rounded up."""
    levels = [level(slots, first, last, drain) for first in range(last - resolution + 1, last + 1)]
    return max(0, -(-max(levels) // 1))


@given(slots_of_a_client, resolutions, drains, st.integers(0, 12))
def test_levels_are_the_highest_of_all_intervals(
    slots: dict[int, int], resolution: int, drain: Drain, burst: int
) -> None:
    order = sorted(slots)
    levels = list(walk_levels(order, [slots[slot] for slot in order], resolution, drain, burst))
    assert [each.last for each in levels] == order
    for each in levels:
        assert each.requests == highest(slots, each.last, resolution, drain)
        first = order[each.first]
        assert each.last - first < resolution
        assert each.requests == max(0, -(-level(slots, first, each.last, drain) // 1))
        over = [
            index
            for index, first in enumerate(order)
            if each.last - resolution < first <= each.last and level(slots, first, each.last, drain) > burst
        ]
        assert each.since == max(over, default=-1)


@given(slots_of_a_client, drains, st.integers(0, 100))
def test_a_level_falls_while_no_request_is_made(slots: dict[int, int], drain: Drain, last: int) -> None:
    until = {slot: number for slot, number in slots.items() if slot <= last}
    assert level_at(sorted(until.items()), last, drain) == highest(until, last, 200, drain)


def start_of_highest(slots: dict[int, int], last: int, resolution: int, drain: Drain) -> int:
    """Returns the latest slot with which an interval of the highest level up to ``last`` begins."""
    firsts = [first for first in slots if last - resolution < first <= last]
    return max(firsts, key=lambda first: (level(slots, first, last, drain), first))


@given(slots_of_a_client, st.data(), resolutions, st.integers(0, 12), drains)
def test_the_latest_interval_over_the_burst_is_returned(
    slots: dict[int, int], data: st.DataObject, resolution: int, limit: int, drain: Drain
) -> None:
    touched = data.draw(st.sets(st.sampled_from(sorted(slots)), min_size=1))
    over = [
        last
        for last in sorted(slots)
        if highest(slots, last, resolution, drain) > limit
        and any(start_of_highest(slots, last, resolution, drain) <= slot <= last for slot in touched)
    ]
    window = over_allowance(slots, touched, Allowance(resolution, limit, drain))
    if not over:
        assert window is None
        return
    assert window is not None
    assert (window.last, window.count) == (over[-1], highest(slots, over[-1], resolution, drain))
    assert window.count == -(-level(slots, window.first, window.last, drain) // 1)
    up_to_last = [first for first in slots if first <= window.last]
    assert window.since == max(first for first in up_to_last if level(slots, first, window.last, drain) > limit)


@given(slots_of_a_client, st.lists(st.integers(0, 13), min_size=14, max_size=14), st.integers(0, 12), drains)
def test_the_answer_does_not_depend_on_the_order_of_requests(
    slots: dict[int, int], ranks: list[int], limit: int, drain: Drain
) -> None:
    """Batches arrive in any order; the last of those that make up an interval finds it."""
    allowance = Allowance(20, limit, drain)
    arrivals = [slot for _, slot in sorted(zip(ranks, sorted(slots), strict=False))]
    arrived: dict[int, int] = {}
    ever_over = False
    for slot in arrivals:
        arrived[slot] = slots[slot]
        ever_over |= over_allowance(arrived, [slot], allowance) is not None
    assert ever_over == any(highest(slots, last, 20, drain) > limit for last in slots)


times_ms = st.lists(st.integers(0, 20_000), min_size=1, max_size=40)
SLOT_MS = 200


def rule_of(burst: int, memory_s: int, number: int, period_s: int) -> Rule:
    rate, resolution = Rate(number, period_s), memory_s * 1000 // SLOT_MS
    return Rule(name="pace", limit=burst, window_s=memory_s, resolution=resolution, rate=rate)


rules = st.builds(rule_of, st.integers(1, 8), st.integers(2, 12), st.integers(1, 9), st.sampled_from([1, 2, 7]))


@given(times_ms, rules)
def test_a_client_is_over_the_burst_only_if_it_was_and_if_it_was_by_more_than_a_slot(
    times: list[int], rule: Rule
) -> None:
    slots = Counter(time // rule.slot_ms for time in times)
    is_over = over_allowance(slots, slots.keys(), Allowance.of(rule, Source.CLOUDFRONT)) is not None
    memory_ms = rule.window_s * 1000
    assert not is_over or exceeds(rule, times, longest_ms=memory_ms, margin_ms=0), "never early"
    if exceeds(rule, times, longest_ms=memory_ms - 2 * rule.slot_ms, margin_ms=2 * rule.slot_ms):
        assert is_over, "never missed"


@given(times_ms, rules)
def test_a_log_with_times_in_seconds_makes_nobody_an_offender_early(times: list[int], rule: Rule) -> None:
    logged = Counter(time // 1000 * 1000 // rule.slot_ms for time in times)
    if over_allowance(logged, logged.keys(), Allowance.of(rule, Source.WEB_SERVER)) is not None:
        assert exceeds(rule, times, longest_ms=rule.window_s * 1000 + 1000, margin_ms=0)


@given(slots_of_a_client, st.builds(Allowance, resolutions, st.integers(0, 12), st.one_of(st.none(), drains)))
def test_a_client_over_the_limit_exceeds_a_bound(slots: dict[int, int], allowance: Allowance) -> None:
    if over_allowance(slots, slots.keys(), allowance) is not None:
        assert any(
            sum(slots.get(slot, 0) for slot in range(first, first + bound.slots)) > bound.limit
            for bound in allowance.bounds()
            for first in slots
        )


def test_a_rule_without_a_rate_is_a_bucket_that_never_drains() -> None:
    slots = {10: 2, 11: 1, 19: 1}
    assert over_allowance(slots, [19], Allowance(10, 3)) == Window(4, 10, 19, 10)
    assert over_allowance(slots, [19], Allowance(10, 3, Drain(1, 0, 0))) == Window(4, 10, 19, 10)


def test_a_sample_of_the_requests_is_measured_against_the_same_share_of_burst_and_rate() -> None:
    rule = Rule(name="pace", limit=50, window_s=250, resolution=1250, rate=Rate(2, 1))
    allowance = Allowance.of(rule, Source.CLOUDFRONT, Sampling(10))
    assert allowance.limit == 5
    assert allowance.drain is not None
    assert Fraction(allowance.drain.per_slot, allowance.drain.unit) == Fraction(2, 10) * Fraction(200, 1000)
    assert Allowance.of(rule, Source.WAF, Sampling(10)) == Allowance.of(rule, Source.WAF)
