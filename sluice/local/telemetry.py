"""Telemetry of the local cloud: the handlers' reports, added up for the demo, the tests and the benchmarks."""

from collections import Counter
from dataclasses import dataclass, field

from chalicelib.core.announcements import Announcement
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.breakers import RuleBreaker
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


@dataclass(slots=True)
class ReportTotals:
    """Sums of all reports since the start."""

    ingests: IngestReport = field(default_factory=IngestReport)
    objects: int = 0
    """Objects that were read to their ends."""
    blocks: list[Block] = field(default_factory=list)
    lifted: list[Block] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    publish_conflicts: int = 0
    overflow: int = 0
    """Blocks that did not fit into the IP sets at the last publish."""
    stopped: list[RuleBreaker] = field(default_factory=list)
    """Breakers of rules, as they were stopped."""
    announcements: list[Announcement] = field(default_factory=list)

    def ingested(self, report: IngestReport) -> None:
        self.ingests += report

    def imported(self, report: ImportReport) -> None:
        self.ingests += report.counted
        self.objects += report.objects
        self.failures += report.failures.values()

    def evaluated(self, report: EvaluateReport) -> None:
        """Adds up nothing: detections appear as outcomes and blocks."""

    def enforced(self, report: EnforceReport) -> None:
        self.blocks += report.blocks
        self.stopped += report.stopped
        self.outcomes.update(report.outcomes)

    def announced(self, report: AnnounceReport) -> None:
        self.announcements += report.announcements

    def published(self, report: PublishReport) -> None:
        self.failures += report.failures
        self.publish_conflicts += report.conflicts
        self.overflow = report.wanted.overflow

    def swept(self, report: SweepReport) -> None:
        self.lifted += report.lifted

    def fed(self, report: FeedReport) -> None:
        self.failures += [f"feed {report.name}: {report.problem}"] if report.problem else []

    def rolled_up(self, report: QuotaReport) -> None:
        """Adds up nothing: detections appear as outcomes and blocks."""

    def trended(self, report: TrendReport) -> None:
        self.failures += [f"trends: {report.problem}"] if report.problem else []
