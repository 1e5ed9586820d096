"""The contract of ``TallyLogs``."""

import sys
from dataclasses import replace

import pytest

from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.edges.tally_table import TallyTable
from chalicelib.pipeline.log_writer import LARGEST_ITEM
from chalicelib.ports import Conflict, LogItem, LogObject, PartReceipt, TallyLogs, Unavailable
from tests.contracts.conftest import ATOMIC, RACERS, Race
from tests.support.tables import Tables, calls_of
from tests.support.tally_logs import EXPIRE_MS

MALFORMED = (
    MalformedCount(source="cloudfront", reason="fields", number=3000, found=12, expected=9, sample="1\\t2"),
    MalformedCount(reason="empty", number=1),
)
LOG = "sluice-logs/shardId-000000000000@1760000000000"
NOW_MS = 1_760_000_000_123
END = sys.maxsize
"""An offset beyond the end of every log."""

raced = pytest.mark.parametrize("tally_logs", ATOMIC, indirect=True)


def item(number: int = 0, *, body: bytes | None = b"tally", written_ms: int = NOW_MS) -> LogItem:
    return LogItem(
        body=body,
        last_sequence=49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898 + number,
        written_ms=written_ms,
        first_slot_ms=NOW_MS - 5_050,
        last_slot_ms=NOW_MS - 23,
        requests=number,
        arrived_ms=NOW_MS - 17,
        malformed=MALFORMED if number % 2 else (),
        portraits=b"\x78\x01\xff" if number % 2 else b"",
        total=number * 10**12,
        refused_total=number * 10**11,
    )


def items_of(logs: TallyLogs, log: str = LOG, most: int = 50) -> list[LogItem]:
    """Returns the items of a log, up to the first free offset."""
    _, items = logs.read([(log, offset) for offset in range(most)])
    assert sorted(items) == [(log, offset) for offset in range(len(items))]
    return [items[log, offset] for offset in range(len(items))]


# Appending


def test_a_read_sees_the_append_before_it(tally_logs: TallyLogs) -> None:
    for offset in range(20):
        tally_logs.append(LOG, offset, [item(offset)])
        _, items = tally_logs.read([(LOG, offset), (LOG, offset + 1)])
        assert items == {(LOG, offset): item(offset)}
        assert tally_logs.latest(LOG, NOW_MS + 1, END) == [(offset, item(offset))]


def test_a_taken_offset_is_a_conflict_and_keeps_its_item(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [item(1)])
    with pytest.raises(Conflict):
        tally_logs.append(LOG, 0, [item(2)])
    assert items_of(tally_logs) == [item(1)]


def test_logs_do_not_share_offsets(tally_logs: TallyLogs) -> None:
    tally_logs.append("one@1", 0, [item(1)])
    tally_logs.append("other@1", 0, [item(2)])
    assert items_of(tally_logs, "one@1") == [item(1)]
    assert items_of(tally_logs, "other@1") == [item(2)]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_several_items_are_appended_all_or_none(tally_logs: TallyLogs, taken: int) -> None:
    tally_logs.append(LOG, taken, [item(9)])
    with pytest.raises(Conflict):
        tally_logs.append(LOG, 0, [item(0), item(1), item(2)])
    _, items = tally_logs.read([(LOG, offset) for offset in range(4)])
    assert items == {(LOG, taken): item(9)}


def test_several_items_take_offsets_in_their_order(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [item(0), item(1), item(2)])
    assert items_of(tally_logs) == [item(0), item(1), item(2)]


@raced
def test_of_racing_appends_exactly_one_wins(tally_logs: TallyLogs, race: Race) -> None:
    rounds = race(tally_logs, lambda offset, racer: tally_logs.append(LOG, offset, [item(racer)]))
    assert [len(winners) for winners in rounds] == [1] * len(rounds)
    assert items_of(tally_logs, most=len(rounds)) == [item(winner) for (winner,) in rounds]


