"""Ingest: the outcome of single batches."""

from collections.abc import Collection, Mapping, Sequence

import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Reason
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state import Detection
from chalicelib.core.tally import RETENTION_MS, unpack
from chalicelib.core.windows import View
from chalicelib.pipeline import log_follower
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.ingest import Batch, Ingest
from chalicelib.pipeline.log_follower import SKEW_MS, TRIES, LogFollower, TooLarge
from chalicelib.ports import Contended, LogItem, LogKey, Registry, Unavailable
from sluice.local.stores import MemoryTallyLogs

NOW = 1_760_000_000_000
SECOND = 1000
SHARD = "logs/shard-0"
RULES = parse_rules('[[rule]]\nname = "burst"\nlimit = 2\nwindow = "10s"\nresolution = 10\nblock_for = "1m"\n')


class Logs(MemoryTallyLogs):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.overtaken = 0
        self.unavailable: set[str] = set()

    def append(self, log: str, offset: int, items: Sequence[LogItem]) -> None:
        self._called("append")
        if self.overtaken:
            self.overtaken -= 1
            last = max((item.last_sequence for _, item in self.latest(log, 0)), default=-1)
            super().append(log, offset, [LogItem(body=items[0].body, last_sequence=last, written_ms=NOW)])
        super().append(log, offset, items)

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        self._called("read")
        return super().read(keys)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.unavailable:
            self.unavailable.discard(name)
            raise Unavailable(name)

    def counted(self) -> int:
        return sum(
            number
            for log in {log for logs in super().read([])[0].values() for log in logs}
            for _, item in self.latest(log, 0)
            if item.body is not None
            for part in unpack(item.body)
            for slots in part.clients().values()
            for number in slots.values()
        )


class Container:
    def __init__(self, logs: Logs, rules: RuleSet = RULES) -> None:
        self.stored: list[Detection] = []
        self.fails = 0
        self.ingest = Ingest(
            decoder=BatchDecoder(("timestamp", "c-ip", "x-edge-request-id")),
            rules=lambda now_ms: RulesInUse(rules),
            follower=LogFollower(
                logs,
                lambda rules: View(rules, sample_rate=100, most_entries=9999),
                lateness_ms=10_000,
            ),
            detect=self._detect,
        )

    def _detect(self, detections: Sequence[Detection]) -> None:
        if self.fails:
            self.fails -= 1
            raise Unavailable("the state table")
        self.stored += detections

    @property
    def offenders(self) -> list[str]:
        return [offender.network for detection in self.stored for offender in detection.offenders]


def line(time_ms: int = NOW, client: str = "192.0.2.1", id: str = "-") -> bytes:
    return f"{time_ms / 1000:.3f}\t{client}\t{id}".encode()


def batch(lines: Sequence[bytes], first: int = 1, shard: str = SHARD, arrived: int = NOW) -> Batch:
    sequences = [str(first + number) for number in range(len(lines))]
    return Batch(shard, sequences, lines, [arrived / 1000] * len(lines))


@pytest.fixture
def logs() -> Logs:
    return Logs()


def test_the_first_request_over_the_limit_is_detected_with_its_terms(logs: Logs) -> None:
    container = Container(logs)
    report = container.ingest.run(batch([line(NOW), line(NOW + 100), line(NOW + 4200)], arrived=NOW - 50), NOW)
    (detection,) = container.stored
    assert report.detections == [detection]
    assert detection.id == f"{SHARD}@{NOW}/000000000000/burst/cloudfront"
    assert detection.terms.limit == 2
    (offender,) = detection.offenders
    assert (offender.network, offender.count) == ("192.0.2.1/32", 3)
    assert (offender.first_ms, offender.last_ms, offender.since_ms) == (NOW, NOW + 4999, NOW)
    assert detection.arrived_ms == NOW - 50
    assert report.lag_ms == 50


def test_a_client_at_the_limit_is_not_detected(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line(), line()]), NOW)
    assert container.stored == []


def test_a_replayed_batch_is_counted_once_and_evaluated_again(logs: Logs) -> None:
    lines = [line()] * 3
    Container(logs).ingest.run(batch(lines), NOW)
    again = Container(logs)
    report = again.ingest.run(batch(lines), NOW)
    assert (report.requests, report.replayed, logs.counted()) == (0, 3, 3)
    assert again.offenders == ["192.0.2.1/32"]


