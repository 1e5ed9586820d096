"""Import of objects: each part counts once, whatever is delivered again, raced, cut off or taken away."""

import gzip
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.logs import framing
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.core.logs.requests import Reason
from chalicelib.core.portraits import unpack_portraits
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.sampling import WHOLE_LOG
from chalicelib.core.tally import unpack
from chalicelib.pipeline import log_writer
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.import_objects import LOGS, ImportObjects, NewObject, Notification
from chalicelib.pipeline.log_writer import TRIES, LogWriter
from chalicelib.pipeline.tally_logs import RESERVE_S
from chalicelib.ports import LogObject, PartReceipt, Unavailable
from chalicelib.reports import ImportReport
from tests.support.objects import MemoryObjects
from tests.support.records import cloudfront, waf_text
from tests.support.tally_logs import NOW, RETENTION_MS, SECOND, RecordedLogs, counting, seconds_left

RULES = parse_rules('[[rule]]\nname = "any"\nlimit = 5\nwindow = "10s"\n')
LINE_BYTES = len(cloudfront()) + 1


@dataclass
class Bucket(MemoryObjects):
    """A bucket that fails on demand."""

    def __init__(self) -> None:
        super().__init__(block_bytes=1000)
        self.blocks_read = 0
        self.fails_after: int | None = None
        """Blocks after which reading fails."""
        self.before_block: Callable[[int], object] = lambda number: None

    def blocks(self, object: LogObject) -> Iterator[bytes]:
        for number, block in enumerate(super().blocks(object)):
            self.before_block(number)
            if number == self.fails_after:
                raise Unavailable("AccessDenied")
            self.blocks_read += 1
            yield block


@dataclass
class Importers:
    """Containers over the same logs and bucket."""

    logs: RecordedLogs = field(default_factory=RecordedLogs)
    bucket: Bucket = field(default_factory=Bucket)
    now_ms: int = NOW
    rules: RuleSet = RULES

    def container(self, lines_per_part: float = 9.5) -> ImportObjects:
        return ImportObjects(
            objects=self.bucket,
            decoder=BatchDecoder(),
            rules=lambda _: RulesInUse(self.rules),
            logs=self.logs,
            writer=LogWriter(self.logs),
            clock=lambda: self.now_ms / 1000,
            portraits_of=WHOLE_LOG,
            part_bytes=int(lines_per_part * LINE_BYTES),
        )

    def malformed(self) -> list[MalformedCount]:
        """Returns what the logs say was malformed."""
        return [
            malformed
            for log in self.logs.registry.values()
            for item in self.logs.items(log[0])
            for malformed in item.malformed
        ]

    def put(self, lines: int, *, packed: bool = False, key: str = "one.log") -> LogObject:
        content = b"".join(
            cloudfront(timestamp=f"{NOW / 1000:.3f}", c_ip=f"192.0.2.{n % 256:>3}".replace(" ", "")) + b"\n"
            for n in range(lines)
        )
        return self.bucket.put("logs", key, gzip.compress(content) if packed else content)


@pytest.fixture
def importers(monkeypatch: pytest.MonkeyPatch) -> Importers:
    # So that small parts are cut off before the content is read to its end.
    monkeypatch.setattr(framing, "WINDOW", 200)
    return Importers()


def new(*objects: LogObject, id: str = "m") -> Notification:
    return Notification(id, [NewObject(object, NOW - 5 * SECOND) for object in objects])


@pytest.mark.parametrize("packed", [False, True])
def test_every_line_of_an_object_counts_once(importers: Importers, packed: bool) -> None:
    stored = importers.put(105, packed=packed)
    report = importers.container().run([new(stored)])
    assert (report.counted.requests, report.objects, report.failures, report.gone) == (105, 1, {}, [])
    assert importers.logs.counted() == 105
    assert importers.logs.calls.count("append") > 10
    assert report.counted.lag_ms == 5 * SECOND


def test_clients_of_objects_have_portraits(importers: Importers) -> None:
    importers.container(lines_per_part=99).run([new(importers.put(1))])
    (portraits,) = [item.portraits for log in importers.logs.registry.values() for item in importers.logs.items(log[0])]
    (drawn,) = unpack_portraits(portraits)
    assert (drawn.network, drawn.portrait.lines) == ("192.0.2.0/32", {"GET www.example.com/i 200": 1})


def test_a_repeated_notification_counts_nothing(importers: Importers) -> None:
    stored = importers.put(50)
    importers.container().run([new(stored), new(stored)])
    again = importers.container(lines_per_part=3.5).run([new(stored, stored)])
    assert (again.counted.requests, again.objects) == (0, 2)
    assert importers.logs.counted() == 50


