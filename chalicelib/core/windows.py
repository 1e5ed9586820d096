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

*Meters and grids.* Tallies arrive by meter: requests of one source, counted per client in slots of the meter's length.
A rule is evaluated from the coarsest meter whose slots divide its own, and the slots are folded on the way
(``rules.serving``, ``tally.folded``). A ``Grid`` holds what one meter counted of one source, for the rules it serves;
the ``View`` is all grids of a container. Tallies from before a change of rules may stem from other meters, and then
have a grid of their own. Each request reaches a rule through one grid only, so the rule adds up all grids that serve
it.

*Stretches.* A grid keeps its counts in stretches of consecutive slots, each at least a minute and at least as long as
the longest window. Any window lies in two of them at most, old counts are dropped a whole stretch at a time, and the
sums of a few stretches, computed in C, show that most clients cannot be over a limit.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from typing import NamedTuple

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Rule, RuleSet, serving
from chalicelib.core.tally import Clients, MeterTally, Slots, Tally, add_clients, folded

FULLEST_AFTER_DROP = 0.75
"""Share of a view's entries that remains after a drop, so that drops, which sort all clients, are rare."""

STRETCH_MS = 60_000
"""Shortest stretch: each stretch costs a dictionary per client, so shorter ones would waste memory."""

EMPTY: Slots = {}


class GridKey(NamedTuple):
    """Identity of a grid: the meter that counted, and the rules that are evaluated from it."""

    source: Source
    topic: bytes
    slot_ms: int
    serves: tuple[int, ...]
    """Slot lengths of the rules."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window in which a client was over the limit, in slots; ``first`` and ``last`` (both inclusive) are occupied."""

    count: int
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


@dataclass(frozen=True, slots=True)
class Offence:
    """A client over a rule's limit."""

    rule: Rule
    source: Source
    client: bytes
    count: int
    """Requests in the window, scaled up where the log is sampled."""
    first_ms: int
    """Start of the slot that holds the window's first request."""
    last_ms: int
    """Last millisecond of the slot that holds its last request."""
    since_ms: int
    """The latest time from which the requests up to ``last_ms`` alone are over the limit."""


