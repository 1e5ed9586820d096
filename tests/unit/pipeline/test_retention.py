"""The retention is a setting: what is late, how long items are kept, and when a log is dormant follow from it."""

from chalicelib.core.tally import FENCE_S, LONGEST_RETENTION_S, RETENTION_S, kept_s
from chalicelib.pipeline.log_writer import LogWriter
from tests.support.records import cloudfront
from tests.support.tally_logs import NOW, SHARD, RecordedLogs, Writer, counting
from tests.support.target import Target

RULE = '[[rule]]\nname = "burst"\nlimit = 5\nwindow = "1h"\n'
DAY_S = 86_400


def lines(target: Target, *ages_s: float) -> list[bytes]:
    """Returns a line of one client for each age, in seconds."""
    return [cloudfront(timestamp=f"{target.now - age:.3f}") for age in ages_s]


def test_requests_as_old_as_the_longest_retention_count_and_older_ones_are_late() -> None:
    target = Target(RULE, settings={"RETENTION_S": str(LONGEST_RETENTION_S)})
    report = target.ingest(lines(target, LONGEST_RETENTION_S, LONGEST_RETENTION_S + 0.001, DAY_S, 0))
    assert (report.requests, report.late) == (3, 1)


def test_an_excess_a_day_ago_is_detected_however_far_apart_its_requests_are_processed() -> None:
    """The first ones are processed when they are made, and the last one, by another evaluator, a day later."""
    target = Target(RULE, settings={"RETENTION_S": str(LONGEST_RETENTION_S)})
    target.ingest(lines(target, *[0] * 5))
    assert not target.evaluate().detections
    target.now += DAY_S
    target.ingest(lines(target, 0), shard="logs/1")
    target.evaluate()
    target.ingest(lines(target, DAY_S - 3500), shard="logs/2")
    (detection,) = target.evaluate().detections
    assert [offender.count for offender in detection.offenders] == [6]


def test_with_the_default_retention_a_request_of_yesterday_is_late() -> None:
    target = Target(RULE)
    assert target.ingest(lines(target, RETENTION_S + 1)).late == 1


def writer(logs: RecordedLogs, retention_s: int) -> Writer:
    made = Writer(logs)
    made.writer = LogWriter(logs, retention_s=retention_s)
    return made


def test_items_are_kept_for_the_retention_the_longest_window_and_an_hour() -> None:
    logs = RecordedLogs()
    writer(logs, DAY_S).count(NOW, 1)
    writer(logs, DAY_S).count(NOW + (DAY_S + 3600) * 1000, 2)
    (first,), closing_and_later = logs.items(f"{SHARD}@{NOW}")[:1], logs.items(f"{SHARD}@{NOW}")[1:]
    assert first.kept_s == kept_s(DAY_S) == DAY_S + 7200
    assert [item.closes for item in closing_and_later] == [True]
    assert closing_and_later[0].kept_s == kept_s(DAY_S)


def test_a_log_is_dormant_by_the_retention_under_which_its_last_item_was_written() -> None:
    """Its items are removed by that time: a writer that goes on there would append at offsets that were taken."""
    logs = RecordedLogs()
    writer(logs, RETENTION_S).count(NOW, 1)
    later = NOW + (kept_s(RETENTION_S) - FENCE_S) * 1000
    writer(logs, LONGEST_RETENTION_S).count(later, 2)
    assert logs.registry[SHARD] == (f"{SHARD}@{NOW}", f"{SHARD}@{later}")
    much_later = later + (kept_s(LONGEST_RETENTION_S) - FENCE_S) * 1000 - 1
    writer(logs, RETENTION_S).count(much_later, 3)
    assert len(logs.registry[SHARD]) == 2


def test_a_log_whose_items_have_all_been_removed_takes_no_more() -> None:
    """They were written under a shorter retention."""
    logs = RecordedLogs()
    frozen = writer(logs, RETENTION_S)
    frozen.count(NOW, 1)
    logs.expire(NOW + 1)
    later = NOW + (kept_s(RETENTION_S)) * 1000 + 1
    tail = writer(logs, LONGEST_RETENTION_S).tail(later)
    assert tail.log == f"{SHARD}@{later}"


def test_the_first_item_of_a_log_says_how_long_it_is_kept() -> None:
    logs = RecordedLogs()
    container = writer(logs, DAY_S)
    tail = container.tail(NOW)
    container.writer.append(tail, counting(NOW, 1), NOW)
    assert not container.tail(NOW + DAY_S * 1000).closed
    assert container.tail(NOW + DAY_S * 1000).log == f"{SHARD}@{NOW}"
