"""``core.windows`` and ``core.tally`` against slow, obvious oracles."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.tally import BadTally, MeterTally, Tally, pack, split, unpack
from chalicelib.core.windows import View, Window, over_limit

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
    MeterTally,
    source=st.sampled_from(Source),
    topic=st.binary(min_size=8, max_size=8),
    ipv4_prefix=st.integers(8, 32),
    ipv6_prefix=st.integers(16, 128),
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
def test_the_halves_of_a_tally_add_up_to_it(tally: Tally) -> None:
    try:
        one, other = split(tally)
    except BadTally:
        entries = [(key, slot) for c in tally for key, slots in c.clients.items() for slot in slots]
        assert len({key for key, _ in entries}) == 1
        return
    assert one
    assert other
    assert counts(one) + counts(other) == counts(tally)


def counts(tally: Tally) -> Counter[object]:
    return Counter(
        {
            (c.source, c.topic, c.ipv4_prefix, c.ipv6_prefix, c.slot_ms, key, slot): number
            for c in tally
            for key, slots in c.clients.items()
            for slot, number in slots.items()
        }
    )


def rule(name: str, window_s: int, limit: int = 0, resolution: int = 10) -> Rule:
    return Rule(name=name, limit=limit, window_s=window_s, resolution=resolution)


def tally_of(made: dict[bytes, list[int]], rules: RuleSet) -> Tally:
    """Returns the tally of requests, given their times by client."""
    return tuple(
        MeterTally(
            Source.CLOUDFRONT,
            meter.topic,
            meter.ipv4_prefix,
            meter.ipv6_prefix,
            meter.slot_ms,
            {client: dict(Counter(time // meter.slot_ms for time in times)) for client, times in made.items()},
        )
        for meter in rules.meters()
    )


def merge(view: View, made: dict[bytes, list[int]], splits: int = 0) -> None:
    """As a reader does it that got the tally in 2 ** splits items."""
    todo = [tally_of(made, view.rules)]
    for _ in range(splits):
        todo = [half for tally in todo for half in halves(tally)]
    every = [time for times in made.values() for time in times]
    for tally in todo:
        view.merge(unpack(pack(tally)), min(every), max(every))


def halves(tally: Tally) -> list[Tally]:
    try:
        return list(split(tally))
    except BadTally:
        return [tally]


WINDOWS_S = [2, 3, 5, 6, 10, 12, 30]
rule_sets = st.lists(st.sampled_from(WINDOWS_S), min_size=1, max_size=4, unique=True).map(
    lambda windows: RuleSet(tuple(rule(f"r{window}", window) for window in windows))
)
times_ms = st.lists(st.integers(0, 200_000), min_size=1, max_size=12)


def view_for(rules: RuleSet, most_entries: int = 1_000_000) -> View:
    return View(rules, sample_rate=100, most_entries=most_entries)


@given(rules=rule_sets, parts=st.lists(times_ms, min_size=1, max_size=4), splits=st.integers(0, 3))
def test_every_rule_sees_every_request_once_however_its_tally_was_split(
    rules: RuleSet, parts: list[list[int]], splits: int
) -> None:
    """Slots of 200, 300, 600 ms and so on: several meters of one topic, and rules that two of them could serve."""
    view = view_for(rules)
    for number, times in enumerate(parts):
        merge(view, {b"aaaa": times, bytes([number] * 4): times[:3]}, splits)
    every = [time for times in parts for time in times]
    for each in rules.rules:
        expected = Counter(time // each.slot_ms for time in every)
        assert view.slots(Source.CLOUDFRONT, each, b"aaaa") == expected


@given(rules=rule_sets, parts=st.lists(times_ms, min_size=1, max_size=4), since_ms=st.integers(0, 250_000))
def test_a_view_keeps_all_that_a_window_of_a_later_request_can_hold(
    rules: RuleSet, parts: list[list[int]], since_ms: int
) -> None:
    view = view_for(rules)
    for times in parts:
        merge(view, {b"aaaa": times})
        view.keep_since(since_ms)
    for each in rules.rules:
        kept = view.slots(Source.CLOUDFRONT, each, b"aaaa")
        expected = Counter(time // each.slot_ms for times in parts for time in times)
        first = since_ms // each.slot_ms - each.resolution + 1
        assert {slot: n for slot, n in kept.items() if slot >= first} == {
            slot: n for slot, n in expected.items() if slot >= first
        }
        assert all(number <= expected[slot] for slot, number in kept.items()), "never more than there was"


@given(
    rules=rule_sets,
    parts=st.lists(times_ms, min_size=1, max_size=4),
    since_ms=st.integers(0, 200_000),
    limit=st.integers(0, 4),
)
def test_offences_are_what_every_window_that_touches_the_batch_says(
    rules: RuleSet, parts: list[list[int]], since_ms: int, limit: int
) -> None:
    rules = RuleSet(tuple(replace(each, limit=limit) for each in rules.rules))
    view = view_for(rules)
    view.keep_since(since_ms)
    for times in parts:
        merge(view, {b"aaaa": times})
    touched = [time for time in parts[-1] if time >= since_ms]
    if not touched:
        return
    found = view.offences(tally_of({b"aaaa": touched}, rules), min(touched), max(touched))

    expected = []
    for each in rules.rules:
        slots = Counter(time // each.slot_ms for times in parts for time in times)
        marks = {time // each.slot_ms for time in touched}
        window = over_limit(slots, marks, each.resolution, limit)
        if window is not None:
            times = [window.first * each.slot_ms, (window.last + 1) * each.slot_ms - 1, window.since * each.slot_ms]
            expected.append((each.name, window.count, *times))
    assert sorted((o.rule.name, o.count, o.first_ms, o.last_ms, o.since_ms) for o in found) == sorted(expected)


def test_what_is_merged_is_not_changed_by_what_comes_after() -> None:
    rules = RuleSet((rule("r", 10),))
    view, tally = view_for(rules), tally_of({b"aaaa": [5]}, rules)
    for _ in range(3):
        view.merge(tally, 5, 5)
    assert tally == tally_of({b"aaaa": [5]}, rules)
    assert view.slots(Source.CLOUDFRONT, rules.rules[0], b"aaaa") == {0: 3}


def test_a_full_view_drops_the_clients_that_are_furthest_from_their_limit() -> None:
    rules = RuleSet((rule("r", 10, limit=5),))
    view = view_for(rules, most_entries=10)
    merge(view, {b"near": [0, 0, 0, 0, 0]})
    for number in range(20):
        merge(view, {bytes([number] * 4): [number * 1000]})
    assert view.entries <= 10
    assert view.take_dropped() == 21 - view.entries
    assert b"near" in dict(view.clients(Source.CLOUDFRONT, rules.rules[0]))
