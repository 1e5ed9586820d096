"""``core.grid``: bounds are never too low, and the slots of near clients are exact."""

from collections import Counter
from collections.abc import Collection, Sequence
from sys import maxsize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import grid as grid_module
from chalicelib.core.grid import FEWEST_CELLS, Grid, hashes_of
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Clients, MeterTally
from chalicelib.core.rules import Rule

SLOT_MS = 1000
METER = Rule(name="r", limit=1, window_s=10).meter
WINDOWS_S = [2, 10, 60, 200]
ADDRESSES = [bytes([number]) * 4 for number in range(100)]
BY_CELL = {number % FEWEST_CELLS: client for number, client in zip(hashes_of(ADDRESSES), ADDRESSES, strict=True)}
CLIENTS = sorted(BY_CELL.values())[:5]
"""Clients that share no cell of a row, whichever hashes this process has."""

batches = st.lists(
    st.dictionaries(
        st.sampled_from(CLIENTS),
        st.dictionaries(st.integers(0, 600), st.integers(1, 70_000), min_size=1, max_size=5),
        min_size=1,
    ),
    min_size=1,
    max_size=6,
)


sparse_batches = st.lists(
    st.dictionaries(
        st.sampled_from(CLIENTS[:3]),
        st.dictionaries(st.integers(0, 40), st.integers(1, 3), min_size=1, max_size=4),
        min_size=1,
    ),
    min_size=1,
    max_size=6,
)
"""Few requests in a few rows, so that most windows over a limit lie in two of them."""


def counted(clients: Clients) -> MeterTally:
    return MeterTally.of(Source.WAF, METER, clients)


def span(clients: Clients) -> tuple[int, int]:
    slots = [slot for slots in clients.values() for slot in slots]
    return min(slots), max(slots)


def filled(
    batches: Sequence[Clients], since_ms: int = 0, limit: int = 1, loaded: Collection[int] = (), ready_from: int = 0
) -> Grid:
    """Returns a grid with ``batches``; those with the numbers ``loaded`` were evaluated elsewhere."""
    grid = Grid(SLOT_MS, [(window_s * 1000, limit) for window_s in WINDOWS_S], since_ms)
    for number, clients in enumerate(batches):
        if number in loaded:
            grid.load(counted(clients), *span(clients), ready_from)
        else:
            grid.add(counted(clients), *span(clients))
    return grid


def total(batches: Sequence[Clients], client: bytes) -> Counter[int]:
    slots: Counter[int] = Counter()
    for clients in batches:
        slots.update(clients.get(client, {}))
    return slots


def bounds(grid: Grid, touched: Clients, window_s: int) -> dict[bytes, int]:
    tally = counted(touched)
    keys = tally.keys()
    return dict(zip(keys, grid.most(tally, hashes_of(keys), window_s * 1000, *span(touched)), strict=True))


numbers = st.sets(st.integers(0, 5))
ready = st.one_of(st.integers(0, 700), st.just(maxsize))
"""The first slot whose windows are ready as soon as counts are loaded."""


@given(batches=batches, window_s=st.sampled_from(WINDOWS_S), loaded=numbers, ready_from=ready)
def test_no_window_with_a_touched_slot_holds_more_than_the_bound(
    batches: list[Clients], window_s: int, loaded: set[int], ready_from: int
) -> None:
    touched = batches[-1]
    grid = filled(batches, loaded=loaded, ready_from=ready_from)
    for client, bound in bounds(grid, touched, window_s).items():
        slots = total(batches, client)
        for slot in touched[client]:
            for first in range(slot - window_s + 1, slot + 1):
                assert sum(slots[each] for each in range(first, first + window_s)) <= bound


def over(batches: Sequence[Clients], window_s: int, limit: int) -> set[bytes]:
    """Returns the clients of the last batch that are over the limit in a window with one of its slots."""
    clients = set()
    for client, touched in batches[-1].items():
        slots = total(batches, client)
        firsts = {first for slot in touched for first in range(slot - window_s + 1, slot + 1)}
        if any(sum(slots[each] for each in range(first, first + window_s)) > limit for first in firsts):
            clients.add(client)
    return clients


