"""Evaluate: which clients are reported, how often, and what a new container makes up for."""

from collections.abc import Callable, Sequence
from weakref import ref

import pytest

from chalicelib.core import detections
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.detections import Detection
from chalicelib.core.tally import Tally
from chalicelib.core.view import Offence, Quiet, Select, View
from chalicelib.pipeline import evaluate, log_reader
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.evaluate import POSITION_KEPT_MS, POSITION_OVERDUE_MS, Evaluate
from chalicelib.pipeline.ingest import Batch, Ingest
from chalicelib.pipeline.log_reader import STALE_MS, LogReader
from chalicelib.pipeline.log_writer import LogWriter
from chalicelib.pipeline.tally_logs import RESERVE_S, unlimited
from chalicelib.ports import Unavailable
from chalicelib.reports import EvaluateReport
from tests.support.tally_logs import (
    DORMANT_MS,
    HOUR,
    MINUTE,
    NOW,
    RETENTION_MS,
    SECOND,
    SHARD,
    RecordedLogs,
    new_view,
    seconds_left,
)

LATENESS_MS = MINUTE
LOG = f"{SHARD}@{NOW}"
BURST = '[[rule]]\nname = "burst"\nlimit = 2\nwindow = "10s"\nresolution = 10\nblock_for = "1m"\n'
COUNT_ONLY = 'action = "count"\n'
SLOW = '[[rule]]\nname = "slow"\nlimit = 4\nwindow = "30s"\nresolution = 10\nblock_for = "1m"\n'
RULES = parse_rules(BURST)
CLIENT, OTHER = "192.0.2.1", "192.0.2.2"


class Traffic:
    """Batches that containers count, one container per shard."""

    def __init__(self, logs: RecordedLogs, rules: RuleSet = RULES) -> None:
        self._logs = logs
        self.rules = rules
        self._ingests: dict[str, Ingest] = {}
        self._sequence = 0

    def count(
        self,
        requests: int,
        *,
        time: int = NOW,
        now: int | None = None,
        client: str = CLIENT,
        shard: str = SHARD,
        arrived: int | None = None,
    ) -> None:
        """Counts one batch of requests, all made at ``time``; it arrives at once unless ``arrived`` is given."""
        now = time if now is None else now
        arrived = now if arrived is None else arrived
        ingest = self._ingests.setdefault(
            shard,
            Ingest(
                decoder=BatchDecoder(("timestamp", "c-ip")),
                rules=lambda _: RulesInUse(self.rules),
                writer=LogWriter(self._logs),
            ),
        )
        sequences = [str(self._sequence + number) for number in range(1, requests + 1)]
        self._sequence += requests
        lines = [f"{time / 1000:.3f}\t{client}".encode()] * requests
        ingest.run(Batch(shard, sequences, lines, [arrived / 1000] * requests), now)


class BusyView(View):
    """A view that remembers from when on it was loaded, and the most entries that it had."""

    def __init__(self, rules: RuleSet) -> None:
        super().__init__(rules, sample_rate=100, most_entries=100_000)
        self.most = 0
        self.loaded_since_ms = 0

    def keep_since(self, since_ms: int) -> None:
        super().keep_since(since_ms)
        self.loaded_since_ms = self.loaded_since_ms or since_ms

    def merge(self, tally: Tally, first_ms: int, last_ms: int, select: Select | None = None) -> Tally:
        suspects = super().merge(tally, first_ms, last_ms, select)
        self.most = max(self.most, self.entries)
        return suspects

    def load(self, tally: Tally, first_ms: int, last_ms: int, ready_ms: int, select: Select | None = None) -> None:
        super().load(tally, first_ms, last_ms, ready_ms, select)
        self.most = max(self.most, self.entries)


class Container:
    """One evaluator, and what it has reported."""

    def __init__(self, logs: RecordedLogs, rules: RuleSet = RULES, lateness_ms: int = LATENESS_MS) -> None:
        self._logs = logs
        self.rules = rules
        self.stored: list[Detection] = []
        self.fails = 0
        self.reader = LogReader(logs, new_view, lateness_ms=lateness_ms)
        self.evaluate = Evaluate(
            logs=logs,
            reader=self.reader,
            rules=lambda _: RulesInUse(self.rules),
            detect=self._detect,
        )

    def run(self, now: int = NOW, time_left_s: Callable[[], float] = unlimited) -> EvaluateReport:
        return self.evaluate.run(now, time_left_s)

    def offenders(self) -> list[str]:
        """Returns the addresses reported since the last call, in order, and forgets them."""
        addresses = [
            offender.network.removesuffix("/32") for detection in self.stored for offender in detection.offenders
        ]
        self.stored.clear()
        return addresses

    def _detect(self, detections: Sequence[Detection]) -> None:
        self._logs.calls.append("detect")
        if self.fails:
            self.fails -= 1
            raise Unavailable("the state table")
        self.stored += detections


