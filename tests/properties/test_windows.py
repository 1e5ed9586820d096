"""``core.windows`` and ``core.tally`` against slow, obvious oracles."""

from collections import Counter
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.core.requests import Source
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.tally import BadTally, Clients, Counted, Tally, pack, span_ms, split, union, unpack
from chalicelib.core.windows import Grid, View, Window, over_limit

slots_of_a_client = st.dictionaries(st.integers(0, 60), st.integers(1, 4), min_size=1, max_size=12)


@given(slots=slots_of_a_client, data=st.data(), resolution=st.integers(1, 25), limit=st.integers(0, 12))
def test_the_latest_window_over_the_limit_that_touches_a_slot_is_found(
    slots: dict[int, int], data: st.DataObject, resolution: int, limit: int
) -> None:
    touched = data.draw(st.sets(st.sampled_from(sorted(slots)), min_size=1))
    windows = [range(last - resolution + 1, last + 1) for last in sorted(slots)]
    sums = {window: sum(slots.get(slot, 0) for slot in window) for window in windows}
    over = [window for window in windows if sums[window] > limit and not touched.isdisjoint(window)]

    found = over_limit(slots, sorted(touched), resolution, limit)

    if not over:
        assert found is None
        return
    latest = over[-1]
    occupied = [slot for slot in latest if slot in slots]
    since = max(slot for slot in occupied if sum(slots[s] for s in occupied if s >= slot) > limit)
    assert found == Window(sums[latest], occupied[0], occupied[-1], since)


@given(slots=slots_of_a_client, resolution=st.integers(1, 25), limit=st.integers(0, 12))
def test_no_window_at_all_is_over_the_limit_where_none_is_found(
    slots: dict[int, int], resolution: int, limit: int
) -> None:
    assume(over_limit(slots, slots, resolution, limit) is None)
    for first in range(-30, 90):
        assert sum(slots.get(slot, 0) for slot in range(first, first + resolution)) <= limit


