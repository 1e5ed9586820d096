"""Appending to the tally logs, with every store call in sight."""

import pytest

from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.pipeline import log_writer
from chalicelib.pipeline.log_reader import LogReader
from chalicelib.pipeline.log_writer import TRIES, BatchTally, TooLarge
from chalicelib.ports import Conflict, Contended, LogItem, Unavailable
from tests.support.tally_logs import (
    DORMANT_MS,
    EXPIRE_MS,
    HOUR,
    METER,
    NOW,
    RULES,
    SECOND,
    SHARD,
    RecordedLogs,
    Writer,
    counting,
    new_view,
    tally,
)

LOG = f"{SHARD}@{NOW}"


@pytest.fixture
def logs() -> RecordedLogs:
    return RecordedLogs()


def test_a_log_is_named_after_its_shard_and_the_time_it_was_opened(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    assert logs.registry == {SHARD: (LOG,)}


def test_an_item_records_when_its_records_arrived_and_were_written(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    writer.writer.append(writer.tail(NOW), BatchTally(tally(NOW), 7, 3, NOW - 50, NOW - 10, NOW - 5), NOW)
    (item,) = logs.items(LOG)
    assert (item.first_slot_ms, item.last_slot_ms, item.arrived_ms, item.written_ms) == (
        NOW - 50,
        NOW - 10,
        NOW - 5,
        NOW,
    )
    assert (item.last_sequence, item.requests) == (7, 3)


def test_a_batch_that_is_appended_to_a_known_end_costs_one_call(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    writer.count(NOW, 1)
    logs.calls.clear()
    for number in range(1, 4):
        writer.count(NOW + number, 1 + number)
    assert logs.calls == ["append"] * 3


def test_a_cold_container_reads_only_the_last_item_of_its_shards_newest_log(logs: RecordedLogs) -> None:
    busy = Writer(logs)
    for number in range(5):
        busy.count(NOW + number, 1 + number)
    busy.count(NOW, 1, shard="logs/shard-1")
    logs.calls.clear()
    cold = Writer(logs).tail(NOW + 5)
    assert logs.calls == ["read", "last"]
    assert (cold.log, cold.offset, cold.last_sequence, cold.written_ms) == (LOG, 5, 5, NOW + 4)


def test_two_containers_that_open_a_log_at_once_share_it(logs: RecordedLogs) -> None:
    early, late = Writer(logs), Writer(logs)
    logs.before["register"] = lambda: early.count(NOW, 1)
    late.count(NOW, 2, NOW + 1)
    assert logs.registry == {SHARD: (LOG,)}
    assert [item.last_sequence for item in logs.items(LOG)] == [1, 2]
    assert (late.writer.take_conflicts(), late.writer.take_conflicts()) == (1, 0)


def test_a_log_that_another_container_opens_meanwhile_is_not_left(logs: RecordedLogs) -> None:
    early, late = Writer(logs), Writer(logs)
    # The other one acts as late as possible: before the second read of this one.
    logs.before["read"] = lambda: logs.before.update(read=lambda: early.count(NOW, 1))
    late.count(NOW, 2, NOW + 1)
    assert [len(names) for names in logs.registry.values()] == [1]
    assert logs.counted() == 2


def test_a_container_that_loses_an_append_reads_the_winners_item(logs: RecordedLogs) -> None:
    winner, loser = Writer(logs), Writer(logs)
    winner.count(NOW, 1)
    loser.tail(NOW)
    winner.count(NOW, 2)
    with pytest.raises(Conflict):
        loser.count(NOW, 2)
    assert (loser.tail(NOW).offset, loser.tail(NOW).last_sequence) == (2, 2)
    loser.count(NOW, 3)
    assert [item.last_sequence for item in logs.items(LOG)] == [1, 2, 3]
    assert loser.writer.take_conflicts() == 1


@pytest.mark.parametrize("effective", [False, True], ids=["before it took effect", "after it took effect"])
def test_the_end_is_read_again_after_an_append_that_failed(logs: RecordedLogs, effective: bool) -> None:
    writer = Writer(logs)
    writer.count(NOW, 1)
    if effective:
        logs.answers_lost = {"append"}
    else:
        logs.fails = {"append": 1}
    with pytest.raises(Unavailable):
        writer.count(NOW, 2)
    logs.calls.clear()
    assert writer.tail(NOW).last_sequence == (2 if effective else 1)
    assert logs.calls == ["read", "last"]


def test_a_log_whose_registration_was_not_acknowledged_is_used(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    logs.answers_lost = {"register"}
    with pytest.raises(Unavailable):
        writer.tail(NOW)
    writer.count(NOW + 1, 1)
    assert logs.registry == {SHARD: (LOG,)}


def test_a_container_without_a_log_of_its_own_fails_after_several_tries(logs: RecordedLogs) -> None:
    """Other containers close every log that it opens."""

    def interfere() -> None:
        current = logs.registry.get(SHARD, ())
        name = f"{SHARD}@{NOW + len(current)}"
        super(RecordedLogs, logs).append(name, 0, [LogItem(body=None, last_sequence=-1, written_ms=NOW)])
        super(RecordedLogs, logs).register(SHARD, current, (*current, name))
        logs.before["register"] = interfere

    logs.before["register"] = interfere
    writer = Writer(logs)
    with pytest.raises(Contended, match=f"no log could be opened for {SHARD} in {TRIES} tries"):
        writer.tail(NOW)
    assert writer.writer.take_conflicts() == TRIES


def test_a_log_that_was_silent_for_two_hours_is_closed_and_a_new_one_opened(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 7)
    later = NOW + DORMANT_MS
    Writer(logs).count(later, 3)
    assert logs.registry[SHARD] == (LOG, f"{SHARD}@{later}")
    assert [item.closes for item in logs.items(LOG)] == [False, True]
    assert [item.last_sequence for item in logs.items(LOG)] == [7, 7]
    assert [item.last_sequence for item in logs.items(f"{SHARD}@{later}")] == [3]


def test_a_log_that_was_silent_for_less_than_two_hours_goes_on(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 7)
    Writer(logs).count(NOW + DORMANT_MS - 1, 8)
    assert logs.registry[SHARD] == (LOG,)


def test_a_log_whose_items_may_be_gone_is_left_without_closing_it(logs: RecordedLogs) -> None:
    """Its next offset is not known any more; an item there would look like its first."""
    Writer(logs).count(NOW, 7)
    later = NOW + EXPIRE_MS + 1
    logs.expire(later - EXPIRE_MS)
    Writer(logs).count(later, 8)
    assert logs.items(LOG) == []
    assert logs.registry[SHARD] == (LOG, f"{SHARD}@{later}")


@pytest.mark.parametrize("items", [0, 1])
def test_a_log_that_another_container_has_closed_rejects_appends(logs: RecordedLogs, items: int) -> None:
    """The other's clock is ahead: for it the log is dormant already."""
    late, early = Writer(logs), Writer(logs)
    late.tail(NOW)
    if items:
        late.count(NOW, 1)
    now = NOW + DORMANT_MS - 1
    tail = late.tail(now)
    early.count(now, 2, now + 2)
    with pytest.raises(Conflict):
        late.writer.append(tail, counting(now, 2), now)
    assert late.tail(now).log == f"{SHARD}@{now + 2}"
    assert late.tail(now).last_sequence == 2


def test_a_container_that_finds_its_log_closed_uses_the_next_one(logs: RecordedLogs) -> None:
    """The closing item is there, and the new log is not registered yet."""
    writer = Writer(logs)
    writer.count(NOW, 1)
    logs.append(LOG, 1, [LogItem(body=None, last_sequence=1, written_ms=NOW)])
    with pytest.raises(Conflict):
        writer.count(NOW + 1, 2)
    writer.count(NOW + 1, 2)
    assert logs.registry[SHARD] == (LOG, f"{SHARD}@{NOW + 1}")
    assert [item.closes for item in logs.items(LOG)] == [False, True], "it is not closed twice"


def test_a_container_that_was_frozen_for_hours_starts_over(logs: RecordedLogs) -> None:
    """The items after the last that it knows are gone; it must not write in their place."""
    frozen, busy = Writer(logs), Writer(logs)
    frozen.count(NOW, 1)
    now = NOW
    for sequence in range(2, 8):
        now += HOUR
        busy.count(now, sequence)
    logs.expire(now - EXPIRE_MS)
    now += SECOND
    frozen.count(now, 8)
    assert logs.registry == {SHARD: (LOG,)}
    assert logs.last(LOG) == (7, logs.items(LOG)[-1])


@pytest.mark.parametrize("hours", range(1, 8))
def test_a_container_that_is_hours_behind_does_not_leave_the_log_that_others_use(
    logs: RecordedLogs, hours: int
) -> None:
    """As when it has served other shards meanwhile. In a log of its own it would count their batches again."""
    behind, busy = Writer(logs), Writer(logs)
    behind.count(NOW, 0)
    for number in range(1, hours + 1):
        busy.count(NOW + number * HOUR, number)
    now = NOW + hours * HOUR + 1
    logs.expire(now - EXPIRE_MS)
    if hours < 2:
        with pytest.raises(Conflict):
            behind.count(now, hours)
    assert behind.tail(now).last_sequence == hours
    assert logs.registry == {SHARD: (LOG,)}


def test_an_end_is_read_again_before_its_log_is_left(logs: RecordedLogs) -> None:
    writer = Writer(logs)
    writer.count(NOW, 1)
    logs.calls.clear()
    writer.tail(NOW + DORMANT_MS - 1)
    assert logs.calls == [], "remembered as long as the log takes items"
    Writer(logs).count(NOW + DORMANT_MS - 1, 2)
    logs.calls.clear()
    assert writer.tail(NOW + DORMANT_MS).last_sequence == 2
    assert logs.calls == ["read", "last"]


@pytest.mark.parametrize("call", ["read", "last"])
def test_a_log_that_could_not_be_read_is_not_one_that_has_ended(logs: RecordedLogs, call: str) -> None:
    Writer(logs).count(NOW, 5)
    Writer(logs).count(NOW + HOUR, 6)
    now = NOW + DORMANT_MS + HOUR // 2
    cold = Writer(logs)
    logs.fails = {call: 1}
    with pytest.raises(Unavailable):
        cold.count(now, 7)
    cold.count(now, 7)
    assert logs.registry == {SHARD: (LOG,)}
    assert cold.tail(now).last_sequence == 7


def test_a_shard_that_was_removed_from_the_registry_gets_a_new_log(logs: RecordedLogs) -> None:
    Writer(logs).count(NOW, 1)
    now = NOW + EXPIRE_MS + 1
    reader = LogReader(logs, new_view, lateness_ms=10 * SECOND)
    for _ in range(2):
        reader.read(RULES, now)
    assert logs.registry == {}
    Writer(logs).count(now, 2)
    assert logs.registry == {SHARD: (f"{SHARD}@{now}",)}


def test_an_oversized_tally_is_appended_as_several_items_at_once(
    logs: RecordedLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "LARGEST_ITEM", 200)
    writer = Writer(logs)
    tail = writer.tail(NOW)
    clients = {number.to_bytes(4, "big"): {NOW // METER.slot_ms + number: number} for number in range(1, 200)}
    whole = [MeterTally.of(Source.CLOUDFRONT, METER, clients)]
    logs.calls.clear()
    malformed = (MalformedCount(reason="json", number=7),)
    writer.writer.append(tail, BatchTally(whole, 9, 199, NOW, NOW + 199 * METER.slot_ms, NOW, malformed), NOW)
    assert logs.calls == ["append"]
    items = logs.items(LOG)
    assert len(items) > 3
    assert all(item.body is not None and len(item.body) <= 200 and item.last_sequence == 9 for item in items)
    assert [item.requests for item in items] == [199] + [0] * (len(items) - 1)
    assert [item.malformed for item in items] == [malformed] + [()] * (len(items) - 1)
    assert tail.offset == len(items)
    view = LogReader(logs, new_view, lateness_ms=10 * SECOND).read(RULES, NOW)
    assert {key: view.slots(Source.CLOUDFRONT, RULES.rules[0], key) for key in clients} == clients


def test_a_tally_too_large_for_a_transaction_is_rejected_and_the_end_stays_known(
    logs: RecordedLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(logs)
    writer.count(NOW, 1)
    logs.calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(log_writer, "LARGEST_APPEND", 10)
        with pytest.raises(TooLarge, match=f"{LOG}: a tally of [0-9]+ bytes"):
            writer.count(NOW, 2)
    assert logs.calls == []
    writer.count(NOW, 2)
    assert logs.calls == ["append"]
