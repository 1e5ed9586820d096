"""Ingest: the outcome of single batches."""

from collections.abc import Sequence

import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.malformed_counts import MOST_STORED, pack_counts
from chalicelib.core.logs.requests import Reason
from chalicelib.core.portraits import unpack_portraits
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.sampling import WHOLE_LOG, Sampling
from chalicelib.core.state.detections import Detection
from chalicelib.core.tally import unpack
from chalicelib.pipeline import log_writer
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.evaluate import Evaluate
from chalicelib.pipeline.ingest import Batch, Ingest
from chalicelib.pipeline.log_reader import LogReader
from chalicelib.pipeline.log_writer import TRIES, LogWriter, TooLarge
from chalicelib.pipeline.tally_logs import SKEW_MS
from chalicelib.ports import Contended, LogItem, PartReceipt, Unavailable
from tests.support.records import envelope
from tests.support.tally_logs import NOW, RETENTION_MS, SECOND, SHARD, RecordedLogs, new_view

RULES = parse_rules('[[rule]]\nname = "burst"\nlimit = 2\nwindow = "10s"\nresolution = 10\nblock_for = "1m"\n')


class Logs(RecordedLogs):
    def __init__(self) -> None:
        super().__init__()
        self.overtaken = 0
        """Number of the next appends before which another container appends an item of its own."""

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        if self.overtaken:
            self.overtaken -= 1
            last = max((item.last_sequence for item in self.items(log)), default=-1)
            super().append(log, offset, [LogItem(body=items[0].body, last_sequence=last, written_ms=NOW)])
        super().append(log, offset, items, receipt)


class Container:
    def __init__(self, logs: Logs, rules: RuleSet = RULES, portraits_of: Sampling | None = None) -> None:
        self.rules = rules
        self.ingest = Ingest(
            decoder=BatchDecoder(("timestamp", "c-ip", "x-edge-request-id")),
            rules=lambda _: RulesInUse(self.rules),
            writer=LogWriter(logs),
            portraits_of=portraits_of,
        )


def detections(logs: Logs, rules: RuleSet = RULES, now: int = NOW) -> list[Detection]:
    """Returns what a new evaluator reports of all that has been counted since the last one."""
    stored: list[Detection] = []
    reader = LogReader(logs, new_view, lateness_ms=300_000)
    Evaluate(logs=logs, reader=reader, rules=lambda _: RulesInUse(rules), detect=stored.extend).run(now)
    return stored


def offenders(logs: Logs, rules: RuleSet = RULES, now: int = NOW) -> list[str]:
    return [offender.network for detection in detections(logs, rules, now) for offender in detection.offenders]


def line(time_ms: int = NOW, client: str = "192.0.2.1", id: str = "-") -> bytes:
    return f"{time_ms / 1000:.3f}\t{client}\t{id}".encode()


def batch(lines: Sequence[bytes], first: int = 1, shard: str = SHARD, arrived: int = NOW) -> Batch:
    sequences = [str(first + number) for number in range(len(lines))]
    return Batch(shard, sequences, lines, [arrived / 1000] * len(lines))


@pytest.fixture
def logs() -> Logs:
    return Logs()


def test_a_batch_is_appended_with_its_times_and_its_last_sequence_number(logs: Logs) -> None:
    lines = [line(NOW), line(NOW + 100), line(NOW + 4200)]
    report = Container(logs).ingest.run(batch(lines, arrived=NOW - 50), NOW + 5)
    (item,) = logs.items(f"{SHARD}@{NOW + 5}")
    assert (item.first_slot_ms, item.last_slot_ms, item.requests, item.last_sequence) == (NOW, NOW + 4200, 3, 3)
    assert (item.arrived_ms, item.written_ms) == (NOW - 50, NOW + 5)
    assert (report.records, report.requests, report.lag_ms) == (3, 3, 55)


