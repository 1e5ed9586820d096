"""Requests count by their own time: those too old are late, those from the future are malformed."""

import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Reason
from chalicelib.core.rules_toml import parse_rules
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.evaluate import Evaluate
from chalicelib.pipeline.ingest import Batch, Ingest
from chalicelib.pipeline.log_reader import LogReader
from chalicelib.pipeline.log_writer import LogWriter
from chalicelib.pipeline.tally_logs import SKEW_MS
from chalicelib.reports import EvaluateReport, IngestReport
from sluice.local.stores import MemoryTallyLogs
from tests.support.records import cloudfront, waf_text
from tests.support.tally_logs import RETENTION_MS, new_view

NOW_MS = 1_760_000_000_000
RULES = parse_rules('[[rule]]\nname = "any"\nlimit = 0\nwindow = "1s"\n')


def ingest(logs: MemoryTallyLogs, *data: bytes) -> IngestReport:
    run = Ingest(decoder=BatchDecoder(), rules=lambda _: RulesInUse(RULES), writer=LogWriter(logs))
    batch = Batch("logs/0", [str(number) for number in range(1, len(data) + 1)], data, [NOW_MS] * len(data))
    return run.run(batch, NOW_MS)


def evaluate(logs: MemoryTallyLogs) -> EvaluateReport:
    reader = LogReader(logs, new_view, lateness_ms=300_000)
    rules = RulesInUse(RULES)
    return Evaluate(logs=logs, reader=reader, rules=lambda _: rules, detect=lambda _: None).run(NOW_MS)


@pytest.mark.parametrize(
    ("time_ms", "requests", "late", "future"),
    [
        pytest.param(NOW_MS, 1, 0, 0, id="now"),
        pytest.param(NOW_MS - RETENTION_MS, 1, 0, 0, id="as old as may be"),
        pytest.param(NOW_MS - RETENTION_MS - 1, 0, 1, 0, id="too old"),
        pytest.param(NOW_MS - 2 * 365 * 86_400_000, 0, 1, 0, id="two years old"),
        pytest.param(NOW_MS + SKEW_MS, 1, 0, 0, id="as far ahead as clocks may disagree"),
        pytest.param(NOW_MS + SKEW_MS + 1, 0, 0, 1, id="from the future"),
        pytest.param(10**4000, 0, 0, 1, id="from the very end of time"),
    ],
)
def test_a_request_is_counted_at_its_own_time(time_ms: int, requests: int, late: int, future: int) -> None:
    logs = MemoryTallyLogs()
    report = ingest(logs, waf_text(timestamp=time_ms))
    assert (report.requests, report.late, report.malformed[Reason.FUTURE]) == (requests, late, future)
    offenders = [offender for detection in evaluate(logs).detections for offender in detection.offenders]
    assert [offender.first_ms <= time_ms <= offender.last_ms for offender in offenders] == [True] * requests


def test_lines_that_cannot_be_counted_do_not_affect_the_others() -> None:
    lines = [cloudfront(timestamp=time) for time in ("1760000000", "1690000000", "1860000000", "-", "1759999999.5")]
    report = ingest(MemoryTallyLogs(), *lines)
    assert (report.requests, report.late, dict(report.malformed)) == (
        2,
        1,
        {Reason.TIMESTAMP: 1, Reason.FUTURE: 1},
    )
    assert len(report.samples) == 2
