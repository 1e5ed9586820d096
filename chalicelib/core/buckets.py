"""Token buckets: how many requests a client has made above a rate, exactly and in any order. No clock, no I/O.

A bucket holds ``burst`` tokens and is refilled at a rate; a client that makes a request without a token left is over
the limit. Seen from a log, that is a client that makes more than ``burst + rate * t`` requests within some interval of
length ``t``. The requests of an interval beyond ``rate * t`` are its *level*, so a client is over the limit if the
level of some interval exceeds the burst. With a rate of 1 request per slot and a burst of 4::

    slot              10   11   12   13   14
    requests           3    .    4    .    1
                      [-- 7 - 3 --]                level 4
                                [-- 5 - 3 ---]     level 2

*Never early.* A request of a slot was made anywhere in it. An interval of slots is therefore taken to last from the
start of its first slot to the end of its last, which is as long as the requests can have taken.

*Order.* A level is a sum over the slots of an interval, so it does not depend on the order in which requests arrive,
or on how they are spread over logs. A bucket that is filled and drained request by request has the same highest level,
but only if the requests arrive in order of time.

*Memory.* Intervals of up to ``resolution`` slots are examined. Without a bound, a client's level would depend on all
requests that it ever made. A client that exceeds the rate by a constant factor is over the limit after
``burst / (its rate - the rate)``, so one that exceeds it by less than ``burst / memory`` is never over the limit.

Levels are computed in whole numbers, in a unit small enough for both a request and a slot of the rate.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from math import gcd
from typing import NamedTuple, Self

from chalicelib.core.rates import Rate


class Drain(NamedTuple):
    """A rate as whole numbers per slot."""

    unit: int
    """Amount that one request adds to a level."""
    per_slot: int
    """Amount that each slot of an interval but the last takes off."""
    last: int
    """Amount that the last slot takes off: the same, or more if the log gives times less precisely than to the slot."""

    @classmethod
    def of(cls, rate: Rate, slot_ms: int, *, precision_ms: int = 1, percent: int = 100) -> Self:
        """Returns the drain of ``rate``, in slots of ``slot_ms`` milliseconds.

        ``precision_ms``: how precise the log's times are; a slot divides it, or is a multiple of it. ``percent``: the
        share of requests that the log holds, 1 to 100.

        >>> Drain.of(Rate(2, 1), 250), Drain.of(Rate(2, 1), 250, precision_ms=1000)
        (Drain(unit=2, per_slot=1, last=1), Drain(unit=2, per_slot=1, last=4))
        """
        unit = rate.period_s * 1000 * 100
        per_slot = rate.number * percent * slot_ms
        last = rate.number * percent * max(slot_ms, precision_ms)
        common = gcd(unit, per_slot, last)
        return cls(unit // common, per_slot // common, last // common)

    def allowed(self, slots: int) -> int:
        """Returns the requests, rounded down, that the rate allows in an interval of ``slots`` (at least one) slots."""
        return ((slots - 1) * self.per_slot + self.last) // self.unit


class Level(NamedTuple):
    """The highest level, in requests and rounded up, of the intervals that end with a slot; at least 0."""

    requests: int
    first: int
    """Index of the interval's first slot."""
    last: int
    """The slot with which it ends."""
    since: int
    """Index of the latest slot from which an interval up to ``last`` exceeds the burst; -1 if none does."""


def walk_levels(
    order: Sequence[int], numbers: Sequence[int], resolution: int, drain: Drain, burst: int
) -> Iterator[Level]:
    """Yields the highest level of the intervals of up to ``resolution`` slots that end with each slot of ``order``.

    ``order``: slots, ascending; ``numbers``: the requests in each. A slot may be repeated: its requests then enter one
    after the other.

    >>> drain = Drain(unit=1, per_slot=1, last=1)
    >>> [(level.requests, level.since) for level in walk_levels([10, 12, 14], [3, 4, 1], 100, drain, burst=2)]
    [(2, -1), (4, 1), (3, 0)]
    """
    unit, per_slot, last = drain
    origin = order[0] if order else 0
    befores: list[int] = []
    """For each slot with which an interval may begin, the level before it without a bound; ascending."""
    starts: list[int] = []
    """Indices of these slots, ascending. A later slot with a lower number before it always makes a higher level."""
    lowest = made = 0
    for index, (slot, number) in enumerate(zip(order, numbers, strict=True)):
        drained = (slot - origin) * per_slot
        before = made * unit - drained
        while len(starts) > lowest and befores[-1] >= before:
            starts.pop()
            befores.pop()
        starts.append(index)
        befores.append(before)
        while order[starts[lowest]] <= slot - resolution:
            lowest += 1
        made += number
        after = made * unit - drained - last
        level = after - befores[lowest]
        since = -1
        if level > burst * unit:
            since = starts[bisect_left(befores, after - burst * unit, lowest) - 1]
        yield Level(max(0, -(-level // unit)), starts[lowest], slot, since)


def level_at(slots: Iterable[tuple[int, int]], last: int, drain: Drain) -> int:
    """Returns the highest level, in requests and rounded up, of the intervals that end with slot ``last``.

    ``slots``: slots up to ``last``, ascending, and the requests in each. The level falls while no request is made.

    >>> [level_at([(10, 3), (12, 4)], last, Drain(unit=1, per_slot=1, last=1)) for last in (12, 13, 20)]
    [4, 3, 0]
    """
    level = previous = 0
    for slot, number in slots:
        level = max(0, level - (slot - previous) * drain.per_slot) + number * drain.unit
        previous = slot
    level -= (last - previous) * drain.per_slot + drain.last
    return max(0, -(-level // drain.unit))