def test_an_item_names_the_arrival_of_the_oldest_record(logs: Logs) -> None:
    times = [NOW / 1000, NOW / 1000 - 0.25, NOW / 1000]
    report = Container(logs).ingest.run(Batch(SHARD, ["1", "2", "3"], [line()] * 3, times), NOW)
    (item,) = logs.items(f"{SHARD}@{NOW}")
    assert item.arrived_ms == NOW - 250
    assert report.lag_ms == 250


def test_a_replayed_batch_is_counted_once_and_adds_no_item(logs: Logs) -> None:
    lines = [line()] * 3
    Container(logs).ingest.run(batch(lines), NOW)
    report = Container(logs).ingest.run(batch(lines), NOW)
    assert (report.records, report.requests, report.replayed, logs.counted()) == (3, 0, 3, 3)
    assert len(logs.items(f"{SHARD}@{NOW}")) == 1


def test_only_the_new_records_of_a_recut_batch_are_counted(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line()] * 2), NOW)
    report = container.ingest.run(batch([line()] * 5), NOW)
    assert (report.requests, report.replayed, logs.counted()) == (3, 2, 5)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("call", ["append", "read", "last", "register"])
def test_a_batch_whose_store_call_failed_is_counted_on_redelivery(logs: Logs, call: str, warm: bool) -> None:
    if call != "register":
        Container(logs).ingest.run(batch([line()]), NOW)
    container = Container(logs)
    if warm:
        container.ingest.run(batch([line()]), NOW)
    logs.fails = {call: 1}
    if warm and call != "append":
        container.ingest.run(batch([line()] * 2, first=2), NOW)
        assert logs.fails, "a warm container makes no such call"
    else:
        with pytest.raises(Unavailable):
            container.ingest.run(batch([line()] * 2, first=2), NOW)
        container.ingest.run(batch([line()] * 2, first=2), NOW)
    logs.fails = {}
    assert logs.counted() == (2 if call == "register" and not warm else 3)


def test_a_batch_whose_append_was_not_acknowledged_is_counted_once(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line()]), NOW)
    logs.answers_lost = {"append"}
    with pytest.raises(Unavailable):
        container.ingest.run(batch([line()] * 2, first=2), NOW)
    report = container.ingest.run(batch([line()] * 4, first=2), NOW)
    assert (report.replayed, report.requests, logs.counted()) == (2, 2, 5)
    assert offenders(logs) == ["192.0.2.1/32"]


def test_a_container_that_was_overtaken_counts_what_the_other_has_not(logs: Logs) -> None:
    """Lambda timed the first container out and gave the batch to the second; both append."""
    frozen = Container(logs)
    frozen.ingest.run(batch([line()]), NOW)
    logs.before["append"] = lambda: Container(logs).ingest.run(batch([line()] * 2, first=2), NOW)
    report = frozen.ingest.run(batch([line()] * 3, first=2), NOW)
    assert (report.replayed, report.requests, report.conflicts, logs.counted()) == (2, 1, 1, 4)


def test_requests_older_than_the_retention_are_late_and_not_counted(logs: Logs) -> None:
    lines = [line(NOW - RETENTION_MS), line(NOW - RETENTION_MS - 1)]
    report = Container(logs).ingest.run(batch(lines), NOW)
    assert (report.requests, report.late, logs.counted()) == (1, 1, 1)


def test_requests_from_the_future_are_malformed_and_do_not_move_the_windows(logs: Logs) -> None:
    lines = [line(NOW + SKEW_MS + 1), line(), line(NOW + SKEW_MS), line(), line()]
    report = Container(logs).ingest.run(batch(lines), NOW)
    assert report.malformed == {Reason.FUTURE: 1}
    assert report.requests == 4
    assert offenders(logs) == ["192.0.2.1/32"]


def test_late_requests_are_appended_as_a_number_and_once(logs: Logs) -> None:
    container = Container(logs)
    late = [line(NOW - 2 * RETENTION_MS)] * 3
    report = container.ingest.run(batch(late), NOW)
    assert (report.records, report.requests, report.late, report.malformed.total()) == (3, 0, 3, 0)
    again = container.ingest.run(batch(late), NOW)
    assert (again.replayed, again.late) == (3, 0)
    (log,) = logs.registry[SHARD]
    assert [(item.late, item.requests, item.first_slot_ms) for item in logs.items(log)] == [(3, 0, NOW)]
    assert logs.counted() == 0


