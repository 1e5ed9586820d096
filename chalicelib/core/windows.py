"""Sliding windows over tallies, evaluated exactly.

A window is ``resolution`` consecutive slots, half-open in time: from the start of its first slot (inclusive) to the
end of its last (exclusive), exactly the rule's window long. A client is over a limit when the slots of some window
add up to more than it. That makes G1 (never early) hold with no estimate, and as every span of ``window - slot``
milliseconds fits into one window, G2 (never missed) as well.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

from chalicelib.core.requests import Source
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.tally import Clients, Counted, Slots, Tally

MORE_BEFORE_PRUNING = 20_000
FULLEST_AFTER_DROP = 0.75


@dataclass(frozen=True, slots=True)
class Window:
    """A window in which a client was over the limit, in slots; ``first`` and ``last`` (both inclusive) are occupied."""

    count: int
    first: int
    last: int
    since: int
    """The latest slot such that the requests from it up to ``last`` are over the limit by themselves."""


def over_limit(slots: Slots, touched: Iterable[int], resolution: int, limit: int) -> Window | None:
    """The latest window of ``resolution`` slots that holds more than ``limit`` and contains a slot of ``touched``.

    ``touched`` are keys of ``slots``.

    >>> over_limit({10: 2, 11: 1, 19: 1}, [19], resolution=10, limit=3)
    Window(count=4, first=10, last=19, since=10)
    >>> over_limit({10: 2, 11: 1, 20: 1}, [20], resolution=10, limit=3) is None
    True
    """
    # Moving a window to the left until its last slot is occupied only adds to it, so windows that end in an
    # occupied slot are all that need looking at.
    marks = sorted(touched)
    near = sorted(slot for slot in slots if marks[0] - resolution < slot < marks[-1] + resolution)
    found = None
    left = total = mark = 0
    for last in near:
        total += slots[last]
        while near[left] <= last - resolution:
            total -= slots[near[left]]
            left += 1
        while mark + 1 < len(marks) and marks[mark + 1] <= last:
            mark += 1
        if total > limit and last - resolution < marks[mark] <= last:
            found = (total, left, last)
    if found is None:
        return None
    count, left, last = found
    since, rest = left, count
    while rest - slots[near[since]] > limit:
        rest -= slots[near[since]]
        since += 1
    return Window(count, near[left], last, near[since])


@dataclass(frozen=True, slots=True)
class Offence:
    """A client over a rule's limit."""

    rule: Rule
    source: Source
    client: bytes
    count: int
    """Requests in the window, scaled up where the log is sampled."""
    first_ms: int
    """Start of the slot of the window's first request."""
    last_ms: int
    """End of the slot of its last one: the last millisecond in it."""
    since_ms: int
    """The requests from here to ``last_ms`` are over the limit by themselves."""


class Grid:
    """Requests per client and slot, of one meter and source, at one slot length."""

    def __init__(self, slot_ms: int, slots: int) -> None:
        self.slot_ms = slot_ms
        self.reach = slots
        """Slots of the longest window that is evaluated here."""
        self.clients: Clients = {}
        self.floor = 0
        """Slots below are not kept."""
        self.entries = 0
        """(client, slot) pairs; counts a pair that was added twice as two until the next ``prune``."""

    def add(self, clients: Clients, factor: int) -> None:
        """Adds counts in slots that are ``factor`` times finer than the grid's."""
        mine, floor = self.clients, self.floor
        for key, slots in clients.items():
            self.entries += len(slots)
            held = mine.get(key)
            if held is None:
                if factor == 1 and min(slots) >= floor:
                    mine[key] = slots.copy()
                    continue
                held = mine[key] = {}
            for slot, number in slots.items():
                slot //= factor  # noqa: PLW2901
                if slot >= floor:
                    held[slot] = held.get(slot, 0) + number

    def prune(self) -> None:
        """Lets go of the slots below the floor, and of clients without slots."""
        floor = self.floor
        kept: Clients = {}
        self.entries = 0
        for key, slots in self.clients.items():
            if slots and min(slots) < floor:
                slots = {slot: number for slot, number in slots.items() if slot >= floor}  # noqa: PLW2901
            if slots:
                kept[key] = slots
                self.entries += len(slots)
        self.clients = kept


Place = tuple[Source, bytes, int]
"""Of a grid: source, topic, slot length."""


