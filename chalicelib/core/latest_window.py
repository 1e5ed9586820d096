"""Current requests per client: exact counts within a rule's latest window, or the present levels of its bucket.

The latest window ends with the newest request counted, because log lines arrive with a delay: a window that ended now
would always look half empty.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest

from chalicelib.core.allowance import Allowance
from chalicelib.core.buckets import level_at
from chalicelib.core.distinct import number_within
from chalicelib.core.meter_tally import Slots
from chalicelib.core.rules import Rule


@dataclass(frozen=True, slots=True)
class LatestWindow:
    """A window, in slots: from ``first`` (inclusive) to ``end`` (exclusive)."""

    first: int
    end: int

    def count(self, slots: Slots, allowance: Allowance) -> int:
        """Returns the requests within the window; of a bucket, its level at the window's end; or, if ``allowance`` is
        one of different values, their number.

        >>> from chalicelib.core.buckets import Drain
        >>> LatestWindow(10, 20).count({9: 5, 10: 2, 19: 1, 20: 7}, Allowance(10, 50))
        3
        >>> LatestWindow(10, 20).count({9: 5, 10: 2, 17: 5, 20: 7}, Allowance(10, 50, Drain(1, per_slot=1, last=1)))
        2
        """
        if allowance.distinct:
            return number_within(slots, self.first, self.end)
        drain = allowance.drain
        within = ((slot, number) for slot, number in slots.items() if self.first <= slot < self.end)
        return sum(number for _, number in within) if drain is None else level_at(sorted(within), self.end - 1, drain)


def latest_window(rule: Rule, newest_ms: int, now_ms: int, lag_ms: int) -> LatestWindow:
    """Returns the window of ``rule`` that ends with the slot of ``newest_ms``, but not after the slot of ``now_ms``.

    After more than ``lag_ms`` without a request, the window ends ``lag_ms`` ago, so that it empties as time passes.

    >>> rule = Rule(name="r", limit=1, window_s=10, resolution=10)
    >>> latest_window(rule, 58_200, 60_000, 5_000), latest_window(rule, 3_000, 60_000, 5_000)
    (LatestWindow(first=49, end=59), LatestWindow(first=46, end=56))
    """
    end_ms = min(max(newest_ms, now_ms - lag_ms), now_ms)
    end = end_ms // rule.slot_ms + 1
    return LatestWindow(end - rule.resolution, end)


def busiest(
    clients: Iterable[tuple[bytes, Slots]], window: LatestWindow, number: int, allowance: Allowance
) -> list[tuple[bytes, int]]:
    """Returns up to ``number`` clients and their counts in ``window``, busiest first; none without requests.

    ``clients``: a client with several groups of requests occurs once per group; the busiest group gives its count.
    ``allowance``: what the rule allows.

    >>> busiest([(b"aaaa", {1: 2}), (b"bbbb", {1: 3}), (b"cccc", {9: 9})], LatestWindow(0, 5), 2, Allowance(5, 9))
    [(b'bbbb', 3), (b'aaaa', 2)]
    """
    highest: dict[bytes, int] = {}
    for key, slots in clients:
        count = window.count(slots, allowance)
        if count > highest.get(key, 0):
            highest[key] = count
    return nlargest(number, highest.items(), key=lambda client: (client[1], client[0]))
