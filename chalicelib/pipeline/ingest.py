"""Ingest: counts the records of one Kinesis batch once, by appending their tally to the log of their shard."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.malformed_counts import counted
from chalicelib.core.tally import RETENTION_S
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
    ) -> None:
        """``rules`` returns the rules in use at a time in ms. Requests older than ``retention_s`` are late."""
        self._decoder = decoder
        self._rules = rules
        self._tallier = ActiveTallier()
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
            decoded = self._decoder.decode(batch.data, self._tallier.columns, start=replayed)
            decoded = decoded.between(now_ms - self._retention_ms, now_ms + SKEW_MS)
            malformed = counted(decoded.malformed)
            added = BatchTally.of(
                self._tallier.tally(decoded.requests),
                decoded,
                malformed,
                last_sequence=int(batch.sequences[-1]),
                arrived_ms=arrived_ms,
                now_ms=now_ms,
            )
            try:
                if not added.empty:
                    self._writer.append(tail, added, now_ms)
            except Conflict:
                continue
            return IngestReport(
                records=len(batch),
                requests=len(decoded),
                malformed_counts=malformed,
                late=decoded.late,
                replayed=replayed,
                repeats=decoded.repeats,
                conflicts=self._writer.take_conflicts(),
                lag_ms=max(0, now_ms - arrived_ms),
                rules_problem=problem,
            )
        raise Contended(f"{batch.shard}: lost {TRIES} consecutive appends to other containers")


def _belongs_to_another_stream(arrived: float, tail: Tail) -> bool:
    """Returns whether a record with an old sequence number cannot have been counted in the log of ``tail``.

    A counted record arrives before its tally is written. One that arrived later is from a stream that was recreated.
    """
    return arrived * 1000 > tail.written_ms + SKEW_MS