def test_importers_use_a_few_logs_with_fixed_names(importers: Importers) -> None:
    importers.container().run([new(*(importers.put(2, key=f"{number}.log") for number in range(50)))])
    assert set(importers.logs.registry) == {f"s3/{number}" for number in range(LOGS)}
    assert all(len(logs) == 1 for logs in importers.logs.registry.values())


@pytest.mark.parametrize(
    ("fails", "call"),
    [("append", 1), ("append", 2), ("append", 10), ("counted_up_to", 1), ("read", 1), ("read", 2), ("register", 1)],
)
def test_what_failed_is_delivered_again_and_goes_on_where_it_ended(importers: Importers, fails: str, call: int) -> None:
    stored = importers.put(100)
    importers.logs.fails = {fails: call}
    report = importers.container().run([new(stored)])
    assert list(report.failures) == ["m"]
    assert importers.container(lines_per_part=7.5).run([new(stored)]).failures == {}
    assert importers.logs.counted() == 100


def test_a_part_whose_answer_was_lost_is_not_counted_again(importers: Importers) -> None:
    stored = importers.put(30)
    importers.logs.answers_lost = {"append"}
    container = importers.container()
    assert container.run([new(stored)]).failures == {"m": "append: no answer"}
    assert container.run([new(stored)]).counted.requests == 20
    assert importers.logs.counted() == 30


@pytest.mark.parametrize("other_cut", [10.5, 4.5, 25.5])
def test_two_importers_of_one_object_count_it_once(importers: Importers, other_cut: float) -> None:
    """The other counts the whole object while the first one is about to append its second part."""
    stored = importers.put(100)
    other = importers.container(other_cut)
    appended: list[ImportReport] = []

    def overtake() -> None:
        if not appended:
            importers.logs.before["append"] = lambda: appended.append(other.run([new(stored)]))

    importers.logs.before["append"] = overtake
    report = importers.container().run([new(stored)])
    assert report.failures == {}
    assert importers.logs.counted() == 100
    assert report.counted.requests + sum(each.counted.requests for each in appended) == 100


def test_an_importer_that_loses_its_log_appends_to_another(importers: Importers) -> None:
    """Only the receipt tells what was counted: which log holds it does not matter."""
    stored = importers.put(5)
    other = importers.put(5, key="other.log")
    importers.logs.before["append"] = lambda: importers.container().run([new(other), new(other)])
    assert importers.container().run([new(stored)]).failures == {}
    assert importers.logs.counted() == 10


def test_an_importer_that_loses_every_append_fails(importers: Importers) -> None:
    """Another one is always faster, in whichever log."""
    stored, others = importers.put(5), count(10)

    def overtake() -> None:
        other = importers.put(1, key=f"{next(others)}.log")
        writer = LogWriter(importers.logs)
        for number in range(LOGS):
            tail = writer.tail(f"s3/{number}", NOW)
            receipt = PartReceipt(object=other, start=number, end=number + 1, written_ms=NOW)
            writer.append(tail, counting(NOW, 0), NOW, receipt)
        importers.logs.before["append"] = overtake

    importers.logs.before["append"] = overtake
    report = importers.container().run([new(stored)])
    assert report.failures == {"m": f"logs/one.log: lost {TRIES} consecutive appends to other importers"}
    importers.logs.before.clear()
    assert importers.container().run([new(stored)]).counted.requests == 5


def test_an_object_that_was_deleted_or_replaced_is_gone_and_no_failure(importers: Importers) -> None:
    deleted, replaced = importers.put(5, key="a.log"), importers.put(5, key="b.log")
    importers.bucket.delete(deleted)
    newer = importers.put(7, key="b.log")
    report = importers.container().run([new(deleted, replaced)])
    assert (report.objects, report.failures) == (0, {})
    assert report.gone == ["logs/a.log: deleted or replaced", "logs/b.log: deleted or replaced"]
    assert importers.container().run([new(newer)]).counted.requests == 7


def test_an_object_that_is_replaced_while_it_is_read_keeps_what_was_counted(importers: Importers) -> None:
    stored = importers.put(100)
    importers.bucket.before_block = lambda number: number == 3 and importers.put(1)
    report = importers.container(lines_per_part=2.5).run([new(stored)])
    assert len(report.gone) == 1
    assert 0 < importers.logs.counted() == report.counted.requests < 100


def test_an_object_that_may_not_be_read_fails_and_the_others_count(importers: Importers) -> None:
    denied, other = importers.put(50, key="a.log"), importers.put(5, key="b.log")
    importers.bucket.fails_after = 2
    report = importers.container().run([new(denied, id="1"), new(other, id="2")])
    assert report.failures == {"1": "AccessDenied"}
    assert report.counted.requests == importers.logs.counted() > 5
    importers.bucket.fails_after = None
    importers.container().run([new(denied, id="1")])
    assert importers.logs.counted() == 55


