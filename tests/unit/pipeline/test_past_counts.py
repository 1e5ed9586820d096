"""The counts of the past: which spans are read, when, and that each request in them is there once."""

from collections import Counter
from contextlib import suppress
from functools import partial
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import BadTally, MeterTally
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.tally import RETENTION_S, Tally, count, pack
from chalicelib.pipeline import past_counts
from chalicelib.pipeline.past_counts import KEPT_MS, SPAN_MS, PastCounts
from chalicelib.pipeline.tally_logs import RESERVE_S, SKEW_MS, OutOfTime, TimeLeft, unlimited
from chalicelib.ports import LogItem, Unavailable
from tests.support.tally_logs import CLIENT, MINUTE, NOW, RULES, SECOND, RecordedLogs, new_view, seconds_left, tally

LOG = "logs/shard-0@0"
ALL = list(range((NOW - (RETENTION_S * 1000)) // SPAN_MS, NOW // SPAN_MS + 1))
SHORT_AND_LONG = RuleSet(
    (Rule(name="short", limit=5, window_s=1), Rule(name="long", limit=5, window_s=3600, resolution=6))
)
"""Slots shorter and longer than a span."""


class Logs(RecordedLogs):
    """Logs of which it is known how far they go."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, int] = {}

    def add(self, counted: Tally, time: int, log: str = LOG, *, body: bytes | None = None) -> None:
        """Appends a tally of requests made at ``time``."""
        offset = self.ends.get(log, 0)
        self.append(log, offset, [item_of(counted, time, time, body=body)])
        self.ends[log] = offset + 1


def item_of(
    counted: Tally, first_ms: int, last_ms: int, *, written_ms: int = NOW, body: bytes | None = None
) -> LogItem:
    """Returns the item of a tally of requests made within ``first_ms``..``last_ms``."""
    packed = pack(counted) if body is None else body
    return LogItem(body=packed, last_sequence=0, written_ms=written_ms, first_slot_ms=first_ms, last_slot_ms=last_ms)


@pytest.fixture
def logs() -> Logs:
    return Logs()


def past_of(logs: Logs, rules: RuleSet = RULES) -> PastCounts:
    return PastCounts(logs, partial(new_view, rules))


def load(past: PastCounts, logs: Logs, spans: list[int], now: int = NOW) -> None:
    past.load(spans, logs.ends, now, unlimited)


def seen(past: PastCounts, client: bytes = CLIENT) -> int:
    return sum(past.view.slots(Source.CLOUDFRONT, RULES.rules[0], client).values())


def test_the_spans_of_a_request_are_those_that_its_windows_can_reach(logs: Logs) -> None:
    past = past_of(logs)
    span, start = NOW // SPAN_MS, NOW // SPAN_MS * SPAN_MS
    assert past.spans_for(tally(start + MINUTE), NOW + SPAN_MS) == {span}
    assert past.spans_for(tally(start + SECOND), NOW + SPAN_MS) == {span - 1, span}
    assert past.spans_for(tally(start + SPAN_MS - SECOND), NOW + SPAN_MS) == {span, span + 1}
    assert past.spans_for(tally(start + MINUTE), start + MINUTE) == set(), "not before"


def test_only_what_concerns_a_span_is_read_and_unpacked(logs: Logs) -> None:
    span = ALL[3]
    logs.add(tally(span * SPAN_MS), span * SPAN_MS)
    logs.add(tally(NOW), NOW, body=b"unreadable, and of no concern")
    past = past_of(logs)
    load(past, logs, [span])
    assert seen(past) == 1
    load(past, logs, [span])
    assert logs.calls.count("latest") == 1, "once read, a span is kept up to date"


def test_a_span_is_read_from_containers_whose_clocks_are_slow(logs: Logs) -> None:
    start = ALL[3] * SPAN_MS
    for offset, slow_ms in enumerate((SKEW_MS + 2, SKEW_MS + 1, SKEW_MS)):
        logs.append(LOG, offset, [item_of(tally(start), start, start, written_ms=start - slow_ms)])
    past = past_of(logs)
    past.load([ALL[3]], {LOG: 3}, NOW, unlimited)
    assert seen(past) == 1


def test_a_span_is_kept_up_to_date_by_the_items_that_follow(logs: Logs) -> None:
    past = past_of(logs)
    span = ALL[3]
    logs.add(tally(NOW), NOW)
    load(past, logs, [span])
    for time in (span * SPAN_MS, NOW, (span + 1) * SPAN_MS - SECOND, (span + 1) * SPAN_MS):
        past.take(LOG, item_of(tally(time), time, time), tally(time))
    assert seen(past) == 2
    past.take("another log", item_of(tally(time), span * SPAN_MS, span * SPAN_MS), tally(span * SPAN_MS))
    assert seen(past) == 2, "an item of a log that has not been read counts when it is"


def test_spans_are_dropped_ten_minutes_after_they_were_needed(logs: Logs) -> None:
    for span in ALL:
        logs.add(tally(span * SPAN_MS), span * SPAN_MS)
    past = past_of(logs)
    load(past, logs, ALL[:6])
    load(past, logs, ALL[2:4], NOW + KEPT_MS)
    load(past, logs, [], NOW + KEPT_MS + 1)
    assert past.view.entries <= 6
    load(past, logs, ALL[2:4], NOW + KEPT_MS + 1)
    assert logs.calls.count("latest") == 1
    load(past, logs, ALL[:1], NOW + KEPT_MS + 2)
    assert logs.calls.count("latest") == 2, "a span that was dropped is read again"
    assert past.view.slots(Source.CLOUDFRONT, RULES.rules[0], CLIENT)[ALL[0] * SPAN_MS // RULES.rules[0].slot_ms] == 1
    load(past, logs, [], NOW + 3 * KEPT_MS)
    assert past.view.entries == 0


def test_loading_that_runs_out_of_time_continues_with_the_logs_that_are_missing(logs: Logs) -> None:
    for number in range(3):
        logs.add(tally(NOW - 30 * MINUTE), NOW - 30 * MINUTE, f"logs/{number}")
    past = past_of(logs)
    for missing in (3, 2):
        with pytest.raises(OutOfTime, match=f"past counts of 1 of {missing} logs are loaded"):
            past.load(ALL, logs.ends, NOW, seconds_left(RESERVE_S - 1))
    past.load(ALL, logs.ends, NOW, seconds_left(RESERVE_S - 1))
    assert seen(past) == 3
    assert sorted(logs.read_backwards) == ["logs/0", "logs/1", "logs/2"]


def test_loading_one_log_that_runs_out_of_time_continues_where_it_stopped(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_counts, "PIECE_ITEMS", 10)
    span = ALL[3]
    for _ in range(35):
        logs.add(tally(span * SPAN_MS), span * SPAN_MS)
    past = past_of(logs)
    for pieces in (1, 2, 3):
        with pytest.raises(OutOfTime, match="past counts of 0 of 1 logs are loaded"):
            past.load([span], logs.ends, NOW, seconds_left(RESERVE_S - 1))
        assert seen(past) == 10 * pieces + (pieces - 1)
        past.take(LOG, item_of(tally(span * SPAN_MS), span * SPAN_MS, span * SPAN_MS), tally(span * SPAN_MS))
        logs.add(tally(span * SPAN_MS), span * SPAN_MS)
    past.load([span], logs.ends, NOW, seconds_left(RESERVE_S - 1))
    assert seen(past) == 35 + 3, "what has come meanwhile counts once"
    assert logs.calls.count("latest") == 4
    load(past, logs, [span])
    assert logs.calls.count("latest") == 4


def test_a_span_that_is_needed_no_longer_is_not_read_to_its_beginning(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_counts, "PIECE_ITEMS", 10)
    for number in range(35):
        logs.append(LOG, number, [item_of(tally(NOW), NOW, NOW, written_ms=NOW)])
    past = past_of(logs)
    with pytest.raises(OutOfTime):
        past.load(ALL[:1], {LOG: 35}, NOW, seconds_left(RESERVE_S - 1))
    past.load([], {LOG: 35}, NOW + KEPT_MS + 1, seconds_left(RESERVE_S - 1))
    assert logs.calls.count("latest") == 1


def test_what_was_read_in_part_is_read_again_if_an_earlier_span_has_to_be(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_counts, "PIECE_ITEMS", 10)
    for _ in range(35):
        logs.add(tally(ALL[3] * SPAN_MS), ALL[3] * SPAN_MS)
    past = past_of(logs)
    load(past, logs, ALL[:1])
    with pytest.raises(OutOfTime):
        past.load([ALL[3]], logs.ends, NOW + KEPT_MS + 1, seconds_left(RESERVE_S - 1))
    load(past, logs, [ALL[0], ALL[3]], NOW + KEPT_MS + 2)
    assert seen(past) == 35


@pytest.mark.parametrize("cause", ["a failed read", "an item that cannot be unpacked"])
def test_a_failure_counts_no_item_twice(logs: Logs, cause: str) -> None:
    logs.add(tally(NOW), NOW, "logs/0")
    for number in range(3):
        logs.add(tally(NOW), NOW, "logs/1", body=b"damaged" if number == 1 and "item" in cause else None)
    past = past_of(logs)
    if "item" in cause:
        for _ in range(2):
            with pytest.raises(BadTally):
                load(past, logs, ALL)
        assert seen(past) == 1, "the log before it, once"
    else:
        logs.fails = {"latest": 2}
        with pytest.raises(Unavailable):
            load(past, logs, ALL)
        load(past, logs, ALL)
        assert seen(past) == 4


AGES_S = st.integers(0, (RETENTION_S * 1000) // 1000)
BATCHES = st.lists(st.tuples(st.integers(0, 2), st.lists(AGES_S, min_size=1, max_size=4)), max_size=12)
LOADED = st.lists(st.tuples(st.integers(0, 12), st.sets(st.sampled_from(ALL), max_size=3)), max_size=5)


@given(BATCHES, LOADED, st.integers(1, 4), st.booleans())
def test_the_spans_loaded_hold_every_request_once(
    batches: list[tuple[int, list[int]]], loaded: list[tuple[int, set[int]]], piece: int, hurried: bool
) -> None:
    """Whatever was appended before, while and after each of them was loaded, at slots of two lengths."""
    with patch.object(past_counts, "PIECE_ITEMS", piece):
        _hold_every_request_once(batches, loaded, seconds_left(RESERVE_S - 1) if hurried else unlimited)


def _hold_every_request_once(
    batches: list[tuple[int, list[int]]], loaded: list[tuple[int, set[int]]], time_left_s: TimeLeft
) -> None:
    logs, spans = Logs(), set[int]()
    past = past_of(logs, SHORT_AND_LONG)
    made: Counter[int] = Counter()
    for number, (shard, ages) in enumerate(batches):
        for at, more in loaded:
            if at == number:
                spans |= more
                with suppress(OutOfTime):
                    past.load(sorted(more), logs.ends, NOW, time_left_s)
        times = [NOW - age * 1000 for age in ages]
        made.update(times)
        parts = [
            MeterTally.of(Source.CLOUDFRONT, meter, count([CLIENT] * len(times), times, meter.slot_ms))
            for meter in SHORT_AND_LONG.meters()
        ]
        log = f"logs/{shard}"
        item = item_of(parts, min(times), max(times))
        past.take(log, item, parts)
        logs.append(log, logs.ends.get(log, 0), [item])
        logs.ends[log] = logs.ends.get(log, 0) + 1
    load(past, logs, sorted(spans))
    for rule in SHORT_AND_LONG.rules:
        slots = {slot for slot in (time // rule.slot_ms for time in made) if slot * rule.slot_ms // SPAN_MS in spans}
        expected = {slot: sum(n for time, n in made.items() if time // rule.slot_ms == slot) for slot in slots}
        counts = past.view.slots(Source.CLOUDFRONT, rule, CLIENT)
        assert {slot: counts.get(slot, 0) for slot in slots} == expected
