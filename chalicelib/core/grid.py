"""The counts of one meter and source, kept as the columns that tallies arrive in.

*Columns.* A part, the columns of one batch, is kept as it is: nothing is built per client. Parts are filed under
stretches of consecutive slots, so that old ones are dropped a stretch at a time and the parts near a window are found
at once.

*Rows of totals.* Whether a client may be over a limit is decided without its slots. Time is cut into rows about as
long as a window. Each row has cells that hold totals, one per hash of a client; clients with the same hash share a
cell, so a total may be too high and is never too low. A window of one row's length lies in two adjacent rows::

    row            0               1               2
    client A       3               9               .        a window of A holds at most 12 requests
    window              [-------------]

Python's hashes of bytes are random per interpreter, so a client cannot choose addresses that share a cell. A row has
as many cells as keep the requests of a cell a small share of the limit, and no more than the clients need: the higher
the limit, the more clients share a cell, and the smaller a row is. Rows that fit into a processor's cache are faster.

*Suspects.* Of two rows with more requests than a limit, one has more than half of it: there, the client is hot. So a
total need only be looked at where it is added to, and merging a tally shows which of its clients may be over a limit.
When a client becomes hot in a row, it is marked in the rows beside it, where it is then suspect whatever its totals.

*Deferred totals.* A starting container loads counts of a time from which few requests, if any, are still to come. It
adds them to a row only when a window first reaches into the row, which never happens for most rows.

*Different values.* The keys of a meter of different values are groups of a client's requests (``distinct``). Totals are
of clients all the same: a client has no more values than requests. In place of slots, a grid then returns marks.

*Near clients.* Slots are extracted from the columns only for clients whose totals exceed a limit. These slots are kept,
and kept up to date by later parts, because such clients are examined with every batch.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from operator import add
from sys import maxsize

from chalicelib.core.client_groups import CLIENT_BYTES, client_of
from chalicelib.core.distinct import MOST_VALUES, LastSlots, by_client, lowest_values, marks_of, slot_of
from chalicelib.core.meter_tally import Clients, MeterTally, Slots

STRETCH_MS = 15_000
"""Shortest stretch, so that a view has few of them."""

ROW_MS = 5_000
"""Shortest row, so that a view has few of them."""

ROWS_PER_WINDOW = 5
"""Most rows in a window, so that rules with windows of similar lengths share rows."""

FEWEST_CELLS = 4096
"""Cells of a row of few clients."""

CELLS_PER_THRESHOLD = 8
"""Cells for as many requests as the threshold of a row. So other clients add about an eighth of it to a client's total,
and of the clients below it, at most one in eight shares a cell with one that is over it."""

MOST_ROWS = 8
"""Most rows that the requests of a batch may span to be handled together. Beyond that, as with
long-delayed requests, each row is handled separately."""

MOST_DEFERRED_ROWS = 2
"""Most rows that a batch may span if adding it to them is deferred, because each row then reads the whole batch."""

MOST_NEAR = 100_000
"""Most (client, stretch) pairs whose slots are kept, about 40 MB. Beyond that, all are forgotten, to be extracted
again."""

MOST_NEAR_MARKS = 500_000
"""Most marks that are kept of different values, about 70 MB."""

LARGEST_HASH = (1 << 30) - 1

PER_MILLE = 1000


def hashes_of(clients: Iterable[bytes]) -> list[int]:
    """Returns a hash of each client, from 0 to 2**30 - 1: Python computes fastest with integers of at most 30 bits."""
    return [hash(client) & LARGEST_HASH for client in clients]


def client_hashes(columns: MeterTally, *, distinct: bool) -> list[int]:
    """Returns a hash for each key of ``columns``: of the client, if the keys are of different values."""
    keys = columns.keys()
    return hashes_of([key[:CLIENT_BYTES] for key in keys] if distinct else keys)


class _Row:
    """Totals of clients within one row of time, by hash."""

    __slots__ = ("cells", "clients", "hot", "marked", "requests", "threshold")

    def __init__(self, threshold: int, before: "_Row | None" = None) -> None:
        """``threshold``: of a total. ``before``: the row before, which probably held as much."""
        self.threshold = threshold
        self.cells = array("H", bytes(2 * FEWEST_CELLS))
        """Totals; those of ``marked`` cells are too high by ``threshold + 1``. Their number is a power of two."""
        self.marked: set[int] = set()
        self.hot: set[int] = set()
        """Hashes of clients whose totals are over the threshold."""
        self.clients = 0
        """Clients added; one that is added twice counts twice."""
        self.requests = 0
        if before:
            self._grow(before)

    def add(self, hashes: Sequence[int], totals: Sequence[int]) -> list[int]:
        """Adds one total per hash. Returns the hashes that are now over the threshold or marked."""
        self.clients += len(hashes)
        self.requests += sum(totals)
        self._grow(self)
        try:
            return self._add(hashes, totals)
        except OverflowError:
            # This adds some of the totals a second time: sums may be too high, never too low.
            self.cells = array(_WIDER[self.cells.typecode], self.cells)
            return self.add(hashes, totals)

    def mark(self, hashes: Iterable[int]) -> None:
        """Has ``add`` return ``hashes`` whatever their totals are."""
        mask = len(self.cells) - 1
        unmarked = {number & mask for number in hashes} - self.marked
        new = [at for at in unmarked if self.cells[at] <= self.threshold]
        while new and 2 * self.threshold + 1 >> 8 * self.cells.itemsize:
            self.cells = array(_WIDER[self.cells.typecode], self.cells)
        for at in new:
            self.cells[at] += self.threshold + 1
        self.marked.update(new)

    def totals(self, hashes: Iterable[int]) -> list[int]:
        """Returns an upper bound on each client's total."""
        cells, mask = self.cells, len(self.cells) - 1
        if not self.marked:
            return [cells[number & mask] for number in hashes]
        mark = self.threshold + 1
        return [cells[at] - mark if at in self.marked else cells[at] for at in [number & mask for number in hashes]]

    def _grow(self, counted: "_Row") -> None:
        """Adds cells until there are enough for what was ``counted``."""
        while len(self.cells) < min(
            2 * counted.clients, CELLS_PER_THRESHOLD * counted.requests // (self.threshold + 1)
        ):
            # Each new cell inherits the total of the cell whose clients it takes over: too high, never too low.
            self.marked |= {at + len(self.cells) for at in self.marked}
            self.cells *= 2

    def _add(self, hashes: Sequence[int], totals: Sequence[int]) -> list[int]:
        cells, mask, threshold = self.cells, len(self.cells) - 1, self.threshold
        over = []
        for number, total in zip(hashes, totals, strict=True):
            at = number & mask
            cells[at] = value = cells[at] + total
            if value > threshold:
                over.append(number)
        return over


