"""Ingest: counts the records of one Kinesis batch once, by appending their tally to the log of their shard."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.malformed_counts import MalformedCounts, added, counted
from chalicelib.core.logs.requests import Decoded
from chalicelib.core.portraits import Drawn, pack_portraits
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.sampling import Sampling
from chalicelib.core.tally import RETENTION_S, Tally, merged
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.active_tallier import ActiveTallier
from chalicelib.pipeline.log_writer import TRIES, BatchTally, LogWriter, TooLarge
from chalicelib.pipeline.tally_logs import SKEW_MS, Tail
from chalicelib.ports import Conflict, Contended
from chalicelib.reports import IngestReport


@dataclass(frozen=True, slots=True)
class Batch:
    """Kinesis records of one shard, by ascending sequence number. Each list has one element per record."""

    shard: str
    """Stream and shard id, such as ``logs/shardId-000000000000``."""
    sequences: Sequence[str]
    """Decimal numbers of up to 129 digits. Kept as text: parsing all is slow, and few are compared."""
    data: Sequence[bytes]
    arrived: Sequence[float]
    """Epoch seconds."""

    def __len__(self) -> int:
        return len(self.data)

    def part(self, start: int, end: int) -> "Batch":
        """Returns the records from ``start`` (inclusive) to ``end`` (exclusive)."""
        return Batch(self.shard, self.sequences[start:end], self.data[start:end], self.arrived[start:end])


class Ingest:
    """One container's ingest. It handles one batch at a time."""

    def __init__(
        self,
        *,
        decoder: BatchDecoder,
        rules: Callable[[int], RulesInUse],
        writer: LogWriter,
        retention_s: int = RETENTION_S,
        refusal_status: int = REFUSAL_STATUS,
        portraits_of: Sampling | None = None,
    ) -> None:
        """``rules`` returns the rules in use at a time in ms. Requests older than ``retention_s`` are late.

        ``refusal_status``: the status with which the rule group refuses requests. ``portraits_of``: the sampling of
        CloudFront's real-time log; None if no portraits are drawn.
        """
        self._decoder = decoder
        self._rules = rules
        self._tallier = ActiveTallier(refusal_status, portraits_of)
        self._writer = writer
        self._retention_ms = retention_s * 1000

    def run(self, batch: Batch, now_ms: int) -> IngestReport:
        """Counts a batch of at least one record.

        Raises Contended and what the stores raise; Lambda then delivers the batch again.

        A batch whose tally does not fit in one transaction is counted in halves, each as a separate batch. Raises
        TooLarge if the tally of a single record does not fit.
        """
        try:
            return self._ingest(batch, now_ms)
        except TooLarge:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        first = self.run(batch.part(0, half), now_ms)
        return first + self.run(batch.part(half, len(batch)), now_ms)

    def _ingest(self, batch: Batch, now_ms: int) -> IngestReport:
        rules, problem = self._rules(now_ms)
        self._tallier.use(rules)
        arrived_ms = int(min(batch.arrived) * 1000)
        for _ in range(TRIES):
            tail = self._writer.tail(batch.shard, now_ms)
            replayed = bisect_right(batch.sequences, tail.last_sequence, key=int)
            if replayed and _belongs_to_another_stream(batch.arrived[replayed - 1], tail):
                self._writer.open(batch.shard, now_ms)
                continue
            counted = self._count(batch.data, replayed, now_ms)
            batch_tally = BatchTally(
                counted.tally,
                int(batch.sequences[-1]),
                counted.requests,
                counted.first_ms,
                counted.last_ms,
                arrived_ms,
                counted.malformed,
                counted.late,
                self._tallier.refused(counted.tally),
                pack_portraits(counted.drawn),
            )
            try:
                if not batch_tally.empty:
                    self._writer.append(tail, batch_tally, now_ms)
            except Conflict:
                continue
            return IngestReport(
                records=len(batch),
                requests=counted.requests,
                malformed_counts=counted.malformed,
                late=counted.late,
                replayed=replayed,
                repeats=counted.repeats,
                conflicts=self._writer.take_conflicts(),
                lag_ms=max(0, now_ms - arrived_ms),
                rules_problem=problem,
            )
        raise Contended(f"{batch.shard}: lost {TRIES} consecutive appends to other containers")

    def _count(self, records: Sequence[bytes], replayed: int, now_ms: int) -> "_Counted":
        """Counts the records after the ``replayed`` ones. Of a large batch, one part is in memory at a time."""
        total = _Counted(first_ms=now_ms, last_ms=now_ms)
        for part in self._decoder.parts(records, self._tallier.columns, start=replayed):
            timely = part.between(now_ms - self._retention_ms, now_ms + SKEW_MS)
            tally = self._tallier.tally(timely.requests)
            total = total.plus(timely, tally, self._tallier.draw(timely.requests, tally, now_ms))
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """The tally and the figures of a batch, added up from its parts."""

    tally: Tally = ()
    requests: int = 0
    first_ms: int
    """Time of the earliest request; without any, the present, so that no view reaches back."""
    last_ms: int
    malformed: MalformedCounts = ()
    late: int = 0
    repeats: int = 0
    drawn: Sequence[Drawn] = ()

    def plus(self, part: Decoded, tally: Tally, drawn: Sequence[Drawn]) -> "_Counted":
        first_ms, last_ms = part.span_ms() if part.requests else (self.first_ms, self.last_ms)
        return _Counted(
            tally=merged((*self.tally, *tally)) if self.tally else tally,
            requests=self.requests + len(part),
            first_ms=min(self.first_ms, first_ms) if self.requests else first_ms,
            last_ms=max(self.last_ms, last_ms) if self.requests else last_ms,
            malformed=added((*self.malformed, *counted(part.malformed))),
            late=self.late + part.late,
            repeats=self.repeats + part.repeats,
            drawn=(*self.drawn, *drawn),
        )


def _belongs_to_another_stream(arrived: float, tail: Tail) -> bool:
    """Returns whether a record with an old sequence number cannot have been counted in the log of ``tail``.

    A counted record arrives before its tally is written. One that arrived later is from a stream that was recreated.
    """
    return arrived * 1000 > tail.written_ms + SKEW_MS