class View:
    """All that one container remembers of the tallies: exact for requests at or after ``since_ms``.

    ``sample_rate`` is the percentage of requests that the log holds. ``most_entries`` bounds the memory: past it, the
    clients that are furthest from their limit are dropped, and counted in ``dropped``.
    """

    def __init__(self, rules: RuleSet, *, sample_rate: int, most_entries: int) -> None:
        self.rules = rules
        self.dropped = 0
        self.since_ms = 0
        self._sample_rate = sample_rate
        self._most_entries = most_entries
        self._kept_entries = 0
        self._grids: dict[Place, Grid] = {}
        self._places: dict[bytes, dict[int, int]] = {}
        self._rules = [(rule, rule.meter.topic) for rule in rules.rules]
        for rule, topic in self._rules:
            lengths = self._places.setdefault(topic, {})
            lengths[rule.slot_ms] = max(lengths.get(rule.slot_ms, 0), rule.resolution)

    @property
    def entries(self) -> int:
        return sum(grid.entries for grid in self._grids.values())

    def grid(self, source: Source, rule: Rule) -> Grid | None:
        """Where ``rule`` is evaluated for ``source``; None if nothing has been counted there yet."""
        return self._grids.get((source, rule.meter.topic, rule.slot_ms))

    def keep_since(self, since_ms: int) -> None:
        """From now on the view need only be exact for requests at or after ``since_ms``; it never goes back."""
        if since_ms <= self.since_ms:
            return
        self.since_ms = since_ms
        for grid in self._grids.values():
            grid.floor = self._floor(grid)
        if self.entries > 2 * self._kept_entries + MORE_BEFORE_PRUNING or self.entries > self._most_entries:
            self._prune()

    def merge(self, tally: Tally) -> None:
        """Adds a tally."""
        for counted, slot_ms in self._read(tally):
            place = (counted.source, counted.topic, slot_ms)
            grid = self._grids.get(place)
            if grid is None:
                grid = self._grids[place] = Grid(slot_ms, self._places[counted.topic][slot_ms])
                grid.floor = self._floor(grid)
            grid.add(counted.clients, slot_ms // counted.slot_ms)
        if self.entries > self._most_entries:
            self._prune()

    def offences(self, touched: Tally) -> list[Offence]:
        """Who is over a limit in a window that contains a slot of ``touched``; a client once per rule and source."""
        found = []
        read = {(c.source, c.topic, slot_ms): c for c, slot_ms in self._read(touched)}
        for (source, topic, slot_ms), counted in read.items():
            grid = self._grids.get((source, topic, slot_ms))
            if grid is None:
                continue
            factor = slot_ms // counted.slot_ms
            rules = [rule for rule, rule_topic in self._rules if rule_topic == topic and rule.slot_ms == slot_ms]
            limits = [rule.limit * self._sample_rate // 100 for rule in rules]
            for key in _above(grid.clients, counted.clients, min(limits)):
                slots = grid.clients[key]
                marks = {slot // factor for slot in counted.clients[key]} & slots.keys()
                for rule, limit in zip(rules, limits, strict=True):
                    window = over_limit(slots, marks, rule.resolution, limit) if marks else None
                    if window is not None:
                        found.append(self._offence(rule, source, key, window))
        return found

    def _offence(self, rule: Rule, source: Source, client: bytes, window: Window) -> Offence:
        slot_ms = rule.slot_ms
        return Offence(
            rule=rule,
            source=source,
            client=client,
            count=window.count * 100 // self._sample_rate,
            first_ms=window.first * slot_ms,
            last_ms=(window.last + 1) * slot_ms - 1,
            since_ms=window.since * slot_ms,
        )

    def _read(self, tally: Tally) -> Iterator[tuple[Counted, int]]:
        """What each grid takes from ``tally``, and the grid's slot length.

        Where a tally holds one topic at several slot lengths (several rules, none of whose slots divides the other's),
        a grid takes the coarsest that divides its own: one of them, or requests would count twice.
        """
        best: dict[Place, Counted] = {}
        for counted in tally:
            for slot_ms in self._places.get(counted.topic, ()):
                place = (counted.source, counted.topic, slot_ms)
                rival = best.get(place)
                if slot_ms % counted.slot_ms == 0 and (rival is None or rival.slot_ms < counted.slot_ms):
                    best[place] = counted
        return ((counted, place[2]) for place, counted in best.items())

    def _floor(self, grid: Grid) -> int:
        return self.since_ms // grid.slot_ms - grid.reach + 1

    def _prune(self) -> None:
        for grid in self._grids.values():
            grid.prune()
        if self.entries > self._most_entries:
            self._drop(self.entries - int(self._most_entries * FULLEST_AFTER_DROP))
        self._kept_entries = self.entries

    def _drop(self, surplus: int) -> None:
        """Drops the clients with the smallest share of their limit until ``surplus`` entries are gone."""
        shares = []
        for (_, topic, slot_ms), grid in self._grids.items():
            limit = 1 + min(rule.limit for rule, other in self._rules if other == topic and rule.slot_ms == slot_ms)
            shares += [(sum(slots.values()) / limit, len(slots), key, grid) for key, slots in grid.clients.items()]
        shares.sort(key=lambda share: share[0])
        for _, size, key, grid in shares:
            if surplus <= 0:
                break
            del grid.clients[key]
            grid.entries -= size
            surplus -= size
            self.dropped += 1


def _above(held: Clients, touched: Clients, limit: int) -> list[bytes]:
    """The touched clients with more than ``limit`` requests in all slots that are held."""
    nothing: Slots = {}
    totals = map(sum, map(dict.values, map(held.get, touched, repeat(nothing))))
    return [key for key, total in zip(touched, totals, strict=True) if total > limit]