_WIDER = {"H": "I", "I": "Q"}


@dataclass(slots=True)
class _Part:
    """The counts of one batch, filed under each stretch that they reach into."""

    columns: MeterTally
    lowest: int
    highest: int
    """No count is in a slot below ``lowest`` or above ``highest``."""
    settled: bool = True
    """False if it has been added since the grid was last settled."""


class _Totals:
    """Rows of one width, in slots."""

    def __init__(self, width: int, *, distinct: bool = False) -> None:
        self.width = width
        self._distinct = distinct
        self._threshold = maxsize
        self._neighbours = 0
        """Rows on either side of a row with which a window may share requests."""
        self._rows: dict[int, _Row] = {}
        self._deferred: dict[int, list[_Part]] = {}
        """Parts that are still to be added, by the row, which does not exist yet."""

    def serve(self, window: int, limit: int) -> None:
        """Has ``add`` return all clients with more than ``limit`` requests in a window of ``window`` slots."""
        adjacent = self._adjacent(window)
        # If this many rows together hold more than the limit, one of them holds more than its share.
        self._threshold = min(self._threshold, limit // adjacent)
        self._neighbours = max(self._neighbours, adjacent - 1)

    def _adjacent(self, window: int) -> int:
        """Returns the number of rows in which a window may lie."""
        return -(-(window - 1) // self.width) + 1

    def add(
        self, counted: MeterTally, hashes: Sequence[int], totals: Sequence[int], lowest: int, highest: int
    ) -> set[int]:
        """Adds counts, none of them in a slot below ``lowest`` or above ``highest``.

        ``hashes`` and ``totals``: one of each per client of ``counted``, in the order of its keys.
        Returns the hashes of all clients of ``counted`` that, given what has been added so far, may be over a limit in
        a window with one of these slots.
        """
        numbers = range(lowest // self.width, highest // self.width + 1)
        self._make_up_for(numbers[0] - self._neighbours, numbers[-1] + self._neighbours)
        if len(numbers) == 1:
            return set(self._add_to(numbers[0], hashes, totals))
        rows = [slot // self.width for slot in counted.slots()]
        hashes, requests = counted.by_entry(hashes), counted.requests()
        if len(numbers) > MOST_ROWS:
            by_row: dict[int, tuple[list[int], list[int]]] = {}
            for number, client, total in zip(rows, hashes, requests, strict=True):
                in_row = by_row.setdefault(number, ([], []))
                in_row[0].append(client)
                in_row[1].append(total)
            return set().union(*(self._add_to(number, *in_row) for number, in_row in by_row.items()))
        over: set[int] = set()
        for number in numbers:
            is_here = [row == number for row in rows]
            over.update(self._add_to(number, list(compress(hashes, is_here)), list(compress(requests, is_here))))
        return over

    def load(self, part: _Part, ready_from: int) -> None:
        """Adds counts whose clients need not be returned.

        They are deferred in rows that no window with a slot at or after ``ready_from`` reaches.
        """
        ready = ready_from // self.width - self._neighbours
        numbers = range(part.lowest // self.width, part.highest // self.width + 1)
        if len(numbers) > MOST_DEFERRED_ROWS:
            columns = part.columns
            hashes = client_hashes(columns, distinct=self._distinct)
            self.add(columns, hashes, columns.totals(), part.lowest, part.highest)
            return
        for number in numbers:
            if number >= ready or number in self._rows:
                self._add_part(number, part)
            else:
                self._deferred.setdefault(number, []).append(part)

    def _add_part(self, number: int, part: _Part) -> None:
        """Adds the counts of a part that belong to one row to that row."""
        columns, hashes = part.columns, client_hashes(part.columns, distinct=self._distinct)
        if part.lowest // self.width == part.highest // self.width:
            self._add_to(number, hashes, columns.totals())
        else:
            is_here = [slot // self.width == number for slot in columns.slots()]
            by_entry = columns.by_entry(hashes)
            self._add_to(number, list(compress(by_entry, is_here)), list(compress(columns.requests(), is_here)))

    def _make_up_for(self, first: int, last: int) -> None:
        """Adds what was deferred in the rows ``first`` to ``last``."""
        for number in [number for number in self._deferred if first <= number <= last]:
            self._row(number)

    def _add_to(self, number: int, hashes: Sequence[int], totals: Sequence[int]) -> list[int]:
        """Adds totals to one row. Returns the hashes of clients over the threshold in this row or in one near it."""
        row = self._row(number)
        over = row.add(hashes, totals)
        if over:
            unknown = list(set(over) - row.hot)
            hot = [client for client, total in zip(unknown, row.totals(unknown), strict=True) if total > row.threshold]
            row.hot.update(hot)
            for near in self._near(number) if hot else ():
                near.mark(hot)
        return over

    def _row(self, number: int) -> _Row:
        row = self._rows.get(number)
        if row is None:
            row = _Row(self._threshold, self._rows.get(number - 1))
            for near in self._near(number):
                row.mark(near.hot)
            self._rows[number] = row
            for part in self._deferred.pop(number, ()):
                self._add_part(number, part)
        return row

    def _near(self, number: int) -> list[_Row]:
        """Returns the other rows that a window with a slot of row ``number`` may reach."""
        numbers = range(number - self._neighbours, number + self._neighbours + 1)
        return [self._rows[each] for each in numbers if each != number and each in self._rows]

    def most(self, hashes: Sequence[int], window: int, lowest: int, highest: int) -> Sequence[int]:
        """Returns an upper bound on each client's requests in any window that contains a slot of lowest..highest."""
        reach = window - 1
        numbers = range((lowest - reach) // self.width, (highest + reach) // self.width + 1)
        self._make_up_for(numbers[0], numbers[-1])
        rows = [self._rows.get(number) for number in numbers]
        while rows and rows[-1] is None:
            rows.pop()
        adjacent = self._adjacent(window)
        sums = [_sums(rows[at : at + adjacent], hashes) for at in range(max(1, len(rows) - adjacent + 1))]
        return sums[0] if len(sums) == 1 else list(map(max, *sums))

    def keep_from(self, slot: int) -> None:
        """Drops the rows that end before ``slot``, and the parts that end before it from what is deferred in its own
        row."""
        for rows in (self._rows, self._deferred):
            for number in [number for number in rows if (number + 1) * self.width <= slot]:
                del rows[number]
        for number, parts in self._deferred.items():
            if number * self.width < slot:  # so that what the stretches drop is released
                self._deferred[number] = [part for part in parts if part.highest >= slot]


def _sums(rows: Iterable[_Row | None], hashes: Sequence[int]) -> Sequence[int]:
    """Returns an upper bound on each client's total over all ``rows``, which are added up by hash."""
    sums: Sequence[int] = ()
    for row in rows:
        if row is not None:
            totals = row.totals(hashes)
            sums = list(map(add, sums, totals)) if sums else totals
    return sums or [0] * len(hashes)


class _Stretch:
    """The parts with requests in some consecutive slots, and the slots of near clients."""

    def __init__(self, first: int, end: int, *, distinct: bool = False) -> None:
        """``end``: exclusive."""
        self.first = first
        self.end = end
        self._distinct = distinct
        self.parts: list[_Part] = []
        self.ending: list[_Part] = []
        """The parts whose last slot is in this stretch."""
        self.near: Clients = {}
        """Clients without requests in this stretch have empty slots. Marks, if different values are counted."""
        self._room: dict[bytes, int] = {}
        """Marks of a client from which on those that are not among ``lowest_values`` are dropped."""
        self._last: dict[bytes, LastSlots] = {}

    def extract(self, clients: Collection[bytes]) -> None:
        """Extracts the slots of ``clients`` into ``near``, unless they are there already."""
        new = {client for client in clients if client not in self.near}
        if new:
            self.near.update((client, {}) for client in new)
            for part in self.parts:
                self._take(part.columns, new)

    def forget(self) -> None:
        """Forgets the slots of near clients."""
        self.near.clear()
        self._room.clear()
        self._last.clear()

    def add(self, part: _Part, *, is_known: bool = False) -> None:
        """Adds a part. ``is_known``: the slots of near clients have its counts already."""
        self.parts.append(part)
        if self.near and not is_known:
            self._take(part.columns, self.near.keys())

    def _take(self, columns: MeterTally, clients: Collection[bytes]) -> None:
        taken = marks_of(columns, clients) if self._distinct else columns.slots_of(clients)
        for client, slots in taken.items():
            near = self.near[client]
            for slot, requests in slots.items():
                if self.first <= (slot_of(slot) if self._distinct else slot) < self.end:
                    near[slot] = near.get(slot, 0) + requests
            if self._distinct:
                self._note(client, slots)

    def _note(self, client: bytes, marks: Iterable[int]) -> None:
        """Notes the values of ``marks``, and drops marks of the client if it has too many."""
        self._last.setdefault(client, LastSlots()).note(marks)
        near = self.near[client]
        if len(near) > self._room.get(client, 2 * MOST_VALUES):
            self.near[client] = kept = lowest_values(near)
            self._room[client] = 2 * max(len(kept), MOST_VALUES)

    def values_since(self, client: bytes, slot: int) -> Collection[int]:
        """Returns the values of an extracted client in ``slot`` and later ones, or ``MOST_VALUES`` of them or more."""
        return self._last[client].since(slot) if client in self._last else ()


class Grid:
    """The requests per client and slot that one meter counted in one source, in stretches.

    Slots that it returns are marks if ``distinct``: then its meter counts different values.
    """

    def __init__(
        self, slot_ms: int, limits: Iterable[tuple[int, int]], since_ms: int, *, distinct: bool = False
    ) -> None:
        """Starts empty. ``limits``: the windows evaluated here, in ms, each with its limit; a window may have several.

        ``since_ms``: see ``keep_since``.
        """
        self.slot_ms = slot_ms
        self.distinct = distinct
        by_window = sorted((-(-window_ms // slot_ms), limit) for window_ms, limit in limits)
        windows = [window for window, _ in by_window]
        self._reach = windows[-1]
        """Slots in the longest window."""
        self._size = max(windows[0], STRETCH_MS // slot_ms)
        """Slots in a stretch; stretch ``n`` begins with slot ``n * _size``."""
        self._stretches: dict[int, _Stretch] = {}
        self._totals: list[_Totals] = []
        self.entries = 0
        """Number of (client, slot) pairs; a pair added twice may count as two."""
        for window, limit in by_window:
            if not self._totals or window > ROWS_PER_WINDOW * self._totals[-1].width:
                self._totals.append(_Totals(max(window, ROW_MS // slot_ms), distinct=distinct))
            self._totals[-1].serve(window, limit)
        self.keep_since(since_ms)

    def add(self, columns: MeterTally, lowest: int, highest: int) -> MeterTally | None:
        """Adds counts, none of them in a slot below ``lowest`` or above ``highest``.

        Returns those of all clients that may be over a limit in a window with one of these slots, with what has been
        added so far; None if there are none.
        """
        if highest < self._floor:
            return None
        hashes, requests = client_hashes(columns, distinct=self.distinct), columns.totals()
        suspects: set[int] = set()
        for totals in self._totals:
            suspects |= totals.add(columns, hashes, requests, lowest, highest)
        self._file(_Part(columns, lowest, highest, settled=False))
        return columns.select([number in suspects for number in hashes]) if suspects else None

    def load(self, columns: MeterTally, lowest: int, highest: int, ready_from: int) -> None:
        """Adds counts as ``add`` does, of clients that another container has evaluated with these counts already.

        Takes a fraction of the time, except where windows with a slot at or after ``ready_from`` reach. The rest of the
        time is taken when counts in an earlier slot are first added by ``add``.
        """
        if highest < self._floor:
            return
        part = _Part(columns, lowest, highest)
        for totals in self._totals:
            totals.load(part, ready_from)
        self._file(part)

    def take_back(self) -> None:
        """Removes what has been added by ``add`` since the grid was settled, to be followed by ``put_back``."""
        for stretch in self._stretches.values():
            self.entries -= sum(part.columns.entries for part in stretch.ending if not part.settled)
            stretch.parts = [part for part in stretch.parts if part.settled]
            stretch.ending = [part for part in stretch.ending if part.settled]

    def put_back(self, columns: MeterTally, lowest: int, highest: int) -> None:
        """Adds a piece of what was taken back. All pieces add up to that, so no total and no near client changes."""
        if highest >= self._floor:
            self._file(_Part(columns, lowest, highest, settled=False), is_known=True)

    def settle(self) -> None:
        """Has ``take_back`` leave what has been added so far."""
        for stretch in self._stretches.values():
            for part in stretch.ending:
                part.settled = True

    def _file(self, part: _Part, *, is_known: bool = False) -> None:
        columns, between = part.columns, range(part.lowest // self._size, part.highest // self._size + 1)
        # If some requests are delayed, most of the stretches in between hold none.
        for number in between if len(between) <= 2 else {slot // self._size for slot in columns.slots()}:
            if (number + 1) * self._size > self._floor:
                self._stretch(number).add(part, is_known=is_known)
        self._stretch(part.highest // self._size).ending.append(part)
        self.entries += columns.entries

    def _stretch(self, number: int) -> _Stretch:
        stretch = self._stretches.get(number)
        if stretch is None:
            first = number * self._size
            stretch = self._stretches[number] = _Stretch(
                max(first, self._floor), first + self._size, distinct=self.distinct
            )
        return stretch

    def most(
        self, touched: MeterTally, hashes: Sequence[int], window_ms: int, lowest: int, highest: int
    ) -> Sequence[int]:
        """Returns an upper bound on the requests of each client of ``touched`` in a window with one of its slots.

        ``hashes``: the ``client_hashes`` of ``touched``, whose slots are within lowest..highest.
        """
        window = -(-window_ms // self.slot_ms)
        totals = next(each for each in self._totals if window <= ROWS_PER_WINDOW * each.width)
        if (highest - lowest) // totals.width < MOST_ROWS:
            return totals.most(hashes, window, lowest, highest)
        clients_by_row: dict[int, list[int]] = {}
        for client, slot in zip(touched.by_entry(range(len(hashes))), touched.slots(), strict=True):
            clients_by_row.setdefault(slot // totals.width, []).append(client)
        most = [0] * len(hashes)
        for row, clients in clients_by_row.items():
            first = row * totals.width
            bounds = totals.most([hashes[client] for client in clients], window, first, first + totals.width - 1)
            for client, bound in zip(clients, bounds, strict=True):
                most[client] = max(most[client], bound)
        return most

    def slots_between(self, clients: Iterable[bytes], first_ms: int, last_ms: int) -> Clients:
        """Returns the counts of ``clients`` in all stretches with a time within ``first_ms``..``last_ms``."""
        stretch_ms = self._size * self.slot_ms
        return self._gather(clients, range(first_ms // stretch_ms, last_ms // stretch_ms + 1))

    def slots(self, client: bytes) -> Slots:
        """Returns all counts of one client."""
        return self._gather((client,), self._stretches).get(client, {})

    def values_since(self, since_ms: Mapping[bytes, int]) -> dict[bytes, int]:
        """Returns how many different values each client has had since its time in ``since_ms``, the start of a slot.

        If the number is that of ``MOST_VALUES`` or higher, it may be too low.
        """
        self._forget_if_full()
        earliest = min(since_ms.values(), default=0) // self.slot_ms
        stretches = [stretch for stretch in self._stretches.values() if stretch.end > earliest]
        for stretch in stretches:
            stretch.extract(since_ms.keys())
        numbers = {}
        for client, time_ms in since_ms.items():
            slot = time_ms // self.slot_ms
            parts = [each.values_since(client, slot) for each in stretches if each.end > slot]
            numbers[client] = len(set(chain.from_iterable(parts)))
        return numbers

    def _forget_if_full(self) -> None:
        nears = [stretch.near for stretch in self._stretches.values()]
        size = sum(len(marks) for near in nears for marks in near.values()) if self.distinct else sum(map(len, nears))
        if size > (MOST_NEAR_MARKS if self.distinct else MOST_NEAR):
            for stretch in self._stretches.values():
                stretch.forget()

    def _gather(self, clients: Iterable[bytes], numbers: Iterable[int]) -> Clients:
        self._forget_if_full()
        gathered: Clients = {client: {} for client in clients}
        for stretch in [self._stretches[number] for number in numbers if number in self._stretches]:
            stretch.extract(gathered)
            for client, slots in gathered.items():
                near = stretch.near[client]
                slots.update(lowest_values(near) if self.distinct else near)
        return gathered

    def clients(self) -> Clients:
        """Returns all counts of all clients."""
        clients: Clients = {}
        for stretch in self._stretches.values():
            for part in stretch.parts:
                tally = part.columns
                for client, slot, requests in zip(
                    tally.by_entry(tally.keys()), tally.slots(), tally.requests(), strict=True
                ):
                    if stretch.first <= slot < stretch.end:
                        slots = clients.setdefault(client, {})
                        slots[slot] = slots.get(slot, 0) + requests
        return by_client(clients) if self.distinct else clients

    def keep_since(self, since_ms: int) -> None:
        """Drops the stretches that no window of a request at or after ``since_ms`` can reach.

        From then on, earlier counts are not added either.
        """
        self._floor = since_ms // self.slot_ms - self._reach + 1
        for number in [number for number in self._stretches if (number + 1) * self._size <= self._floor]:
            self.entries -= sum(part.columns.entries for part in self._stretches.pop(number).ending)
        for totals in self._totals:
            totals.keep_from(self._floor)

    def entries_by_share(self, limit: int) -> Iterator[Counter[int]]:
        """Yields for each part the number of entries of the clients at each share of ``limit``, in per mille."""
        for part, shares in self._shares(limit):
            entries: Counter[int] = Counter()
            for share, number in zip(shares, part.columns.slots_per_key(), strict=True):
                entries[share] += number
            yield entries

    def drop(self, limit: int, share: int, most: int) -> Iterator[tuple[int, int]]:
        """Drops the clients below ``share`` per mille of ``limit``, one part after the other.

        Of the clients at exactly this share, drops about ``most`` entries, oldest first.

        Yields for each part the number of clients dropped, and how many entries at exactly this share.
        """
        left = most
        for part, shares in self._shares(limit):
            keep, at_share = [each >= share for each in shares], 0
            if left > 0:
                keep = [each > share for each in shares]
                at_share = sum(n for each, n in zip(shares, part.columns.slots_per_key(), strict=True) if each == share)
                left -= at_share
            if not all(keep):
                selected = part.columns.select(keep)
                self.entries -= part.columns.entries - selected.entries
                part.columns = selected
            yield len(keep) - sum(keep), at_share

    def _shares(self, limit: int) -> Iterator[tuple[_Part, list[int]]]:
        """Yields each part, oldest first, and its clients' shares of ``limit`` in per mille; 1000 for near clients."""
        near = set().union(*(stretch.near for stretch in self._stretches.values()))
        for _, stretch in sorted(self._stretches.items()):
            for part in stretch.ending:
                keys = part.columns.keys()
                clients = map(client_of, keys) if self.distinct else keys
                hashes = client_hashes(part.columns, distinct=self.distinct)
                bounds = self._totals[-1].most(hashes, self._reach, stretch.first, stretch.end - 1)
                yield (
                    part,
                    [
                        PER_MILLE if client in near else min(bound * PER_MILLE // (limit + 1), PER_MILLE)
                        for client, bound in zip(clients, bounds, strict=True)
                    ],
                )