@pytest.fixture
def logs() -> RecordedLogs:
    return RecordedLogs()


@pytest.fixture
def traffic(logs: RecordedLogs) -> Traffic:
    return Traffic(logs)


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of three offsets, at most two of them of one log."""
    monkeypatch.setattr(log_reader, "MOST_KEYS", 3)
    monkeypatch.setattr(log_reader, "FURTHEST_AHEAD", 2)


# Detections


def test_the_first_request_over_the_limit_is_detected_with_its_terms(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    for time in (NOW, NOW + 100, NOW + 4200):
        traffic.count(1, time=time, now=NOW, arrived=NOW - 50)
    report = container.run(NOW + 20)
    (detection,) = container.stored
    assert report.detections == [detection]
    assert detection.terms.limit == 2
    (offender,) = detection.offenders
    assert (offender.network, offender.count) == ("192.0.2.1/32", 3)
    assert (offender.first_ms, offender.last_ms, offender.since_ms) == (NOW, NOW + 4999, NOW)
    assert (detection.arrived_ms, detection.detected_ms) == (NOW - 50, NOW + 20)
    assert report.lag_ms == 70


def test_a_detection_is_named_after_the_first_item_with_an_offender(logs: RecordedLogs, traffic: Traffic) -> None:
    traffic.count(1, client="192.0.2.9")
    traffic.count(3)
    traffic.count(3, client=OTHER)
    container = Container(logs)
    container.run()
    assert [detection.id for detection in container.stored] == [f"{LOG}/000000000001/burst/cloudfront"]


def test_a_client_at_the_limit_is_not_detected(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    traffic.count(2)
    report = container.run()
    assert (report.items, report.detections, report.lag_ms, report.view_entries) == (1, [], 0, 1)
    assert "detect" not in logs.calls


def test_an_offence_spread_over_shards_is_detected_with_its_last_request(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    for number, offenders in enumerate([[], [], [CLIENT]]):
        traffic.count(1, time=NOW + number * SECOND, shard=f"logs/shard-{number}")
        container.run(NOW + number * SECOND)
        assert container.offenders() == offenders


def test_detections_of_several_items_are_merged_into_one_per_rule_and_source(logs: RecordedLogs) -> None:
    rules = parse_rules(BURST + SLOW)
    traffic = Traffic(logs, rules)
    for number in range(8):
        arrived = NOW - abs(10 * number - 30)
        traffic.count(5, client=f"192.0.2.{number}", shard=f"logs/shard-{number}", arrived=arrived)
    container = Container(logs, rules)
    report = container.run()
    assert report.items == 8
    assert logs.calls.count("detect") == 1
    everyone = sorted(f"192.0.2.{number}/32" for number in range(8))
    assert {
        detection.terms.name: sorted(offender.network for offender in detection.offenders)
        for detection in container.stored
    } == {"burst": everyone, "slow": everyone}
    assert len(container.stored) == 2
    assert {detection.arrived_ms for detection in container.stored} == {NOW - 40}, "of the oldest record"
    assert sorted(detection.id for detection in container.stored) == [
        f"{LOG}/000000000000/{rule}/cloudfront" for rule in ("burst", "slow")
    ]


def test_many_offenders_are_split_over_several_detections(
    logs: RecordedLogs, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detections, "MOST_OFFENDERS", 2)
    for number in range(5):
        traffic.count(3, client=f"192.0.2.{number}", shard=f"logs/shard-{number}")
    container = Container(logs)
    container.run()
    assert [len(detection.offenders) for detection in container.stored] == [2, 2, 1]
    assert len({detection.id for detection in container.stored}) == 3


def test_only_items_with_a_fresh_offender_age_a_report(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    traffic.count(1, client=OTHER, arrived=NOW - 5000)
    traffic.count(3, arrived=NOW - 50)
    traffic.count(3, arrived=NOW - 700)
    assert container.run().lag_ms == 50
    assert container.stored[0].arrived_ms == NOW - 50


def test_a_report_of_several_slices_has_the_age_of_the_oldest(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    for number, age in enumerate([700, 50, 0]):
        traffic.count(3, client=f"192.0.2.{number}", arrived=NOW - age)
    report = container.run(NOW, seconds_left(RESERVE_S))
    assert logs.calls.count("detect") == 2
    assert (report.items, len(report.detections), report.lag_ms) == (3, 2, 700)


def test_evaluating_nothing_new_reports_nothing(logs: RecordedLogs, traffic: Traffic) -> None:
    """As the bell may ring twice, or after the items have been read."""
    container = Container(logs)
    traffic.count(3)
    container.run()
    container.offenders()
    logs.calls.clear()
    report = container.run(NOW + SECOND)
    assert (report.items, report.detections, container.stored) == (0, [], [])
    assert logs.calls == ["read"]


def test_dropped_clients_are_reported_once(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    container.reader._new_view = lambda rules: View(rules, sample_rate=100, most_entries=10)
    for number in range(20):
        traffic.count(1, client=f"192.0.2.{number}")
    report = container.run()
    assert 0 < report.dropped == 20 - report.view_entries, "of all slices"
    assert container.run().dropped == 0


# An attack that goes on


def test_an_attack_is_reported_once_until_its_block_may_have_ended(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    for number in range(1, 26):
        traffic.count(3, time=NOW + number * SECOND)
        container.run(NOW + number * SECOND)
    assert len(container.stored) == 3, "25 seconds of attack, quiet for ten after each report"


def test_a_client_is_reported_once_over_several_items_and_again_after_the_quiet_time(
    logs: RecordedLogs, traffic: Traffic
) -> None:
    container = Container(logs)
    for shard in range(4):
        traffic.count(3, shard=f"logs/shard-{shard}")
    container.run()
    assert container.offenders() == [CLIENT]
    later = NOW + detections.QUIET_MS
    for shard in range(4):
        traffic.count(3, time=later, shard=f"logs/shard-{shard}")
    container.run(later)
    assert container.offenders() == []
    later += 10 * SECOND
    for shard in range(4):
        traffic.count(3, time=later, shard=f"logs/shard-{shard}")
    container.run(later)
    assert container.offenders() == [CLIENT]


# Detections that could not be stored


def test_a_failed_report_is_repeated(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    container.fails = 2
    traffic.count(3)
    for _ in range(2):
        with pytest.raises(Unavailable, match="the state table"):
            container.run()
    traffic.count(3, client=OTHER)
    report = container.run()
    assert report.items == 2
    assert container.offenders() == [CLIENT, OTHER]


def test_no_position_is_stored_before_the_detections_are(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    container.fails = 1
    traffic.count(3)
    with pytest.raises(Unavailable):
        container.run()
    assert logs.stored_position is None
    successor = Container(logs)
    successor.run()
    assert successor.offenders() == [CLIENT], "if the container ended here"
    stores = [call for call in logs.calls if call in ("detect", "store_position")]
    assert stores == ["detect", "detect", "store_position"]


@pytest.mark.parametrize("error", [Unavailable, RuntimeError])
def test_an_exception_while_evaluating_forgets_what_was_announced(
    logs: RecordedLogs, traffic: Traffic, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """The first item's client is announced, but not stored, when the second item fails."""
    container = Container(logs)
    container.run()
    for number in range(2):
        traffic.count(3, client=f"192.0.2.{number}", shard=f"logs/shard-{number}")
    container.run()
    assert container.offenders() == ["192.0.2.0", "192.0.2.1"]
    for number in range(2):
        traffic.count(3, client=f"192.0.2.{10 + number}", shard=f"logs/shard-{number}")
    offences, calls = View.offences, []

    def failing(view: View, touched: Tally, first_ms: int, last_ms: int, quiet: Quiet) -> list[Offence]:
        calls.append(touched)
        if len(calls) == 2:
            raise error
        return offences(view, touched, first_ms, last_ms, quiet)

    with monkeypatch.context() as patch:
        patch.setattr(View, "offences", failing)
        with pytest.raises(error):
            container.run()
    assert container.offenders() == []
    assert container.run().items == 2
    assert container.offenders() == ["192.0.2.10", "192.0.2.11"]
    traffic.count(1, client="192.0.2.0")
    container.run()
    assert container.offenders() == ["192.0.2.0"], "reported again: of what was announced before, nothing is known"