@given(
    batches=st.one_of(batches, sparse_batches),
    limit=st.sampled_from([1, 2, 3, 5, 8, 1000, 100_000]),
    loaded=numbers,
    ready_from=ready,
)
def test_every_client_that_a_batch_brings_over_a_limit_is_suspect(
    batches: list[Clients], limit: int, loaded: set[int], ready_from: int
) -> None:
    grid = filled([], limit=limit)
    for number, clients in enumerate(batches, 1):
        if number - 1 in loaded:
            grid.load(counted(clients), *span(clients), ready_from)
            continue
        suspects = grid.add(counted(clients), *span(clients))
        suspected = suspects.clients() if suspects else {}
        assert suspected == {client: clients[client] for client in suspected}
        for window_s in WINDOWS_S:
            assert over(batches[:number], window_s, limit) <= suspected.keys()


@pytest.mark.parametrize("rows", [(0, 1), (1, 0)], ids=["earlier", "later"])
def test_a_row_that_becomes_hot_after_the_row_beside_it_began_makes_suspect_there(rows: tuple[int, int]) -> None:
    hot, beside = rows
    grid = Grid(SLOT_MS, [(10_000, 10)], 0)
    grid.add(counted({CLIENTS[1]: {10 * beside: 1}}), 10 * beside, 10 * beside)
    grid.add(counted({CLIENTS[0]: {10 * hot + 5: 6}}), 10 * hot + 5, 10 * hot + 5)
    suspects = grid.add(counted({CLIENTS[0]: {10 * beside + 5: 5}}), 10 * beside + 5, 10 * beside + 5)
    assert suspects
    assert suspects.keys() == [CLIENTS[0]]


@pytest.mark.parametrize("beside", [-1, 0, 1], ids=["before", "same", "after"])
def test_counts_that_were_loaded_before_make_suspect_in_their_row_and_beside_it(beside: int) -> None:
    grid = Grid(SLOT_MS, [(10_000, 10)], 0)
    grid.load(counted({CLIENTS[0]: {15: 6, 24: 6}}), 15, 24, maxsize)
    grid.load(counted({CLIENTS[1]: {65: 6}}), 65, 65, maxsize)
    touched = {-1: 9, 0: 17, 1: 30}[beside]
    suspects = grid.add(counted({CLIENTS[0]: {touched: 5}, CLIENTS[1]: {touched: 5}}), touched, touched)
    assert suspects
    assert suspects.keys() == [CLIENTS[0]]


