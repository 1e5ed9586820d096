"""Sliding windows over tallies, evaluated exactly.

A window is ``resolution`` consecutive slots, half-open in time: from the start of its first slot (inclusive) to the
end of its last (exclusive), exactly the rule's window long. A client is over a limit when the slots of some window
add up to more than it. That makes G1 (never early) hold with no estimate, and as every span of ``window - slot``
milliseconds fits into one window, G2 (never missed) as well.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Rule, RuleSet, serving
from chalicelib.core.tally import Clients, MeterTally, Slots, Tally, add_clients, folded

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
    marks = sorted(touched)
    lowest, highest = marks[0] - resolution, marks[-1] + resolution
    order = sorted([slot for slot in slots if lowest < slot < highest])
    numbers = list(map(slots.__getitem__, order))
    over = [window for window in walk_windows(order, numbers, resolution) if window[0] > limit]
    for count, first, last in reversed(over):
        if last - resolution < marks[bisect_right(marks, last) - 1] <= last:
            since, rest = first, count
            while rest - numbers[since] > limit:
                rest -= numbers[since]
                since += 1
            return Window(count, order[first], last, order[since])
    return None


def walk_windows(order: Sequence[int], numbers: Sequence[int], resolution: int) -> Iterator[tuple[int, int, int]]:
    """Yields ``(count, first, last)`` for the window of ``resolution`` slots that ends with each slot of ``order``.

    ``order``: at least one slot, ascending; ``numbers``: the requests in each. A slot may be repeated: its requests
    then enter one after the other. ``count``: the requests in the window so far; ``first``: the index of the window's
    first slot in ``order``; ``last``: its last slot.

    Windows that end in an occupied slot are all there is to examine: moving a window back until its last slot is
    occupied never lowers its count.

    >>> list(walk_windows([10, 11, 19, 20], [2, 1, 1, 1], resolution=10))
    [(2, 0, 10), (3, 0, 11), (4, 0, 19), (3, 1, 20)]
    """
    first = count = 0
    oldest = order[0]
    for last, number in zip(order, numbers, strict=True):
        count += number
        gone = last - resolution
        while oldest <= gone:
            count -= numbers[first]
            first += 1
            oldest = order[first]
        yield count, first, last


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
    """Requests per client and slot, as one meter counted them of one source.

    Slots are kept in stretches, each some consecutive slots and no shorter than a window: a window is found in two of
    them at most, however much else is kept, and what is too old goes by the stretch.
    """

    def __init__(self, slot_ms: int, reach_ms: int) -> None:
        """``reach_ms``: the longest window that is evaluated here."""
        self.slot_ms = slot_ms
        self.reach = -(-reach_ms // slot_ms)
        """Slots in the longest window."""
        self.floor = 0
        """Slots below are not kept."""
        self._size = max(self.reach, STRETCH_MS // slot_ms)
        self._stretches: dict[int, Clients] = {}
        self._entries: dict[int, int] = {}

    @property
    def entries(self) -> int:
        """(client, slot) pairs; a pair that came twice may count as two."""
        return sum(self._entries.values())

    def clients(self) -> set[bytes]:
        """Everybody of whom something is kept."""
        return set(chain.from_iterable(self._stretches.values()))

    def slots(self, client: bytes) -> Slots:
        """What is kept of one client."""
        return self._gather(client, self._stretches.values())

    def add(self, clients: Clients, lowest: int, highest: int) -> None:
        """Adds counts, none of them in a slot below ``lowest`` or above ``highest``."""
        number, last = lowest // self._size, highest // self._size
        if number == last and lowest >= self.floor:
            self._add(number, clients)
            return
        parts: dict[int, Clients] = {}
        for key, slots in clients.items():
            for slot, requests in slots.items():
                if slot >= self.floor:
                    parts.setdefault(slot // self._size, {}).setdefault(key, {})[slot] = requests
        for number, part in parts.items():
            self._add(number, part)

    def _add(self, number: int, clients: Clients) -> None:
        stretch = self._stretches.setdefault(number, {})
        self._entries[number] = self._entries.get(number, 0) + sum(map(len, clients.values()))
        add_clients(stretch, clients)

    def above(self, clients: Iterable[bytes], limit: int, lowest: int, highest: int) -> list[tuple[bytes, Slots]]:
        """Those of ``clients`` that may be over ``limit`` in a window that contains a slot of lowest..highest.

        With each comes what is kept of it around there. Most clients are ruled out by a sum, in C.
        """
        size, reach = self._size, self.reach
        numbers = range((lowest - reach + 1) // size, (highest + reach - 1) // size + 1)
        near = [self._stretches[number] for number in numbers if number in self._stretches]
        keys = list(clients)
        sums = [map(sum, map(dict.values, map(stretch.get, keys, repeat(NOTHING)))) for stretch in near]
        totals = map(sum, zip(*sums, strict=True)) if len(sums) > 1 else sums[0] if sums else repeat(0)
        return [(key, self._gather(key, near)) for key, total in zip(keys, totals, strict=False) if total > limit]

    def _gather(self, client: bytes, stretches: Iterable[Clients]) -> Slots:
        found: Slots = {}
        for stretch in stretches:
            found.update(stretch.get(client, NOTHING))
        return found

    def forget(self, floor: int) -> None:
        """Lets go of the stretches that lie below ``floor``; slots below are not taken any more."""
        self.floor = floor
        for number in [n for n in self._stretches if (n + 1) * self._size <= floor]:
            del self._stretches[number], self._entries[number]

    def shares(self, limit: int) -> Iterator[tuple[float, int, int, bytes]]:
        """Each client's requests over ``limit + 1``, its entries, and where it is, by stretch."""
        for number, stretch in self._stretches.items():
            for key, slots in stretch.items():
                yield sum(slots.values()) / (limit + 1), len(slots), number, key

    def drop(self, number: int, key: bytes) -> None:
        """Forgets a client's part of a stretch."""
        self._entries[number] -= len(self._stretches[number].pop(key))


