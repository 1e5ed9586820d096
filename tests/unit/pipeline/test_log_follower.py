"""Following and appending to the tally logs, with every store call in sight."""

from collections.abc import Collection, Mapping, Sequence

import pytest

from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import BadTally, MeterTally
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.tally import DORMANT_MS, EXPIRE_MS, RETENTION_MS, Tally
from chalicelib.core.windows import View
from chalicelib.pipeline import log_follower
from chalicelib.pipeline.log_follower import COUNTING_S, STALE_MS, BatchTally, LogFollower, Prepared, StillLoading, Tail
from chalicelib.ports import Conflict, LogItem, LogKey, Registry, Unavailable
from sluice.local.stores import MemoryTallyLogs

NOW = 1_760_000_000_000
HOUR, MINUTE, SECOND = 3_600_000, 60_000, 1000
RULES = RuleSet((Rule(name="r", limit=5, window_s=10),))
LONG = RuleSet((Rule(name="long", limit=5, window_s=3600),))
METER = RULES.rules[0].meter
SHARD = "logs/shard-0"


class Logs(MemoryTallyLogs):
    """Counts its calls, and fails the next ones on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[LogKey]] = []
        self.hidden: set[LogKey] = set()
        self.hidden_for = 0
        self.latest_fails = 0
        self.latest_fails_at = 0
        """The reads backwards until the one that fails; none fails at 0."""
        self.read_backwards: list[str] = []

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        self.asked.append(sorted(keys))
        registry, found = super().read(keys)
        hidden = self.hidden if len(self.asked) <= self.hidden_for else ()
        return registry, {key: item for key, item in found.items() if key not in hidden}

    def latest(self, log: str, written_since_ms: int) -> Sequence[tuple[int, LogItem]]:
        self.read_backwards.append(log)
        self.latest_fails_at -= 1
        if self.latest_fails or self.latest_fails_at == 0:
            self.latest_fails = max(0, self.latest_fails - 1)
            raise Unavailable("the first reads after a cold start are throttled")
        return super().latest(log, written_since_ms)

    @property
    def registry(self) -> Registry:
        return super().read([])[0]

    def lose(self, log: str, offset: int) -> None:
        """As TTL would."""
        del self._logs[log][offset]


class Container:
    """One follower; a tally of one client is appended with ``count``."""

    def __init__(self, logs: Logs, rules: RuleSet = RULES, lateness_ms: int = 10 * SECOND) -> None:
        self.follower = LogFollower(
            logs, lambda rules: View(rules, sample_rate=100, most_entries=100_000), lateness_ms=lateness_ms
        )
        self.rules = rules

    def prepare(self, now: int, oldest: int | None = None) -> Prepared:
        return self.follower.prepare(self.rules, now if oldest is None else oldest, now)

    def count(self, time: int, sequence: int, now: int, shard: str = SHARD) -> None:
        """Raises Conflict."""
        prepared = self.prepare(now, time)
        prepared.append(prepared.tail(shard), counting(time, sequence)).catch_up()

    def catch_up(self, now: int) -> None:
        self.follower.read(self.rules, now)

    def tail(self, now: int) -> Tail:
        return self.prepare(now).tail(SHARD)

    def seen(self) -> int:
        view = self.follower._view
        assert view is not None
        return sum(view.slots(Source.CLOUDFRONT, self.rules.rules[0], b"aaaa").values())


def counting(time: int, sequence: int) -> BatchTally:
    return BatchTally(tally(time), sequence, 1, time, time)


def tally(time: int) -> Tally:
    slots = {time // METER.slot_ms: 1}
    return [MeterTally.of(Source.CLOUDFRONT, METER, {b"aaaa": slots})]


@pytest.fixture
def logs() -> Logs:
    return Logs()


def test_a_log_is_named_after_its_shard_and_the_time_it_was_opened(logs: Logs) -> None:
    Container(logs).count(NOW, 1, NOW)
    assert logs.registry == {SHARD: (f"{SHARD}@{NOW}",)}


def test_two_containers_that_open_a_log_at_once_share_it(logs: Logs) -> None:
    one, other = Container(logs), Container(logs)
    one.prepare(NOW)
    other.prepare(NOW)
    one.count(NOW, 1, NOW)
    other.count(NOW, 2, NOW + 1)
    assert logs.registry == {SHARD: (f"{SHARD}@{NOW}",)}
    assert other.seen() == 2


def test_a_container_that_loses_an_append_has_merged_the_winners_item(logs: Logs) -> None:
    one, other = Container(logs), Container(logs)
    one.count(NOW, 1, NOW)
    prepared = other.prepare(NOW)
    tail = prepared.tail(SHARD)
    one.count(NOW, 2, NOW)
    with pytest.raises(Conflict):
        prepared.append(tail, counting(NOW, 2))
    assert (tail.offset, tail.last_sequence, other.seen()) == (2, 2, 2)
    other.count(NOW, 3, NOW)
    assert other.seen() == 3


def test_an_append_whose_acknowledgement_was_lost_is_not_repeated(logs: Logs) -> None:
    container = Container(logs)
    container.count(NOW, 1, NOW)
    log = f"{SHARD}@{NOW}"
    logs.append(log, 1, [LogItem(body=None, last_sequence=2, written_ms=NOW)])
    with pytest.raises(Conflict):
        container.count(NOW, 2, NOW)
    assert container.follower._tails[log].last_sequence == 2


def test_a_log_that_was_silent_for_two_hours_is_closed_and_a_new_one_opened(logs: Logs) -> None:
    Container(logs).count(NOW, 7, NOW)
    later = NOW + DORMANT_MS
    Container(logs).count(later, 3, later)
    old, new = logs.registry[SHARD]
    assert (old, new) == (f"{SHARD}@{NOW}", f"{SHARD}@{later}")
    assert [item.closes for _, item in logs.latest(old, 0)] == [True, False]
    assert [item.last_sequence for _, item in logs.latest(new, 0)] == [3]


@pytest.mark.parametrize("items", [0, 1])
def test_a_log_that_another_container_has_closed_rejects_appends(logs: Logs, items: int) -> None:
    """The other's clock is ahead: for it the log is dormant already."""
    late, early = Container(logs), Container(logs)
    late.tail(NOW)
    if items:
        late.count(NOW, 1, NOW)
    now = NOW + DORMANT_MS - 1
    prepared = late.prepare(now)
    tail = prepared.tail(SHARD)
    early.count(now, 2, now + 2)
    with pytest.raises(Conflict):
        prepared.append(tail, counting(now, 2))
    assert prepared.tail(SHARD).last_sequence == 2


