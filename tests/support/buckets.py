"""Token buckets, counted slowly and obviously: every interval is tried."""

from collections.abc import Sequence
from fractions import Fraction

from chalicelib.core.rules import Rule


def exceeds(rule: Rule, times_ms: Sequence[int], *, longest_ms: int, margin_ms: int, percent: int = 100) -> bool:
    """Returns whether some interval of up to ``longest_ms`` holds more requests than the bucket of ``rule`` allows in
    an interval longer by ``margin_ms``. ``percent``: the share of requests that is logged."""
    assert rule.rate is not None
    per_ms = Fraction(rule.rate.number * percent, rule.rate.period_s * 1000 * 100)
    burst, ordered = rule.limit * percent // 100, sorted(times_ms)
    return any(
        last - first + 1 > burst + per_ms * (ordered[last] - ordered[first] + margin_ms)
        for first in range(len(ordered))
        for last in range(first, len(ordered))
        if ordered[last] - ordered[first] <= longest_ms
    )


def exceeds_in_slots(rule: Rule, slots: Sequence[int]) -> bool:
    """Returns whether some interval of whole slots, one element of ``slots`` per request, exceeds the bucket."""
    assert rule.rate is not None
    per_slot = Fraction(rule.rate.number * rule.slot_ms, rule.rate.period_s * 1000)
    return any(
        sum(first <= slot <= last for slot in slots) > rule.limit + per_slot * (last - first + 1)
        for first in set(slots)
        for last in set(slots)
        if first <= last < first + rule.resolution
    )