keys = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
clients = st.dictionaries(
    keys,
    st.dictionaries(st.integers(0, 1 << 40), st.integers(1, 1 << 33), min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)
counted = st.builds(
    Counted,
    source=st.sampled_from(Source),
    topic=st.binary(min_size=8, max_size=8),
    ipv4=st.integers(8, 32),
    ipv6=st.integers(16, 128),
    slot_ms=st.sampled_from([10, 50, 600]),
    clients=clients,
)
tallies = st.lists(counted, max_size=4, unique_by=lambda c: (c.source, c.topic, c.slot_ms)).map(tuple)


@given(tally=tallies)
def test_a_packed_tally_unpacks_to_itself(tally: Tally) -> None:
    assert unpack(pack(tally)) == tally


@given(tally=tallies.filter(bool), data=st.data())
def test_a_tally_that_is_cut_or_altered_is_a_bad_tally_or_a_tally(tally: Tally, data: st.DataObject) -> None:
    packed = bytearray(pack(tally))
    at = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(BadTally):
        unpack(bytes(packed[:at]))
    packed[at] ^= data.draw(st.integers(1, 255))
    with suppress(BadTally):
        unpack(bytes(packed))


@given(tally=tallies.filter(bool))
def test_the_span_of_a_tally_holds_all_its_slots_and_no_more(tally: Tally) -> None:
    starts = [slot * c.slot_ms for c in tally for slots in c.clients.values() for slot in slots]
    ends = [(slot + 1) * c.slot_ms for c in tally for slots in c.clients.values() for slot in slots]
    assert span_ms(tally) == (min(starts), max(ends))


@given(tally=tallies.filter(bool))
def test_the_halves_of_a_tally_add_up_to_it(tally: Tally) -> None:
    try:
        one, other = split(tally)
    except BadTally:
        entries = [(key, slot) for c in tally for key, slots in c.clients.items() for slot in slots]
        assert len({key for key, _ in entries}) == 1
        return
    assert one
    assert other
    both = {(c.source, c.topic, c.slot_ms): c for c in union([one, other])}
    assert both == {(c.source, c.topic, c.slot_ms): c for c in tally}


def rule(name: str, window_s: int, limit: int = 0, resolution: int = 10) -> Rule:
    return Rule(name=name, limit=limit, window_s=window_s, resolution=resolution)


def tally_of(times: list[int], rules: RuleSet, client: bytes = b"aaaa") -> Tally:
    return tuple(
        Counted(
            Source.CLOUDFRONT,
            meter.topic,
            meter.ipv4,
            meter.ipv6,
            meter.slot_ms,
            {client: dict(Counter(time // meter.slot_ms for time in times))},
        )
        for meter in rules.meters()
    )


WINDOWS_S = [2, 3, 5, 6, 10, 12, 30]
rule_sets = st.lists(st.sampled_from(WINDOWS_S), min_size=1, max_size=4, unique=True).map(
    lambda windows: RuleSet(tuple(rule(f"r{window}", window) for window in windows))
)
times_ms = st.lists(st.integers(0, 40_000), min_size=1, max_size=12)


@given(rules=rule_sets, parts=st.lists(times_ms, min_size=1, max_size=4), splits=st.integers(0, 3))
def test_every_grid_counts_every_request_once_however_its_tally_was_split(
    rules: RuleSet, parts: list[list[int]], splits: int
) -> None:
    """Slots of 200, 300, 600 ms and so on: several meters of one topic, and grids that two of them could serve."""
    view = View(rules, sample_rate=100, most_entries=1_000_000)
    for number, times in enumerate(parts):
        pieces = [tally_of(times, rules, client) for client in (b"aaaa", bytes([number] * 4))]
        todo = [union(pieces)]
        for _ in range(splits):
            todo = [half for tally in todo for half in halves(tally)]
        for tally in todo:
            view.merge(unpack(pack(tally)))
    every = [time for times in parts for time in times]
    for each in rules.rules:
        grid = view.grid(Source.CLOUDFRONT, each)
        assert grid is not None
        assert grid.clients[b"aaaa"] == Counter(time // each.slot_ms for time in every)


def halves(tally: Tally) -> list[Tally]:
    try:
        return list(split(tally))
    except BadTally:
        return [tally]


adds: st.SearchStrategy[list[Clients]] = st.lists(
    st.dictionaries(
        st.sampled_from([b"aaaa", b"bbbb"]), st.dictionaries(st.integers(0, 40), st.integers(1, 3), min_size=1)
    ),
    max_size=5,
)


@given(adds=adds, factor=st.sampled_from([1, 2, 5]), floor=st.integers(0, 20))
def test_a_grid_holds_the_folded_sum_of_what_was_added_above_its_floor(
    adds: list[Clients], factor: int, floor: int
) -> None:
    grid = Grid(100, 10)
    grid.floor = floor
    before = [{key: dict(slots) for key, slots in added.items()} for added in adds]
    expected: dict[bytes, Counter[int]] = {b"aaaa": Counter(), b"bbbb": Counter()}
    for added in adds:
        grid.add(added, factor)
        for key, slots in added.items():
            for slot, number in slots.items():
                if slot // factor >= floor:
                    expected[key][slot // factor] += number
    grid.prune()
    assert adds == before, "what is added is not changed"
    assert grid.clients == {key: dict(slots) for key, slots in expected.items() if slots}
    assert grid.entries == sum(map(len, expected.values()))


@given(times=times_ms, moves=st.lists(st.integers(0, 60_000), max_size=4))
def test_a_view_stays_exact_for_requests_since_its_time(times: list[int], moves: list[int]) -> None:
    rules = RuleSet((rule("short", 2, limit=1), rule("long", 10, limit=3)))
    whole, moving = (View(rules, sample_rate=100, most_entries=1_000_000) for _ in range(2))
    for view in (whole, moving):
        view.merge(tally_of(times, rules))
    for since_ms in moves:
        moving.keep_since(since_ms)
        moving._prune()
        timely = [time for time in times if time >= moving.since_ms]
        if timely:
            touched = tally_of(timely, rules)
            assert moving.offences(touched) == whole.offences(touched)
    assert all(earlier <= moving.since_ms for earlier, _ in pairwise([*moves, 0]))


def test_a_full_view_drops_the_clients_that_are_furthest_from_their_limit() -> None:
    rules = RuleSet((rule("r", 10, limit=5),))
    view = View(rules, sample_rate=100, most_entries=10)
    view.merge(tally_of([0, 0, 0, 0, 0], rules, b"near"))
    for number in range(20):
        view.merge(tally_of([number * 1000], rules, bytes([number] * 4)))
    assert view.entries <= 10
    assert view.dropped == 21 - view.entries
    grid = view.grid(Source.CLOUDFRONT, rules.rules[0])
    assert grid is not None
    assert b"near" in grid.clients