def test_a_batch_of_nothing_appends_nothing(logs: Logs) -> None:
    container = Container(logs)
    nothing = [envelope(kind="CONTROL_MESSAGE")]
    report = container.ingest.run(batch(nothing), NOW)
    assert "append" not in logs.calls
    assert (report.records, report.requests, report.late, report.malformed.total()) == (1, 0, 0, 0)
    logs.calls.clear()
    container.ingest.run(batch(nothing, first=2), NOW)
    assert logs.calls == [], "a warm container touches no log"


def test_malformed_pieces_are_appended_with_the_tally_or_alone(logs: Logs) -> None:
    container = Container(logs)
    wrong = [b"a\tb"] * 500 + [b"1\tx\t-"]
    for first, lines in ((1, [line(), *wrong]), (1000, wrong), (1000, wrong)):
        container.ingest.run(batch(lines, first=first), NOW)
    (log,) = logs.registry[SHARD]
    with_tally, alone = logs.items(log)  # the batch that was delivered again adds no item
    assert with_tally.malformed == alone.malformed
    fields, timestamp = alone.malformed
    assert (fields.reason, fields.number, fields.found, fields.expected) == ("fields", 500, 2, 3)
    assert (timestamp.reason, timestamp.number, timestamp.sample) == ("timestamp", 1, "1\\tx\\t-")
    assert (alone.requests, alone.first_slot_ms, alone.last_slot_ms, alone.last_sequence) == (0, NOW, NOW, 1500)
    assert not alone.closes
    assert detections(logs) == []
    assert logs.counted() == 1


def test_an_item_with_malformed_pieces_alone_deepens_no_view(logs: Logs) -> None:
    Container(logs).ingest.run(batch([b"a\tb"]), NOW)
    reader = LogReader(logs, new_view, lateness_ms=1000)
    reader.start_at({})
    view, _ = reader.read_on(RULES, NOW)
    assert (view.since_ms, len(reader.unevaluated)) == (NOW - 1000, 1)


@pytest.mark.slow
def test_no_batch_makes_an_item_grow_by_what_is_malformed_in_it(logs: Logs) -> None:
    hostile = [bytes([number % 256, 0x1B]) * 500 + b"\t" * number for number in range(300)]
    hostile += [
        line(NOW + 2 * SKEW_MS),
        b"",
        b"{",
        b"\x1f\x8b",
        line(client="\U000e0001" * 99),
        b"{}",
        b"\xf3\x89\x9a\xc2",
    ]
    Container(logs).ingest.run(batch(hostile * 10), NOW)
    (log,) = logs.registry[SHARD]
    (item,) = logs.items(log)
    assert len(item.malformed) == MOST_STORED
    assert len(pack_counts(item.malformed)) < 3000


def test_requests_that_no_rule_counts_append_nothing(logs: Logs) -> None:
    report = Container(logs, RuleSet(())).ingest.run(batch([line()] * 2), NOW)
    assert report.requests == 2
    assert "append" not in logs.calls


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
    assert logs.registry == {SHARD: (f"{SHARD}@{NOW}", f"{SHARD}@{later}")}
    assert offenders(logs, now=later) == ["192.0.2.1/32"]
    assert container.ingest.run(batch([line(later)] * 3, first=5, arrived=later), later).replayed == 3


def test_records_below_the_last_sequence_number_are_reported_as_replayed(logs: Logs) -> None:
    """Within minutes they look like a retry; the metric shows that records were dropped."""
    container = Container(logs)
    container.ingest.run(batch([line()], first=1000), NOW)
    assert container.ingest.run(batch([line()] * 3, first=5), NOW + SECOND).replayed == 3