def test_a_container_that_was_frozen_for_hours_starts_over(logs: Logs) -> None:
    """The items that it would read next are gone; it must not wait for them, or write in their place."""
    frozen, busy = Container(logs), Container(logs)
    frozen.count(NOW, 1, NOW)
    now = NOW
    for sequence in range(2, 8):
        now += HOUR
        busy.count(now, sequence, now)
    logs.expire(now - EXPIRE_MS)
    now += SECOND
    frozen.count(now, 8, now)
    assert logs.registry == {SHARD: (f"{SHARD}@{NOW}",)}
    assert [offset for offset, _ in logs.latest(f"{SHARD}@{NOW}", now)] == [7]
    assert frozen.seen() == 2


def test_a_cold_start_that_runs_out_of_time_continues_with_the_next_call(logs: Logs) -> None:
    for number in range(4):
        Container(logs).count(NOW, 1, NOW, f"logs/shard-{number}")
    cold = Container(logs)
    logs.read_backwards.clear()
    for number in range(1, 4):
        with pytest.raises(StillLoading, match=f"{number} of 4 logs are loaded"):
            cold.follower.prepare(RULES, NOW, NOW + number, time_left_s=lambda: COUNTING_S - 1)
        assert len(logs.read_backwards) == number
    cold.follower.prepare(RULES, NOW, NOW + 4, time_left_s=lambda: COUNTING_S - 1)
    assert sorted(logs.read_backwards) == [f"logs/shard-{number}@{NOW}" for number in range(4)]
    assert cold.seen() == 4