def test_a_failed_read_repeats_none_of_the_slices_before_it(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    container.run()
    for number in range(7):
        traffic.count(3, client=f"192.0.2.{number}")
    logs.fails = {"read": 3}
    with pytest.raises(Unavailable):
        container.run()
    assert container.offenders() == ["192.0.2.0"]
    assert container.run().items == 6
    assert container.offenders() == [f"192.0.2.{number}" for number in range(1, 7)]


# The position


def test_the_position_is_stored_at_most_every_ten_seconds(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    offsets = []
    for number in range(25):
        now = NOW + number * SECOND
        traffic.count(1, time=now)
        container.run(now)
        assert logs.stored_position is not None
        offsets.append(logs.stored_position[LOG])
    assert POSITION_KEPT_MS == 10_000
    assert offsets == [1] * 10 + [11] * 10 + [21] * 5
    assert logs.calls.count("store_position") == 3


def test_in_a_backlog_the_position_is_stored_as_it_moves(
    logs: RecordedLogs, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "POSITION_ITEMS", 4)
    monkeypatch.setattr(log_reader, "FURTHEST_AHEAD", 2)
    for _ in range(12):
        traffic.count(1)
    logs.calls.clear()
    assert Container(logs).run(NOW).items == 12
    assert logs.calls.count("store_position") == 3
    assert logs.stored_position is not None
    assert logs.stored_position[LOG] >= 9


def test_an_unchanged_position_is_not_stored_again(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    traffic.count(1)
    for number in range(10):
        container.run(NOW + number * MINUTE)
    assert logs.calls.count("store_position") == 1


def test_a_position_that_could_not_be_stored_costs_nothing(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    traffic.count(3)
    logs.down = {"store_position"}
    assert container.run().items == 1
    assert (container.offenders(), logs.stored_position) == ([CLIENT], None)
    logs.down = set()
    assert container.run(NOW + 1).items == 0
    assert logs.stored_position == {LOG: 1}, "tried again with the next ring"


@pytest.mark.parametrize("stored", [False, True])
def test_a_position_that_cannot_be_stored_for_five_minutes_fails_the_run(
    logs: RecordedLogs, traffic: Traffic, stored: bool
) -> None:
    assert POSITION_OVERDUE_MS == 300_000
    container = Container(logs)
    traffic.count(1)
    if not stored:
        logs.down = {"store_position"}
    container.run()
    logs.down = {"store_position"}
    for minutes in range(1, 6):
        now = NOW + minutes * MINUTE
        traffic.count(1, time=now)
        container.run(now)
    traffic.count(3, client=OTHER, time=now)
    with pytest.raises(Unavailable, match="store_position"):
        container.run(now + 1)
    assert container.offenders() == [OTHER], "stored before the run failed"
    logs.down = set()
    assert container.run(now + 2).items == 0, "the items were evaluated"
    assert logs.stored_position == {LOG: 7}
    logs.down = {"store_position"}
    traffic.count(1, time=now + 5 * MINUTE)
    container.run(now + 2 + 5 * MINUTE)


def test_a_position_that_cannot_be_read_fails_the_run_and_is_read_again(logs: RecordedLogs, traffic: Traffic) -> None:
    traffic.count(3)
    Container(logs).run()
    traffic.count(3, client=OTHER)
    container = Container(logs)
    logs.fails = {"position": 1}
    with pytest.raises(Unavailable):
        container.run()
    container.run()
    assert container.offenders() == [OTHER]


def test_a_warm_container_never_reads_the_position(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    for number in range(5):
        traffic.count(1, time=NOW + number * MINUTE)
        container.run(NOW + number * MINUTE)
    assert logs.calls.count("position") == 1


# A cold container


def test_a_cold_container_evaluates_what_lies_behind_the_position_and_nothing_before(
    logs: RecordedLogs, traffic: Traffic
) -> None:
    traffic.count(3, client="192.0.2.10")
    Container(logs).run()
    traffic.count(3, client="192.0.2.11")
    traffic.count(3, client="192.0.2.12", shard="logs/shard-1")
    cold = Container(logs)
    assert cold.run().items == 2
    assert cold.offenders() == ["192.0.2.11", "192.0.2.12"]


def test_a_cold_container_counts_what_lies_before_the_position(logs: RecordedLogs, traffic: Traffic) -> None:
    traffic.count(2)
    Container(logs).run()
    traffic.count(1)
    cold = Container(logs)
    assert cold.run().items == 1
    assert cold.offenders() == [CLIENT]


@pytest.mark.parametrize("delay_s", [1, 15, 30, 50])
def test_a_cold_container_counts_what_lies_before_the_position_for_delayed_requests_as_well(
    logs: RecordedLogs, traffic: Traffic, delay_s: int
) -> None:
    """Also for those that are older than most that it is prepared for, and in rows that it has added nothing to."""
    now = NOW + MINUTE
    made = now - delay_s * SECOND
    traffic.count(2, time=made - 3 * SECOND)
    traffic.count(2, time=made - 9 * SECOND, client=OTHER, shard="logs/shard-other")
    Container(logs).run(now)
    traffic.count(1, time=made, now=now)
    traffic.count(1, time=made, now=now, client=OTHER)
    cold = Container(logs)
    cold.run(now + 1)
    assert sorted(cold.offenders()) == [CLIENT, OTHER]


def test_a_cold_container_makes_up_for_hours_without_an_evaluator(logs: RecordedLogs, traffic: Traffic) -> None:
    traffic.count(1)
    Container(logs).run()
    for number in range(1, 11):
        traffic.count(3, client=f"192.0.2.{number}", time=NOW + number * 6 * MINUTE)
    cold = Container(logs)
    assert cold.run(NOW + 2 * HOUR).items == 10
    assert cold.offenders() == [f"192.0.2.{number}" for number in range(1, 11)]


def test_without_a_position_the_items_of_the_last_hour_are_evaluated(logs: RecordedLogs, traffic: Traffic) -> None:
    now = NOW + 2 * HOUR
    for number, age in enumerate([2 * HOUR, RETENTION_MS + 1, RETENTION_MS, 0]):
        for shard in range(2):
            client = f"192.0.2.{10 * number + shard}"
            traffic.count(3, client=client, time=now - age, shard=f"logs/shard-{shard}")
    traffic.count(3, client="192.0.2.100", time=now - RETENTION_MS - 1, shard="logs/quiet")
    cold = Container(logs)
    assert cold.run(now).items == 4
    assert sorted(cold.offenders()) == ["192.0.2.20", "192.0.2.21", "192.0.2.30", "192.0.2.31"]


def test_without_a_position_or_any_log_all_that_follows_is_evaluated(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    assert container.run().items == 0
    traffic.count(3)
    assert container.run().items == 1
    assert container.offenders() == [CLIENT]


def test_a_log_without_items_is_evaluated_from_its_first(logs: RecordedLogs, traffic: Traffic) -> None:
    LogWriter(logs).tail(SHARD, NOW)
    container = Container(logs)
    container.run()
    traffic.count(3)
    container.run()
    assert container.offenders() == [CLIENT]


def test_a_position_beyond_the_end_of_a_log_counts_for_nothing(logs: RecordedLogs, traffic: Traffic) -> None:
    """As after a restore of the table, or if an operator damages the position."""
    addresses = [f"192.0.2.{number}" for number in range(5)]
    for number, address in enumerate(addresses):
        traffic.count(3, client=address, time=NOW + number * HOUR // 4)
    traffic.count(3, client=OTHER, shard="logs/shard-1")
    logs.store_position({LOG: 1000, f"logs/shard-1@{NOW}": 1})
    cold = Container(logs)
    cold.run(NOW + 2 * HOUR)
    assert cold.offenders() == addresses, "however old"
    cold.run(NOW + 2 * HOUR + POSITION_KEPT_MS)
    assert logs.stored_position == {LOG: 5, f"logs/shard-1@{NOW}": 1}


def test_a_log_that_the_position_does_not_name_is_evaluated_whole(logs: RecordedLogs, traffic: Traffic) -> None:
    logs.store_position({})
    for number in range(5):
        traffic.count(3, client=f"192.0.2.{number}", time=NOW + number * MINUTE)
    cold = Container(logs)
    cold.run(NOW + 10 * MINUTE)
    assert cold.offenders() == [f"192.0.2.{number}" for number in range(5)]


def test_a_position_may_name_logs_that_are_gone(logs: RecordedLogs, traffic: Traffic) -> None:
    traffic.count(3)
    logs.store_position({"logs/gone@1": 17})
    cold = Container(logs)
    cold.run()
    assert cold.offenders() == [CLIENT]
    assert logs.stored_position == {LOG: 1}


def test_an_offence_of_two_hours_ago_is_found_and_what_followed_is_not_kept(
    logs: RecordedLogs, traffic: Traffic
) -> None:
    views: list[BusyView] = []

    def new_busy_view(rules: RuleSet) -> View:
        views.append(BusyView(rules))
        return views[-1]

    traffic.count(1)
    Container(logs, lateness_ms=10 * SECOND).run()
    traffic.count(2, time=NOW + 5 * SECOND)
    for minute in range(1, 121):
        traffic.count(1, client=f"192.0.2.{minute + 10}", time=NOW + minute * MINUTE)
    now = NOW + 2 * HOUR
    late = Container(logs, lateness_ms=10 * SECOND)
    late.reader._new_view = new_busy_view
    report = late.run(now)
    assert report.items == 121
    (offender,) = late.stored[0].offenders
    assert (offender.network, offender.count, offender.first_ms) == ("192.0.2.1/32", 3, NOW)
    assert len(late.stored) == 1
    loaded_since = [view.loaded_since_ms for view in views]
    assert loaded_since == [now - 10 * SECOND, NOW - 5 * SECOND], "loaded again once, from the oldest request on"
    assert max(view.most for view in views) < 50, "never more than two slices"
    assert late.run(now).view_entries <= 2


@pytest.mark.usefixtures("small_slices")
def test_containers_that_are_killed_between_slices_evaluate_each_item_once(
    logs: RecordedLogs, traffic: Traffic
) -> None:
    logs.store_position({})
    for number in range(12):
        traffic.count(3, client=f"192.0.2.{number}", shard=f"logs/shard-{number % 3}")
    addresses: list[str] = []
    items = []
    for _ in range(5):
        container = Container(logs)
        loaded = (RESERVE_S, RESERVE_S)
        report = container.run(NOW, seconds_left(*loaded, 0))
        items.append(report.items)
        addresses += container.offenders()
    assert items == [3, 3, 3, 3, 0]
    assert report.unfinished is None
    assert sorted(addresses) == sorted(f"192.0.2.{number}" for number in range(12))


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("killed", [False, True])
def test_an_offence_spread_over_slices_is_detected(logs: RecordedLogs, traffic: Traffic, killed: bool) -> None:
    """By one container, or by the third of three that each evaluate one request."""
    for number in range(3):
        traffic.count(1, time=NOW + number * SECOND)
    container = Container(logs)
    addresses = []
    for _ in range(3):
        if killed:
            container = Container(logs)
        container.run(NOW + 3 * SECOND, seconds_left(0) if killed else unlimited)
        addresses.append(container.offenders())
    assert addresses == ([[], [], [CLIENT]] if killed else [[CLIENT], [], []])


@pytest.mark.usefixtures("small_slices")
def test_more_logs_than_fit_into_a_slice_are_evaluated_in_one_run(logs: RecordedLogs, traffic: Traffic) -> None:
    for number in range(20):
        traffic.count(3, client=f"192.0.2.{number}", shard=f"logs/shard-{number % 10}")
    container = Container(logs)
    assert container.run().items == 20
    assert sorted(container.offenders()) == sorted(f"192.0.2.{number}" for number in range(20))
    assert container.run().items == 0


def test_a_second_evaluator_writes_the_same_detections(logs: RecordedLogs, traffic: Traffic) -> None:
    logs.store_position({})
    for shard in range(3):
        traffic.count(1, shard=f"logs/shard-{shard}")
        traffic.count(3, client=OTHER, shard=f"logs/shard-{shard}")
    containers = [Container(logs), Container(logs)]
    logs.before["store_position"] = containers[1].run
    containers[0].run()
    first, second = (container.stored for container in containers)
    assert first == second
    assert sorted(containers[0].offenders()) == [CLIENT, OTHER]


def test_the_item_that_closes_a_log_has_nobody_to_evaluate(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    container.run()
    traffic.count(3)
    later = NOW + DORMANT_MS
    traffic.count(3, client=OTHER, time=later)
    assert [item.closes for item in logs.items(LOG)] == [False, True]
    assert container.run(later).items == 2
    assert container.offenders() == [CLIENT, OTHER]
    assert logs.stored_position is not None
    assert container.run(later + MINUTE).items == 0
    assert logs.stored_position == {LOG: 2, f"{SHARD}@{later}": 1}


# Late requests


def test_late_requests_are_evaluated_against_the_requests_of_their_time(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    traffic.count(2)
    container.run()
    now = NOW + 30 * MINUTE
    traffic.count(3, client=OTHER, time=now)
    container.run(now)
    assert container.offenders() == [OTHER]
    traffic.count(1, time=NOW, now=now + SECOND)
    assert container.run(now + SECOND).items == 1, "no item is evaluated a second time"
    (offender,) = container.stored[0].offenders
    assert (offender.count, offender.first_ms) == (3, NOW)
    traffic.count(1, time=NOW + 5 * MINUTE, now=now + 2 * SECOND)
    assert container.run(now + 2 * SECOND).detections == []


# Rules


def test_a_change_of_rules_reloads_the_view_and_evaluates_only_what_is_new(
    logs: RecordedLogs, traffic: Traffic
) -> None:
    container = Container(logs)
    traffic.count(2)
    traffic.count(2, client=OTHER)
    container.run()
    container.rules = parse_rules(BURST.replace("limit = 2", "limit = 1"))
    logs.read_backwards.clear()
    assert container.run(NOW + 1).items == 0
    assert logs.read_backwards == [LOG]
    assert container.offenders() == []
    traffic.count(1, time=NOW + 1)
    assert container.run(NOW + 1).items == 1
    (detection,) = container.stored
    assert [(offender.network, offender.count) for offender in detection.offenders] == [("192.0.2.1/32", 3)]
    assert detection.terms.limit == 1


def test_the_same_rules_under_a_new_version_cost_no_reload(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    traffic.count(1)
    container.run()
    logs.read_backwards.clear()
    container.rules = parse_rules(BURST, version="7")
    traffic.count(2)
    container.run()
    assert logs.read_backwards == []
    assert container.stored[0].terms.rule_set == "7"


@pytest.mark.parametrize(
    ("before", "after", "reported"),
    [
        pytest.param(BURST + COUNT_ONLY, BURST, [CLIENT], id="the rule only counted"),
        pytest.param(BURST, BURST + COUNT_ONLY, [CLIENT], id="the rule blocked"),
        pytest.param(BURST, BURST.replace("1m", "5m"), [CLIENT], id="the rule blocked for less"),
        pytest.param(BURST, BURST, [], id="the rules are saved again without a change"),
    ],
)
def test_a_client_is_reported_again_within_the_quiet_time_if_the_rules_change(
    logs: RecordedLogs, traffic: Traffic, before: str, after: str, reported: list[str]
) -> None:
    container = Container(logs, parse_rules(before, version="1"))
    traffic.count(3)
    container.run()
    assert container.offenders() == [CLIENT]
    container.rules = parse_rules(after, version="2")
    traffic.count(1, time=NOW + SECOND)
    container.run(NOW + SECOND)
    assert [detection.terms.action for detection in container.stored] == [
        container.rules.rules[0].action for _ in reported
    ]
    assert container.offenders() == reported


def test_an_old_view_is_released_before_a_new_one_is_loaded(logs: RecordedLogs, traffic: Traffic) -> None:
    """Two at once would not fit into memory."""
    views: list[ref[View]] = []

    def new_only_view(rules: RuleSet) -> View:
        assert [view for view in views if view() is not None] == []
        view = new_view(rules)
        views.append(ref(view))
        return view

    container = Container(logs)
    container.reader._new_view = new_only_view
    traffic.count(1)
    container.run()
    traffic.count(1, time=NOW - 30 * MINUTE, shard="logs/other")
    container.run()
    assert len(views) == 2, "a backlog needs a deeper view"
    container.rules = parse_rules(BURST.replace("limit = 2", "limit = 1"))
    container.run()
    container.run(NOW + STALE_MS + 1)
    assert len(views) == 4, "of other rules, and after a long sleep"


# Out of time


BETWEEN_SLICES = "not read to their ends: {} logs"


def test_a_cold_container_that_runs_out_of_time_while_loading_finishes_in_the_next_runs(
    logs: RecordedLogs, traffic: Traffic
) -> None:
    logs.store_position({})
    for shard in range(3):
        traffic.count(1, shard=f"logs/shard-{shard}")
    container = Container(logs)
    for number in (1, 2):
        report = container.run(NOW, seconds_left(RESERVE_S - 1))
        assert (report.unfinished, report.items) == (f"{number} of 3 logs are loaded", 0)
    assert "detect" not in logs.calls
    assert logs.stored_position == {}
    assert container.run(NOW, seconds_left(RESERVE_S - 1)).items == 3
    assert container.offenders() == [CLIENT]
    assert sorted(logs.read_backwards) == [f"logs/shard-{shard}@{NOW}" for shard in range(3)], "each log once"


def test_a_container_that_runs_out_of_time_while_catching_up_finishes_in_the_next_runs(logs: RecordedLogs) -> None:
    rules = parse_rules(BURST.replace("limit = 2", "limit = 5"))
    traffic = Traffic(logs, rules)
    container = Container(logs, rules)
    traffic.count(1)
    container.run()
    for _ in range(5):
        traffic.count(1)
    reports = [container.run(NOW, seconds_left(RESERVE_S - 1)) for _ in range(3)]
    assert [(report.items, report.unfinished) for report in reports] == [
        (2, BETWEEN_SLICES.format(1)),
        (3, BETWEEN_SLICES.format(1)),
        (0, None),
    ]
    assert container.reader.position == {LOG: 6}
    (offender,) = container.stored[0].offenders
    assert offender.count == 6


def test_a_container_with_time_left_reads_all_logs_to_their_ends(logs: RecordedLogs, traffic: Traffic) -> None:
    for number in range(10):
        traffic.count(3, client=f"192.0.2.{number}")
    report = Container(logs).run(NOW, seconds_left(RESERVE_S))
    assert (report.items, report.unfinished) == (10, None)


def test_a_container_that_runs_out_of_time_between_slices_keeps_what_it_did(
    logs: RecordedLogs, traffic: Traffic
) -> None:
    logs.store_position({})
    for shard in range(2):
        for number in range(3):
            traffic.count(3, client=f"192.0.2.{10 * shard + number}", shard=f"logs/shard-{shard}")
    container = Container(logs)
    report = container.run(NOW, seconds_left(RESERVE_S, RESERVE_S - 0.1))
    assert report.unfinished == BETWEEN_SLICES.format(2)
    assert container.offenders() == ["192.0.2.0", "192.0.2.10"]
    assert logs.stored_position == {LOG: 1, f"logs/shard-1@{NOW}": 1}
    assert container.run(NOW + POSITION_KEPT_MS).items == 4
    assert container.offenders() == ["192.0.2.1", "192.0.2.2", "192.0.2.11", "192.0.2.12"]
    assert logs.stored_position == {LOG: 3, f"logs/shard-1@{NOW}": 3}


def test_each_run_evaluates_at_least_one_slice(logs: RecordedLogs, traffic: Traffic) -> None:
    container = Container(logs)
    for number in range(3):
        traffic.count(3, client=f"192.0.2.{number}")
    reports = [container.run(NOW, seconds_left(0)) for _ in range(3)]
    assert [report.items for report in reports] == [1, 2, 0]
    assert [report.unfinished is None for report in reports] == [False, False, True]
    assert container.offenders() == [f"192.0.2.{number}" for number in range(3)]


def test_a_successor_evaluates_what_was_left_for_lack_of_time(logs: RecordedLogs, traffic: Traffic) -> None:
    for number in range(3):
        traffic.count(3, client=f"192.0.2.{number}")
    container = Container(logs)
    assert container.run(NOW, seconds_left(0)).unfinished == BETWEEN_SLICES.format(1)
    successor = Container(logs)
    successor.run()
    assert container.offenders() + successor.offenders() == [f"192.0.2.{number}" for number in range(3)]


def test_what_was_left_is_evaluated_under_new_rules(logs: RecordedLogs, traffic: Traffic) -> None:
    for number in range(3):
        traffic.count(3, client=f"192.0.2.{number}")
    container = Container(logs)
    assert container.run(NOW, seconds_left(0)).unfinished is not None
    container.rules = parse_rules(BURST.replace("burst", "renamed"))
    assert container.run().items == 2
    assert container.offenders() == [f"192.0.2.{number}" for number in range(3)]