def test_an_oversized_tally_is_counted_once(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots of 200, 300 and 600 ms: a reader takes the third rule's from one of the two meters, whatever the cut."""
    monkeypatch.setattr(log_writer, "LARGEST_ITEM", 120)
    texts = [f'[[rule]]\nname = "r{w}"\nlimit = 4\nwindow = "{w}s"\nresolution = 10\n' for w in (2, 3, 6)]
    rules = parse_rules("\n".join(texts))
    lines = [line(NOW + 100 * part, f"192.0.2.{part}") for part in range(60)]
    lines += [line(NOW, "198.51.100.1"), line(NOW + 2500, "198.51.100.1"), line(NOW + 3500, "198.51.100.1")]
    Container(logs, rules).ingest.run(batch(lines), NOW)
    assert logs.calls.count("append") == 1
    assert len(logs.items(f"{SHARD}@{NOW}")) > 2
    other = Container(logs, rules)
    other.ingest.run(batch([line(NOW + 5000, "198.51.100.1")], shard="logs/shard-1"), NOW)
    assert offenders(logs, rules) == []
    other.ingest.run(batch([line(NOW + 4500, "198.51.100.1")], first=2, shard="logs/shard-1"), NOW)
    (detection,) = detections(logs, rules)
    assert [offender.network for offender in detection.offenders] == ["198.51.100.1/32"]
    assert detection.terms.name == "r6"


def test_the_portraits_of_a_batch_are_in_its_first_item_alone(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "LARGEST_ITEM", 120)
    container = Container(logs, portraits_of=WHOLE_LOG)
    container.ingest.run(batch([line(NOW + 100 * part, f"192.0.2.{part}") for part in range(60)]), NOW)
    first, *others = (item.portraits for item in logs.items(f"{SHARD}@{NOW}"))
    assert [each.network for each in unpack_portraits(first)] == [f"192.0.2.{part}/32" for part in range(4)]
    assert others
    assert set(others) == {b""}


def test_a_warm_batch_costs_one_call(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line()]), NOW)
    logs.calls.clear()
    container.ingest.run(batch([line()] * 5, first=2), NOW)
    assert logs.calls == ["append"], "even with offenders"


def test_a_warm_batch_that_was_counted_before_costs_no_call(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line()]), NOW)
    logs.calls.clear()
    assert container.ingest.run(batch([line()]), NOW).replayed == 1
    assert logs.calls == []


def test_new_rules_take_effect_with_the_next_batch(logs: Logs) -> None:
    container = Container(logs)
    container.ingest.run(batch([line()] * 2), NOW)
    container.rules = parse_rules('[[rule]]\nname = "long"\nlimit = 2\nwindow = "1h"\nresolution = 10\n')
    container.ingest.run(batch([line(NOW + 1)], first=3), NOW)
    bodies = [item.body for item in logs.items(f"{SHARD}@{NOW}")]
    assert [[part.slot_ms for part in unpack(body)] for body in bodies if body] == [[1000], [360_000]]


def test_a_problem_with_the_rules_is_reported(logs: Logs) -> None:
    container = Container(logs)
    container.ingest._rules = lambda _: RulesInUse(RULES, "not valid")
    assert container.ingest.run(batch([line()]), NOW).rules_problem == "not valid"
    assert logs.counted() == 1


def test_a_batch_whose_tally_exceeds_a_transaction_is_counted_in_parts(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "LARGEST_APPEND", 200)
    container = Container(logs)
    lines = [line(NOW + number, f"192.0.{number}.1") for number in range(100)] + [line(NOW, "192.0.0.1")] * 2
    report = container.ingest.run(batch(lines), NOW)
    assert (report.records, report.requests, logs.counted()) == (102, 102, 102)
    assert logs.calls.count("append") > 1
    assert offenders(logs) == ["192.0.0.1/32"]
    again = container.ingest.run(batch(lines), NOW)
    assert (again.requests, again.replayed, logs.counted()) == (0, 102, 102)


def test_a_single_record_too_large_for_a_transaction_fails_the_batch_and_counts_nothing(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "LARGEST_APPEND", 10)
    with pytest.raises(TooLarge):
        Container(logs).ingest.run(batch([line()]), NOW)
    assert logs.counted() == 0