def test_a_message_that_is_no_notification_fails(importers: Importers) -> None:
    report = importers.container().run([Notification("1", problem="not JSON"), new(importers.put(1), id="2")])
    assert report.failures == {"1": "not JSON"}
    assert report.counted.requests == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00\x01\xff" * 1000, id="binary"),
        pytest.param(b"PAR1\x15\x04\x15" + bytes(3000), id="Parquet"),
        pytest.param(gzip.compress(b"not a log\n" * 500), id="text"),
        pytest.param(b"a,b,c\n1,2,3\n", id="CSV"),
        pytest.param(gzip.compress(cloudfront())[:12], id="gzip that is cut off"),
        pytest.param(b"\x1f\x8b\x08\x00" + b"no gzip" * 1000, id="no gzip"),
        pytest.param(gzip.compress(gzip.compress(b"a\n" * 1000)), id="gzip within gzip"),
    ],
)
def test_an_object_that_is_no_log_is_malformed_and_counted_once(importers: Importers, content: bytes) -> None:
    stored = importers.bucket.put("logs", "x", content)
    report = importers.container().run([new(stored)])
    assert (report.objects, report.failures, report.counted.requests) == (1, {}, 0)
    assert bool(report.counted.malformed) == bool(content)
    assert not importers.container(lines_per_part=1000).run([new(stored)]).counted.malformed
    malformed = importers.malformed()
    assert bool(malformed) == bool(content), "shown in the status"
    assert {count.where for count in malformed} <= {"logs/x"}


@pytest.mark.parametrize("lines_per_part", [3, 9.5, 1000])
def test_damage_after_the_last_byte_of_text_counts_once(importers: Importers, lines_per_part: float) -> None:
    lines = importers.bucket._stored["logs", importers.put(9).key][1]
    stored = importers.bucket.put("logs", "x", gzip.compress(lines) + gzip.compress(cloudfront())[:10])
    for _ in range(2):
        assert importers.container(lines_per_part).run([new(stored)]).failures == {}
    assert importers.logs.counted() == 9
    assert [(count.reason, count.number) for count in importers.malformed()] == [(Reason.GZIP, 1)]


def test_two_importers_of_a_damaged_object_count_its_damage_once(importers: Importers) -> None:
    stored = importers.bucket.put("logs", "x", gzip.compress(cloudfront())[:10])
    other: list[ImportReport] = []
    importers.logs.before["append"] = lambda: other.append(importers.container().run([new(stored)]))
    report = importers.container().run([new(stored)])
    assert (report.failures, report.counted.malformed) == ({}, {})
    assert len(other) == len(importers.malformed()) == 1


