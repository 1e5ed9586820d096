"""``core.windows``, ``core.view`` and ``core.tally`` against slow, obvious oracles."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.core.allowance import Allowance
from chalicelib.core.logs.requests import Column, Requests, Source
from chalicelib.core.meter_tally import BadTally, MeterTally
from chalicelib.core.rates import Rate
from chalicelib.core.rules import TOPIC_BYTES, Meter, Rule, RuleSet, is_of_refusals
from chalicelib.core.scope import Scope
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT
from chalicelib.core.tally import Tallier, Tally, pack, split, unpack
from chalicelib.core.view import Offence, Quiet, View
from chalicelib.core.windows import Window, over_allowance, over_limit, walk_windows


def test_a_window_includes_its_first_slot_and_excludes_its_end() -> None:
    # slot       10   11   12   13   14   15
    # requests    2    1    .    .    1    .
    #            [---------- 4 ----------)
    assert over_limit({10: 2, 11: 1, 14: 1}, [14], resolution=5, limit=3) == Window(4, first=10, last=14, since=10)
    # requests    2    1    .    .    .    1
    #                 [---------- 2 ----------)
    assert over_limit({10: 2, 11: 1, 15: 1}, [15], resolution=5, limit=3) is None


def test_a_window_counts_for_a_touched_slot_only_if_it_contains_it() -> None:
    # slot       10   11   12   13   14   15
    # requests    1    .    .    .    2    .     touched: 10
    #            [---------- 3 ----------)
    assert over_limit({10: 1, 14: 2}, [10], resolution=5, limit=2) == Window(3, first=10, last=14, since=10)
    # requests    1    .    .    .    .    3     touched: 10
    #                 [---------- 3 ----------)
    assert over_limit({10: 1, 15: 3}, [10], resolution=5, limit=2) is None


def test_an_offence_is_dated_from_the_latest_slot_that_suffices() -> None:
    # slot       10   11   12   13   14
    # requests    1    .    1    .    1          limit: 1
    #            [---------- 3 ----------)
    #                      [---- 2 -----)        since 12
    assert over_limit({10: 1, 12: 1, 14: 1}, [14], resolution=5, limit=1) == Window(3, first=10, last=14, since=12)


def test_each_window_ends_with_an_occupied_slot() -> None:
    # slot        8    9   10   11   12   13   14   15
    # requests    .    .    2    .    1    .    .    4     resolution: 3
    #            [----- 2 -----)
    #                      [----- 3 -----)
    #                                     [----- 4 -----)
    assert list(walk_windows([10, 12, 15], [2, 1, 4], resolution=3)) == [(2, 0, 10), (3, 0, 12), (4, 2, 15)]


slots_of_a_client = st.dictionaries(st.integers(0, 60), st.integers(1, 4), min_size=1, max_size=12)


@given(slots=slots_of_a_client, data=st.data(), resolution=st.integers(1, 25), limit=st.integers(0, 12))
def test_the_latest_window_over_the_limit_with_a_touched_slot_is_returned(
    slots: dict[int, int], data: st.DataObject, resolution: int, limit: int
) -> None:
    touched = data.draw(st.sets(st.sampled_from(sorted(slots)), min_size=1))
    # slot       ...  last - resolution + 1  ...  last   last + 1
    # window          [------- resolution slots ------)
    windows = [range(last - resolution + 1, last + 1) for last in sorted(slots)]
    sums = {window: sum(slots.get(slot, 0) for slot in window) for window in windows}
    over = [window for window in windows if sums[window] > limit and not touched.isdisjoint(window)]

    window = over_limit(slots, sorted(touched), resolution, limit)

    if not over:
        assert window is None
        return
    latest = over[-1]
    occupied = [slot for slot in latest if slot in slots]
    since = max(slot for slot in occupied if sum(slots[s] for s in occupied if s >= slot) > limit)
    assert window == Window(sums[latest], occupied[0], occupied[-1], since)


@given(slots=slots_of_a_client, resolution=st.integers(1, 25), limit=st.integers(0, 12))
def test_without_a_result_no_window_is_over_the_limit(slots: dict[int, int], resolution: int, limit: int) -> None:
    assume(over_limit(slots, slots, resolution, limit) is None)
    # slot       -30 ... 0 ............ 60 ... 89
    # requests           |-- occupied --|
    # windows    [---)   ... each start ...   [---)
    for first in range(-30, 90):
        assert sum(slots.get(slot, 0) for slot in range(first, first + resolution)) <= limit


keys = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
clients = st.dictionaries(
    keys,
    st.dictionaries(st.integers(0, 1 << 40), st.integers(1, 1 << 33), min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)
meters = st.builds(
    Meter,
    scope=st.builds(Scope, path=st.sampled_from([(), ("/login",), ("/search",)])),
    ipv4_prefix=st.integers(8, 32),
    ipv6_prefix=st.integers(16, 128),
    slot_ms=st.sampled_from([10, 50, 600]),
)
counted = st.builds(MeterTally.of, st.sampled_from(Source), meters, clients)
tallies = st.lists(counted, max_size=4, unique_by=lambda c: (c.source, c.topic, c.slot_ms))


@given(tally=tallies)
def test_a_packed_tally_unpacks_to_itself(tally: Tally) -> None:
    assert unpack(pack(tally)) == tally


@given(tally=tallies.filter(bool), data=st.data())
def test_a_truncated_or_altered_tally_raises_bad_tally_or_unpacks(tally: Tally, data: st.DataObject) -> None:
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
        first_half, second_half = split(tally)
    except BadTally:
        entries = [(key, slot) for c in tally for key, slots in c.clients().items() for slot in slots]
        assert len({key for key, _ in entries}) == 1
        return
    assert first_half
    assert second_half
    assert counts(first_half) + counts(second_half) == counts(tally)


def counts(tally: Tally) -> Counter[object]:
    return Counter(
        {
            (c.source, c.topic, c.ipv4_prefix, c.ipv6_prefix, c.slot_ms, key, slot): number
            for c in tally
            for key, slots in c.clients().items()
            for slot, number in slots.items()
        }
    )


def rule(name: str, window_s: int, limit: int = 0, resolution: int = 10) -> Rule:
    return Rule(name=name, limit=limit, window_s=window_s, resolution=resolution)


def tally_of(made: dict[bytes, list[int]], rules: RuleSet) -> Tally:
    """Returns the tally of requests, given their times by client."""
    return [
        MeterTally.of(
            Source.CLOUDFRONT,
            meter,
            {client: dict(Counter(time // meter.slot_ms for time in times)) for client, times in made.items()},
        )
        for meter in rules.meters()
    ]


def merge(view: View, made: dict[bytes, list[int]], splits: int = 0) -> None:
    """Merges a tally as a reader does that received it in up to 2 ** ``splits`` items."""
    parts = [tally_of(made, view.rules)]
    for _ in range(splits):
        parts = [half for tally in parts for half in halves(tally)]
    all_times = [time for times in made.values() for time in times]
    for part in parts:
        view.merge(unpack(pack(part)), min(all_times), max(all_times))


def halves(tally: Tally) -> list[Tally]:
    try:
        return list(split(tally))
    except BadTally:
        return [tally]


WINDOWS_S = [2, 3, 5, 6, 10, 12, 30]
RATES = [None, Rate(1, 1), Rate(1, 20), Rate(3, 2)]
rule_sets = st.dictionaries(st.sampled_from(WINDOWS_S), st.sampled_from(RATES), min_size=1, max_size=4).map(
    lambda rates: RuleSet(tuple(replace(rule(f"r{window}", window), rate=rate) for window, rate in rates.items()))
)
"""Limits per window, and token buckets."""


def over(each: Rule, slots: dict[int, int], marks: set[int]) -> Window | None:
    return over_allowance(slots, marks, Allowance.of(each, Source.CLOUDFRONT))


times_ms = st.lists(st.integers(0, 200_000), min_size=1, max_size=12)


def view_for(rules: RuleSet, most_entries: int = 1_000_000) -> View:
    return View(rules, sample_rate=100, most_entries=most_entries)


@given(rules=rule_sets, parts=st.lists(times_ms, min_size=1, max_size=4), splits=st.integers(0, 3))
def test_every_rule_counts_every_request_once_however_its_tally_was_split(
    rules: RuleSet, parts: list[list[int]], splits: int
) -> None:
    """Slots of 200, 300, 600 ms and so on: several meters of one topic, and rules that two of them could serve."""
    view = view_for(rules)
    for number, times in enumerate(parts):
        merge(view, {b"aaaa": times, bytes([number] * 4): times[:3]}, splits)
    for each in rules.rules:
        expected = Counter(time // each.slot_ms for times in parts for time in times)
        assert view.slots(Source.CLOUDFRONT, each, b"aaaa") == expected


@given(rules=rule_sets, parts=st.lists(times_ms, min_size=1, max_size=4), since_ms=st.integers(0, 250_000))
def test_a_view_keeps_every_count_that_a_window_of_a_later_request_can_contain(
    rules: RuleSet, parts: list[list[int]], since_ms: int
) -> None:
    view = view_for(rules)
    for times in parts:
        merge(view, {b"aaaa": times})
        view.keep_since(since_ms)
    for each in rules.rules:
        kept = view.slots(Source.CLOUDFRONT, each, b"aaaa")
        expected = Counter(time // each.slot_ms for times in parts for time in times)
        # slot       first ................. since_ms // slot_ms
        # window     [-------- resolution slots --------)        the earliest that a request at since_ms can be in
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
def test_offences_are_the_clients_over_the_limit_in_a_window_of_the_batch(
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
    offences = view.offences(tally_of({b"aaaa": touched}, rules), min(touched), max(touched))

    expected = []
    for each in rules.rules:
        slots = Counter(time // each.slot_ms for times in parts for time in times)
        marks = {time // each.slot_ms for time in touched}
        window = over(each, slots, marks)
        if window is not None:
            # slot     | first | ... | since | ... | last  |
            # ms       ^first_ms     ^since_ms            ^last_ms, the last millisecond inside
            edges = [window.first * each.slot_ms, (window.last + 1) * each.slot_ms - 1, window.since * each.slot_ms]
            expected.append((each.name, window.count, *edges))
    assert sorted((o.rule.name, o.count, o.first_ms, o.last_ms, o.since_ms) for o in offences) == sorted(expected)


@dataclass(frozen=True)
class QuietTimes(Quiet):
    """Quiet times by client."""

    until: dict[bytes, int]
    served_until: dict[bytes, int]

    def until_ms(self, rule: Rule, source: Source, client: bytes) -> int:
        return self.until[client]

    def served_until_ms(self, rule: Rule, source: Source, client: bytes) -> int:
        return self.served_until[client]

    def differ(self) -> bool:
        return self.until != self.served_until


@given(
    rules=rule_sets,
    parts=st.lists(times_ms, min_size=1, max_size=4),
    limit=st.integers(0, 4),
    until_ms=st.integers(0, 250_000),
)
def test_only_offences_that_began_before_the_quiet_time_ended_are_left_out(
    rules: RuleSet, parts: list[list[int]], limit: int, until_ms: int
) -> None:
    rules = RuleSet(tuple(replace(each, limit=limit) for each in rules.rules))
    view = view_for(rules)
    for times in parts:
        merge(view, {b"aaaa": times, b"bbbb": times[:2]})
    touched = tally_of({b"aaaa": parts[-1], b"bbbb": parts[-1][:2]}, rules), min(parts[-1]), max(parts[-1])
    quiet = {b"aaaa": until_ms, b"bbbb": 0}
    offences = view.offences(*touched, QuietTimes(quiet, quiet))
    fresh, expected = (
        {(o.rule.name, o.client): o for o in each if quiet[o.client] <= o.since_ms <= max(parts[-1])}
        for each in (offences, view.offences(*touched))
    )
    assert fresh == expected


requests_of_both_kinds = st.lists(st.tuples(st.integers(100_000, 200_000), st.booleans()), min_size=1, max_size=12)
"""Times in ms, and whether a request was answered as a refusal."""


def requests_of(made: list[tuple[int, bool]], client: bytes = b"aaaa") -> Requests:
    statuses = [b"429" if is_refused else b"200" for _, is_refused in made]

    def columns(name: str) -> Column | None:
        return Column(statuses, bytes.decode) if name == "status" else None

    return Requests(Source.CLOUDFRONT, [time for time, _ in made], [client] * len(made), columns)


def merged(view: View, parts: list[list[tuple[int, bool]]]) -> tuple[Tally, int, int]:
    """Merges what ingest counts of each part. Returns the last tally, and its earliest and latest time."""
    tallier = Tallier(view.rules.meters())
    for made in parts:
        touched = tallier.tally([requests_of(made)])
        span_ms = min(made)[0], max(made)[0]
        view.merge(unpack(pack(touched)), *span_ms)
    return touched, *span_ms


@given(rules=rule_sets, parts=st.lists(requests_of_both_kinds, min_size=1, max_size=4), limit=st.integers(0, 4))
def test_an_offence_says_since_when_its_served_requests_alone_are_over_the_limit(
    rules: RuleSet, parts: list[list[tuple[int, bool]]], limit: int
) -> None:
    rules = RuleSet(tuple(replace(each, limit=limit) for each in rules.rules))
    view = view_for(rules)
    offences = view.offences(*merged(view, parts))

    everything = [request for made in parts for request in made]
    expected = {}
    for each in rules.rules:
        slots, served = (
            Counter(time // each.slot_ms for time, is_refused in everything if is_refused <= with_refusals)
            for with_refusals in (True, False)
        )
        marks = {time // each.slot_ms for time, _ in parts[-1]}
        if over(each, slots, marks) is not None:
            marks &= served.keys()
            window = over(each, served, marks) if marks else None
            expected[each.name] = -1 if window is None else window.since * each.slot_ms
    assert {o.rule.name: o.served_since_ms or o.since_ms for o in offences} == expected


@given(
    rules=rule_sets,
    parts=st.lists(requests_of_both_kinds, min_size=1, max_size=4),
    limit=st.integers(0, 4),
    quiet_ms=st.tuples(st.integers(50_000, 250_000), st.integers(50_000, 250_000)),
)
def test_no_quiet_time_hides_an_offence_that_began_after_it(
    rules: RuleSet, parts: list[list[tuple[int, bool]]], limit: int, quiet_ms: tuple[int, int]
) -> None:
    """Served requests are measured against a time of their own, which reports of refusals do not postpone."""
    assume(not all(is_refused for _, is_refused in parts[-1]))  # what was served earlier has been evaluated then
    until_ms, served_until_ms = max(quiet_ms), min(quiet_ms)
    rules = RuleSet(tuple(replace(each, limit=limit) for each in rules.rules))
    view = view_for(rules)
    touched = merged(view, parts)
    last_ms = touched[2]

    quiet = QuietTimes({b"aaaa": until_ms}, {b"aaaa": served_until_ms})

    def fresh(offences: list[Offence]) -> dict[str, Offence]:
        return {
            o.rule.name: o
            for o in offences
            if until_ms <= o.since_ms <= last_ms or served_until_ms <= (o.served_since_ms or o.since_ms) <= last_ms
        }

    heard, all_offences = view.offences(*touched, quiet), view.offences(*touched)
    assert fresh(heard) == fresh(all_offences)


@given(made=requests_of_both_kinds)
def test_a_refusal_is_in_the_same_half_as_its_request(made: list[tuple[int, bool]]) -> None:
    rules = RuleSet(tuple(rule(f"r{window}", window) for window in WINDOWS_S))
    halves_so_far = [Tallier(rules.meters()).tally([requests_of(made)])]
    for _ in range(3):
        halves_so_far = [half for tally in halves_so_far for half in halves(tally)]
    for half in halves_so_far:
        by_topic = {(part.topic, part.slot_ms): part.clients() for part in half}
        for (topic, slot_ms), refused in by_topic.items():
            if is_of_refusals(topic):
                all_made = by_topic[topic[:TOPIC_BYTES], slot_ms]
                assert all(
                    all_made[client][slot] >= n for client, slots in refused.items() for slot, n in slots.items()
                )


def test_refusals_outlive_the_clients_far_below_their_limit_in_a_full_view() -> None:
    rules = RuleSet((rule("r", 10, limit=5),))
    view = view_for(rules, most_entries=40)
    touched = merged(view, [[(1_000 + number, True) for number in range(8)]])
    for number in range(60):
        merge(view, {bytes([number] * 4): [number * 10]})
    assert view.take_dropped() > 0
    (offence,) = view.offences(*touched)
    assert offence.served_since_ms == SERVED_WITHIN_LIMIT


@pytest.mark.parametrize("late", [False, True], ids=["in order", "the former rule's counts come late"])
def test_a_client_over_the_limit_only_with_counts_of_both_the_former_and_the_present_window_is_detected(
    late: bool,
) -> None:
    former, rules = (RuleSet((rule("r", window_s, limit=6),)) for window_s in (5, 10))
    view = view_for(rules)
    made = [(8_000, former), (9_000, rules), (12_000, rules)]
    batches = [(tally_of({b"aaaa": [time] * 3}, each), time, time) for time, each in (made[::-1] if late else made)]
    *_, suspects = [view.merge(*batch) for batch in batches]
    assert [offence.count for offence in view.offences(suspects, *batches[-1][1:])] == [9]


@pytest.mark.parametrize("slots_of_each", [1, 3], ids=["one slot each", "three slots each"])
@pytest.mark.parametrize("clients", [2, 10])
def test_the_halves_of_a_tally_have_equally_many_entries(clients: int, slots_of_each: int) -> None:
    rules = RuleSet((rule("r", 10),))
    times = [1000 * slot for slot in range(slots_of_each)]
    tally = tally_of({bytes([number] * 4): times for number in range(clients)}, rules)
    assert [sum(part.entries for part in half) for half in split(tally)] == [clients * slots_of_each // 2] * 2


def test_one_client_at_one_moment_cannot_be_split() -> None:
    rules = RuleSet((rule("r", 10),))
    with pytest.raises(BadTally, match=r"^a tally of one client at one moment cannot be split$"):
        split(tally_of({b"aaaa": [5, 6]}, rules))
    first, second = split(tally_of({b"aaaa": [5, 1005]}, rules))
    assert [part.slots() for part in (*first, *second)] == [[0], [1]]


def test_later_merges_do_not_change_an_earlier_tally() -> None:
    rules = RuleSet((rule("r", 10),))
    view, tally = view_for(rules), tally_of({b"aaaa": [5]}, rules)
    for _ in range(3):
        view.merge(tally, 5, 5)
    assert tally == tally_of({b"aaaa": [5]}, rules)
    assert view.slots(Source.CLOUDFRONT, rules.rules[0], b"aaaa") == {0: 3}


def test_a_full_view_drops_no_more_clients_than_it_must_the_furthest_below_their_limit_first() -> None:
    rules = RuleSet((rule("r", 10, limit=9),))
    view = view_for(rules, most_entries=40)
    clients = [bytes([number] * 4) for number in range(41)]
    requests = [1] * 6 + [2] * 5 + [3] * 30
    merge(view, {client: [0] * number for client, number in zip(clients, requests, strict=True)})
    assert sorted(dict(view.clients(Source.CLOUDFRONT, rules.rules[0]))) == clients[11:], "three quarters of 40"


def test_a_full_view_drops_the_clients_furthest_below_their_limit() -> None:
    rules = RuleSet((rule("r", 10, limit=5),))
    view = view_for(rules, most_entries=10)
    merge(view, {b"near": [0, 0, 0, 0, 0]})
    for number in range(20):
        merge(view, {bytes([number] * 4): [number * 1000]})
    assert view.entries <= 10
    assert view.take_dropped() == 21 - view.entries
    assert b"near" in dict(view.clients(Source.CLOUDFRONT, rules.rules[0]))