class Grid:
    """The requests per client and slot that one meter counted of one source, in stretches."""

    def __init__(self, slot_ms: int, window_ms: int, since_ms: int) -> None:
        """Starts empty. ``window_ms``: the longest window evaluated here. ``since_ms``: see ``keep_since``."""
        self.slot_ms = slot_ms
        self._reach = -(-window_ms // slot_ms)
        """Slots in the longest window."""
        self._size = max(self._reach, STRETCH_MS // slot_ms)
        """Slots in a stretch; stretch ``n`` begins with slot ``n * _size``."""
        self._stretches: dict[int, Clients] = {}
        self._entries: dict[int, int] = {}
        self.keep_since(since_ms)

    @property
    def entries(self) -> int:
        """Number of (client, slot) pairs; a pair added twice may count as two."""
        return sum(self._entries.values())

    def clients(self) -> set[bytes]:
        return set(chain.from_iterable(self._stretches.values()))

    def slots(self, client: bytes) -> Slots:
        """Returns all counts of one client."""
        return self._gather(client, self._stretches.values())

    def add(self, clients: Clients, lowest: int, highest: int) -> None:
        """Adds counts, none of them in a slot below ``lowest`` or above ``highest``."""
        number, last = lowest // self._size, highest // self._size
        if number == last and lowest >= self._floor:
            self._add(number, clients)
            return
        parts: dict[int, Clients] = {}
        for client, slots in clients.items():
            for slot, requests in slots.items():
                if slot >= self._floor:
                    parts.setdefault(slot // self._size, {}).setdefault(client, {})[slot] = requests
        for number, part in parts.items():
            self._add(number, part)

    def _add(self, number: int, clients: Clients) -> None:
        self._entries[number] = self._entries.get(number, 0) + sum(map(len, clients.values()))
        add_clients(self._stretches.setdefault(number, {}), clients)

    def above(self, clients: Iterable[bytes], limit: int, lowest: int, highest: int) -> list[tuple[bytes, Slots]]:
        """Returns those of ``clients`` that may be over ``limit`` in a window with a slot of lowest..highest.

        Each comes with its counts in all stretches that such a window may reach.
        """
        size, reach = self._size, self._reach
        numbers = range((lowest - reach + 1) // size, (highest + reach - 1) // size + 1)
        near = [self._stretches[number] for number in numbers if number in self._stretches]
        if not near:
            return []
        # total = sum(requests for stretch in near for requests in stretch.get(client, EMPTY).values()), looped in C.
        ordered = list(clients)
        sums = [map(sum, map(dict.values, map(stretch.get, ordered, repeat(EMPTY)))) for stretch in near]
        totals = map(sum, zip(*sums, strict=True)) if len(sums) > 1 else sums[0]
        return [
            (client, self._gather(client, near)) for client, total in zip(ordered, totals, strict=True) if total > limit
        ]

    def _gather(self, client: bytes, stretches: Iterable[Clients]) -> Slots:
        gathered: Slots = {}
        for stretch in stretches:
            gathered.update(stretch.get(client, EMPTY))
        return gathered

    def keep_since(self, since_ms: int) -> None:
        """Drops the stretches that no window of a request at or after ``since_ms`` can reach.

        From then on, earlier counts are not added either.
        """
        self._floor = since_ms // self.slot_ms - self._reach + 1
        for number in [number for number in self._stretches if (number + 1) * self._size <= self._floor]:
            del self._stretches[number], self._entries[number]

    def shares(self, limit: int) -> Iterator[tuple[float, int, int, bytes]]:
        """Yields requests / (limit + 1), entries, stretch number and client, for each client and stretch."""
        for number, stretch in self._stretches.items():
            for client, slots in stretch.items():
                yield sum(slots.values()) / (limit + 1), len(slots), number, client

    def drop(self, number: int, client: bytes) -> None:
        """Drops a client's counts in stretch ``number``."""
        self._entries[number] -= len(self._stretches[number].pop(client))


class View:
    """A container's memory of the tallies, exact for requests at or after ``since_ms``.

    ``sample_rate``: the percentage of requests that the log holds. ``most_entries`` bounds the memory: beyond it, the
    clients furthest below their limit are dropped.
    """

    def __init__(self, rules: RuleSet, *, sample_rate: int, most_entries: int) -> None:
        self.rules = rules
        self.since_ms = 0
        self._sample_rate = sample_rate
        self._most_entries = most_entries
        self._dropped = 0
        self._grids: dict[GridKey, Grid] = {}
        self._rules: dict[bytes, dict[int, list[Rule]]] = {}
        """By topic and slot length."""
        for rule in rules.rules:
            self._rules.setdefault(rule.meter.topic, {}).setdefault(rule.slot_ms, []).append(rule)

    @property
    def entries(self) -> int:
        """(client, slot) pairs in all grids."""
        return sum(grid.entries for grid in self._grids.values())

    def take_dropped(self) -> int:
        """Returns the number of clients dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def has_requests(self, source: Source, rule: Rule) -> bool:
        """Returns whether any request of ``source`` is counted for ``rule``."""
        return any(grid.entries for grid in self._grids_of(source, rule))

    def clients(self, source: Source, rule: Rule) -> Iterator[tuple[bytes, Slots]]:
        """Yields every client counted for ``rule``, with its counts in the rule's slots."""
        grids = self._grids_of(source, rule)
        for client in set().union(*(grid.clients() for grid in grids)):
            yield client, _total(grids, rule, client)

    def slots(self, source: Source, rule: Rule, client: bytes) -> Slots:
        """Returns the counts of one client in the slots of ``rule``."""
        return _total(self._grids_of(source, rule), rule, client)

    def _grids_of(self, source: Source, rule: Rule) -> list[Grid]:
        topic, slot_ms = rule.meter.topic, rule.slot_ms
        return [
            grid
            for key, grid in self._grids.items()
            if key.source == source and key.topic == topic and slot_ms in key.serves
        ]

    def keep_since(self, since_ms: int) -> None:
        """Drops counts that no window of a request at or after ``since_ms`` can contain; never moves back."""
        if since_ms <= self.since_ms:
            return
        self.since_ms = since_ms
        for grid in self._grids.values():
            grid.keep_since(since_ms)

    def merge(self, tally: Tally, first_ms: int, last_ms: int) -> None:
        """Adds a tally whose requests were all made within ``first_ms``..``last_ms``, both inclusive."""
        for key, counted in self._parts(tally):
            grid = self._grids.get(key)
            if grid is None:
                window_ms = max(rule.window_s for rule in self._rules_of(key)) * 1000
                grid = self._grids[key] = Grid(key.slot_ms, window_ms, self.since_ms)
            grid.add(counted.clients, first_ms // key.slot_ms, last_ms // key.slot_ms)
        if self.entries > self._most_entries:
            self._drop(self.entries - int(self._most_entries * FULLEST_AFTER_DROP))

    def offences(self, touched: Tally, first_ms: int, last_ms: int) -> list[Offence]:
        """Returns the clients over a limit in a window with a slot of ``touched``, each once per rule and source.

        All requests of ``touched`` were made within ``first_ms``..``last_ms``, both inclusive.
        """
        offences = []
        for key, counted in self._parts(touched):
            for rule in self._rules_of(key):
                limit = rule.limit * self._sample_rate // 100
                factor = rule.slot_ms // key.slot_ms
                for client, slots in self._above(key.source, rule, counted.clients, limit, first_ms, last_ms).items():
                    marks = {slot // factor for slot in counted.clients[client]} & slots.keys()
                    window = over_limit(slots, marks, rule.resolution, limit) if marks else None
                    if window is not None:
                        offences.append(self._offence(rule, key.source, client, window))
        return offences

    def _above(
        self, source: Source, rule: Rule, clients: Iterable[bytes], limit: int, first_ms: int, last_ms: int
    ) -> Clients:
        """Returns the clients that may be over ``limit``, with their counts in the slots of ``rule``."""
        grids = self._grids_of(source, rule)
        # A client in several grids (the rules have just changed) may be over the limit only with all of them together.
        least = limit if len(grids) == 1 else 0
        total: Clients = {}
        for grid in grids:
            above = grid.above(clients, least, first_ms // grid.slot_ms, last_ms // grid.slot_ms)
            add_clients(total, {client: folded(slots, rule.slot_ms // grid.slot_ms) for client, slots in above})
        return total

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

    def _rules_of(self, key: GridKey) -> Iterator[Rule]:
        return chain.from_iterable(self._rules[key.topic][slot_ms] for slot_ms in key.serves)

    def _parts(self, tally: Tally) -> list[tuple[GridKey, MeterTally]]:
        """Returns the parts of ``tally`` that rules are evaluated from, each with the key of its grid."""
        parts_by_topic: dict[tuple[Source, bytes], list[MeterTally]] = {}
        for part in tally:
            parts_by_topic.setdefault((part.source, part.topic), []).append(part)
        keyed = []
        for (source, topic), parts in parts_by_topic.items():
            lengths = self._rules.get(topic, ())
            serving_parts = {slot_ms: serving(slot_ms, parts) for slot_ms in lengths}
            for part in parts:
                serves = tuple(slot_ms for slot_ms in lengths if serving_parts[slot_ms] is part)
                if serves:
                    keyed.append((GridKey(source, topic, part.slot_ms, serves), part))
        return keyed

    def _drop(self, surplus: int) -> None:
        """Drops the clients with the smallest shares of their limits until ``surplus`` entries are gone."""
        shares = []
        for key, grid in self._grids.items():
            limit = min(rule.limit for rule in self._rules_of(key))
            shares += [(*share, grid) for share in grid.shares(limit)]
        shares.sort(key=itemgetter(0))
        for _, entries, number, client, grid in shares:
            if surplus <= 0:
                break
            grid.drop(number, client)
            surplus -= entries
            self._dropped += 1


def _total(grids: Iterable[Grid], rule: Rule, client: bytes) -> Slots:
    total: Clients = {client: {}}
    for grid in grids:
        add_clients(total, {client: folded(grid.slots(client), rule.slot_ms // grid.slot_ms)})
    return total[client]