def test_counts_that_are_loaded_into_a_row_in_use_count_there() -> None:
    grid = Grid(SLOT_MS, [(10_000, 10)], 0)
    grid.add(counted({CLIENTS[0]: {15: 1}}), 15, 15)
    grid.load(counted({CLIENTS[0]: {16: 9}}), 16, 16, maxsize)
    assert grid.add(counted({CLIENTS[0]: {17: 1}}), 17, 17)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The requests that are added to rows, one number per part."""
    numbers: list[int] = []

    class Row(grid_module._Row):
        __slots__ = ()

        def add(self, hashes: Sequence[int], totals: Sequence[int]) -> list[int]:
            numbers.append(sum(totals))
            return super().add(hashes, totals)

    monkeypatch.setattr(grid_module, "_Row", Row)
    return numbers


def test_counts_are_added_to_no_row_until_a_window_reaches_it(added: list[int]) -> None:
    grid = Grid(SLOT_MS, [(10_000, 10)], 0)
    for slot in range(0, 100, 10):
        grid.load(counted({CLIENTS[0]: {slot: slot + 1}}), slot, slot, 95)
    assert added == [81, 91]
    grid.add(counted({CLIENTS[0]: {50: 1000}}), 50, 50)
    assert added[2:] == [41, 51, 61, 1000]


def test_counts_that_are_dropped_before_a_window_reaches_them_are_added_to_no_row(added: list[int]) -> None:
    grid = Grid(SLOT_MS, [(60_000, 10)], 0)
    for slot in (70, 90, 110):
        grid.load(counted({CLIENTS[0]: {slot: slot}}), slot, slot, maxsize)
    grid.keep_since(149_000)  # whose windows begin at 90
    grid.add(counted({CLIENTS[0]: {150: 1000}}), 150, 150)
    assert added == [90, 110, 1000]


def test_clients_far_below_the_limit_are_not_suspect() -> None:
    limit, clients, suspected = 100, [number.to_bytes(4, "big") for number in range(20_000)], 0
    grid = Grid(SLOT_MS, [(10_000, limit)], 0)
    for second in range(40):
        batch = {client: {second: 1} for client in clients[second % 2 :: 2]}
        suspects = grid.add(counted(batch), second, second)
        suspected += len(suspects.keys()) if suspects else 0
    assert suspected < 0.02 * 40 * len(clients) / 2


def test_a_client_is_not_suspect_for_ever() -> None:
    grid = Grid(SLOT_MS, [(10_000, 10)], 0)
    assert grid.add(counted({CLIENTS[0]: {0: 11}}), 0, 0)
    again = range(10, 100, 4)
    suspects = [grid.add(counted({CLIENTS[0]: {second: 1}}), second, second) for second in again]
    assert [second for second, suspected in zip(again, suspects, strict=True) if suspected] == [10, 14, 18]


@given(batches=batches, window_s=st.sampled_from(WINDOWS_S), early=st.integers(0, 3))
def test_slots_are_exact_whether_extracted_before_or_after_a_batch(
    batches: list[Clients], window_s: int, early: int
) -> None:
    filling = filled([])
    for number, clients in enumerate(batches):
        if number >= early:
            for client in CLIENTS[:3]:
                filling.slots(client)
        filling.add(counted(clients), *span(clients))
    for client in CLIENTS:
        assert filling.slots(client) == total(batches, client)
    lowest, highest = span(batches[-1])
    first, last = lowest - window_s + 1, highest + window_s - 1
    for client, slots in filling.slots_between(CLIENTS, first * SLOT_MS, last * SLOT_MS).items():
        expected = total(batches, client)
        assert all(slots.get(s, 0) == expected[s] for s in range(first, last + 1))
    assert {c: slots for c in CLIENTS if (slots := total(batches, c))} == filling.clients()


def test_a_row_that_outgrows_its_cells_keeps_its_bounds() -> None:
    heavy, minute = b"\xff" * 4, {number.to_bytes(4, "big"): {5: 1} for number in range(3 * FEWEST_CELLS)}
    grid = filled([{heavy: {5: 9}}, minute])
    found = bounds(grid, {heavy: {5: 9}} | minute, 60)
    assert found[heavy] >= 9
    assert min(found.values()) >= 1
    assert sum(found.values()) < 5 * len(found), "few clients share a cell"


@pytest.mark.parametrize("requests", [1 << 15, 1 << 31, 1 << 40])
def test_totals_of_any_size_are_bounded(requests: int) -> None:
    batches: list[Clients] = [{b"aaaa": {7: requests}}] * 4
    assert bounds(filled(batches), batches[0], 10)[b"aaaa"] >= 4 * requests


def test_near_clients_are_forgotten_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "MOST_NEAR", 3)
    batches: list[Clients] = [{client: {second: 1} for client in CLIENTS} for second in range(40)]
    full = filled(batches)
    for client in CLIENTS * 2:
        assert full.slots(client) == total(batches, client)
        assert sum(len(stretch.near) for stretch in full._stretches.values()) <= 3 + len(full._stretches)


def test_clients_are_dropped_by_share_and_the_oldest_first() -> None:
    full = filled([{CLIENTS[0]: {0: 1}}, {CLIENTS[1]: {100: 1}}, {CLIENTS[2]: {300: 4}}])
    assert sum(full.entries_by_share(limit=9), Counter()) == {100: 2, 400: 1}
    assert list(full.drop(limit=9, share=100, most=1)) == [(1, 1), (0, 0), (0, 0)]
    assert full.clients() == {CLIENTS[1]: {100: 1}, CLIENTS[2]: {300: 4}}
    assert sum(dropped for dropped, _ in full.drop(limit=9, share=400, most=0)) == 1
    assert full.clients() == {CLIENTS[2]: {300: 4}}
    assert full.entries == 1


def test_a_near_client_is_not_dropped() -> None:
    full = filled([{CLIENTS[0]: {0: 1}, CLIENTS[1]: {0: 1}}])
    full.slots(CLIENTS[1])
    assert list(full.drop(limit=9, share=900, most=0)) == [(1, 0)]
    assert full.clients() == {CLIENTS[1]: {0: 1}}
