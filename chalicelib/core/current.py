"""How many requests clients make just now: exact counts within a rule's latest window.

The latest window ends with the newest slot that anybody was counted in, as logs arrive late: a window that ended with
the present would always look half empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nlargest

from chalicelib.core.tally import Clients, Slots
from chalicelib.core.windows import Grid


@dataclass(frozen=True, slots=True)
class Latest:
    """A window, in slots: from ``first`` (inclusive) to ``end`` (exclusive)."""

    first: int
    end: int

    def count(self, slots: Slots) -> int:
        """Requests within the window.

        >>> Latest(10, 20).count({9: 5, 10: 2, 19: 1, 20: 7})
        3
        """
        return sum(number for slot, number in slots.items() if self.first <= slot < self.end)


def latest_window(grid: Grid, resolution: int, now_ms: int, lag_ms: int) -> Latest:
    """The window of ``resolution`` slots that ends with the newest slot, no newer than ``now_ms``.

    When nothing came for more than ``lag_ms``, the window ends that long ago, and empties as time goes by.
    """
    present, late = now_ms // grid.slot_ms, (now_ms - lag_ms) // grid.slot_ms
    newest = max((slot for slots in grid.clients.values() for slot in slots if slot <= present), default=late)
    end = max(newest, late) + 1
    return Latest(end - resolution, end)


def busiest(clients: Clients, window: Latest, number: int) -> list[tuple[bytes, int]]:
    """The clients with most requests in ``window`` and their counts, busiest first; none without requests.

    >>> busiest({b"aaaa": {1: 2}, b"bbbb": {1: 3}, b"cccc": {9: 9}}, Latest(0, 5), 2)
    [(b'bbbb', 3), (b'aaaa', 2)]
    """
    counts: Mapping[bytes, int] = {key: window.count(slots) for key, slots in clients.items()}
    some = nlargest(number, counts.items(), key=lambda pair: (pair[1], pair[0]))
    return [(key, count) for key, count in some if count]