@raced
def test_of_racing_appends_of_several_items_the_losers_leave_nothing(tally_logs: TallyLogs, race: Race) -> None:
    # Every other racer begins one offset later and so overlaps the others by one item.
    def append(number: int, racer: int) -> None:
        tally_logs.append(f"log@{number}", racer % 2, [item(racer), item(100 + racer)])

    for number, winners in enumerate(race(tally_logs, append)):
        # DynamoDB may refuse all of some transactions that race; then the offsets are free and the next try wins.
        assert len(winners) <= 1
        _, items = tally_logs.read([(f"log@{number}", offset) for offset in range(3)])
        assert items == {
            (f"log@{number}", winner % 2 + step): item(step * 100 + winner) for winner in winners for step in (0, 1)
        }


@raced
def test_appends_of_one_item_and_of_two_exclude_each_other(tally_logs: TallyLogs, race: Race) -> None:
    def append(number: int, racer: int) -> None:
        if racer % 2:
            tally_logs.append(f"log@{number}", 1, [item(racer)])
        else:
            tally_logs.append(f"log@{number}", 0, [item(racer), item(100 + racer)])

    for number, winners in enumerate(race(tally_logs, append)):
        assert len(winners) <= 1
        _, items = tally_logs.read([(f"log@{number}", offset) for offset in range(3)])
        assert len(items) == sum(1 if winner % 2 else 2 for winner in winners)
        if winners:
            assert items[f"log@{number}", 1] == item(winners[0] if winners[0] % 2 else 100 + winners[0])


# Receipts of an object's parts

OBJECT = LogObject(
    "logs-of-site", "AWSLogs/1/elasticloadbalancing/a b+c%20/\u00e9.log.gz", "9b2cf535f27731c974343645a3985328-2"
)


def receipt(start: int, end: int, object: LogObject = OBJECT) -> PartReceipt:
    return PartReceipt(object=object, start=start, end=end, written_ms=NOW_MS)


def test_an_object_is_counted_up_to_the_end_of_its_last_part(tally_logs: TallyLogs) -> None:
    assert tally_logs.counted_up_to(OBJECT) == 0
    tally_logs.append(LOG, 0, [item(0)], receipt(0, 10_000))
    assert tally_logs.counted_up_to(OBJECT) == 10_000
    tally_logs.append("other@1", 0, [item(1), item(2)], receipt(10_000, 12_345_678_901_234))
    assert tally_logs.counted_up_to(OBJECT) == 12_345_678_901_234
    assert items_of(tally_logs) == [item(0)]
    assert items_of(tally_logs, "other@1") == [item(1), item(2)]


@pytest.mark.parametrize("number", [1, 2])
def test_a_part_with_a_receipt_is_a_conflict_and_nothing_is_written(tally_logs: TallyLogs, number: int) -> None:
    tally_logs.append(LOG, 0, [item(0)], receipt(0, 100))
    with pytest.raises(Conflict):
        tally_logs.append("other@1", 0, [item(step) for step in range(number)], receipt(0, 200))
    assert items_of(tally_logs, "other@1") == []
    assert tally_logs.counted_up_to(OBJECT) == 100


def test_a_taken_offset_leaves_no_receipt(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [item(0)])
    with pytest.raises(Conflict):
        tally_logs.append(LOG, 0, [item(1)], receipt(0, 100))
    assert tally_logs.counted_up_to(OBJECT) == 0
    tally_logs.append(LOG, 1, [item(1)], receipt(0, 100))
    assert items_of(tally_logs) == [item(0), item(1)]


def test_a_part_without_anything_to_count_has_a_receipt_alone(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [], receipt(0, 100))
    assert tally_logs.counted_up_to(OBJECT) == 100
    assert tally_logs.last(LOG) is None
    with pytest.raises(Conflict):
        tally_logs.append(LOG, 0, [], receipt(0, 100))
    tally_logs.append(LOG, 0, [item(0)])


