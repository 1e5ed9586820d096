"""Different values: how many paths, for example, a client has asked for within a window. Exactly, and in any order.

*Keys.* A meter of different values counts requests under the keys of groups (``client_groups``): a client, and eight
bytes that stand for the value. So tallies hold what they always hold, and equal values meet wherever they were read.
To evaluate a client, its groups are put together. The number of a slot and a value then are one integer, a *mark*::

    slot << 64 | value

*Windows.* A window has as many different values as occur in it, however often each does. For the windows that end with
one slot, each value counts where it occurred last: the values since any slot are then a sum, as requests are.

*Never early.* Two values with the same digest count as one, which only lowers a count.

*Bounds.* Of each client and slot, a view keeps the ``MOST_VALUES`` values with the lowest digests, more than any limit.
So a client with more of them is over its limit all the same, if by a lower count. Which values are kept does not depend
on the order in which they arrive, and of each that is kept, all refusals are kept as well.

*Cost.* A client that asks for the same values again and again leaves a mark for each of them in each slot. A view also
notes in which slot each value occurred last: a client with few enough values since a window began cannot be over the
limit in it, and this takes no look at its marks.
"""

from collections.abc import Collection, Iterable, Iterator
from heapq import nlargest
from itertools import groupby, islice
from operator import itemgetter

from chalicelib.core.client_groups import CLIENT_BYTES, client_head, client_of
from chalicelib.core.meter_tally import FEW, Clients, MeterTally, Slots

LARGEST_DISTINCT = 1000
"""Largest limit of different values."""

MOST_VALUES = LARGEST_DISTINCT + 1
"""Most values of a client in one slot that a view tells apart."""

FINEST_RESOLUTION = 100
"""Most slots of a window in which different values are counted. It bounds the marks of a client in a view."""

VALUE_BITS = 64
_VALUE = (1 << VALUE_BITS) - 1


def mark(slot: int, digest: bytes) -> int:
    """Returns the mark of a value in a slot. ``digest``: eight bytes that stand for the value.

    >>> slot_of(mark(7, b"--path--"))
    7
    """
    return slot << VALUE_BITS | int.from_bytes(digest, "big")


def slot_of(mark: int) -> int:
    """Returns the number of the slot in a mark."""
    return mark >> VALUE_BITS


def by_client(groups: Clients) -> Clients:
    """Returns the requests of each client by mark. ``groups``: requests by slot, by the keys of groups."""
    clients: Clients = {}
    for key, slots in groups.items():
        marks, value = clients.setdefault(client_of(key), {}), int.from_bytes(key[CLIENT_BYTES:], "big")
        for slot, number in slots.items():
            marks[slot << VALUE_BITS | value] = number
    return clients


def marks_of(tally: MeterTally, clients: Collection[bytes]) -> Clients:
    """Returns the requests by mark of those of ``clients`` that are counted in ``tally``, under the keys of groups."""
    heads = set(map(client_head, clients))
    if len(heads) > FEW:
        keys = tally.keys()
        return by_client(tally.slots_of({key for key in keys if key[:CLIENT_BYTES] in heads}))
    return by_client(tally.slots_of({key for head in heads for key in _keys_with(head, tally.keys16)}))


def _keys_with(head: bytes, column: bytes) -> Iterator[bytes]:
    """Yields the keys of 16 bytes in ``column`` that begin with ``head``."""
    at = column.find(head)
    while at >= 0:
        if at % 16:
            at = column.find(head, at + 1)
        else:
            yield column[at : at + 16]
            at = column.find(head, at + 16)


def folded_marks(marks: Slots, factor: int) -> Slots:
    """Returns the same requests with slots ``factor`` times as long; ``marks`` itself if ``factor`` is 1.

    >>> wide = folded_marks({mark(19, b"--path--"): 1, mark(20, b"--path--"): 2, mark(29, b"--path--"): 3}, 10)
    >>> {slot_of(each): number for each, number in wide.items()}
    {1: 1, 2: 5}
    """
    if factor == 1:
        return marks
    wide: Slots = {}
    for each, number in marks.items():
        slot = (each >> VALUE_BITS) // factor << VALUE_BITS | each & _VALUE
        wide[slot] = wide.get(slot, 0) + number
    return wide


class LastSlots:
    """The last slot of each value of a client, of at least the ``MOST_VALUES`` values seen last.

    >>> last = LastSlots()
    >>> last.note([mark(10, b"path---a"), mark(11, b"path---b"), mark(9, b"path---b")])
    >>> len(last.since(10)), len(last.since(11))
    (2, 1)
    """

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}

    def note(self, marks: Iterable[int]) -> None:
        for each in marks:
            slot, value = each >> VALUE_BITS, each & _VALUE
            if self._slots.get(value, -1) < slot:
                self._slots[value] = slot
        if len(self._slots) > 4 * MOST_VALUES:
            self._slots = dict(nlargest(MOST_VALUES, self._slots.items(), key=itemgetter(1)))

    def since(self, slot: int) -> list[int]:
        """Returns the values that have occurred in ``slot`` or later: all of them, or at least ``MOST_VALUES``."""
        return [value for value, last in self._slots.items() if last >= slot]


def lowest_values(marks: Slots) -> Slots:
    """Returns the requests of the ``MOST_VALUES`` lowest values of each slot; ``marks`` itself if that is all."""
    if len(marks) <= MOST_VALUES:
        return marks
    kept = [each for _, same in groupby(sorted(marks), slot_of) for each in islice(same, MOST_VALUES)]
    return marks if len(kept) == len(marks) else {each: marks[each] for each in kept}


def number_within(marks: Iterable[int], first: int, end: int) -> int:
    """Returns the number of different values in the slots from ``first`` (inclusive) to ``end`` (exclusive)."""
    low, high = first << VALUE_BITS, end << VALUE_BITS
    return len({each & _VALUE for each in marks if low <= each < high})


def walk_values(order: Iterable[int], resolution: int) -> Iterator[tuple[int, bool]]:
    """Yields for each mark of ``order`` the number of different values so far in the window of ``resolution`` slots
    that ends with its slot, and whether its own value is new there.

    ``order``: ascending by slot. A mark may be repeated.

    >>> a, b = b"path---a", b"path---b"
    >>> list(walk_values([mark(10, a), mark(11, b), mark(11, b), mark(20, b)], resolution=10))
    [(1, True), (2, True), (2, False), (1, False)]
    """
    last_seen: dict[int, int] = {}
    """The slot of each value in the window, those seen longest ago first."""
    for each in order:
        slot, value = each >> VALUE_BITS, each & _VALUE
        outside = slot - resolution
        is_new = last_seen.pop(value, outside) <= outside
        last_seen[value] = slot
        while last_seen[oldest := next(iter(last_seen))] <= outside:
            del last_seen[oldest]
        yield len(last_seen), is_new


def last_slots(order: Iterable[int]) -> list[int]:
    """Returns the slot in which each value of ``order``, marks ascending by slot, occurred last; ascending.

    >>> last_slots([mark(10, b"path---a"), mark(11, b"path---b"), mark(12, b"path---a")])
    [11, 12]
    """
    return sorted({each & _VALUE: each >> VALUE_BITS for each in order}.values())
