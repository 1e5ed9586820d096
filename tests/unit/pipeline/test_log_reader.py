"""Reading the tally logs, with every store call in sight."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import BadTally
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.view import View
from chalicelib.pipeline import log_reader
from chalicelib.pipeline.log_reader import FURTHEST_AHEAD, STALE_MS, LogReader
from chalicelib.pipeline.tally_logs import RESERVE_S, SKEW_MS, OutOfTime, unlimited
from chalicelib.ports import LogItem, Position, Unavailable
from tests.support.tally_logs import (
    CLIENT,
    DORMANT_MS,
    EXPIRE_MS,
    HOUR,
    MINUTE,
    NOW,
    RETENTION_MS,
    RULES,
    SECOND,
    SHARD,
    RecordedLogs,
    Writer,
    new_view,
    seconds_left,
)

LONG = RuleSet((Rule(name="long", limit=5, window_s=3600),))
LATENESS_MS = 10 * SECOND
LOG = f"{SHARD}@{NOW}"


class Reader:
    """A container that reads all logs; with a ``position``, one that is to evaluate what lies behind it."""

    def __init__(
        self,
        logs: RecordedLogs,
        *,
        position: Position | None = None,
        rules: RuleSet = RULES,
        lateness_ms: int = LATENESS_MS,
    ) -> None:
        self.reader = LogReader(logs, new_view, lateness_ms=lateness_ms)
        if position is not None:
            self.reader.start_at(position)
        self.rules = rules

    def read(self, now: int, time_left_s: Callable[[], float] = unlimited) -> View:
        """Returns the view after reading all logs to their ends, slice by slice."""
        view, behind = self.reader.read_on(self.rules, now, time_left_s)
        while behind:
            view, behind = self.reader.read_on(self.rules, now, time_left_s, behind)
        return view

    def slices(self, now: int) -> Iterator[list[tuple[str, int]]]:
        """Yields the unevaluated items of each slice, and evaluates them when the next one is requested."""
        behind: Sequence[str] | None = None
        while behind is None or behind:
            view, behind = self.reader.read_on(self.rules, now, behind=behind)
            for item in self.reader.unevaluated:
                assert view.since_ms <= max(item.first_ms, item.written_ms - LATENESS_MS), "exact for punctual requests"
            yield self.unevaluated
            self.reader.evaluated()

    def seen_before(self, client: bytes = CLIENT) -> int:
        """Returns the requests of a client in the view of the past."""
        return sum(self.reader.past.slots(Source.CLOUDFRONT, self.rules.rules[0], client).values())

    def seen(self, now: int, client: bytes = CLIENT) -> int:
        """Returns the requests of a client in the view after reading."""
        return sum(self.read(now).slots(Source.CLOUDFRONT, self.rules.rules[0], client).values())

    @property
    def unevaluated(self) -> list[tuple[str, int]]:
        return sorted((item.log, item.offset) for item in self.reader.unevaluated)


@pytest.fixture
def logs() -> RecordedLogs:
    return RecordedLogs()


# Catching up


def test_a_reader_sees_what_all_containers_have_appended(logs: RecordedLogs) -> None:
    reader = Reader(logs)
    reader.read(NOW)
    for number in range(3):
        Writer(logs).count(NOW, 1, shard=f"logs/shard-{number}")
    Writer(logs).count(NOW, 2)
    assert reader.seen(NOW) == 4


def test_a_reader_at_the_ends_of_all_logs_makes_one_call(logs: RecordedLogs) -> None:
    for number in range(3):
        Writer(logs).count(NOW, 1, shard=f"logs/shard-{number}")
    reader = Reader(logs)
    reader.read(NOW)
    logs.calls.clear()
    reader.read(NOW + SECOND)
    assert logs.calls == ["read"]


def test_a_new_log_that_cannot_be_read_is_retried(logs: RecordedLogs) -> None:
    reader = Reader(logs)
    reader.read(NOW)
    Writer(logs).count(NOW, 1)
    logs.fails = {"latest": 1}
    with pytest.raises(Unavailable):
        reader.read(NOW)
    assert reader.seen(NOW) == 1


def test_a_failed_read_loses_no_item_and_counts_none_twice(logs: RecordedLogs) -> None:
    reader, writer = Reader(logs, position={}), Writer(logs)
    writer.count(NOW, 1)
    reader.read(NOW)
    for sequence in range(2, 6):
        writer.count(NOW, sequence)
    logs.fails = {"read": 2}
    with pytest.raises(Unavailable):
        reader.read(NOW)
    assert reader.seen(NOW) == 5
    assert reader.unevaluated == [(LOG, offset) for offset in range(5)]


def test_a_reader_does_not_skip_an_item_that_is_not_visible_yet(logs: RecordedLogs) -> None:
    """Offsets are not read at one moment: a later one may be there in an answer that lacks an earlier one."""
    reader, writer = Reader(logs), Writer(logs)
    writer.count(NOW, 1)
    reader.read(NOW)
    for sequence in (2, 3, 4):
        writer.count(NOW, sequence)
    logs.keys_read.clear()
    logs.hidden = {(LOG, 2)}
    logs.hidden_for = 2
    assert reader.seen(NOW) == 4
    assert [[offset for _, offset in keys] for keys in logs.keys_read][:3] == [[1], [2, 3], [2, 3]]


def test_closed_logs_are_no_longer_read(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    now = NOW + DORMANT_MS
    Writer(logs).count(now, 2)
    reader = Reader(logs)
    reader.read(now)
    logs.keys_read.clear()
    reader.read(now)
    assert logs.keys_read == [[(f"{SHARD}@{now}", 1)]]


def test_nothing_is_read_behind_the_item_that_closes_a_log(logs: RecordedLogs) -> None:
    reader = Reader(logs, position={})
    Writer(logs).count(NOW, 1)
    for _ in range(2):
        reader.read(NOW)
    logs.append(LOG, 1, [LogItem(body=None, last_sequence=1, written_ms=NOW)])
    logs.keys_read.clear()
    for _ in range(2):
        reader.read(NOW)
    assert logs.keys_read == [[(LOG, 1)], []]


def test_busy_logs_are_read_further_ahead_than_quiet_ones(logs: RecordedLogs) -> None:
    reader, writer = Reader(logs), Writer(logs)
    writer.count(NOW, 0)
    reader.read(NOW)
    for sequence in range(1, 40):
        writer.count(NOW, sequence)
    logs.keys_read.clear()
    assert reader.seen(NOW) == 40
    assert list(map(len, logs.keys_read)) == [1, 2, 4, 8, FURTHEST_AHEAD, FURTHEST_AHEAD]
    for _ in range(2):
        reader.read(NOW)
    assert len(logs.keys_read[-1]) == 1


def test_logs_that_are_followed_are_read_on_however_little_time_is_left(logs: RecordedLogs) -> None:
    reader, writer = Reader(logs, position={}), Writer(logs)
    writer.count(NOW, 1)
    reader.read(NOW)
    writer.count(NOW, 2)
    reader.read(NOW, seconds_left(0))
    assert reader.unevaluated == [(LOG, 0), (LOG, 1)]


# Slices


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of three offsets, at most two of them of one log."""
    monkeypatch.setattr(log_reader, "MOST_KEYS", 3)
    monkeypatch.setattr(log_reader, "FURTHEST_AHEAD", 2)