def test_only_the_new_records_of_a_recut_batch_are_counted(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line()] * 2), NOW)
    report = container.ingest.run(batch([line()] * 5), NOW)
    assert (report.requests, report.replayed, logs.counted()) == (3, 2, 5)


def test_a_detection_that_could_not_be_stored_is_stored_on_redelivery(logs: Logs) -> None:
    container = Container(logs)
    container.fails = 1
    with pytest.raises(Unavailable):
        container.ingest.run(batch([line()] * 3), NOW)
    container.ingest.run(batch([line()] * 3), NOW)
    assert container.offenders == ["192.0.2.1/32"]
    assert logs.counted() == 3


@pytest.mark.parametrize("call", ["append", "read"])
def test_a_batch_whose_store_call_failed_is_counted_on_redelivery(logs: Logs, call: str) -> None:
    container = Container(logs)
    container.ingest.run(batch([line()]), NOW)
    logs.unavailable = {call}
    with pytest.raises(Unavailable):
        container.ingest.run(batch([line()] * 2, first=2), NOW)
    container.ingest.run(batch([line()] * 2, first=2), NOW)
    assert logs.counted() == 3
    assert container.offenders == ["192.0.2.1/32"]


def test_an_attack_is_reported_once_until_its_block_may_have_ended(logs: Logs) -> None:
    container = Container(logs)
    for number in range(1, 26):
        container.ingest.run(batch([line(NOW + number * SECOND)] * 3, first=number * 10), NOW + number * SECOND)
    assert len(container.stored) == 3, "25 seconds of attack, quiet for ten after each report"


def test_an_offence_spread_over_shards_is_detected_with_its_last_request(logs: Logs) -> None:
    containers = [Container(logs) for _ in range(3)]
    for number, container in enumerate(containers):
        container.ingest.run(batch([line(NOW + number * SECOND)], shard=f"logs/shard-{number}"), NOW)
    assert [container.offenders for container in containers] == [[], [], ["192.0.2.1/32"]]


def test_requests_older_than_the_retention_are_late_and_not_counted(logs: Logs) -> None:
    lines = [line(NOW - RETENTION_MS), line(NOW - RETENTION_MS - 1)]
    report = Container(logs).ingest.run(batch(lines), NOW)
    assert (report.requests, report.late, logs.counted()) == (1, 1, 1)


def test_requests_from_the_future_are_malformed_and_do_not_move_the_windows(logs: Logs) -> None:
    container = Container(logs)
    report = container.ingest.run(batch([line(NOW + SKEW_MS + 1), line(), line(NOW + SKEW_MS), line(), line()]), NOW)
    assert report.malformed == {Reason.FUTURE: 1}
    assert report.requests == 4
    assert container.offenders == ["192.0.2.1/32"]


def test_a_batch_without_a_single_request_touches_no_log(logs: Logs) -> None:
    report = Container(logs).ingest.run(batch([b"\x00", b"a\tb", line(NOW - 2 * RETENTION_MS)]), NOW)
    assert logs.calls == []
    assert (report.records, report.requests, report.late, report.malformed.total()) == (3, 0, 1, 2)


def test_a_request_repeated_within_a_batch_counts_once(logs: Logs) -> None:
    report = Container(logs).ingest.run(batch([line(id="a"), line(id="b"), line(id="a"), line(), line()]), NOW)
    assert (report.requests, report.repeats, logs.counted()) == (4, 1, 4)


def test_a_repeat_of_a_request_counted_by_an_earlier_delivery_is_not_counted(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line(id="a"), line(id="b")]), NOW)
    report = container.ingest.run(batch([line(id="a"), line(id="b"), line(id="a"), line(id="c")]), NOW)
    assert (report.replayed, report.requests, report.repeats, logs.counted()) == (2, 1, 1, 3)


def test_a_batch_that_loses_a_few_appends_is_counted_after_the_winners(logs: Logs) -> None:
    logs.overtaken = TRIES - 1
    report = Container(logs).ingest.run(batch([line()]), NOW)
    assert report.conflicts == TRIES - 1
    assert logs.counted() == TRIES