def test_a_cold_start_continues_after_a_failed_read(logs: Logs) -> None:
    for number in range(3):
        Container(logs).count(NOW, 1, NOW, f"logs/shard-{number}")
    cold = Container(logs)
    logs.read_backwards.clear()
    for _ in range(2):
        logs.latest_fails_at = 2
        with pytest.raises(Unavailable):
            cold.prepare(NOW)
    cold.prepare(NOW)
    assert len(logs.read_backwards) == 5, "two failed reads, and one of each log"
    assert cold.seen() == 3


@pytest.mark.parametrize("change", ["rules", "age", "depth"])
def test_a_cold_start_begins_again_if_what_it_loaded_does_not_serve(logs: Logs, change: str) -> None:
    for number in range(2):
        Container(logs).count(NOW, 1, NOW, f"logs/shard-{number}")
    cold = Container(logs)
    with pytest.raises(StillLoading):
        cold.follower.prepare(RULES, NOW, NOW, time_left_s=lambda: 0)
    logs.read_backwards.clear()
    now, oldest = NOW, NOW
    if change == "rules":
        cold.rules = RuleSet((Rule(name="r", limit=6, window_s=10),))
    elif change == "age":
        now = oldest = NOW + STALE_MS + 1
    else:
        oldest = NOW - MINUTE
    cold.prepare(now, oldest)
    assert len(logs.read_backwards) == 2


def test_an_item_that_cannot_be_merged_does_not_count_earlier_ones_twice(logs: Logs) -> None:
    writer = Container(logs)
    for sequence in (1, 2):
        writer.count(NOW, sequence, NOW)
    logs.append(f"{SHARD}@{NOW}", 2, [LogItem(body=b"damaged", last_sequence=3, written_ms=NOW, last_slot_ms=NOW)])
    cold = Container(logs)
    for _ in range(3):
        with pytest.raises(BadTally):
            cold.catch_up(NOW)
    assert cold.seen() == 2


def test_a_log_that_could_not_be_read_is_not_one_that_has_ended(logs: Logs) -> None:
    Container(logs).count(NOW, 5, NOW)
    Container(logs).count(NOW + HOUR, 6, NOW + HOUR)
    now = NOW + DORMANT_MS + HOUR // 2
    cold = Container(logs)
    logs.latest_fails = 1
    with pytest.raises(Unavailable):
        cold.count(now, 7, now)
    cold.count(now, 7, now)
    assert logs.registry == {SHARD: (f"{SHARD}@{NOW}",)}
    assert cold.tail(now).last_sequence == 7


def test_a_new_log_that_cannot_be_read_is_retried(logs: Logs) -> None:
    reader, writer = Container(logs), Container(logs)
    reader.prepare(NOW)
    writer.count(NOW, 1, NOW)
    logs.latest_fails = 1
    with pytest.raises(Unavailable):
        reader.catch_up(NOW)
    reader.catch_up(NOW)
    assert reader.seen() == 1


def test_a_reader_does_not_skip_an_item_that_is_not_visible_yet(logs: Logs) -> None:
    """Offsets are not read at one moment: a later one may be there in an answer that lacks an earlier one."""
    reader, writer = Container(logs), Container(logs)
    writer.count(NOW, 1, NOW)
    reader.prepare(NOW)
    for sequence in (2, 3, 4):
        writer.count(NOW, sequence, NOW)
    logs.asked.clear()
    logs.hidden = {(f"{SHARD}@{NOW}", 2)}
    logs.hidden_for = 2
    reader.catch_up(NOW)
    assert [[offset for _, offset in keys] for keys in logs.asked][:3] == [[1], [2, 3], [2, 3]]
    assert reader.seen() == 4