@pytest.mark.parametrize(
    "other",
    [
        replace(OBJECT, etag="another"),
        replace(OBJECT, key="another"),
        replace(OBJECT, bucket="another"),
        LogObject("logs-of-site", f"{OBJECT.etag}/{OBJECT.key}", ""),
    ],
    ids=["replaced", "key", "bucket", "names that run into each other"],
)
def test_each_version_of_an_object_has_receipts_of_its_own(tally_logs: TallyLogs, other: LogObject) -> None:
    tally_logs.append(LOG, 0, [item(0)], receipt(0, 100))
    assert tally_logs.counted_up_to(other) == 0
    tally_logs.append(LOG, 1, [item(1)], receipt(0, 200, other))
    assert (tally_logs.counted_up_to(OBJECT), tally_logs.counted_up_to(other)) == (100, 200)


def test_receipts_are_no_part_of_any_log(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [item(0)], receipt(0, 100))
    registry, items = tally_logs.read([(LOG, 0), (LOG, 1)])
    assert (registry, items) == ({}, {(LOG, 0): item(0)})
    assert [offset for offset, _ in tally_logs.latest(LOG, 0, END)] == [0]


def test_a_key_of_the_longest_length_has_receipts(tally_logs: TallyLogs) -> None:
    longest = LogObject("b" * 63, "\u20ac" * 341 + "k", "e" * 40)
    tally_logs.append(LOG, 0, [], receipt(0, 1, longest))
    assert tally_logs.counted_up_to(longest) == 1


@raced
def test_of_racing_importers_of_a_part_exactly_one_counts_it(tally_logs: TallyLogs, race: Race) -> None:
    """Each appends to a log of its own, so that the receipt alone decides."""

    def count(number: int, racer: int) -> None:
        part = receipt(number, number + 1 + racer, replace(OBJECT, etag=str(number)))
        tally_logs.append(f"log-{number}@{racer}", 0, [item(racer)], part)

    for number, winners in enumerate(race(tally_logs, count)):
        # DynamoDB may refuse all of some transactions that race.
        assert len(winners) <= 1
        _, items = tally_logs.read([(f"log-{number}@{racer}", 0) for racer in range(RACERS)])
        assert list(items) == [(f"log-{number}@{winner}", 0) for winner in winners]
        assert tally_logs.counted_up_to(replace(OBJECT, etag=str(number))) == sum(
            number + 1 + winner for winner in winners
        )


# What an item holds


def test_the_last_item_of_a_closed_log_has_no_body(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [item(0)])
    tally_logs.append(LOG, 1, [LogItem(body=None, last_sequence=7, written_ms=NOW_MS)])
    assert [i.closes for i in items_of(tally_logs)] == [False, True]
    with pytest.raises(Conflict):
        tally_logs.append(LOG, 1, [item(1)])


@pytest.mark.parametrize(
    "sequence",
    [
        pytest.param(-1, id="nothing is covered"),
        pytest.param(0, id="zero"),
        pytest.param(10**129 - 1, id="129 digits, the most a Kinesis sequence number has"),
        pytest.param(10**56, id="with zeros at the end"),
    ],
)
def test_sequence_numbers_survive(tally_logs: TallyLogs, sequence: int) -> None:
    tally_logs.append(LOG, 0, [replace(item(), last_sequence=sequence)])
    assert items_of(tally_logs)[0].last_sequence == sequence
    assert tally_logs.latest(LOG, 0, END)[0][1].last_sequence == sequence


@pytest.mark.parametrize(
    "ms", [0, 1, 999, 1_001, 1_760_000_000_000, 1_760_000_000_001, 1_760_000_000_120, 4_102_444_800_999]
)
def test_times_survive_to_the_millisecond(tally_logs: TallyLogs, ms: int) -> None:
    written = replace(item(), written_ms=ms, first_slot_ms=ms, last_slot_ms=ms + 50, arrived_ms=ms)
    tally_logs.append(LOG, 0, [written])
    assert items_of(tally_logs) == [written]


def test_large_offsets_are_whole_numbers(tally_logs: TallyLogs) -> None:
    for offset in (9, 10, 1_000_000, 10**12):
        tally_logs.append(LOG, offset, [item()])
    assert [offset for offset, _ in tally_logs.latest(LOG, 0, END)] == [10**12, 1_000_000, 10, 9]


