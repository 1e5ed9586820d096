"""The fewest networks that contain the same addresses as a collection of networks, while it changes.

Two networks are either nested or disjoint. So a change of one concerns only the networks that contain it, the networks
within it, and the halves that it completes; everything else stays as it is.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from chalicelib.core.addresses import Network, Span, network_at


class Cover:
    """Networks of one family, each as often as it was added, and the fewest that contain the same addresses."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans = sorted(spans, key=_order)
        self._kept = _collapsed_in_order(self._spans)
        self._networks: set[Network] | None = None
        """Those kept; None until they are asked for."""

    def __len__(self) -> int:
        """Returns the number of ``networks``."""
        return len(self._kept)

    @property
    def networks(self) -> AbstractSet[Network]:
        """The fewest networks with the same addresses. A view: it changes with the next ``add`` or ``remove``."""
        if self._networks is None:
            self._networks = set(map(network_at, self._kept))
        return self._networks

    def within(self, span: Span) -> int:
        """Returns how many of ``networks`` lie within ``span``, itself included."""
        first, end = _within(self._kept, span)
        return end - first

    def add(self, span: Span) -> None:
        covered = self._keeps_around(span)
        insort(self._spans, span, key=_order)
        if not covered:
            first, end = _within(self._kept, span)
            self._replace(first, end, [span])
            self._merge(first)

    def remove(self, span: Span) -> None:
        """Removes ``span`` once. Raises ValueError if it was never added, or has been removed as often as it was
        added."""
        at = bisect_left(self._spans, _order(span), key=_order)
        if self._spans[at : at + 1] != [span]:
            raise ValueError(f"{network_at(span)} is not one of the networks")
        del self._spans[at]
        kept_at = bisect_right(self._kept, _order(span), key=_order) - 1
        around = self._kept[kept_at]
        path = list(_widening(span, around))
        if any(self._has(wider) for wider in path):
            return
        # What is left lies within ``span`` or apart from it. The other half of each wider network was full without it.
        first, end = _within(self._spans, span)
        inside = collapsed(self._spans[first:end])
        if inside != [span]:
            halves = (_other_half(each) for each in path[:-1])
            self._replace(kept_at, kept_at + 1, sorted([*inside, *halves], key=_order))

    def _keeps_around(self, span: Span) -> bool:
        at = bisect_right(self._kept, _order(span), key=_order) - 1
        return at >= 0 and span[2] <= self._kept[at][2]

    def _has(self, span: Span) -> bool:
        at = bisect_left(self._spans, _order(span), key=_order)
        return self._spans[at : at + 1] == [span]

    def _merge(self, at: int) -> None:
        """Merges the kept network at index ``at`` with its other half, if that is kept, and does the same with the
        result."""
        while True:
            if at and _are_halves(self._kept[at - 1], self._kept[at]):
                at -= 1
            elif not (at + 1 < len(self._kept) and _are_halves(self._kept[at], self._kept[at + 1])):
                return
            self._replace(at, at + 2, [_both(self._kept[at], self._kept[at + 1])])

    def _replace(self, first: int, end: int, spans: list[Span]) -> None:
        if self._networks is not None:
            self._networks.difference_update(map(network_at, self._kept[first:end]))
            self._networks.update(map(network_at, spans))
        self._kept[first:end] = spans


def collapsed(spans: Iterable[Span]) -> list[Span]:
    """Returns the fewest networks that contain the same addresses, in order. ``spans`` are of one family.

    >>> collapsed([(4, 2, 3), (4, 8, 8), (4, 0, 1), (4, 3, 3), (4, 9, 9)])
    [(4, 0, 3), (4, 8, 9)]
    """
    return _collapsed_in_order(sorted(spans, key=_order))


def _collapsed_in_order(spans: Iterable[Span]) -> list[Span]:
    # In ascending order, the wider first, each network lies within the last one kept, or is its other half (the merged
    # network may in turn be a half of the one before), or is separate.
    kept: list[Span] = []
    for span in spans:
        if kept and span[2] <= kept[-1][2]:
            continue
        kept.append(span)
        while len(kept) > 1 and _are_halves(kept[-2], kept[-1]):
            kept[-2:] = [_both(kept[-2], kept[-1])]
    return kept


def _order(span: Span) -> tuple[int, int]:
    """Returns the sort key of ``span``: ascending, and of networks with the same first address the wider first."""
    return span[1], -span[2]


def _within(spans: list[Span], span: Span) -> tuple[int, int]:
    """Returns the range of the sorted ``spans`` that lie within ``span``, itself included."""
    return bisect_left(spans, _order(span), key=_order), bisect_right(spans, (span[2], 0), key=_order)


def _are_halves(lower: Span, upper: Span) -> bool:
    """Returns whether the two make up one network. The halves of ``/0`` do not, because AWS rejects it."""
    size, half_of_all = lower[2] - lower[1] + 1, 1 << (31 if lower[0] == 4 else 127)
    return size < half_of_all and upper[1] == lower[1] + size and upper[2] == lower[2] + size and not lower[1] & size


def _both(lower: Span, upper: Span) -> Span:
    return lower[0], lower[1], upper[2]


def _other_half(span: Span) -> Span:
    """Returns the network that makes up the next wider one together with ``span``."""
    family, first, last = span
    size = last - first + 1
    return family, first ^ size, last ^ size


def _widening(span: Span, around: Span) -> Iterator[Span]:
    """Yields ``span`` and each wider network up to ``around``, which contains it."""
    yield span
    while span != around:
        family, first, last = span
        size = last - first + 1
        span = family, first & ~size, last | size
        yield span
