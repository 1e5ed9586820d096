"""The reports of the pipeline's functions, one per invocation: the content of their logs and metrics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from chalicelib.core.announcements import Announcement
from chalicelib.core.ipsets import SetGroup, Wanted
from chalicelib.core.logs.malformed_counts import MalformedCounts, added, by_reason
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.breakers import RuleBreaker
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.records import Unreadable

SAMPLES = 3
"""Most malformed pieces shown in a report."""


@dataclass(slots=True)
class IngestReport:
    """The outcome of a batch."""

    records: int = 0
    requests: int = 0
    """Requests that were new and in time, whether or not a rule counts them."""
    malformed_counts: MalformedCounts = ()
    late: int = 0
    """Requests that were too old to count."""
    replayed: int = 0
    """Records that an earlier delivery had counted."""
    repeats: int = 0
    """Requests whose id occurred before in the batch."""
    conflicts: int = 0
    """Writes that lost to another container's."""
    lag_ms: int = 0
    """Age of the batch's oldest record."""
    rules_problem: str | None = None
    """Reason why the rules in use are not the stored ones; None if they are."""

    @property
    def malformed(self) -> Counter[str]:
        """Returns the number of malformed pieces for each reason."""
        return by_reason(self.malformed_counts)

    @property
    def samples(self) -> list[str]:
        """Returns samples of the most frequent faults."""
        return [f"{count.reason}: {count.sample}" for count in self.malformed_counts[:SAMPLES]]

    def __add__(self, later: "IngestReport") -> "IngestReport":
        """Returns the outcome of two consecutive batches."""
        return IngestReport(
            records=self.records + later.records,
            requests=self.requests + later.requests,
            malformed_counts=added((*self.malformed_counts, *later.malformed_counts)),
            late=self.late + later.late,
            replayed=self.replayed + later.replayed,
            repeats=self.repeats + later.repeats,
            conflicts=self.conflicts + later.conflicts,
            lag_ms=max(self.lag_ms, later.lag_ms),
            rules_problem=later.rules_problem,
        )


@dataclass(slots=True)
class ImportReport:
    """The outcome of the notifications about new objects."""

    counted: IngestReport = field(default_factory=IngestReport)
    """The parts that were counted, together."""
    objects: int = 0
    """Objects that were read to their ends."""
    gone: list[str] = field(default_factory=list)
    """Objects that were deleted or replaced before they could be read to their ends."""
    failures: dict[str, str] = field(default_factory=dict)
    """Reasons of the notifications that have to be delivered again, by their ids."""


@dataclass(slots=True)
class EvaluateReport:
    """The outcome of reading the tally logs to their ends."""

    items: int = 0
    """Items whose clients were evaluated."""
    detections: list[Detection] = field(default_factory=list)
    lag_ms: int = 0
    """Age of the oldest record in an item with an offender; 0 if there is none."""
    view_entries: int = 0
    dropped: int = 0
    """Clients dropped from a full view."""
    unfinished: str | None = None
    """Work left for lack of time, in words; None if there is none."""


@dataclass(slots=True)
class EnforceReport:
    detections: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    """Detections that were skipped because they cannot be read."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Number of offenders by outcome."""
    blocks: list[Block] = field(default_factory=list)
    """New and extended blocks."""
    stopped: list[RuleBreaker] = field(default_factory=list)
    """Breakers of the rules that were stopped now."""
    resumed: list[RuleBreaker] = field(default_factory=list)
    """Breakers of the rules that were resumed because they now hit few known clients, or were changed."""

    def __add__(self, later: "EnforceReport") -> "EnforceReport":
        """Returns the outcome of two parts of the work."""
        return EnforceReport(
            detections=self.detections + later.detections,
            outcomes=self.outcomes + later.outcomes,
            blocks=self.blocks + later.blocks,
            unreadable=self.unreadable + later.unreadable,
            stopped=self.stopped + later.stopped,
            resumed=self.resumed + later.resumed,
        )


@dataclass(slots=True)
class AnnounceReport:
    announcements: list[Announcement] = field(default_factory=list)
    """Those that were made one by one, and summaries."""
    left_out: int = 0
    """Announcements that were left for the summary of their minute."""
    failed: int = 0
    """Announcements that could not be sent. They are sent again with a later heartbeat."""

    def __add__(self, later: "AnnounceReport") -> "AnnounceReport":
        """Returns the outcome of two parts of the work."""
        return AnnounceReport(
            announcements=self.announcements + later.announcements,
            left_out=self.left_out + later.left_out,
            failed=self.failed + later.failed,
        )


@dataclass(slots=True)
class PublishReport:
    updates: int = 0
    conflicts: int = 0
    throttled: int = 0
    failures: list[str] = field(default_factory=list)
    """IP sets that could not be read or written, with the reason. The next heartbeat triggers another attempt."""
    rounds: int = 0
    recalled: bool = False
    """True if the next invocation has to continue."""
    wanted: Wanted = field(default_factory=lambda: Wanted({}))
    fill: dict[SetGroup, float] = field(default_factory=dict)
    """Share of the capacity that is used, by group."""
    time_to_block_ms: int | None = None
    """Time from the arrival of the oldest record behind a new block to the end of the publish."""


@dataclass(slots=True)
class SweepReport:
    lifted: list[Block] = field(default_factory=list)
    conflicts: int = 0
    """Blocks that changed while they were being lifted. The next sweep tries again."""
    blocks: int = 0
    """Blocks in force."""
    stopped_rules: int = 0
    """Rules that their circuit breakers have stopped."""
    paused: bool = False
    unreadable: Sequence[Unreadable] = ()
    """Records that cannot be read, the first ``MOST_UNREADABLE`` of them."""


@dataclass(slots=True)
class TrendReport:
    """The outcome of adding up a quarter hour that is over."""

    behind_s: int = 0
    """Seconds since the time up to which everything had been added up before; 0 if that is not known."""
    problem: str = ""
    """The reason why it could not be added up; empty if it could. The next sweep leaves nothing out."""


@dataclass(slots=True)
class QuotaReport:
    """The outcome of evaluating the quotas."""

    items: int = 0
    """Items whose clients were evaluated."""
    detections: list[Detection] = field(default_factory=list)
    entries: int = 0
    """Counts in memory, per client and slot."""
    dropped: int = 0
    """Clients dropped because the memory was full."""
    roll_ups: int = 0
    """Roll-ups that were written."""
    conflicts: int = 0
    """Roll-ups that another container has written."""
    missing: int = 0
    """Items that no longer existed before they were read: their requests count for no quota."""
    unreadable: int = 0
    """Roll-ups that are damaged or lack parts: what cannot be read of them counts for no quota."""
    restored: int = 0
    """Logs that end before what had been read of them, because the tally table was restored from a backup."""
    began: bool = False
    """True if nothing counts that is in no roll-up: there was none, or what followed it could no longer be read."""
    unfinished: str | None = None
    """Work left for lack of time, in words; None if there is none."""


@dataclass(slots=True, kw_only=True)
class FeedReport:
    name: str
    networks: int = 0
    """Networks in the list in use; 0 if the feed was removed from the rules."""
    added: int = 0
    removed: int = 0
    """Entries of the allowlist, or blocks."""
    problem: str = ""
    """The reason why the check did not lead to a list; empty if it did. The last good list stays in use."""