def test_any_bytes_are_a_body(tally_logs: TallyLogs) -> None:
    every = bytes(range(256))
    tally_logs.append(LOG, 0, [item(body=every)])
    assert items_of(tally_logs)[0].body == every


# Reading


def test_absent_items_are_omitted(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 3, [item(3)])
    _, items = tally_logs.read([(LOG, 2), (LOG, 3), (LOG, 4), ("nobody@1", 0)])
    assert items == {(LOG, 3): item(3)}


def test_a_key_may_be_requested_twice(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [item(0)])
    _, items = tally_logs.read([(LOG, 0), (LOG, 0)])
    assert items == {(LOG, 0): item(0)}


def test_more_keys_are_read_than_one_call_accepts(tally_logs: TallyLogs) -> None:
    keys = [(f"shard-{shard}@1", offset) for shard in range(70) for offset in (0, 1, 2)]
    for shard in range(70):
        tally_logs.append(f"shard-{shard}@1", 0, [item(shard), item(shard + 1)])
    tally_logs.register("shard-0", (), ("shard-0@1",))
    registry, items = tally_logs.read(keys)
    assert registry == {"shard-0": ("shard-0@1",)}
    assert items == {(log, offset): item(int(log[6:-2]) + offset) for log, offset in keys if offset < 2}


def test_largest_items_are_read_although_one_answer_holds_no_more_than_16_mb(tally_logs: TallyLogs) -> None:
    bodies = [number.to_bytes(1, "big") * LARGEST_ITEM for number in range(46)]
    for number, body in enumerate(bodies):
        tally_logs.append(LOG, number, [item(number, body=body)])
    assert [i.body for i in items_of(tally_logs)] == bodies


def test_two_largest_items_are_appended_at_once(tally_logs: TallyLogs) -> None:
    bodies = [b"a" * LARGEST_ITEM, b"b" * LARGEST_ITEM]
    tally_logs.append(LOG, 0, [item(body=body) for body in bodies])
    assert [i.body for i in items_of(tally_logs)] == bodies


# The newest items


def test_the_latest_items_come_newest_first_back_to_a_time(tally_logs: TallyLogs) -> None:
    for offset in range(6):
        tally_logs.append(LOG, offset, [item(offset, written_ms=NOW_MS + offset * 1000)])
    latest = tally_logs.latest(LOG, NOW_MS + 3000, END)
    assert [offset for offset, _ in latest] == [5, 4, 3], "an item written at that very moment belongs to it"
    assert latest[0] == (5, item(5, written_ms=NOW_MS + 5000))


def test_the_last_item_is_among_the_latest_however_old_it_is(tally_logs: TallyLogs) -> None:
    for offset in range(3):
        tally_logs.append(LOG, offset, [item(offset)])
    assert tally_logs.latest(LOG, NOW_MS + 10**9, END) == [(2, item(2))]


def test_a_log_without_items_has_no_latest_items(tally_logs: TallyLogs) -> None:
    assert list(tally_logs.latest(LOG, 0, END)) == []


def test_the_latest_items_may_span_many_pages(tally_logs: TallyLogs) -> None:
    # Four items of this size fill one page of DynamoDB.
    for offset in range(14):
        tally_logs.append(LOG, offset, [item(offset, body=b"x" * 250_000, written_ms=NOW_MS + offset)])
    tally_logs.append("neighbour@1", 0, [item()])
    assert [offset for offset, _ in tally_logs.latest(LOG, NOW_MS + 2, END)] == list(range(13, 1, -1))


def test_the_latest_of_many_small_items_are_all_returned(tally_logs: TallyLogs) -> None:
    for start in range(0, 150, 50):
        tally_logs.append(LOG, start, [item(start + step) for step in range(50)])
    assert [offset for offset, _ in tally_logs.latest(LOG, 0, END)] == list(range(149, -1, -1))