def test_an_object_that_was_cut_off_counts_as_far_as_it_can_be_read(importers: Importers) -> None:
    whole = importers.put(100, packed=True)
    content = importers.bucket._stored["logs", whole.key][1]
    cut = importers.bucket.put("logs", "cut", content[: len(content) * 2 // 3])
    report = importers.container().run([new(cut)])
    assert 10 < report.counted.requests < 100
    assert importers.container().run([new(cut)]).counted.requests == 0


def test_requests_that_are_late_are_counted_as_late_and_not_again(importers: Importers) -> None:
    stored = importers.put(20)
    importers.now_ms = NOW + RETENTION_MS + 1
    report = importers.container().run([new(stored)])
    assert (report.counted.requests, report.counted.late) == (0, 20)
    assert importers.container().run([new(stored)]).counted.late == 0
    items = [item for log in importers.logs.registry.values() for item in importers.logs.items(log[0])]
    assert sum(item.late for item in items) == 20
    assert importers.logs.counted() == 0


def test_an_importer_out_of_time_continues_in_its_next_invocation(importers: Importers) -> None:
    stored = importers.put(100)
    container = importers.container()
    report = container.run([new(stored)], seconds_left(RESERVE_S, RESERVE_S, RESERVE_S - 1))
    assert list(report.failures) == ["m"]
    assert report.failures["m"].startswith("logs/one.log is counted up to byte ")
    assert report.counted.requests == 20
    assert container.run([new(stored)]).counted.requests == 80
    assert importers.logs.counted() == 100


def test_a_part_whose_tally_exceeds_a_transaction_is_counted_in_smaller_ones(
    importers: Importers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "LARGEST_APPEND", 200)
    stored = importers.put(100)
    report = importers.container(lines_per_part=1000).run([new(stored)])
    assert (report.counted.requests, report.failures, importers.logs.counted()) == (100, {}, 100)
    assert importers.container(lines_per_part=1000).run([new(stored)]).counted.requests == 0


def test_a_line_whose_tally_exceeds_a_transaction_fails(importers: Importers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "LARGEST_APPEND", 1)
    assert "a tally of" in importers.container().run([new(importers.put(3))]).failures["m"]


def test_new_rules_take_effect_with_the_next_part(importers: Importers) -> None:
    stored = importers.put(100)

    def change(number: int) -> None:
        if number == 2:
            importers.rules = parse_rules('[[rule]]\nname = "long"\nlimit = 2\nwindow = "1h"\nresolution = 10\n')

    importers.bucket.before_block = change
    importers.container(lines_per_part=5.5).run([new(stored)])
    slots = [
        part.slot_ms
        for log in importers.logs.registry.values()
        for item in importers.logs.items(log[0])
        for part in unpack(item.body or b"")
    ]
    assert sorted(set(slots)) == [100, 360_000]
    assert importers.logs.counted() == 100


def standard_log(sections: list[tuple[bool, int]]) -> bytes:
    """Returns a standard log of CloudFront, of sections whose fields stand in one order or the other."""
    day, second = f"{datetime.fromtimestamp(NOW / 1000, UTC):%Y-%m-%d\t%H:%M:%S}".split("\t")
    log, client = [b"#Version: 1.0"], count(1)
    for is_usual, lines in sections:
        names = ["date", "time", "c-ip"] if is_usual else ["c-ip", "time", "date"]
        log.append(f"#Fields: {' '.join(names)}".encode())
        for _ in range(lines):
            cells = {"date": day, "time": second, "c-ip": f"192.0.2.{next(client)}"}
            log.append("\t".join(cells[name] for name in names).encode())
    return b"\n".join((*log, b""))


@given(
    sections=st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=1, max_size=5),
    deliveries=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 6)), max_size=6),
    packed=st.booleans(),
)
def test_an_object_counts_the_same_however_its_deliveries_are_cut_and_cut_off(
    sections: list[tuple[bool, int]], deliveries: list[tuple[int, int]], packed: bool
) -> None:
    """Each delivery has parts of a size of its own, and time for some of them."""
    importers, content = Importers(), standard_log(sections)
    stored = importers.bucket.put("logs", "one.log", gzip.compress(content) if packed else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "WINDOW", 16)
        for part_bytes, parts in [*deliveries, (10_000, 1000)]:
            report = importers.container(part_bytes / LINE_BYTES).run(
                [new(stored)], seconds_left(*[RESERVE_S] * parts, 0)
            )
            assert not report.counted.malformed
    lines = sum(number for _, number in sections)
    clients = [
        client
        for log in importers.logs.registry.values()
        for item in importers.logs.items(log[0])
        for part in unpack(item.body or b"")
        for client in part.keys()  # noqa: SIM118
    ]
    assert sorted(clients) == [bytes((192, 0, 2, number)) for number in range(1, lines + 1)]


def test_objects_without_line_ends_between_them_are_cut_between_them(importers: Importers) -> None:
    records = [waf_text(timestamp=NOW) for _ in range(30)]
    stored = importers.bucket.put("aws-waf-logs-site", "x.log.gz", gzip.compress(b"".join(records)))
    report = importers.container().run([new(stored)])
    assert (report.counted.requests, dict(report.counted.malformed)) == (30, {})
    assert importers.logs.calls.count("append") > 5


def test_json_records_are_read_and_damage_costs_the_damaged_line(importers: Importers) -> None:
    lines = [waf_text(timestamp=NOW), b'{"damaged', waf_text(timestamp=NOW)]
    stored = importers.bucket.put("aws-waf-logs-site", "x.log.gz", gzip.compress(b"\n".join(lines)))
    report: ImportReport = importers.container(lines_per_part=1000).run([new(stored)])
    assert (report.counted.requests, dict(report.counted.malformed)) == (2, {Reason.JSON: 1})


@pytest.mark.slow
def test_a_large_object_needs_no_more_memory_than_a_small_one() -> None:
    """Half a million lines, each of another client. The process may have 512 MB."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.large_object", "500000"], check=True, capture_output=True, text=True
    )
    lines, counted, megabytes = map(int, done.stdout.split())
    assert lines == counted
    assert megabytes < 512


def test_each_version_of_an_object_counts(importers: Importers) -> None:
    first, second = importers.put(5), importers.put(6)
    assert first.key == second.key
    importers.container().run([new(second), new(replace(second))])
    assert importers.logs.counted() == 6
