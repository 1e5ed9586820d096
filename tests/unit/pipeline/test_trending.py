"""Trends: every request, offence and block in exactly one quarter hour, whatever fails in between."""

from dataclasses import replace

import pytest

from chalicelib.core.durations import HOUR_S
from chalicelib.core.responses import Response
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.events import Event, Events
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.trends import QUARTER_S, Traffic, Trend, TrendMark
from chalicelib.pipeline import trending
from chalicelib.pipeline.recording import recorded
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.pipeline.trending import KEPT_S, AddUp
from chalicelib.ports import Item, LogItem
from chalicelib.reports import TrendReport
from tests.support.clock import Clock
from tests.support.state import NOW, Store
from tests.support.tally_logs import RecordedLogs, Writer, counting

START = NOW // HOUR_S * HOUR_S
EVIDENCE = Evidence(
    rule="burst",
    count=11,
    limit=10,
    window_s=5,
    first_ms=1,
    last_ms=2,
    source="cloudfront",
    detection="log/0/burst/cloudfront",
    arrived_ms=3,
)
BLOCKED = Event(outcome="blocked", network="192.0.2.1/32", rule="burst", offence=1, evidence=EVIDENCE)
BY_HAND = Event(outcome="blocked", network="192.0.2.2/32", by="alice")


class Stage:
    """Tally logs, a state table, and containers that sweep and add up."""

    def __init__(self) -> None:
        self.logs = RecordedLogs()
        self.store = Store()
        self.state = State(self.store)
        self.clock = Clock(START)
        self.writer = Writer(self.logs)
        self.sequence = 0
        self.adding = self.container()
        self.adding.run()

    def container(self) -> AddUp:
        return AddUp(state=self.state, logs=self.logs, clock=self.clock)

    def count(self, requests: int, *, shard: str = "logs/shard-0", writer: Writer | None = None) -> None:
        self.sequence += 1
        (writer or self.writer).count(int(self.clock.now * 1000), self.sequence, shard=shard, requests=requests)

    def events(self, *events: Event) -> None:
        self.state.write(recorded(events, int(self.clock.now * 1000), history_s=86400))

    def at(self, seconds: float) -> None:
        self.clock.now = START + seconds

    @property
    def traffic(self) -> list[Traffic]:
        return [each for trend in self.state.records(Trend) for each in trend.quarters]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_requests_of_all_logs_are_added_up_by_quarter_hour(stage: Stage) -> None:
    stage.count(7)
    stage.count(5, shard="logs/shard-1")
    stage.count(2)
    stage.at(QUARTER_S)
    stage.adding.run()
    stage.count(1)
    stage.count(2)
    stage.at(2 * QUARTER_S + 30)
    stage.adding.run()
    assert [(each.at, each.measured_s, each.requests) for each in stage.traffic] == [
        (START, QUARTER_S, 14),
        (START + QUARTER_S, QUARTER_S + 30, 3),
    ]
    [trend] = stage.state.all(Trend)
    assert (trend.id, trend.item.expires_at) == (f"{START:010d}", START + KEPT_S)


def test_requests_before_the_first_sweep_that_adds_up_are_not_those_of_a_quarter_hour() -> None:
    stage = Stage()
    stage.state.overwrite(TrendMark())
    stage.count(1000)
    stage.container().run()
    stage.at(QUARTER_S)
    stage.container().run()
    assert [each.requests for each in stage.traffic] == [0]


@pytest.mark.parametrize("failing", ["read", "last"])
def test_a_quarter_hour_that_cannot_be_added_up_at_once_loses_nothing(stage: Stage, failing: str) -> None:
    stage.count(7)
    stage.at(QUARTER_S)
    stage.logs.down.add(failing)
    report = stage.adding.run()
    assert stage.traffic == []
    assert report is not None
    assert report.problem
    assert report.behind_s == QUARTER_S
    stage.logs.down.clear()
    stage.at(QUARTER_S + 60)
    assert stage.adding.run() == TrendReport(QUARTER_S + 60)
    assert stage.adding.run() is None
    assert [(each.at, each.measured_s, each.requests) for each in stage.traffic] == [(START, QUARTER_S + 60, 7)]


def test_sweeps_that_were_missed_for_hours_leave_nothing_out_and_show_in_the_measured_time(stage: Stage) -> None:
    stage.count(7)
    stage.events(BLOCKED)
    stage.at(3 * HOUR_S)
    stage.count(2)
    stage.adding.run()
    [late] = stage.traffic
    assert (late.at, late.measured_s) == (START + 3 * HOUR_S - QUARTER_S, 3 * HOUR_S)
    assert (late.requests, late.offences) == (9, 1)


def test_two_containers_add_up_a_quarter_hour_once(stage: Stage) -> None:
    stage.count(7)
    stage.at(QUARTER_S)
    other = stage.container()
    stage.store.meddle = other.run
    stage.adding.run()
    stage.adding.run()
    other.run()
    assert [each.requests for each in stage.traffic] == [7]


def test_a_container_looks_only_once_in_each_quarter_hour(stage: Stage) -> None:
    stage.logs.calls.clear()
    for minute in range(1, 15):
        stage.at(minute * 60)
        stage.adding.run()
    assert stage.logs.calls == []