@pytest.mark.parametrize("most", [1, 63, 64, 65, 149, 150, 151])
def test_no_more_of_the_latest_items_are_returned_than_asked_for(tally_logs: TallyLogs, most: int) -> None:
    for start in range(0, 150, 50):
        tally_logs.append(LOG, start, [item(start + step) for step in range(50)])
    expected = list(range(149, -1, -1))[:most]
    assert [offset for offset, _ in tally_logs.latest(LOG, 0, END, most)] == expected


@pytest.mark.parametrize(("before", "latest"), [(0, []), (1, [0]), (3, [2, 1, 0]), (6, [5, 4, 3, 2, 1, 0])])
def test_the_latest_items_before_an_offset_exclude_it(tally_logs: TallyLogs, before: int, latest: list[int]) -> None:
    for offset in range(6):
        tally_logs.append(LOG, offset, [item(offset)])
    assert tally_logs.latest(LOG, 0, before) == [(offset, item(offset)) for offset in latest]


@pytest.mark.parametrize(
    ("since", "before", "latest"),
    [
        pytest.param(3, 6, [5, 4, 3], id="the whole log"),
        pytest.param(1, 4, [3, 2, 1], id="back to a time before the offset"),
        pytest.param(4, 4, [3], id="the last, although it is older"),
        pytest.param(9, 2, [1], id="the last, although all are older"),
        pytest.param(0, 3, [2, 1, 0], id="all that lie before the offset"),
        pytest.param(3, 0, [], id="nothing lies before the first"),
    ],
)
def test_the_latest_items_before_an_offset_reach_back_to_a_time(
    tally_logs: TallyLogs, since: int, before: int, latest: list[int]
) -> None:
    for offset in range(6):
        tally_logs.append(LOG, offset, [item(offset, written_ms=NOW_MS + offset * 1000)])
    newest = tally_logs.latest(LOG, NOW_MS + since * 1000, before)
    assert newest == [(offset, item(offset, written_ms=NOW_MS + offset * 1000)) for offset in latest]


@pytest.mark.parametrize(("before", "latest"), [(END, [4]), (4, [3, 2]), (3, [2]), (1, [0])])
def test_the_latest_items_end_at_the_first_old_one(tally_logs: TallyLogs, before: int, latest: list[int]) -> None:
    """Of containers whose clocks disagree, one may write a newer item before an older one."""
    for offset, age_ms in enumerate([0, 9000, 0, 9000, 0]):
        tally_logs.append(LOG, offset, [item(offset, written_ms=NOW_MS - age_ms)])
    newest = tally_logs.latest(LOG, NOW_MS - 1000, before)
    assert [offset for offset, _ in newest] == latest


def test_the_latest_items_before_an_offset_may_lie_after_a_gap(tally_logs: TallyLogs) -> None:
    """The store removes expired items in any order."""
    for offset in (0, 1, 4, 5):
        tally_logs.append(LOG, offset, [item(offset)])
    assert [offset for offset, _ in tally_logs.latest(LOG, 0, 5)] == [4, 1, 0]
    assert [offset for offset, _ in tally_logs.latest(LOG, 0, 4)] == [1, 0]
    assert [offset for offset, _ in tally_logs.latest(LOG, NOW_MS + 1, 4)] == [1]


def test_the_latest_items_of_a_neighbour_do_not_lie_before_an_offset(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 3, [item(3)])
    tally_logs.append(LOG + "1", 0, [item(0)])
    assert list(tally_logs.latest(LOG, 0, 3)) == []


def test_many_pages_of_items_before_an_offset_are_read(tally_logs: TallyLogs) -> None:
    for start in range(0, 250, 50):
        tally_logs.append(LOG, start, [item(start + step, written_ms=NOW_MS + start + step) for step in range(50)])
    newest = tally_logs.latest(LOG, NOW_MS + 7, 222)
    assert [offset for offset, _ in newest] == list(range(221, 6, -1))


# The last item