@pytest.mark.usefixtures("small_slices")
def test_a_backlog_is_read_in_slices_and_the_position_moves_with_each(logs: RecordedLogs) -> None:
    for sequence in range(7):
        Writer(logs).count(NOW, sequence)
    reader = Reader(logs, position={})
    positions = [(offsets, reader.reader.position) for offsets in reader.slices(NOW)]
    assert [[offset for _, offset in offsets] for offsets, _ in positions] == [[0], [1, 2], [3, 4], [5, 6], []]
    assert [position for _, position in positions] == [{}, {LOG: 1}, {LOG: 3}, {LOG: 5}, {LOG: 7}]
    assert (reader.reader.position, reader.unevaluated) == ({LOG: 7}, [])
    assert reader.seen(NOW) == 7


@pytest.mark.usefixtures("small_slices")
def test_more_logs_than_fit_into_a_slice_are_read_in_turns(logs: RecordedLogs) -> None:
    names = [f"logs/shard-{number}@{NOW}" for number in range(7)]
    for number in range(7):
        for sequence in range(4):
            Writer(logs).count(NOW, sequence, shard=f"logs/shard-{number}")
    reader = Reader(logs, position={})
    slices = list(reader.slices(NOW))
    assert sorted(item for items in slices for item in items) == [(log, offset) for log in names for offset in range(4)]
    assert max(map(len, logs.keys_read)) <= 3 + 2 - 1, "the last log of a slice may exceed it"
    first = [number for number, items in enumerate(slices) for _, offset in items if offset == 0]
    later = [number for number, items in enumerate(slices) for _, offset in items if offset > 0]
    assert max(first) <= min(later), "no log waits until another has been read to its end"
    assert reader.reader.position == dict.fromkeys(names, 4)
    assert reader.seen(NOW) == 28


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("evaluated", range(6))
def test_a_successor_reads_on_where_a_container_was_killed(logs: RecordedLogs, evaluated: int) -> None:
    for number in range(2):
        for sequence in range(5):
            Writer(logs).count(NOW, sequence, shard=f"logs/shard-{number}")
    killed = Reader(logs, position={})
    items = []
    for number, read in enumerate(killed.slices(NOW)):
        if number == evaluated:
            break  # its items are lost with the container
        items += read
    successor = Reader(logs, position=killed.reader.position)
    rest = [item for read in successor.slices(NOW) for item in read]
    assert sorted(items + rest) == [
        (f"logs/shard-{number}@{NOW}", offset) for number in range(2) for offset in range(5)
    ]
    assert successor.seen(NOW) == 10, "what lies before the position is counted"