def test_a_cold_start_reads_the_newest_run_of_items_without_a_gap(logs: Logs) -> None:
    """The store removes expired items in any order, while a view as deep as can be still asks for them."""
    writer = Container(logs, LONG)
    times = [NOW + part * HOUR // 2 for part in range(8)]
    for sequence, time in enumerate(times):
        writer.count(time, sequence, time)
    logs.lose(f"{SHARD}@{NOW}", 1)
    cold = Container(logs, LONG, lateness_ms=HOUR)
    prepared = cold.prepare(times[-1], times[-1] - RETENTION_MS)
    assert prepared.view.since_ms <= times[-1] - RETENTION_MS
    assert prepared.tail(SHARD).offset == 8


def test_a_late_request_deepens_the_view_for_ten_minutes(logs: Logs) -> None:
    Container(logs).count(NOW - 30 * MINUTE, 1, NOW - 30 * MINUTE)
    container = Container(logs)
    assert container.prepare(NOW).view.since_ms == NOW - 10 * SECOND
    assert container.seen() == 0
    deep = container.prepare(NOW, NOW - 30 * MINUTE).view
    assert deep.since_ms == NOW - 30 * MINUTE - 10 * SECOND
    assert container.seen() == 1
    assert container.prepare(NOW + MINUTE).view is deep
    assert deep.since_ms == NOW - 29 * MINUTE - 10 * SECOND
    container.prepare(NOW + 11 * MINUTE)
    assert deep.since_ms == NOW + 11 * MINUTE - 10 * SECOND


def test_a_new_rule_set_is_counted_from_the_logs(logs: Logs) -> None:
    container = Container(logs)
    container.count(NOW, 1, NOW)
    container.rules = RuleSet((Rule(name="wider", limit=9, window_s=20),))
    container.prepare(NOW)
    assert container.seen() == 1


def test_a_shard_is_removed_when_all_its_logs_have_expired(logs: Logs) -> None:
    Container(logs).count(NOW, 1, NOW, "logs/old")
    Container(logs).count(NOW + HOUR, 1, NOW + HOUR, "logs/recent")
    now = NOW + EXPIRE_MS + 1
    logs.expire(now - EXPIRE_MS)
    Container(logs).count(now, 1, now)
    assert set(logs.registry) == {"logs/recent", SHARD}


def test_a_shard_that_returns_after_hours_keeps_no_expired_logs(logs: Logs) -> None:
    Container(logs).count(NOW, 1, NOW)
    container = Container(logs)
    container.prepare(NOW + EXPIRE_MS)
    now = NOW + EXPIRE_MS + 1
    container.count(now, 2, now)
    assert logs.registry == {SHARD: (f"{SHARD}@{now}",)}


def test_closed_logs_are_no_longer_read(logs: Logs) -> None:
    Container(logs).count(NOW, 1, NOW)
    now = NOW + DORMANT_MS
    container = Container(logs)
    container.count(now, 2, now)
    logs.asked.clear()
    container.catch_up(now)
    assert logs.asked == [[(f"{SHARD}@{now}", 1)]]


def test_busy_logs_are_read_further_ahead_than_quiet_ones(logs: Logs) -> None:
    reader, writer = Container(logs), Container(logs)
    writer.count(NOW, 0, NOW)
    reader.prepare(NOW)
    for sequence in range(1, 40):
        writer.count(NOW, sequence, NOW)
    logs.asked.clear()
    reader.catch_up(NOW)
    assert list(map(len, logs.asked)) == [1, 2, 4, 8, 16, 16]
    assert reader.seen() == 40
    for _ in range(2):
        reader.catch_up(NOW)
    assert len(logs.asked[-1]) == 1


def test_an_oversized_tally_is_appended_as_several_items_at_once(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "LARGEST_ITEM", 200)
    container = Container(logs)
    prepared = container.prepare(NOW)
    tail = prepared.tail(SHARD)
    (one,) = tally(NOW)
    clients = {number.to_bytes(4, "big"): {NOW // METER.slot_ms + number: number} for number in range(1, 200)}
    whole = [MeterTally.of(one.source, one, clients)]
    prepared.append(tail, BatchTally(whole, 9, 199, NOW, NOW + 199 * METER.slot_ms))
    items = [item for _, item in reversed(logs.latest(tail.log, 0))]
    assert len(items) > 3
    assert all(item.body is not None and len(item.body) <= 200 and item.last_sequence == 9 for item in items)
    assert [item.requests for item in items] == [199] + [0] * (len(items) - 1)
    assert tail.offset == len(items)
    reader = Container(logs)
    view = reader.prepare(NOW).view
    assert {key: view.slots(Source.CLOUDFRONT, RULES.rules[0], key) for key in clients} == clients