def test_the_last_item_is_the_one_at_the_highest_offset(tally_logs: TallyLogs) -> None:
    for offset in (9, 10, 100):
        tally_logs.append(LOG, offset, [item(offset, written_ms=NOW_MS - offset)])
        assert tally_logs.last(LOG) == (offset, item(offset, written_ms=NOW_MS - offset))
    tally_logs.append(LOG + "1", 200, [item(200)])
    assert tally_logs.last(LOG) == (100, item(100, written_ms=NOW_MS - 100))


@pytest.mark.parametrize(("offset", "first"), [(0, 9), (9, 9), (10, 10), (11, 100), (100, 100), (101, None)])
def test_the_first_item_from_an_offset_on_may_lie_behind_a_gap(
    tally_logs: TallyLogs, offset: int, first: int | None
) -> None:
    for each in (9, 10, 100):
        tally_logs.append(LOG, each, [item(each)])
    tally_logs.append(LOG + "1", 200, [item(200)])
    assert tally_logs.first(LOG, offset) == (None if first is None else (first, item(first)))


def test_a_log_without_items_has_no_last_item(tally_logs: TallyLogs) -> None:
    tally_logs.register("s", (), (LOG,))
    assert tally_logs.last(LOG) is None


def test_the_last_of_several_items_is_the_last_appended(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [item(0), item(1), item(2)])
    assert tally_logs.last(LOG) == (2, item(2))


def test_the_last_item_of_a_closed_log_closes_it(tally_logs: TallyLogs) -> None:
    closing = LogItem(body=None, last_sequence=7, written_ms=NOW_MS)
    tally_logs.append(LOG, 0, [item(0)])
    tally_logs.append(LOG, 1, [closing])
    assert tally_logs.last(LOG) == (1, closing)


# The position


def test_there_is_no_position_at_first(tally_logs: TallyLogs) -> None:
    tally_logs.append(LOG, 0, [item(0)])
    tally_logs.register("s", (), (LOG,))
    assert tally_logs.position() is None


@pytest.mark.parametrize("position", [{}, {LOG: 0}, {LOG: 7, "s@1": 10**12}])
def test_a_stored_position_is_returned(tally_logs: TallyLogs, position: dict[str, int]) -> None:
    tally_logs.store_position(position)
    assert tally_logs.position() == position


def test_the_position_stored_last_replaces_all_of_the_one_before(tally_logs: TallyLogs) -> None:
    tally_logs.store_position({"a@1": 5, "b@1": 5})
    tally_logs.store_position({"b@1": 3, "c@1": 1})
    assert tally_logs.position() == {"b@1": 3, "c@1": 1}


def test_a_position_is_stored_as_it_was_at_that_moment(tally_logs: TallyLogs) -> None:
    position = {LOG: 1}
    tally_logs.store_position(position)
    position[LOG] = 2
    assert tally_logs.position() == {LOG: 1}


def test_a_position_may_name_two_thousand_logs(tally_logs: TallyLogs) -> None:
    position = {f"sluice-logs/shardId-{number:012d}@1760000000000": 10**9 + number for number in range(2000)}
    tally_logs.store_position(position)
    assert tally_logs.position() == position


def test_a_position_is_neither_a_log_nor_in_the_registry(tally_logs: TallyLogs) -> None:
    tally_logs.register("s", (), (LOG,))
    tally_logs.append(LOG, 0, [item(0)])
    tally_logs.store_position({LOG: 1})
    assert tally_logs.read([(LOG, 0), (LOG, 1)]) == ({"s": (LOG,)}, {(LOG, 0): item(0)})
    tally_logs.register("s", (LOG,), (LOG, "s@2"))
    assert tally_logs.position() == {LOG: 1}


# The registry


def test_an_empty_registry_is_empty(tally_logs: TallyLogs) -> None:
    assert tally_logs.read([]) == ({}, {})