@pytest.mark.usefixtures("small_slices")
def test_a_reader_that_evaluates_nothing_reads_all_slices(logs: RecordedLogs) -> None:
    reader = LogReader(logs, new_view, lateness_ms=LATENESS_MS)
    reader.read(RULES, NOW)
    for number in range(5):
        for sequence in range(6):
            Writer(logs).count(NOW, sequence, shard=f"logs/shard-{number}")
    view = reader.read(RULES, NOW)
    assert sum(view.slots(Source.CLOUDFRONT, RULES.rules[0], CLIENT).values()) == 30


@pytest.mark.usefixtures("small_slices")
def test_items_that_could_not_be_evaluated_remain_with_those_of_the_next_slice(logs: RecordedLogs) -> None:
    for sequence in range(5):
        Writer(logs).count(NOW, sequence)
    reader = Reader(logs, position={})
    reader.reader.read_on(RULES, NOW)
    assert reader.unevaluated == [(LOG, 0)]
    reader.reader.read_on(RULES, NOW)
    assert reader.unevaluated == [(LOG, 0), (LOG, 1), (LOG, 2)]
    assert reader.reader.position == {}


# The cold start


def test_a_cold_start_that_runs_out_of_time_continues_with_the_next_call(logs: RecordedLogs) -> None:
    for number in range(4):
        Writer(logs).count(NOW, 1, shard=f"logs/shard-{number}")
    cold = Reader(logs)
    for number in range(1, 4):
        with pytest.raises(OutOfTime, match=f"{number} of 4 logs are loaded"):
            cold.read(NOW + number, seconds_left(RESERVE_S - 1))
        assert len(logs.read_backwards) == number
    cold.read(NOW + 4, seconds_left(RESERVE_S - 1))
    assert sorted(logs.read_backwards) == [f"logs/shard-{number}@{NOW}" for number in range(4)]
    assert cold.seen(NOW + 4) == 4