NOTHING: Slots = {}
STRETCH_MS = 60_000
"""A stretch is as long as a window and at least this long: short ones would cost a dictionary each per client."""


GridKey = tuple[Source, bytes, int, tuple[int, ...]]
"""Of a grid: source and topic, the slot length it is counted in, and those it is evaluated in."""


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
        self._grids: dict[GridKey, Grid] = {}
        self._rules: dict[bytes, dict[int, list[Rule]]] = {}
        for rule in rules.rules:
            self._rules.setdefault(rule.meter.topic, {}).setdefault(rule.slot_ms, []).append(rule)

    @property
    def entries(self) -> int:
        return sum(grid.entries for grid in self._grids.values())

    def has_clients(self, source: Source, rule: Rule) -> bool:
        """Returns whether any count under ``rule`` is stored."""
        return any(grid.entries for grid in self._grids_of(source, rule))

    def clients(self, source: Source, rule: Rule) -> Iterator[tuple[bytes, Slots]]:
        """Yields every client with a stored count under ``rule``, with its slots as ``slots`` returns them."""
        grids = self._grids_of(source, rule)
        for client in set().union(*(grid.clients() for grid in grids)):
            yield client, _slots(grids, rule, client)

    def slots(self, source: Source, rule: Rule, client: bytes) -> Slots:
        """Returns the stored counts of one client, in slots of ``rule``'s length."""
        return _slots(self._grids_of(source, rule), rule, client)

    def _grids_of(self, source: Source, rule: Rule) -> list[Grid]:
        topic = rule.meter.topic
        return [
            g for (s, t, _, served), g in self._grids.items() if (s, t) == (source, topic) and rule.slot_ms in served
        ]

    def keep_since(self, since_ms: int) -> None:
        """From now on the view need only be exact for requests at or after ``since_ms``; it never goes back."""
        if since_ms <= self.since_ms:
            return
        self.since_ms = since_ms
        for grid in self._grids.values():
            grid.forget(self._floor(grid))

    def merge(self, tally: Tally, first_ms: int, last_ms: int) -> None:
        """Adds a tally whose requests were all made within ``first_ms``..``last_ms``, both inclusive."""
        for place, counted in self._read(tally):
            grid = self._grids.get(place)
            if grid is None:
                rules = chain.from_iterable(self._rules[counted.topic][slot_ms] for slot_ms in place[3])
                grid = Grid(counted.slot_ms, max(rule.window_s for rule in rules) * 1000)
                grid.forget(self._floor(grid))
                self._grids[place] = grid
            grid.add(counted.clients, first_ms // counted.slot_ms, last_ms // counted.slot_ms)
        if self.entries > self._most_entries:
            self._drop(self.entries - int(self._most_entries * FULLEST_AFTER_DROP))

    def offences(self, touched: Tally, first_ms: int, last_ms: int) -> list[Offence]:
        """Who is over a limit in a window that contains a slot of ``touched``; a client once per rule and source.

        All requests of ``touched`` were made within ``first_ms``..``last_ms``, both inclusive.
        """
        found = []
        for (source, topic, _, served), counted in self._read(touched):
            for slot_ms in served:
                for rule in self._rules[topic][slot_ms]:
                    limit = rule.limit * self._sample_rate // 100
                    for key, slots in self._above(source, rule, counted.clients, limit, first_ms, last_ms):
                        factor = slot_ms // counted.slot_ms
                        marks = {slot // factor for slot in counted.clients[key]} & slots.keys()
                        window = over_limit(slots, marks, rule.resolution, limit) if marks else None
                        if window is not None:
                            found.append(self._offence(rule, source, key, window))
        return found

    def _above(
        self, source: Source, rule: Rule, clients: Iterable[bytes], limit: int, first_ms: int, last_ms: int
    ) -> Iterator[tuple[bytes, Slots]]:
        """Clients that may be over ``limit``, with their slots in the length of ``rule``."""
        grids = self._grids_of(source, rule)
        # A client spread over several grids (rules have just changed) may be above only with all of them together.
        only = limit if len(grids) == 1 else 0
        total: Clients = {}
        for grid in grids:
            above = grid.above(clients, only, first_ms // grid.slot_ms, last_ms // grid.slot_ms)
            add_clients(total, {client: folded(slots, rule.slot_ms // grid.slot_ms) for client, slots in above})
        return iter(total.items())

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

    def _read(self, tally: Tally) -> list[tuple[GridKey, MeterTally]]:
        """Where each part of ``tally`` belongs.

        Each length a rule is evaluated in takes one part of its topic: the coarsest whose slots divide its own.
        """
        served: dict[tuple[Source, bytes, int], tuple[MeterTally, list[int]]] = {}
        parts = {(c.source, c.topic): [d for d in tally if (d.source, d.topic) == (c.source, c.topic)] for c in tally}
        for (source, topic), some in parts.items():
            for slot_ms in self._rules.get(topic, ()):
                best = serving(slot_ms, some)
                if best is not None:
                    served.setdefault((source, topic, best.slot_ms), (best, []))[1].append(slot_ms)
        return [((*place, tuple(lengths)), counted) for place, (counted, lengths) in served.items()]

    def _floor(self, grid: Grid) -> int:
        return self.since_ms // grid.slot_ms - grid.reach + 1

    def _drop(self, surplus: int) -> None:
        """Drops the clients with the smallest share of their limit until ``surplus`` entries are gone."""
        shares = []
        for (_, topic, _, served), grid in self._grids.items():
            limit = min(rule.limit for slot_ms in served for rule in self._rules[topic][slot_ms])
            shares += [(*share, grid) for share in grid.shares(limit)]
        shares.sort(key=itemgetter(0))
        for _, size, number, key, grid in shares:
            if surplus <= 0:
                break
            grid.drop(number, key)
            surplus -= size
            self.dropped += 1


def _slots(grids: Iterable[Grid], rule: Rule, client: bytes) -> Slots:
    total: Clients = {client: {}}
    for grid in grids:
        add_clients(total, {client: folded(grid.slots(client), rule.slot_ms // grid.slot_ms)})
    return total[client]
