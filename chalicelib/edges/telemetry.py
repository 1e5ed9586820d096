"""Reports as logs and metrics: Powertools, once per invocation, in CloudWatch's embedded metric format."""

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.enforce import EnforceReport
from chalicelib.ingest import Report
from chalicelib.publish import PublishReport
from chalicelib.sweep import SweepReport

NAMESPACE = "Sluice"
Count, Milliseconds, Percent = MetricUnit.Count, MetricUnit.Milliseconds, MetricUnit.Percent


class Telemetry:
    """Where the handlers report to."""

    def __init__(self) -> None:
        self.log = Logger(service="sluice")
        self._metrics = Metrics(namespace=NAMESPACE, service="sluice")

    def ingested(self, report: Report, rules_problem: str | None) -> None:
        add = self._metrics.add_metric
        add("Requests", Count, report.requests)
        add("Malformed", Count, report.malformed.total())
        for reason, number in report.malformed.items():
            add(f"Malformed.{reason}", Count, number)
        add("Late", Count, report.late)
        add("Replayed", Count, report.replayed)
        add("Repeats", Count, report.repeats)
        add("Conflicts", Count, report.conflicts)
        add("Detections", Count, sum(len(detection.offenders) for detection in report.detections))
        add("ViewEntries", Count, report.view_entries)
        add("ViewDropped", Count, report.dropped)
        add("Lag", Milliseconds, report.lag_ms)
        add("RulesInvalid", Count, int(rules_problem is not None))
        if report.detections:
            add("TimeToDetect", Milliseconds, report.lag_ms)
        if report.malformed:
            self.log.warning(
                "malformed log records", extra={"reasons": dict(report.malformed), "samples": report.samples}
            )
        if rules_problem:
            self.log.error("the active rule set is not what is stored", extra={"problem": rules_problem})
        self._metrics.flush_metrics()

    def enforced(self, report: EnforceReport) -> None:
        add = self._metrics.add_metric
        for outcome, number in report.outcomes.items():
            add(f"Offenders.{outcome}", Count, number)
        add("Blocks", Count, len(report.blocks))
        add("BreakerOpened", Count, int(report.breaker_opened))
        if report.time_to_enforce_ms is not None:
            add("TimeToEnforce", Milliseconds, report.time_to_enforce_ms)
        if report.breaker_opened:
            self.log.error("circuit breaker opened: nothing more is blocked until an operator resets it")
        if report.publish:
            self._published(report.publish)
        self._metrics.flush_metrics()

    def swept(self, report: SweepReport) -> None:
        add = self._metrics.add_metric
        add("Heartbeat", Count, 1)
        add("Lifted", Count, len(report.lifted))
        add("ActiveBlocks", Count, report.publish.blocks)
        add("BreakerOpen", Count, int(report.breaker_open))
        add("Paused", Count, int(report.paused))
        for family, networks in report.publish.wanted.networks.items():
            capacity = report.publish.capacity[family]
            add(f"IpSetFill.v{family}", Percent, 100 * len(networks) / capacity if capacity else 0)
        self._published(report.publish)
        self._metrics.flush_metrics()

    def _published(self, report: PublishReport) -> None:
        add = self._metrics.add_metric
        add("Publishes", Count, report.updates)
        add("PublishConflicts", Count, report.conflicts)
        add("PublishFailures", Count, len(report.failures))
        add("Overflow", Count, report.wanted.overflow)
        if report.failures:
            self.log.error("IP sets could not be published", extra={"failures": report.failures})
        if report.wanted.overflow:
            self.log.error("IP sets are full", extra={"left_out": report.wanted.overflow})