def test_a_writer_that_has_seen_a_shards_logs_can_replace_them(tally_logs: TallyLogs) -> None:
    shard = "sluice-logs/shardId-000000000000"
    tally_logs.register(shard, (), (f"{shard}@1",))
    tally_logs.register("other", (), ("other@1",))
    tally_logs.register(shard, (f"{shard}@1",), (f"{shard}@1", f"{shard}@2"))
    registry, _ = tally_logs.read([])
    assert registry == {shard: (f"{shard}@1", f"{shard}@2"), "other": ("other@1",)}


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param((), id="believes it is new"),
        pytest.param(("s@1",), id="has seen fewer"),
        pytest.param(("s@2", "s@1"), id="has seen another order"),
        pytest.param(("s@1", "s@2", "s@3"), id="has seen more"),
    ],
)
@pytest.mark.parametrize("logs", [("s@9",), ()], ids=["replaces", "removes"])
def test_a_writer_that_has_seen_other_logs_gets_a_conflict(
    tally_logs: TallyLogs, seen: tuple[str, ...], logs: tuple[str, ...]
) -> None:
    tally_logs.register("s", (), ("s@1", "s@2"))
    with pytest.raises(Conflict):
        tally_logs.register("s", seen, logs)
    assert tally_logs.read([])[0] == {"s": ("s@1", "s@2")}


def test_a_removed_shard_can_be_registered_again(tally_logs: TallyLogs) -> None:
    tally_logs.register("s", (), ("s@1",))
    tally_logs.register("s", ("s@1",), ())
    assert tally_logs.read([])[0] == {}
    with pytest.raises(Conflict):
        tally_logs.register("s", ("s@1",), ("s@2",))
    tally_logs.register("s", (), ("s@2",))
    assert tally_logs.read([])[0] == {"s": ("s@2",)}


@raced
def test_of_racing_registrations_exactly_one_wins(tally_logs: TallyLogs, race: Race) -> None:
    rounds = race(tally_logs, lambda number, racer: tally_logs.register(f"s{number}", (), (f"s{number}@{racer}",)))
    assert [len(winners) for winners in rounds] == [1] * len(rounds)
    registry, _ = tally_logs.read([])
    assert registry == {f"s{number}": (f"s{number}@{winner}",) for number, (winner,) in enumerate(rounds)}


@raced
def test_no_registration_is_lost_among_racing_ones(tally_logs: TallyLogs, race: Race) -> None:
    def add(number: int, racer: int) -> None:
        logs = tally_logs.read([])[0].get("s", ())
        tally_logs.register("s", logs, (*logs[-20:], f"s@{number}-{racer}"))
        added.append((logs, f"s@{number}-{racer}"))

    added: list[tuple[tuple[str, ...], str]] = []
    race(tally_logs, add)
    seen = [logs for logs, _ in added]
    assert len(set(seen)) == len(seen), "two replaced the same logs"


@raced
def test_different_shards_are_registered_without_conflict(tally_logs: TallyLogs, race: Race) -> None:
    rounds = race(tally_logs, lambda number, racer: tally_logs.register(f"{racer}-{number}", (), ("log@1",)))
    assert all(len(winners) == RACERS for winners in rounds)
    assert len(tally_logs.read([])[0]) == RACERS * len(rounds)


# What only DynamoDB has


def stored(tables: Tables, offset: int) -> dict[str, dict[str, str]]:
    key = {"log": {"S": LOG}, "offset": {"N": str(offset)}}
    return tables.client.get_item(TableName=tables.tally, Key=key)["Item"]  # type: ignore[return-value]


