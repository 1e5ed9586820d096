"""The deployed functions: what evaluate reports, when it fails, and that no part of the sweep hinders another."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import app
from chalicelib.bootstrap import Services, compose, running_in
from chalicelib.pipeline.log_writer import LogWriter
from chalicelib.pipeline.tally_logs import RESERVE_S, OutOfTime
from chalicelib.reports import EvaluateReport
from sluice.local.cloud import LocalCloud
from sluice.local.events import schedule_event, tally_event
from sluice.local.loop import SimulatedClock
from sluice.local.telemetry import ReportTotals
from tests.support.tally_logs import NOW, counting

RULES = '[[rule]]\nname = "r"\nlimit = 5\nwindow = "10s"\nblock_for = "1m"\n'
EVENT = tally_event([("logs/shard-0@1", 0)])


class Reports(ReportTotals):
    """The reports of the evaluator."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[EvaluateReport] = []

    def evaluated(self, report: EvaluateReport) -> None:
        self.received.append(report)


class Lambda:
    """A function in a container that serves one invocation after the other."""

    def __init__(self) -> None:
        cloud = LocalCloud(SimulatedClock(NOW / 1000), rules=RULES)
        self.telemetry = Reports()
        self.services: Services = compose(cloud.config, replace(cloud.world, telemetry=self.telemetry))
        writer = LogWriter(cloud.tally_logs)
        for number in range(6):
            shard = f"logs/shard-{number % 2}"
            writer.append(writer.tail(shard, NOW), counting(NOW, number, requests=6), NOW)

    def invoke(self, seconds_left: float | None, event: object = EVENT) -> list[EvaluateReport]:
        """Returns the reports of an invocation; it may fail for lack of time."""
        self.telemetry.received.clear()
        context = None
        if seconds_left is not None:
            context = SimpleNamespace(get_remaining_time_in_millis=lambda: seconds_left * 1000)
        with running_in(self.services):
            app.evaluate(event, context)
        return self.telemetry.received


@pytest.fixture
def function() -> Lambda:
    return Lambda()


def test_an_invocation_that_runs_out_of_time_reports_what_it_did_and_then_fails(function: Lambda) -> None:
    """So that Lambda delivers the event again, and the same container continues."""
    for unfinished, items in [
        ("1 of 2 logs are loaded", 0),
        ("not read to their ends: 2 logs", 2),
        ("not read to their ends: 2 logs", 4),
    ]:
        with pytest.raises(OutOfTime, match=re.escape(unfinished)):
            function.invoke(RESERVE_S - 1)
        (report,) = function.telemetry.received
        assert (report.unfinished, report.items) == (unfinished, items)
        assert len(report.detections) == (items == 2), "each client is reported once"
    (report,) = function.invoke(RESERVE_S - 1)
    assert (report.unfinished, report.items) == (None, 0)


@pytest.mark.parametrize("seconds_left", [RESERVE_S, None])
def test_an_invocation_with_enough_time_evaluates_everything(function: Lambda, seconds_left: float | None) -> None:
    (report,) = function.invoke(seconds_left)
    assert (report.unfinished, report.items, len(report.detections)) == (None, 6, 1)


def test_an_event_without_new_items_is_no_reason_to_evaluate(function: Lambda) -> None:
    event = tally_event([("logs/shard-0@1", 0)])
    event["Records"][0]["eventName"] = "MODIFY"
    assert function.invoke(0, event) == []


@pytest.mark.parametrize("failing", ["sweep", "add_up", "check_feeds", "quotas"])
def test_a_part_of_the_sweep_that_fails_keeps_no_other_from_its_work(failing: str) -> None:
    cloud = LocalCloud(SimulatedClock(NOW / 1000), rules=RULES)
    calls: list[str] = []

    def part(name: str) -> SimpleNamespace:
        def run(*_: object) -> None:
            calls.append(name)
            if name == failing:
                raise RuntimeError(f"{name} failed")

        return SimpleNamespace(run=run)

    names = ("sweep", "add_up", "check_feeds", "quotas")
    telemetry: Any = SimpleNamespace(swept=lambda report: None, trended=lambda report: None)
    parts: dict[str, Any] = {name: part(name) for name in names}
    container = replace(compose(cloud.config, replace(cloud.world, telemetry=telemetry)), **parts)
    with running_in(container), pytest.raises(RuntimeError, match=f"{failing} failed"):
        app.sweep(schedule_event(), None)
    assert calls == list(names)
