"""Sliding windows over tallies, evaluated exactly. No clock, no I/O.

*Slots and windows.* A rule cuts time, in milliseconds since the epoch, into slots of equal length: its window divided
by its resolution. A window is ``resolution`` consecutive slots and half-open: from the start of its first slot
(inclusive) to the end of its last (exclusive), so exactly as long as the rule says. It may begin with any slot, not
only at a full minute. With a resolution of 4::

    slot        10   11   12   13   14   15   16   17
    requests     .    3    1    .    2    .    .    1
                     [------- 6 -------]
                          [------- 3 -------]
                                    [------- 3 -------]

A client is over a limit if the slots of some window add up to more than the limit. Nothing is estimated, so a client
that stays within the limit in every window is never reported (guarantee G1). Any span of ``window - slot``
milliseconds fits into one window, wherever it begins, so a client with more requests than the limit in such a span is
always reported (G2).

*Which windows are examined.* Moving a window back until its last slot is occupied never lowers its count, so windows
that end in an occupied slot are enough (``walk_windows``). After a batch only windows that contain one of its slots
can have changed (``over_limit``).

*Different values.* A rule may limit how many different paths, for example, a client asks for. In place of slots it has
marks, of a slot and a value (``distinct``). All else is as for requests.

*Buckets.* A rule with a rate allows more requests in a longer interval (``buckets``), so every length up to its window
is examined. All else is as for windows: ``over_allowance`` and ``counts_after`` know all three.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from chalicelib.core.allowance import Allowance
from chalicelib.core.buckets import Drain, Level, walk_levels
from chalicelib.core.distinct import last_slots, slot_of, walk_values
from chalicelib.core.meter_tally import Slots


@dataclass(frozen=True, slots=True)
class Window:
    """A window in which a client was over the limit, in slots; ``first`` and ``last`` (both inclusive) are occupied.

    Of a bucket: the interval with the highest level of those that end with ``last``.
    """

    count: int
    """Requests in the window; of a bucket, the level."""
    first: int
    last: int
    since: int
    """The latest slot from which the requests up to ``last`` alone are over the limit."""


def over_limit(slots: Slots, touched: Iterable[int], resolution: int, limit: int) -> Window | None:
    """Returns the latest window of ``resolution`` slots over ``limit`` that contains a slot of ``touched``, or None.

    ``touched``: at least one key of ``slots``.

    >>> over_limit({10: 2, 11: 1, 19: 1}, [19], resolution=10, limit=3)
    Window(count=4, first=10, last=19, since=10)
    >>> over_limit({10: 2, 11: 1, 20: 1}, [20], resolution=10, limit=3) is None
    True
    """
    marks = sorted(touched)
    lowest, highest = marks[0] - resolution, marks[-1] + resolution
    order = sorted([slot for slot in slots if lowest < slot < highest])
    sums = list(accumulate(map(slots.__getitem__, order), initial=0))
    if sums[-1] <= limit:
        return None
    for end in range(len(order), 0, -1):
        last = order[end - 1]
        first = bisect_right(order, last - resolution, 0, end)
        count = sums[end] - sums[first]
        if count > limit and last - resolution < marks[bisect_right(marks, last) - 1] <= last:
            since = bisect_left(sums, sums[end] - limit, first, end) - 1
            return Window(count, order[first], last, order[since])
    return None


def over_allowance(slots: Slots, touched: Iterable[int], allowance: Allowance) -> Window | None:
    """Returns the latest window over the limit that contains a slot of ``touched``, or None.

    Of a bucket, only the highest interval that ends with each slot: if it contains no slot of ``touched``, it was over
    the limit before. ``slots``: marks, if the limit is one of different values. ``touched``: at least one slot of
    ``slots``.
    """
    if allowance.distinct:
        return _over_values(slots, sorted(touched), allowance.resolution, allowance.limit)
    if allowance.drain is None:
        return over_limit(slots, touched, allowance.resolution, allowance.limit)
    return _over_bucket(slots, sorted(touched), allowance.resolution, allowance.limit, allowance.drain)


def _over_bucket(slots: Slots, marks: Sequence[int], resolution: int, limit: int, drain: Drain) -> Window | None:
    lowest, highest = marks[0] - resolution, marks[-1] + resolution
    order = sorted([slot for slot in slots if lowest < slot < highest])
    numbers = list(map(slots.__getitem__, order))
    if sum(numbers) <= limit:
        return None
    latest: Level | None = None
    for level in walk_levels(order, numbers, resolution, drain, limit):
        at = bisect_right(marks, level.last) - 1
        if level.since >= 0 and at >= 0 and order[level.first] <= marks[at]:
            latest = level
    return latest and Window(latest.requests, order[latest.first], latest.last, order[latest.since])


def _over_values(marks: Iterable[int], touched: Sequence[int], resolution: int, limit: int) -> Window | None:
    lowest, highest = touched[0] - resolution, touched[-1] + resolution
    order = sorted([each for each in marks if lowest < slot_of(each) < highest])
    last = slot_of(order[-1])
    window = [each for each in order if slot_of(each) > last - resolution]
    if len(last_slots(window)) > limit:  # no window is later, so none needs to be walked
        return window_of_values(window, limit)
    latest = -1
    for at, (number, _) in enumerate(walk_values(order, resolution)):
        if number > limit:
            last = slot_of(order[at])
            before = bisect_right(touched, last) - 1
            if before >= 0 and touched[before] > last - resolution:
                latest = at
    if latest < 0:
        return None
    last = slot_of(order[latest])
    return window_of_values([each for each in order if last - resolution < slot_of(each) <= last], limit)


def window_of_values(order: Sequence[int], limit: int) -> Window:
    """Returns the window that holds the marks of ``order``, ascending, with more than ``limit`` different values."""
    latest = last_slots(order)
    return Window(len(latest), slot_of(order[0]), slot_of(order[-1]), latest[-1 - limit])


def counts_after(order: Sequence[int], numbers: Sequence[int], allowance: Allowance) -> Iterator[int]:
    """Yields the count in the window that ends with each slot of ``order`` or, of a bucket, the level.

    ``order``: at least one slot, ascending, or marks if the limit is one of different values; ``numbers``: the requests
    in each. A slot may be repeated: its requests then enter one after the other.
    """
    if allowance.distinct:
        return (number for number, _ in walk_values(order, allowance.resolution))
    if allowance.drain is None:
        return (count for count, _, _ in walk_windows(order, numbers, allowance.resolution))
    levels = walk_levels(order, numbers, allowance.resolution, allowance.drain, allowance.limit)
    return (level.requests for level in levels)


def occupied(slots: Slots, allowance: Allowance) -> set[int]:
    """Returns the numbers of the slots that hold requests, which may be given by mark."""
    return set(map(slot_of, slots)) if allowance.distinct else set(slots)


def walk_windows(order: Sequence[int], numbers: Sequence[int], resolution: int) -> Iterator[tuple[int, int, int]]:
    """Yields ``(count, first, last)`` for the window of ``resolution`` slots that ends with each slot of ``order``.

    ``order``: at least one slot, ascending; ``numbers``: the requests in each. A slot may be repeated: its requests
    then enter one after the other. ``count``: the requests in the window so far; ``first``: the index of the window's
    first slot in ``order``; ``last``: its last slot.

    >>> list(walk_windows([10, 11, 19, 20], [2, 1, 1, 1], resolution=10))
    [(2, 0, 10), (3, 0, 11), (4, 0, 19), (3, 1, 20)]
    """
    first = count = 0
    oldest = order[0]
    for last, number in zip(order, numbers, strict=True):
        count += number
        outside = last - resolution
        while oldest <= outside:
            count -= numbers[first]
            first += 1
            oldest = order[first]
        yield count, first, last


def without(slots: Slots, refused: Slots) -> Slots:
    """Returns what remains of ``slots`` without the requests in ``refused``; no slot without a request.

    >>> without({1: 3, 2: 2}, {1: 1, 2: 2})
    {1: 2}
    """
    served = {slot: number - refused.get(slot, 0) for slot, number in slots.items()}
    return {slot: number for slot, number in served.items() if number > 0}