def test_a_cold_start_stops_while_there_is_time_to_evaluate(logs: RecordedLogs) -> None:
    for number in range(4):
        Writer(logs).count(NOW, 1, shard=f"logs/shard-{number}")
    cold = Reader(logs)
    with pytest.raises(OutOfTime, match="2 of 4 logs"):
        cold.read(NOW, seconds_left(RESERVE_S, RESERVE_S - 0.1))


def test_a_cold_start_continues_after_a_failed_read(logs: RecordedLogs) -> None:
    for number in range(3):
        Writer(logs).count(NOW, 1, shard=f"logs/shard-{number}")
    cold = Reader(logs)
    for _ in range(2):
        logs.fails = {"latest": 2}
        with pytest.raises(Unavailable):
            cold.read(NOW)
    assert cold.seen(NOW) == 3
    assert logs.calls.count("latest") == 5, "two failed reads, and one of each log"


@pytest.mark.parametrize("change", ["rules", "age"])
def test_a_cold_start_begins_again_if_what_it_loaded_does_not_serve(logs: RecordedLogs, change: str) -> None:
    for number in range(2):
        Writer(logs).count(NOW, 1, shard=f"logs/shard-{number}")
    cold = Reader(logs)
    with pytest.raises(OutOfTime):
        cold.read(NOW, seconds_left(0))
    logs.read_backwards.clear()
    now = NOW
    if change == "rules":
        cold.rules = RuleSet((Rule(name="r", limit=6, window_s=10),))
    else:
        now += STALE_MS + 1
    cold.read(now)
    assert len(logs.read_backwards) == 2


def test_a_cold_start_that_begins_again_evaluates_no_item_twice(logs: RecordedLogs) -> None:
    for number in range(2):
        Writer(logs).count(NOW, 1, shard=f"logs/shard-{number}")
    cold = Reader(logs, position={})
    with pytest.raises(OutOfTime):
        cold.read(NOW, seconds_left(0))
    cold.rules = RuleSet((Rule(name="r", limit=6, window_s=10),))
    assert cold.seen(NOW) == 2
    assert cold.unevaluated == [(f"logs/shard-{number}@{NOW}", 0) for number in range(2)]


