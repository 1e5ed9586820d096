"""Reports as logs and metrics, once per invocation, in CloudWatch's embedded metric format.

A zero is left out: logs are charged by length, metrics by the hour, and alarms take a missing value for zero.
They may stay as they are for some minutes then, because CloudWatch first looks for values in earlier periods.
``Requests`` is always written, because an alarm compares ``Malformed`` with it, and so are delays and sizes.
"""

from collections.abc import Sequence

import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.core.responses import Response
from chalicelib.core.state.records import Unreadable
from chalicelib.reports import (
    AnnounceReport,
    EnforceReport,
    EvaluateReport,
    FeedReport,
    ImportReport,
    IngestReport,
    PublishReport,
    QuotaReport,
    SweepReport,
    TrendReport,
)

NAMESPACE = "Sluice"
Count, Milliseconds, Percent = MetricUnit.Count, MetricUnit.Milliseconds, MetricUnit.Percent


MOST_DESCRIBED = 10
"""Most unreadable records described in one log line."""


def described(records: Sequence[Unreadable]) -> list[str]:
    """Returns the first unreadable records, safe to log: what is stored may be anything."""
    return [ascii(f"{each.kind} {each.id}: {each.reason}")[1:-1] for each in records[:MOST_DESCRIBED]]


class PowertoolsTelemetry:
    """``Telemetry`` that writes for CloudWatch, with Powertools."""

    def __init__(self, service: str) -> None:
        """``service`` is the deployment's name and a dimension of every metric."""
        self.log = Logger(service=service)
        self._metrics = Metrics(namespace=NAMESPACE, service=service)

    def _rare(self, name: str, unit: MetricUnit, number: int) -> None:
        """Adds a metric, unless it is zero."""
        if number:
            self._metrics.add_metric(name, unit, number)

    def _flush(self) -> None:
        """Writes the metrics, if there are any."""
        if self._metrics.metric_set:
            self._metrics.flush_metrics()

    def ingested(self, report: IngestReport) -> None:
        add, rare = self._metrics.add_metric, self._rare
        add("Requests", Count, report.requests)
        rare("Malformed", Count, report.malformed.total())
        for reason, number in report.malformed.items():
            add(f"Malformed.{reason}", Count, number)
        rare("Late", Count, report.late)
        rare("Replayed", Count, report.replayed)
        rare("Repeats", Count, report.repeats)
        rare("Conflicts", Count, report.conflicts)
        add("Lag", Milliseconds, report.lag_ms)
        rare("RulesInvalid", Count, int(report.rules_problem is not None))
        if report.malformed:
            self.log.warning(
                "malformed log records", extra={"reasons": dict(report.malformed), "samples": report.samples}
            )
        if report.rules_problem:
            self.log.error("the rules in use are not the stored ones", extra={"problem": report.rules_problem})
        self._flush()

    def imported(self, report: ImportReport) -> None:
        add, rare = self._metrics.add_metric, self._rare
        add("Objects", Count, report.objects)
        rare("ObjectsGone", Count, len(report.gone))
        rare("ObjectFailures", Count, len(report.failures))
        if report.gone:
            self.log.warning("objects were deleted or replaced before they were read", extra={"objects": report.gone})
        if report.failures:
            self.log.error("objects could not be read or counted", extra={"failures": report.failures})
        self.ingested(report.counted)

    def evaluated(self, report: EvaluateReport) -> None:
        add, rare = self._metrics.add_metric, self._rare
        add("Evaluated", Count, report.items)
        rare("Detections", Count, sum(len(detection.offenders) for detection in report.detections))
        add("ViewEntries", Count, report.view_entries)
        rare("ViewDropped", Count, report.dropped)
        if report.detections:
            add("TimeToDetect", Milliseconds, report.lag_ms)
        self._flush()

    def enforced(self, report: EnforceReport) -> None:
        add, rare = self._metrics.add_metric, self._rare
        for outcome, number in report.outcomes.items():
            add(f"Offenders.{outcome}", Count, number)
        rare("Blocks", Count, len(report.blocks))
        rare("Unreadable", Count, len(report.unreadable))
        rare("BreakerOpened", Count, len(report.stopped))
        if report.unreadable:
            self.log.error("unreadable records", extra={"records": described(report.unreadable)})
        for breaker in report.stopped:
            self.log.error(
                "circuit breaker opened: the rule would hit known clients, and blocks no new client",
                extra={
                    "rule": breaker.rule,
                    "would_hit": breaker.would_hit,
                    "known": breaker.known,
                    "clients": breaker.clients,
                },
            )
        for breaker in report.resumed:
            self.log.warning("circuit breaker closed: the rule blocks again", extra={"rule": breaker.rule})
        self._flush()

    def announced(self, report: AnnounceReport) -> None:
        for announcement in report.announcements:
            self.log.info(announcement.type, extra={"event": msgspec.to_builtins(announcement)})
        if report.failed:
            add = self._metrics.add_metric
            add("AnnouncementFailures", Count, report.failed)
            self.log.error("announcements could not be sent", extra={"failed": report.failed})
            self._flush()

    def published(self, report: PublishReport) -> None:
        add, rare = self._metrics.add_metric, self._rare
        rare("Publishes", Count, report.updates)
        rare("PublishConflicts", Count, report.conflicts)
        rare("PublishThrottled", Count, report.throttled)
        rare("PublishFailures", Count, len(report.failures))
        rare("Overflow", Count, report.wanted.overflow)
        for (response, family), fill in report.fill.items():
            if response is Response.BLOCK:
                add(f"IpSetFill.v{family}", Percent, 100 * fill)
            else:
                add(f"IpSetFill.{response}.v{family}", Percent, 100 * fill)
        if report.time_to_block_ms is not None:
            add("TimeToBlock", Milliseconds, report.time_to_block_ms)
        if report.failures:
            self.log.error("IP sets could not be published", extra={"failures": report.failures})
        if report.wanted.overflow:
            self.log.error("IP sets are full", extra={"left_out": report.wanted.overflow})
        self._flush()

    def swept(self, report: SweepReport) -> None:
        add, rare = self._metrics.add_metric, self._rare
        add("Heartbeat", Count, 1)
        rare("Lifted", Count, len(report.lifted))
        add("ActiveBlocks", Count, report.blocks)
        rare("BreakerOpen", Count, report.stopped_rules)
        rare("Paused", Count, int(report.paused))
        rare("Unreadable", Count, len(report.unreadable))
        if report.unreadable:
            self.log.error("unreadable records", extra={"records": described(report.unreadable)})
        self._flush()

    def fed(self, report: FeedReport) -> None:
        rare, changes = self._rare, {"added": report.added, "removed": report.removed}
        rare("FeedFailures", Count, int(bool(report.problem)))
        if report.problem:
            self.log.error(
                "a feed could not be used; its last list stays in use",
                extra={"feed": report.name, "problem": report.problem, "networks": report.networks},
            )
        elif report.added or report.removed:
            self.log.info("a feed has changed", extra={"feed": report.name, "networks": report.networks, **changes})
        self._flush()

    def rolled_up(self, report: QuotaReport) -> None:
        add, rare = self._metrics.add_metric, self._rare
        add("QuotaEntries", Count, report.entries)
        rare("Detections", Count, sum(len(detection.offenders) for detection in report.detections))
        rare("QuotaDropped", Count, report.dropped)
        rare("QuotaMissing", Count, report.missing)
        if report.began:
            self.log.warning("quotas begin to count now: of what was logged before, only what is in roll-ups counts")
        if report.missing:
            self.log.error(
                "tallies no longer existed; quotas do not count their requests", extra={"items": report.missing}
            )
        if report.unreadable:
            self.log.error(
                "roll-ups are damaged or lack parts; quotas do not count what cannot be read of them",
                extra={"roll_ups": report.unreadable},
            )
        if report.restored:
            self.log.warning(
                "logs of the tally table end before what was read of them, as after a restore; "
                "quotas count what was written since",
                extra={"logs": report.restored},
            )
        if report.unfinished:
            self.log.warning("quotas will be evaluated by the next sweep", extra={"unfinished": report.unfinished})
        self._flush()

    def trended(self, report: TrendReport) -> None:
        if report.problem:
            add = self._metrics.add_metric
            add("TrendFailures", Count, 1)
            self.log.error(
                "a quarter hour could not be added up for trends; the next sweep tries again",
                extra={"problem": report.problem, "behind_s": report.behind_s},
            )
            self._flush()