def test_an_item_expires_by_a_number_of_epoch_seconds(tables: Tables) -> None:
    TallyTable(tables.client, tables.tally).append(LOG, 0, [item()])
    assert stored(tables, 0)["expires_at"] == {"N": str((NOW_MS + EXPIRE_MS) // 1000)}


def test_an_item_is_kept_for_as_long_as_it_says(tables: Tables) -> None:
    day = replace(item(), kept_s=86_400)
    TallyTable(tables.client, tables.tally).append(LOG, 0, [day])
    assert stored(tables, 0)["expires_at"] == {"N": str(NOW_MS // 1000 + 86_400)}
    assert items_of(TallyTable(tables.client, tables.tally)) == [day]


def test_a_receipt_outlives_every_redelivery(tables: Tables) -> None:
    TallyTable(tables.client, tables.tally).append(LOG, 0, [], receipt(7, 100))
    (stored_receipt,) = tables.client.scan(TableName=tables.tally)["Items"]
    assert stored_receipt == {
        "log": {"S": f"#object/{OBJECT.bucket}/{OBJECT.etag}/{OBJECT.key}"},
        "offset": {"N": "7"},
        "end": {"N": "100"},
        "written_at": {"N": "1760000000.123"},
        "expires_at": {"N": str(NOW_MS // 1000 + 15 * 86_400)},
    }


def test_late_and_refused_requests_are_stored_with_an_item(tally_logs: TallyLogs) -> None:
    late = replace(item(), late=7, refused=3)
    tally_logs.append(LOG, 0, [late])
    assert items_of(tally_logs) == [late]


def test_the_registry_never_expires(tables: Tables) -> None:
    TallyTable(tables.client, tables.tally).register("s", (), ("s@1",))
    (registry,) = tables.client.scan(TableName=tables.tally)["Items"]
    assert set(registry) == {"log", "offset", "s"}


def test_the_position_never_expires(tables: Tables) -> None:
    TallyTable(tables.client, tables.tally).store_position({LOG: 1})
    (position,) = tables.client.scan(TableName=tables.tally)["Items"]
    assert set(position) == {"log", "offset", "logs"}


def test_an_item_of_the_version_before_arrivals_arrived_when_it_was_written(tables: Tables) -> None:
    logs = TallyTable(tables.client, tables.tally)
    logs.append(LOG, 0, [item()])
    earlier = stored(tables, 0)
    assert earlier.pop("arrived_at") == {"N": "1760000000.106"}
    tables.client.put_item(TableName=tables.tally, Item=earlier)
    expected = replace(item(), arrived_ms=NOW_MS)
    assert items_of(logs) == [expected]
    assert logs.last(LOG) == (0, expected)


@pytest.mark.parametrize("version", ["0", "2"])
def test_an_item_of_another_version_is_rejected(tables: Tables, version: str) -> None:
    logs = TallyTable(tables.client, tables.tally)
    logs.append(LOG, 0, [item()])
    tables.client.put_item(TableName=tables.tally, Item={**stored(tables, 0), "v": {"N": version}})
    with pytest.raises(Unavailable, match=f"tally item of version {version}; only version 1 can be read"):
        logs.read([(LOG, 0)])
    with pytest.raises(Unavailable, match=f"tally item of version {version}"):
        logs.latest(LOG, 0, END)
    with pytest.raises(Unavailable, match=f"tally item of version {version}"):
        logs.last(LOG)


def test_an_item_too_large_for_dynamodb_is_rejected_and_nothing_is_written(tables: Tables) -> None:
    logs = TallyTable(tables.client, tables.tally)
    with pytest.raises(Unavailable, match="ValidationException"):
        logs.append(LOG, 0, [item(body=b"x" * 410_000)])
    assert items_of(logs) == []


def test_every_read_is_strongly_consistent(tables: Tables) -> None:
    # No DynamoDB on one machine ever answers with anything old.
    logs = TallyTable(tables.client, tables.tally)
    with calls_of(tables.client) as calls:
        logs.read([(LOG, 0)])
        logs.latest(LOG, 0, END)
        logs.last(LOG)
        logs.counted_up_to(OBJECT)
        logs.position()
    (read, read_params), *others = calls
    assert (read, read_params["RequestItems"][tables.tally]["ConsistentRead"]) == ("BatchGetItem", True)
    assert [name for name, _ in others] == ["Query", "Query", "Query", "GetItem"]
    assert all(params["ConsistentRead"] for _, params in others)


def test_the_end_of_a_log_and_its_next_item_cost_the_read_of_one_item(tables: Tables) -> None:
    logs = TallyTable(tables.client, tables.tally)
    for offset in range(3):
        logs.append(LOG, offset, [item(offset)])
    with calls_of(tables.client) as calls:
        logs.last(LOG)
        logs.first(LOG, 1)
    assert [(params["Limit"], params["ConsistentRead"]) for _, params in calls] == [(1, True), (1, True)]