def test_an_item_that_cannot_be_merged_does_not_count_earlier_ones_twice(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    for sequence in (1, 2):
        writer.count(NOW, sequence)
    logs.append(LOG, 2, [LogItem(body=b"damaged", last_sequence=3, written_ms=NOW, last_slot_ms=NOW)])
    cold = Reader(logs)
    for _ in range(3):
        with pytest.raises(BadTally):
            cold.read(NOW)
    logs.lose(LOG, 2)
    assert cold.seen(NOW) == 2


def test_a_reader_that_was_frozen_for_hours_starts_over(logs: RecordedLogs) -> None:
    """The items that it would read next are gone; it must not wait for them."""
    frozen, busy = Reader(logs), Writer(logs)
    busy.count(NOW, 1)
    frozen.read(NOW)
    now = NOW
    for sequence in range(2, 8):
        now += HOUR
        busy.count(now, sequence)
    logs.expire(now - EXPIRE_MS)
    assert frozen.seen(now + SECOND) == 1


@pytest.mark.parametrize(("asleep", "reads"), [(STALE_MS, 0), (STALE_MS + 1, 1)])
def test_a_reader_starts_over_after_an_hours_sleep(logs: RecordedLogs, asleep: int, reads: int) -> None:
    Writer(logs).count(NOW, 1)
    reader = Reader(logs)
    reader.read(NOW)
    logs.read_backwards.clear()
    reader.read(NOW + asleep)
    assert len(logs.read_backwards) == reads


def test_a_cold_start_reads_the_newest_run_of_items_without_a_gap(logs: RecordedLogs) -> None:
    """The store removes expired items in any order, while a view as deep as can be still asks for them."""
    writer = Writer(logs)
    times = [NOW + part * HOUR // 2 for part in range(8)]
    for sequence, time in enumerate(times):
        writer.count(time, sequence)
    logs.lose(LOG, 1)
    cold = Reader(logs, rules=LONG, position={}, lateness_ms=RETENTION_MS)
    assert cold.read(times[-1]).since_ms <= times[-1] - RETENTION_MS
    assert cold.unevaluated == [(LOG, offset) for offset in range(2, 8)]
    writer.count(times[-1], 8)
    cold.read(times[-1])
    assert cold.unevaluated[-1] == (LOG, 8)


def test_a_new_rule_set_is_counted_from_the_logs(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    reader = Reader(logs)
    reader.read(NOW)
    reader.rules = RuleSet((Rule(name="wider", limit=9, window_s=20),))
    assert reader.seen(NOW) == 1


# What is to be evaluated


def test_a_reader_that_evaluates_nothing_keeps_no_items(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    reader = Reader(logs)
    assert reader.seen(NOW) == 1
    Writer(logs).count(NOW, 2)
    Writer(logs).count(NOW, 1, shard="logs/shard-1")
    assert reader.seen(NOW) == 3
    assert reader.unevaluated == []
    assert reader.reader.position is None


def test_items_at_and_after_the_position_are_to_be_evaluated(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    for sequence in range(5):
        writer.count(NOW, sequence)
    reader = Reader(logs, position={LOG: 3})
    assert reader.seen(NOW) == 5, "those before it are merged"
    assert reader.unevaluated == [(LOG, 3), (LOG, 4)]
    item = min(reader.reader.unevaluated, key=lambda item: item.offset)
    assert (item.first_ms, item.last_ms, item.arrived_ms) == (NOW, NOW, NOW)


def test_items_written_long_ago_are_to_be_evaluated_if_they_lie_behind_the_position(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    for number in range(5):
        writer.count(NOW + number * MINUTE, number)
    reader = Reader(logs, position={LOG: 1})
    reader.read(NOW + 20 * MINUTE)
    assert reader.unevaluated == [(LOG, offset) for offset in range(1, 5)]


def test_a_log_that_the_position_does_not_name_is_new(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    Writer(logs).count(NOW, 1, shard="logs/shard-1")
    reader = Reader(logs, position={LOG: 1})
    reader.read(NOW)
    assert reader.unevaluated == [(f"logs/shard-1@{NOW}", 0)]


@pytest.mark.parametrize(("offset", "items"), [(2, []), (3, [0, 1]), (1000, [0, 1])])
def test_a_position_beyond_the_end_of_a_log_counts_for_nothing(
    logs: RecordedLogs, offset: int, items: list[int]
) -> None:
    for sequence in range(2):
        Writer(logs).count(NOW, sequence)
    reader = Reader(logs, position={LOG: offset})
    assert reader.seen(NOW) == 2
    assert reader.unevaluated == [(LOG, item) for item in items]


@pytest.mark.parametrize("lost", [[2], [1, 2], [0, 1, 2]])
def test_a_log_whose_item_before_the_position_is_gone_is_read_whole(logs: RecordedLogs, lost: list[int]) -> None:
    writer = Writer(logs)
    for sequence in range(5):
        writer.count(NOW, sequence)
    for offset in lost:
        logs.lose(LOG, offset)
    reader = Reader(logs, position={LOG: 3})
    assert reader.seen(NOW) == 2, "the items without a gap"
    assert reader.unevaluated == [(LOG, 3), (LOG, 4)]
    writer.count(NOW, 5)
    reader.read(NOW)
    assert reader.unevaluated == [(LOG, 3), (LOG, 4), (LOG, 5)]


@pytest.mark.parametrize("lost", [[], [2]])
def test_only_an_item_right_before_the_position_shows_that_it_is_one_in_this_log(
    logs: RecordedLogs, lost: list[int]
) -> None:
    for sequence in range(5):
        Writer(logs).count(NOW, sequence)
    for offset in lost:
        logs.lose(LOG, offset)
    reader = Reader(logs, position={LOG: 4})
    assert reader.seen(NOW) == 5 - 3 * len(lost)
    assert reader.unevaluated == [(LOG, 4)]


def test_expired_remains_are_not_read(logs: RecordedLogs) -> None:
    """The store may remove them up to days late."""
    now = NOW + EXPIRE_MS + 1
    writer = Writer(logs)
    for number, time in enumerate([NOW - 1, NOW, NOW + 1, NOW + HOUR]):
        writer.count(time, number)
    Writer(logs).count(NOW, 1, shard="logs/gone")
    reader = Reader(logs, position={})
    reader.read(now)
    log = f"{SHARD}@{NOW - 1}"
    assert reader.unevaluated == [(log, 2), (log, 3)]
    reader.reader.evaluated()
    assert reader.reader.position == {log: 4, f"logs/gone@{NOW}": 1}
    reader.read(now)
    assert logs.registry == {SHARD: (log,)}


def test_a_position_in_an_empty_log_counts_for_nothing(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    writer.tail(NOW)
    reader = Reader(logs, position={LOG: 1})
    reader.read(NOW)
    writer.count(NOW, 1)
    reader.read(NOW)
    assert reader.unevaluated == [(LOG, 0)]


def test_an_item_without_body_is_not_to_be_evaluated(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    logs.append(LOG, 1, [LogItem(body=None, last_sequence=1, written_ms=NOW)])
    reader = Reader(logs, position={})
    reader.read(NOW)
    assert reader.unevaluated == [(LOG, 0)]
    reader.reader.evaluated()
    assert reader.reader.position == {LOG: 2}


def test_evaluated_items_move_the_position_to_the_ends_of_all_logs(logs: RecordedLogs) -> None:
    for number in range(3):
        for sequence in range(number):
            Writer(logs).count(NOW, sequence, shard=f"logs/shard-{number}")
    Writer(logs).tail(NOW)
    reader = Reader(logs, position={})
    reader.read(NOW)
    reader.reader.evaluated()
    assert reader.reader.position == {f"logs/shard-{number}@{NOW}": number for number in range(3)}
    assert reader.unevaluated == []


# How far back the view reaches


def test_a_view_reaches_back_as_far_as_requests_usually_are_late(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW - 30 * MINUTE, 1)
    reader = Reader(logs)
    assert reader.seen(NOW) == 0
    assert reader.read(NOW).since_ms == NOW - LATENESS_MS
    assert reader.read(NOW + MINUTE).since_ms == NOW + MINUTE - LATENESS_MS


@pytest.mark.parametrize("warm", [False, True])
def test_a_delayed_request_is_counted_with_those_of_its_time(logs: RecordedLogs, warm: bool) -> None:
    late = NOW - 30 * MINUTE
    Writer(logs).count(late, 1)
    reader = Reader(logs, position={f"{SHARD}@{late}": 1})
    if warm:
        assert reader.seen(NOW) == 0
    Writer(logs).count(late, 2, NOW)
    view = reader.read(NOW)
    assert view.since_ms == NOW - LATENESS_MS, "the view of the present is as it was"
    assert reader.seen(NOW) == 0
    assert reader.unevaluated == [(f"{SHARD}@{late}", 1)]
    assert reader.seen_before() == 2
    reader.reader.evaluated()
    logs.read_backwards.clear()
    Writer(logs).count(late, 3, NOW)
    reader.read(NOW)
    assert reader.seen_before() == 3
    assert logs.read_backwards == [], "its time is not read again"


@pytest.mark.usefixtures("small_slices")
def test_a_late_request_in_a_backlog_is_counted_with_those_of_its_time(logs: RecordedLogs) -> None:
    late = NOW - 30 * MINUTE
    log = f"{SHARD}@{late}"
    Writer(logs).count(late, 1)
    for number, time in enumerate([NOW, NOW, NOW, late, NOW]):
        Writer(logs).count(time, 2 + number, NOW)
    reader = Reader(logs, position={log: 1})
    counts = []
    for items in reader.slices(NOW):
        view = reader.reader._view
        assert view is not None
        present = sum(view.slots(Source.CLOUDFRONT, RULES.rules[0], CLIENT).values())
        counts.append((items, present, reader.seen_before()))
    assert counts == [
        ([(log, 1)], 1, 0),
        ([(log, 2), (log, 3)], 3, 0),
        ([(log, 4), (log, 5)], 4, 2),
        ([], 4, 2),
    ]


@pytest.mark.usefixtures("small_slices")
def test_a_view_that_is_loaded_again_serves_all_items_that_are_then_read(logs: RecordedLogs) -> None:
    """The last log's old item is read in the second slice; then the first logs are read again, with one of theirs."""
    opened = [NOW, NOW - 20 * MINUTE, NOW, NOW - 40 * MINUTE]
    for number, time in enumerate(opened):
        Writer(logs).count(time, 1, shard=f"logs/shard-{number}")
        Writer(logs).count(NOW, 2, shard=f"logs/shard-{number}")
    reader = Reader(logs, position={})
    items = [item for items in reader.slices(NOW) for item in items]
    assert sorted(items) == [(f"logs/shard-{n}@{time}", offset) for n, time in enumerate(opened) for offset in range(2)]
    assert len(logs.read_backwards) == 3 * 4, "loaded a second and a third time"


def test_a_view_keeps_what_the_log_that_is_furthest_behind_needs(
    logs: RecordedLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be loaded again with every slice."""
    monkeypatch.setattr(log_reader, "MOST_KEYS", 1)
    names = [f"{shard}@{NOW}" for shard in ("logs/ahead", "logs/behind")]
    Writer(logs).count(NOW, 0, shard="logs/ahead")
    for minute in range(10, 30):
        Writer(logs).count(NOW + minute * MINUTE, minute, shard="logs/ahead")
    for minute in range(20):
        Writer(logs).count(NOW + minute * MINUTE, minute, shard="logs/behind")
    reader = Reader(logs, position=dict.fromkeys(names, 1))
    items = [item for items in reader.slices(NOW + 30 * MINUTE) for item in items]
    assert len(items) == len(set(items)) == 19 + 20
    assert len(logs.read_backwards) == 3 * 2, "once for the requests of each log"


def test_a_backlog_is_loaded_from_its_oldest_request_and_left_behind(logs: RecordedLogs) -> None:
    """A view of two hours at once would not fit into memory."""
    writer = Writer(logs)
    for minute in range(121):
        writer.count(NOW + minute * MINUTE, minute)
    now = NOW + 2 * HOUR
    reader = Reader(logs, position={LOG: 1})
    spans = []
    for items in reader.slices(now):
        view = reader.reader._view
        assert view is not None
        if items:
            spans.append(NOW + items[-1][1] * MINUTE - view.since_ms)
    assert len(spans) > 7
    assert max(spans) <= FURTHEST_AHEAD * MINUTE + LATENESS_MS
    assert reader.read(now).since_ms == now - LATENESS_MS
    assert logs.read_backwards == [LOG, LOG], "the view is loaded again once"


def test_a_view_holds_what_waits_to_be_evaluated_however_long_it_waits(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    reader = Reader(logs, position={})
    for minutes in (0, 1, 20):
        assert reader.seen(NOW + minutes * MINUTE) == 1
        assert reader.unevaluated == [(LOG, 0)]
    assert logs.read_backwards == [LOG], "and is not loaded again"


def test_a_view_holds_the_windows_of_the_oldest_request_that_it_serves(logs: RecordedLogs) -> None:
    """A window of ten seconds before ten seconds of lateness."""
    writer = Writer(logs)
    for number, age in enumerate([25, 19, 11, 0]):
        writer.count(NOW - age * SECOND, number)
    assert Reader(logs).seen(NOW) == 3


def test_a_view_holds_the_items_of_containers_whose_clocks_are_slow(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    for number in range(3):
        writer.count(NOW, number, NOW - SKEW_MS)
    assert Reader(logs).seen(NOW) == 3


# Logs that have expired


def test_a_shard_is_removed_when_all_its_logs_have_expired(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1, shard="logs/old")
    Writer(logs).count(NOW + HOUR, 1, shard="logs/recent")
    now = NOW + EXPIRE_MS + 1
    logs.expire(now - EXPIRE_MS)
    reader = Reader(logs)
    reader.read(now)
    assert set(logs.registry) == {"logs/old", "logs/recent"}, "an item may follow, until the log has been read"
    reader.read(now)
    assert set(logs.registry) == {"logs/recent"}


def test_a_log_is_kept_until_its_items_expire(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    reader = Reader(logs)
    for _ in range(3):
        reader.read(NOW + EXPIRE_MS)
    assert logs.registry == {SHARD: (LOG,)}


def test_a_shard_that_returns_after_hours_keeps_no_expired_logs(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    now = NOW + EXPIRE_MS + 1
    Writer(logs).count(now, 2)
    reader = Reader(logs)
    for _ in range(2):
        assert reader.seen(now) == 1
    assert logs.registry == {SHARD: (f"{SHARD}@{now}",)}
    reader.read(now)
    reader.reader.evaluated()
    assert reader.reader.position == {f"{SHARD}@{now}": 1}


@pytest.mark.parametrize("evaluates", [False, True])
def test_a_closed_log_is_removed_when_it_has_expired(logs: RecordedLogs, evaluates: bool) -> None:
    reader, writer = Reader(logs, position={} if evaluates else None), Writer(logs)
    writer.count(NOW, 1)
    reader.read(NOW)
    closed = NOW + DORMANT_MS
    names = LOG, f"{SHARD}@{closed}"
    for sequence, time in enumerate(range(closed, closed + EXPIRE_MS + 1, HOUR // 2), 2):
        writer.count(time, sequence)
        reader.read(time)
        if evaluates:
            reader.reader.evaluated()
        assert logs.registry == {SHARD: names}
    reader.read(closed + EXPIRE_MS + 1)
    assert logs.registry == {SHARD: names[1:]}


def test_a_log_is_read_on_before_it_counts_as_expired(logs: RecordedLogs) -> None:
    """The evaluator was down while the item before its position expired."""
    Writer(logs).count(NOW, 1)
    Writer(logs).count(NOW + DORMANT_MS - 1, 2)
    now = NOW + EXPIRE_MS + 1
    reader = Reader(logs, position={LOG: 1})
    reader.read(now)
    assert reader.unevaluated == [(LOG, 1)]
    reader.read(now)
    assert logs.registry == {SHARD: (LOG,)}


@pytest.mark.parametrize("lost", [[], [1], [0, 2], [1, 2]])
def test_a_log_in_use_survives_an_evaluator_that_was_down_until_its_position_expired(
    logs: RecordedLogs, lost: list[int]
) -> None:
    """The store removes expired items in any order, so the one after the position may be gone before the one before."""
    writer = Writer(logs)
    for number in range(8):
        writer.count(NOW + number * HOUR, number)
    now = NOW + 7 * HOUR
    for offset in lost:
        logs.lose(LOG, offset)
    reader = Reader(logs, position={LOG: 1})
    for _ in range(2):
        reader.read(now)
        assert [offset for _, offset in reader.unevaluated][-4:] == [4, 5, 6, 7]
    assert logs.registry == {SHARD: (LOG,)}


def test_a_log_that_another_container_replaces_meanwhile_is_left_alone(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    now = NOW + EXPIRE_MS + 1
    reader = Reader(logs)
    reader.read(now)
    logs.before["register"] = lambda: Writer(logs).count(now, 2)
    reader.read(now)
    assert "register" not in logs.before, "the reader has tried to remove the log"
    assert logs.registry == {SHARD: (LOG, f"{SHARD}@{now}")}
    assert reader.seen(now) == 1
