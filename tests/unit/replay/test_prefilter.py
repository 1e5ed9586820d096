"""The prefilter lets every offender through."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sluice.replay.prefilter import Groups, Totals

MINUTE_MS = 60_000


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_very_many_clients_share_totals_and_no_offender_is_lost() -> None:
    totals = Totals(MINUTE_MS, most_totals=10)
    groups = [key(n) for n in range(100)]
    busy = groups[::7]
    for added in (groups, busy, groups[:5]):
        totals.add(added, [0] * len(added), 0, 0)
    assert all((totals.above(1) | Groups(())).flags(busy))
    assert not any(totals.above(3).flags(groups[5:])), "there are enough buckets to keep a hundred groups apart"


def test_a_client_that_comes_back_every_few_minutes_is_not_let_through() -> None:
    totals = Totals(MINUTE_MS)
    for minute in range(0, 100, 2):
        totals.add([key(1)] * 5, [minute * MINUTE_MS] * 5, minute * MINUTE_MS, minute * MINUTE_MS)
    assert totals.above(4).flags([key(1)]) == [True]
    assert totals.above(5).flags([key(1)]) == [False]


def test_stretches_become_longer_before_clients_share_totals() -> None:
    totals = Totals(MINUTE_MS, most_totals=10)
    for minute in range(64):
        ms = minute * MINUTE_MS
        totals.add([key(n) for n in range(3)], [ms] * 3, ms, ms)
    assert totals.above(63).flags([key(n) for n in range(4)]) == [True] * 3 + [False]
    assert totals.above(64).flags([key(n) for n in range(4)]) == [False] * 4


batches = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), min_size=1), max_size=20)
"""Requests per batch: the client, and the time in units of a tenth of a stretch."""


@given(batches, st.integers(0, 6), st.integers(1, 12))
def test_a_client_over_the_limit_in_any_window_is_let_through(
    made: list[list[tuple[int, int]]], limit: int, most_totals: int
) -> None:
    totals = Totals(10, most_totals)
    for batch in made:
        times = [time for _, time in batch]
        totals.add([key(client) for client, _ in batch], times, min(times), max(times))
    above = totals.above(limit)
    everything = [request for batch in made for request in batch]
    for start in range(60):
        counts = Counter(client for client, time in everything if start <= time < start + 10)
        assert all(key(client) in above for client, number in counts.items() if number > limit)