def test_a_log_that_is_left_and_its_successor_count_together(stage: Stage) -> None:
    stage.count(7)
    stage.at(QUARTER_S)
    stage.adding.run()
    stage.count(4)
    stage.writer.writer.tail("logs/shard-0", int(stage.clock.now * 1000))
    stage.writer.writer.open("logs/shard-0", int(stage.clock.now * 1000))
    stage.count(2)
    stage.at(2 * QUARTER_S)
    stage.adding.run()
    assert [each.requests for each in stage.traffic] == [7, 6]


def test_a_container_that_takes_over_a_log_continues_its_sum(stage: Stage) -> None:
    stage.count(7)
    stage.at(QUARTER_S)
    stage.adding.run()
    stage.count(4, writer=Writer(stage.logs))
    stage.at(2 * QUARTER_S)
    stage.adding.run()
    assert [each.requests for each in stage.traffic] == [7, 4]


def test_what_was_counted_before_a_total_became_lower_is_not_counted_again(stage: Stage) -> None:
    """The total is lower after an item of a version without totals, and if the last item was removed before others."""
    stage.count(7)
    stage.at(QUARTER_S)
    stage.adding.run()
    [log] = stage.logs.registry["logs/shard-0"]
    stage.sequence += 1
    older = LogItem(body=b"", last_sequence=stage.sequence, written_ms=int(stage.clock.now * 1000), requests=100)
    stage.logs.append(log, 1, [older])
    stage.writer = Writer(stage.logs)
    stage.count(4)
    stage.at(2 * QUARTER_S)
    stage.adding.run()
    stage.count(5)
    stage.at(3 * QUARTER_S)
    stage.adding.run()
    assert [each.requests for each in stage.traffic] == [7, 0, 5]


def test_offences_and_blocks_count_once_each_although_events_are_stored_late(stage: Stage) -> None:
    stage.at(QUARTER_S - 30)
    stage.events(BLOCKED, BY_HAND, Event(outcome="counted", rule="login", number=40))
    stage.at(QUARTER_S)
    stage.adding.run()
    stage.clock.now -= 20
    stage.events(
        Event(outcome="ended", network="192.0.2.1/32", rule="burst"), Event(outcome="full", rule="", number=93)
    )
    stage.at(2 * QUARTER_S)
    stage.adding.run()
    assert [(each.offences, each.blocks, each.more) for each in stage.traffic] == [(0, 0, False), (41, 2, False)]


def test_of_very_many_events_the_newest_are_counted_and_the_rest_is_said(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trending, "MOST_RECORDS", 3)
    monkeypatch.setattr(trending, "RECORDS_PER_READ", 2)
    for second in range(4):
        stage.at(second)
        stage.events(BLOCKED, BLOCKED)
    stage.at(QUARTER_S)
    stage.adding.run()
    assert [(each.offences, each.blocks, each.more) for each in stage.traffic] == [(6, 6, True)]


def test_the_most_blocks_in_force_are_those_of_its_own_quarter_hour(stage: Stage) -> None:
    sweep = Sweep(state=stage.state, clock=stage.clock)
    for second, blocks in ((60, 1), (120, 3), (QUARTER_S - 60, 2)):
        stage.at(second)
        for host in range(blocks):
            stage.store.block(f"192.0.2.{host}/32", until=int(stage.clock.now) + 30)
        sweep.run()
    assert stage.state.control(Heartbeat).record.most_blocks == 3
    stage.at(QUARTER_S)
    stage.store.block("192.0.2.9/32", until=START + 2 * QUARTER_S)
    sweep.run()
    stage.adding.run()
    stage.at(2 * QUARTER_S)
    sweep.run()
    stage.adding.run()
    assert [each.most_blocked for each in stage.traffic] == [3, 1]


def test_a_damaged_mark_makes_no_traffic(stage: Stage) -> None:
    stage.count(7)
    stage.store.put_over([Item(kind="control", id=TrendMark.id, body=b'{"at":%d,"requests":[]}' % START)])
    stage.at(QUARTER_S)
    stage.container().run()
    stage.count(2)
    stage.at(2 * QUARTER_S)
    stage.container().run()
    assert [each.requests for each in stage.traffic] == [2]


def test_requests_that_were_refused_are_added_up_as_well(stage: Stage) -> None:
    now_ms = int(stage.clock.now * 1000)
    for sequence, refused in ((1, 3), (2, 4), (3, 0)):
        added = replace(counting(now_ms, sequence, requests=5), refused=refused)
        stage.writer.writer.append(stage.writer.tail(now_ms), added, now_ms)
    stage.at(QUARTER_S)
    stage.adding.run()
    assert [(each.requests, each.refused) for each in stage.traffic] == [(15, 7)]


def test_a_block_of_a_challenged_client_is_a_block(stage: Stage) -> None:
    stage.events(Event(outcome="blocked", network="192.0.2.3/32", rule="burst", response=Response.CHALLENGE))
    stage.at(QUARTER_S)
    stage.adding.run()
    assert [(each.offences, each.blocks) for each in stage.traffic] == [(0, 1)]
    assert len(stage.state.records(Events)) == 1
