"""What the functions log about an invocation."""

import json
from collections import Counter
from typing import Any

import pytest

from chalicelib.edges.telemetry import PowertoolsTelemetry
from chalicelib.reports import (
    EnforceReport,
    EvaluateReport,
    FeedReport,
    IngestReport,
    PublishReport,
    QuotaReport,
    SweepReport,
    TrendReport,
)
from sluice.deploy.costs import OWN_LOG_BYTES
from sluice.deploy.monitoring import Watched, alarms_of
from sluice.deploy.stage import Choices, Location, Stage

LAMBDA_LINES_BYTES = 350
"""Bytes of the lines START, END and REPORT, which Lambda writes itself."""


@pytest.fixture
def telemetry() -> PowertoolsTelemetry:
    return PowertoolsTelemetry("sluice-prod")


def logged(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Returns the metrics that were logged."""
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: document[metric["Name"]][0] for metric in directive["Metrics"]}


def test_a_batch_without_faults_logs_no_zeros(
    telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.ingested(IngestReport(records=900, requests=900, lag_ms=1500))
    assert logged(capsys) == {"Requests": 900, "Lag": 1500}
    telemetry.ingested(IngestReport(requests=0, late=3, replayed=2, repeats=1, conflicts=4))
    counts = {"Late": 3, "Replayed": 2, "Repeats": 1, "Conflicts": 4}
    assert logged(capsys) == {"Requests": 0, "Lag": 0, **counts}


def test_what_is_not_wrong_is_not_written(telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str]) -> None:
    """Alarms take a missing count for zero, but the share of malformed lines needs the requests."""
    telemetry.ingested(IngestReport())
    assert logged(capsys) == {"Requests": 0, "Lag": 0}
    telemetry.published(PublishReport())
    telemetry.fed(FeedReport(name="bots", networks=3))
    assert capsys.readouterr().out == ""
    telemetry.swept(SweepReport())
    assert logged(capsys) == {"Heartbeat": 1, "ActiveBlocks": 0}


def test_what_is_wrong_is_written_each_time(telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.swept(SweepReport(stopped_rules=2, paused=True))
    assert logged(capsys) == {"Heartbeat": 1, "ActiveBlocks": 0, "BreakerOpen": 2, "Paused": 1}
    telemetry.ingested(IngestReport(rules_problem="name: missing"))
    telemetry.fed(FeedReport(name="bots", problem="it contains no networks"))
    telemetry.published(PublishReport(failures=["sluice-prod-v4-1"]))
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    metrics = [each["_aws"]["CloudWatchMetrics"][0]["Metrics"] for each in written if "_aws" in each]
    names = {metric["Name"] for of_one in metrics for metric in of_one}
    assert names == {"Requests", "Lag", "RulesInvalid", "FeedFailures", "PublishFailures"}


def test_every_alarm_takes_a_missing_value_for_zero() -> None:
    """Except for the heartbeat, which is always written."""
    stage = Stage(name="prod", location=Location(account="1", region="us-east-1"), choices=Choices())
    missing = {name: alarm["TreatMissingData"] for name, alarm in alarms_of(Watched.of(stage)).items()}
    assert missing.pop("HeartbeatMissing") == "breaching"
    assert set(missing.values()) == {"notBreaching"}


def test_an_invocation_of_enforce_without_offenders_logs_nothing(
    telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.enforced(EnforceReport())
    assert capsys.readouterr().out == ""


def test_every_function_logs_what_it_did(telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.evaluated(EvaluateReport(items=4, view_entries=10))
    assert logged(capsys) == {"Evaluated": 4, "ViewEntries": 10}
    telemetry.enforced(EnforceReport(outcomes=Counter(counted=1)))
    assert logged(capsys) == {"Offenders.counted": 1}


def test_an_invocation_logs_no_more_than_the_estimated_cost_assumes(
    telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.ingested(IngestReport(records=900, requests=900, lag_ms=1500))
    telemetry.evaluated(EvaluateReport(items=4, view_entries=10_000))
    telemetry.published(PublishReport(updates=2))
    for line in capsys.readouterr().out.splitlines():
        assert len(line) + LAMBDA_LINES_BYTES <= OWN_LOG_BYTES


def test_a_quarter_hour_that_cannot_be_added_up_is_counted_and_says_why(
    telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.trended(TrendReport(900))
    assert capsys.readouterr().out == ""
    telemetry.trended(TrendReport(1860, problem="the tally table is throttled"))
    assert logged(capsys) == {"TrendFailures": 1}
    (error,) = caplog.records
    assert (error.levelname, vars(error)["problem"]) == ("ERROR", "the tally table is throttled")


def test_what_quotas_could_not_count_is_counted_and_said(
    telemetry: PowertoolsTelemetry, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.rolled_up(QuotaReport(items=9, entries=7))
    assert (logged(capsys), caplog.records) == ({"QuotaEntries": 7}, [])
    telemetry.rolled_up(
        QuotaReport(dropped=3, missing=2, unreadable=5, restored=1, unfinished="not loaded: 4 roll-ups")
    )
    assert logged(capsys) == {"QuotaEntries": 0, "QuotaDropped": 3, "QuotaMissing": 2}
    keys = ("items", "roll_ups", "logs", "unfinished")
    extras = [(each.levelname, key, vars(each)[key]) for each in caplog.records for key in keys if hasattr(each, key)]
    assert extras == [
        ("ERROR", "items", 2),
        ("ERROR", "roll_ups", 5),
        ("WARNING", "logs", 1),
        ("WARNING", "unfinished", "not loaded: 4 roll-ups"),
    ]
