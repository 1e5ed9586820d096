"""Quotas: when roll-ups are written, what a container starts with, and what it does when something is missing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from chalicelib.core import roll_ups
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT, Detection
from chalicelib.core.tally import unpack
from chalicelib.core.view import View
from chalicelib.pipeline import quotas
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.log_writer import BatchTally
from chalicelib.pipeline.quotas import DROPPING, EVERY_MS, FURTHEST_AHEAD, MOST_KEYS, REACH_MS, Quotas
from chalicelib.pipeline.tally_logs import RESERVE_S
from chalicelib.ports import Gone, RollUp, Unavailable
from chalicelib.reports import QuotaReport
from sluice.local.stores import MemoryRollUps
from tests.support.tally_logs import (
    CLIENT,
    HOUR,
    METER,
    MINUTE,
    NOW,
    SECOND,
    SHARD,
    RecordedLogs,
    Writer,
    seconds_left,
    tally,
)

DAILY = Rule(name="daily", limit=5, window_s=86400, resolution=96)
RULES = RuleSet((Rule(name="r", limit=5, window_s=10), DAILY))


class Site:
    """A stage whose tallies are written by hand."""

    def __init__(self) -> None:
        self.logs, self.roll_ups = RecordedLogs(), MemoryRollUps()
        self.writer = Writer(self.logs)
        self.rules = RULES
        self.detections: list[Detection] = []
        self.sequence = 0

    def container(
        self, most_entries: int = 100_000, detect: Callable[[Sequence[Detection]], None] | None = None
    ) -> Quotas:
        def view(rules: RuleSet) -> View:
            return View(rules, sample_rate=100, most_entries=most_entries, drops_at_once=False)

        return Quotas(
            logs=self.logs,
            roll_ups=self.roll_ups,
            rules=lambda _: RulesInUse(self.rules),
            new_view=view,
            detect=detect or self.detections.extend,
        )

    def count(self, now: int, requests: int = 1, client: bytes = CLIENT, shard: str = SHARD) -> None:
        self.sequence += 1
        self.writer.count(now, self.sequence, client=client, requests=requests, shard=shard)

    def stored(self) -> int:
        """Returns the requests in all roll-ups."""
        return sum(
            sum(part.totals())
            for roll_up in self.roll_ups.latest(0)
            for body in self.roll_ups.bodies(roll_up)
            for part in unpack(body)
        )

    def offenders(self) -> list[tuple[str, int]]:
        return [(each.network, each.count) for detection in self.detections for each in detection.offenders]


def run(container: Quotas, now: int, left: Callable[[], float] = lambda: 60) -> QuotaReport:
    report = container.run(now, left)
    assert report is not None
    return report


def test_without_a_quota_nothing_is_read_or_written() -> None:
    site = Site()
    site.rules = RULES.windows()
    assert site.container().run(NOW) is None
    assert (site.logs.calls, site.roll_ups.latest(0)) == ([], [])


def test_counting_begins_at_the_ends_of_the_logs() -> None:
    site = Site()
    site.count(NOW, 9)
    container = site.container()
    assert run(container, NOW).began
    site.count(NOW + SECOND, 5)
    report = run(container, NOW + MINUTE)
    assert (report.began, report.items, site.offenders()) == (False, 1, [])
    site.count(NOW + MINUTE, 1)
    run(container, NOW + 2 * MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 6)]


def test_roll_ups_are_written_each_hour_with_or_without_traffic() -> None:
    site = Site()
    container = site.container()
    for minute in range(200):
        run(container, NOW + minute * MINUTE)
        if minute < 30:
            site.count(NOW + minute * MINUTE)
    written = [(roll_up.written_ms - NOW) // MINUTE for roll_up in site.roll_ups.latest(0)]
    assert written == [180, 120, 60, 0]
    assert site.stored() == 30
    assert EVERY_MS == HOUR


def test_a_cold_container_continues_where_the_last_roll_up_ends() -> None:
    site, now = Site(), NOW
    run(site.container(), now)
    for _ in range(6):
        now += 50 * MINUTE
        site.count(now)
        run(site.container(), now)
    assert site.offenders() == [("97.97.97.97/32", 6)]
    assert site.stored() == 6


def test_many_items_of_many_shards_are_each_read_once() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    for number in range(2 * FURTHEST_AHEAD + 1):
        site.count(NOW + number, shard=f"{SHARD}{number % 2}")
    assert run(container, NOW + MINUTE).items == 2 * FURTHEST_AHEAD + 1
    assert run(container, NOW + 2 * MINUTE).items == 0
    run(container, NOW + HOUR)
    assert site.stored() == 2 * FURTHEST_AHEAD + 1


def test_an_offence_is_no_later_than_the_latest_request() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    site.count(NOW + SECOND, 9)
    run(container, NOW + MINUTE)
    (detection,) = site.detections
    (offender,) = detection.offenders
    assert (detection.terms.window_s, detection.source) == (86400, Source.CLOUDFRONT)
    assert offender.last_ms == NOW + SECOND
    assert offender.since_ms <= offender.last_ms


def test_requests_that_were_refused_are_told_from_those_that_were_served() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    refused = MeterTally.of(Source.CLOUDFRONT, METER.refusals(), {CLIENT: {NOW // METER.slot_ms: 4}})
    batch = BatchTally([*tally(NOW, CLIENT, 9), refused], 1, 9, NOW, NOW, NOW)
    site.writer.writer.append(site.writer.tail(NOW), batch, NOW)
    run(container, NOW + MINUTE)
    (detection,) = site.detections
    assert [each.served_since_ms for each in detection.offenders] == [SERVED_WITHIN_LIMIT]


def test_a_detection_that_could_not_be_stored_is_made_again() -> None:
    site, failures = Site(), [Unavailable("down")]

    def detect(detections: Sequence[Detection]) -> None:
        if detections and failures:
            raise failures.pop()
        site.detections.extend(detections)

    container = site.container(detect=detect)
    run(container, NOW)
    site.count(NOW, 9)
    with pytest.raises(Unavailable):
        container.run(NOW + MINUTE)
    run(container, NOW + 2 * MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 9)]


def test_the_loser_of_a_race_for_a_roll_up_counts_everything_once() -> None:
    site = Site()
    first, second = site.container(), site.container()
    run(first, NOW)
    run(second, NOW)
    site.count(NOW, 5)
    run(first, NOW + MINUTE)
    run(second, NOW + MINUTE)
    assert run(first, NOW + HOUR).roll_ups == 1
    assert run(second, NOW + HOUR).conflicts == 1
    assert site.stored() == 5
    run(second, NOW + HOUR + MINUTE)
    assert site.offenders() == []
    site.count(NOW + HOUR + MINUTE)
    run(second, NOW + HOUR + 2 * MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 6)]
    assert run(second, NOW + 2 * HOUR).roll_ups == 1
    assert run(first, NOW + 2 * HOUR).conflicts == 1
    assert site.stored() == 6


def test_after_a_pause_in_which_items_may_have_expired_counting_begins_again_and_earlier_roll_ups_count() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    site.count(NOW, 3)
    run(container, NOW + HOUR)
    later = NOW + HOUR + REACH_MS + MINUTE
    site.count(NOW + HOUR + MINUTE, 9)  # nobody reads this in time
    for number, each in enumerate([container, site.container()]):
        assert run(each, later + number * MINUTE).began is (number == 0)
    site.count(later + 2 * MINUTE, 3)
    run(container, later + 3 * MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 6)]


def test_items_that_have_disappeared_are_passed_and_counted() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    for second in range(8):
        site.count(NOW + second * SECOND)
    (log,) = site.logs.registry[SHARD]
    site.logs.lose(log, 1)
    site.logs.lose(log, 2)
    assert run(container, NOW + MINUTE).items == 1
    report = run(container, NOW + 2 * MINUTE)
    assert (report.missing, report.items) == (2, 5)
    assert site.offenders() == [("97.97.97.97/32", 6)]


def test_an_item_that_becomes_visible_after_the_next_one_is_counted() -> None:
    """The items of a large tally are written by one transaction, which other calls may see in part."""
    site = Site()
    container = site.container()
    run(container, NOW)
    for _ in range(3):
        site.count(NOW + MINUTE, 2)
    (log,) = site.logs.registry[SHARD]
    late = site.logs.items(log)[1]
    site.logs.lose(log, 1)
    report = run(container, NOW + 90 * SECOND)
    assert (report.missing, report.items) == (0, 1)
    report = run(container, NOW + 2 * MINUTE)
    assert (report.missing, report.items) == (0, 0)
    site.logs.append(log, 1, [late])
    report = run(container, NOW + 3 * MINUTE)
    assert (report.missing, report.items, site.offenders()) == (0, 2, [("97.97.97.97/32", 6)])


def test_a_new_item_is_not_taken_for_a_gap() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    site.count(NOW)
    run(container, NOW + MINUTE)
    site.logs.before["last"] = lambda: site.count(NOW + 2 * MINUTE)
    report = run(container, NOW + 2 * MINUTE)
    assert (report.missing, report.items) == (0, 1)
    assert site.logs.read_backwards == [], "the log need not be read"


@pytest.mark.parametrize("before", [False, True], ids=["seen before a new item", "seen with it"])
def test_after_a_restore_of_the_table_only_what_was_written_since_is_counted(*, before: bool) -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    for second in range(4):
        site.count(NOW + second * SECOND)
    run(container, NOW + MINUTE)
    (log,) = site.logs.registry[SHARD]
    for offset in (2, 3):
        site.logs.lose(log, offset)
    site.writer = Writer(site.logs)
    if before:
        site.count(NOW + 90 * SECOND)
    report = run(container, NOW + 2 * MINUTE)
    assert (report.restored, report.missing, report.items) == (1, 0, before)
    if not before:
        site.count(NOW + 150 * SECOND)
    run(container, NOW + 3 * MINUTE)
    site.count(NOW + 3 * MINUTE)
    report = run(container, NOW + 4 * MINUTE)
    assert (report.restored, report.items, site.offenders()) == (0, 1, [("97.97.97.97/32", 6)])
    run(container, NOW + HOUR)
    assert site.stored() == 6


def test_items_that_expire_out_of_order_are_not_taken_for_a_restored_table() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    for second in range(3):
        site.count(NOW + second)
    for hour in range(4):
        run(container, NOW + hour * HOUR)
    (log,) = site.logs.registry[SHARD]
    for minute, offset in enumerate([2, 1, 0], 1):
        site.logs.lose(log, offset)
        report = run(container, NOW + 3 * HOUR + minute * MINUTE)
        assert (report.restored, report.missing, report.items) == (0, 0, 0)


def test_an_offence_is_reported_once_and_again_after_an_hour() -> None:
    """Whatever made the enforcer ignore it, such as a pause, may have ended."""
    site = Site()
    container = site.container()
    run(container, NOW)
    site.count(NOW, 6)
    minutes = []
    for minute in range(1, 130):
        site.count(NOW + minute * MINUTE, client=b"bbbb")
        if minute % 2:
            site.count(NOW + minute * MINUTE - SECOND)
        before = len(site.offenders())
        run(container, NOW + minute * MINUTE)
        minutes += [minute for network, _ in site.offenders()[before:] if network == "97.97.97.97/32"]
    assert minutes[0] == 1
    assert len(minutes) < 12, "it is reported again whenever later requests alone are over the limit"
    assert max(later - earlier for earlier, later in pairwise(minutes)) <= 62


def test_an_offence_by_few_requests_that_goes_on_is_reported_each_hour() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    site.count(NOW, 6)
    reported = []
    for minute in range(1, 150, 30):
        site.count(NOW + minute * MINUTE - SECOND)
        before = len(site.detections)
        run(container, NOW + minute * MINUTE)
        reported += [minute] if len(site.detections) > before else []
    assert reported == [1, 61, 121]


@pytest.mark.parametrize("extend", [False, True])
def test_with_extend_an_offence_is_reported_so_often_that_a_short_block_goes_on(*, extend: bool) -> None:
    site = Site()
    site.rules = RuleSet((replace(DAILY, limit=200, block_for_s=1800, extend=extend),))
    container = site.container()
    run(container, NOW)
    site.count(NOW, 201)
    reported = []
    for minute in range(1, 63):
        site.count(NOW + minute * MINUTE - SECOND)
        before = len(site.detections)
        run(container, NOW + minute * MINUTE)
        reported += [minute] if len(site.detections) > before else []
    if extend:
        assert max(later - earlier for earlier, later in pairwise([*reported, 62])) <= 9
        assert len(reported) <= 8
    else:
        assert reported == [1, 62]


def test_calls_are_so_small_that_the_largest_items_fit_into_memory() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    for number in range(1000):
        site.count(NOW + number, shard=f"{SHARD}{number % 25}")
    assert run(container, NOW + MINUTE).items == 1000
    assert max(map(len, site.logs.keys_read)) < MOST_KEYS + FURTHEST_AHEAD


def test_what_time_does_not_suffice_for_is_left_to_the_next_run() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    for hour in range(3):
        site.count(NOW + hour * HOUR, 2)
        run(container, NOW + (hour + 1) * HOUR)
    cold, now = site.container(), NOW + 3 * HOUR + MINUTE
    short = seconds_left(RESERVE_S - 1)
    assert run(cold, now, short).unfinished == "not loaded: 2 roll-ups"
    assert run(cold, now, short).unfinished == "not loaded: 1 roll-ups"
    run(cold, now, short)
    assert run(cold, now).unfinished is None
    assert run(cold, now).entries == 3
    site.detections.clear()
    site.count(now)
    run(cold, now + MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 7)]


def test_a_load_that_takes_longer_than_items_are_kept_ends_and_counting_goes_on() -> None:
    site, now = Site(), NOW
    container = site.container()
    run(container, now)
    for _ in range(5):
        site.count(now)
        now += HOUR
        run(container, now)
    cold, reports = site.container(), []
    for _ in range(4):
        site.count(now)
        now += REACH_MS // 2 + MINUTE
        reports.append(run(cold, now, seconds_left(RESERVE_S - 1)))
    assert [each.unfinished for each in reports] == [f"not loaded: {left} roll-ups" for left in (4, 3, 2, 1)]
    assert [each.began for each in reports] == [False, True, False, True]
    site.count(now)
    assert run(cold, now + MINUTE).items == 1
    assert site.offenders() == [("97.97.97.97/32", 6)]
    run(cold, now + HOUR)
    assert site.stored() == 6


def test_a_backlog_is_rolled_up_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "MOST_PENDING", 5)
    monkeypatch.setattr(quotas, "SLICE", 10)
    site = Site()
    container = site.container()
    run(container, NOW)
    for number in range(95):
        site.count(NOW + number, client=number.to_bytes(4, "big"))
    assert run(container, NOW + MINUTE).roll_ups == 9
    assert site.stored() == 90
    run(container, NOW + HOUR + MINUTE)
    assert site.stored() == 95


def test_a_backlog_that_does_not_fit_into_the_time_of_a_run_makes_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "MOST_PENDING", 20)
    monkeypatch.setattr(quotas, "SLICE", 10)
    monkeypatch.setattr(roll_ups, "PIECE", 4)
    site = Site()
    run(site.container(), NOW)
    for number in range(99):
        site.count(NOW + number, client=number.to_bytes(4, "big"))
    container, now = site.container(), NOW
    while site.stored() < 90:
        now += SECOND
        assert run(container, now, lambda: RESERVE_S - 1).unfinished
        assert now < NOW + 99 * SECOND
    assert run(site.container(), now).items == 9


def test_a_client_of_many_items_takes_the_memory_of_one_and_is_rolled_up_each_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quotas, "MOST_PENDING", 12)
    site = Site()
    site.rules = RuleSet((replace(DAILY, limit=84),))
    container = site.container()
    run(container, NOW)
    for minute in range(60):
        site.count(NOW + minute * MINUTE)
        report = run(container, NOW + minute * MINUTE + 1)
        assert report.entries <= 12
        assert not report.roll_ups
    report = run(container, NOW + HOUR)
    assert (report.roll_ups, report.entries, site.stored()) == (1, 5, 60)
    for minute in range(60, 85):
        assert site.offenders() == []
        site.count(NOW + minute * MINUTE)
        run(container, NOW + minute * MINUTE + 1)
    assert site.offenders() == [("97.97.97.97/32", 85)]


def test_past_the_memory_clients_are_dropped_and_counted() -> None:
    site = Site()
    container = site.container(most_entries=10)
    run(container, NOW)
    for number in range(20):
        site.count(NOW, client=number.to_bytes(4, "big"))
    assert run(container, NOW + MINUTE).dropped >= 10


def test_clients_are_dropped_in_steps_and_nothing_is_read_before_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "SLICE", 4)
    site = Site()
    container = site.container(most_entries=10)
    run(container, NOW)
    for number in range(16):
        site.count(NOW, client=number.to_bytes(4, "big"), requests=3 if number == 1 else 1)
    reports = [run(container, NOW + second * SECOND, lambda: RESERVE_S - 1) for second in range(40)]
    assert DROPPING in [report.unfinished for report in reports]
    assert sum(report.dropped for report in reports) + reports[-1].entries == 16
    assert reports[-1].entries <= 10
    assert reports[-1].unfinished is None
    site.count(NOW, client=(1).to_bytes(4, "big"), requests=3)
    run(container, NOW + MINUTE)
    assert site.offenders() == [("0.0.0.1/32", 6)]


def test_a_changed_limit_keeps_the_counts() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    site.count(NOW, 4)
    run(container, NOW + HOUR)
    site.rules = RuleSet((Rule(name="daily", limit=3, window_s=2 * 86400, resolution=192),))
    site.count(NOW + HOUR + MINUTE)
    run(container, NOW + HOUR + 2 * MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 5)]


def test_requests_leave_the_window_of_a_quota_after_its_days() -> None:
    site = Site()
    container = site.container()
    now = NOW
    run(container, now)
    site.count(now, 5)
    for _ in range(25):
        now += HOUR
        run(container, now)
    site.count(now, 5)
    run(container, now + MINUTE)
    assert site.offenders() == []
    site.count(now, 1)
    run(container, now + 2 * MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 6)]


def test_a_delayed_request_that_is_read_late_is_evaluated_with_all_of_its_window() -> None:
    site = Site()
    container = site.container()
    run(container, NOW)
    site.count(NOW, 5)
    for hour in range(1, 25):
        run(container, NOW + hour * HOUR)
    day = NOW + 24 * HOUR
    site.writer.count(day - 36 * MINUTE, 10_000, day + 20 * MINUTE)
    run(site.container(), day + REACH_MS - 5 * MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 6)]


def test_roll_ups_are_kept_for_a_day_longer_than_the_longest_quota_needs_them() -> None:
    site = Site()
    site.rules = RuleSet((DAILY, Rule(name="monthly", limit=5, window_s=31 * 86400, resolution=124)))
    run(site.container(), NOW)
    (roll_up,) = site.roll_ups.latest(0)
    assert 32 * 86400 < roll_up.kept_s < 33 * 86400


def test_an_offence_ends_with_its_last_request_although_late_ones_complete_it() -> None:
    """Otherwise it would look older than a block that explains its requests, or too old to be enforced."""
    site = Site()
    container = site.container()
    run(container, NOW)
    site.count(NOW + 14 * MINUTE, 5)
    run(container, NOW + 15 * MINUTE)
    site.writer.count(NOW + 2 * MINUTE, 10_000, NOW + 15 * MINUTE)
    run(container, NOW + 16 * MINUTE)
    ((offender,),) = [detection.offenders for detection in site.detections]
    assert (offender.count, offender.last_ms) == (6, NOW + 14 * MINUTE)


class DamagedRollUps(MemoryRollUps):
    damaged = -1
    """The number of the roll-up whose second part cannot be read."""
    body: bytes | None = None
    """What there is of it; None if it is missing."""

    def bodies(self, roll_up: RollUp) -> Sequence[bytes]:
        bodies = super().bodies(roll_up)
        if roll_up.number != self.damaged:
            return bodies
        if self.body is None:
            raise Gone("1 of its 2 parts is missing")
        return [*bodies, self.body, *bodies]


@pytest.mark.parametrize("body", [None, b"damaged", b""])
def test_a_roll_up_that_cannot_be_read_does_not_stop_the_others(body: bytes | None) -> None:
    site = Site()
    site.roll_ups = stored = DamagedRollUps()
    run(site.container(), NOW)
    for hour in range(3):
        site.count(NOW + hour * HOUR)
        run(site.container(), NOW + (hour + 1) * HOUR)
    stored.damaged, stored.body = 2, body
    cold, now = site.container(), NOW + 3 * HOUR + MINUTE
    assert [run(cold, now).unreadable, run(cold, now).unreadable] == [1, 0]
    site.count(now, 4)
    run(cold, now + MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 6 if body is None else 7)]


def test_a_longer_window_does_not_need_roll_ups_that_have_expired() -> None:
    class HalfRemoved(MemoryRollUps):
        """Parts of expired roll-ups are removed before the roll-ups are."""

        def bodies(self, roll_up: RollUp) -> Sequence[bytes]:
            if roll_up.written_ms + roll_up.kept_s * 1000 <= now:
                raise Unavailable("its parts are missing")
            return super().bodies(roll_up)

    site, now = Site(), NOW
    site.roll_ups = HalfRemoved()
    run(site.container(), now)
    site.count(now, 5)
    for _ in range(4 * 24):
        now += HOUR
        run(site.container(), now)
    site.rules = RuleSet((Rule(name="monthly", limit=5, window_s=31 * 86400, resolution=124),))
    site.count(now, 6)
    run(site.container(), now + MINUTE)
    assert site.offenders() == [("97.97.97.97/32", 6)]