def test_a_batch_that_loses_every_append_fails_and_is_not_counted(logs: Logs) -> None:
    logs.overtaken = TRIES
    with pytest.raises(Contended, match="logs/shard-0: lost 8 consecutive appends"):
        Container(logs).ingest.run(batch([line()]), NOW)
    assert logs.counted() == TRIES


def test_a_recreated_stream_is_counted_from_its_first_record(logs: Logs) -> None:
    """Its sequence numbers begin below what was counted of the old one."""
    container = Container(logs)
    container.ingest.run(batch([line()], first=1000), NOW)
    later = NOW + SKEW_MS + SECOND
    report = container.ingest.run(batch([line(later)] * 3, first=5, arrived=later), later)
    assert (report.requests, report.replayed) == (3, 0)
    assert container.offenders == ["192.0.2.1/32"]
    assert container.ingest.run(batch([line(later)] * 3, first=5, arrived=later), later).replayed == 3


def test_records_below_the_last_sequence_number_are_reported_as_replayed(logs: Logs) -> None:
    """Within minutes they look like a retry; the metric shows that records were dropped."""
    container = Container(logs)
    container.ingest.run(batch([line()], first=1000), NOW)
    assert container.ingest.run(batch([line()] * 3, first=5), NOW + SECOND).replayed == 3


def test_an_oversized_tally_is_counted_once_by_every_container(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots of 200, 300 and 600 ms: a reader takes the third rule's from one of the two meters, whatever the cut."""
    monkeypatch.setattr(log_follower, "LARGEST_ITEM", 120)
    texts = [f'[[rule]]\nname = "r{w}"\nlimit = 4\nwindow = "{w}s"\nresolution = 10\n' for w in (2, 3, 6)]
    rules = parse_rules("\n".join(texts))
    lines = [line(NOW + 100 * part, f"192.0.2.{part}") for part in range(60)]
    lines += [line(NOW, "198.51.100.1"), line(NOW + 2500, "198.51.100.1"), line(NOW + 3500, "198.51.100.1")]
    Container(logs, rules).ingest.run(batch(lines), NOW)
    assert sum(call == "append" for call in logs.calls) == 1
    reader = Container(logs, rules)
    reader.ingest.run(batch([line(NOW + 5000, "198.51.100.1")], shard="logs/shard-1"), NOW)
    assert reader.offenders == []
    reader.ingest.run(batch([line(NOW + 4500, "198.51.100.1")], first=2, shard="logs/shard-1"), NOW)
    assert reader.offenders == ["198.51.100.1/32"]
    assert [detection.terms.name for detection in reader.stored] == ["r6"]


def test_a_warm_batch_without_detections_costs_two_calls(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line()]), NOW)
    logs.calls.clear()
    container.ingest.run(batch([line(client="192.0.2.9")], first=2), NOW)
    assert logs.calls == ["append", "read"]


def test_new_rules_take_effect_with_the_next_batch(logs: Logs) -> None:
    rules = [RULES]
    container = Container(logs)
    container.ingest._rules = lambda now_ms: RulesInUse(rules[-1])
    container.ingest.run(batch([line()] * 2), NOW)
    assert container.stored == []
    rules.append(parse_rules(RULES.text.replace("limit = 2", "limit = 1")))
    container.ingest.run(batch([line(NOW + 1)], first=3), NOW)
    assert container.offenders == ["192.0.2.1/32"]


def test_a_batch_whose_tally_exceeds_a_transaction_is_counted_in_parts(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_follower, "LARGEST_APPEND", 200)
    container = Container(logs)
    lines = [line(NOW + number, f"192.0.{number}.1") for number in range(100)] + [line(NOW, "192.0.0.1")] * 2
    report = container.ingest.run(batch(lines), NOW)
    assert (report.records, report.requests, logs.counted()) == (102, 102, 102)
    assert logs.calls.count("append") > 1
    assert container.offenders == ["192.0.0.1/32"]
    again = container.ingest.run(batch(lines), NOW)
    assert (again.requests, again.replayed, logs.counted()) == (0, 102, 102)


def test_a_single_record_too_large_for_a_transaction_fails_the_batch_and_counts_nothing(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_follower, "LARGEST_APPEND", 10)
    with pytest.raises(TooLarge):
        Container(logs).ingest.run(batch([line()]), NOW)
    assert logs.counted() == 0
