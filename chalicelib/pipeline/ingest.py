"""Ingest: counts the records of one Kinesis batch once, and reports the clients that are over a limit.

The order matters (docs/state-protocol.md): append, then read the other logs, then evaluate the clients of the whole
delivered batch. That includes records that an earlier delivery has counted, because it may have crashed before it
evaluated them. Types enforce the order: only the result of an append can catch up, and only that returns the view.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chalicelib.core.detections import Announced, detections_of
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Decoded
from chalicelib.core.rules import RuleSet
from chalicelib.core.state import Detection
from chalicelib.core.tally import RETENTION_MS, Tallier, Tally
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.log_follower import (
    SKEW_MS,
    TRIES,
    Appended,
    BatchTally,
    LogFollower,
    Prepared,
    Tail,
    TimeLeft,
    TooLarge,
    unlimited,
)
from chalicelib.ports import Conflict, Contended
from chalicelib.reports import SAMPLES, IngestReport


@dataclass(frozen=True, slots=True)
class Batch:
    """Kinesis records of one shard, in ascending order of their sequence numbers: one element per record."""

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


class CountedBatch(NamedTuple):
    """A batch whose records are all in a log."""

    appended: Appended
    replayed: int
    """Records at the start of the batch that an earlier delivery had counted."""
    requests: int
    """Requests of the other records."""


class Ingest:
    """One container's ingest. It handles one batch at a time."""

    def __init__(
        self,
        *,
        decoder: BatchDecoder,
        rules: Callable[[int], RulesInUse],
        follower: LogFollower,
        detect: Callable[[Sequence[Detection]], None],
    ) -> None:
        """``rules`` returns the rules in use at a time in ms; ``detect`` stores detections, some repeatedly."""
        self._decoder = decoder
        self._rules = rules
        self._follower = follower
        self._detect = detect
        self._announced = Announced()
        self._rule_set = RuleSet(())
        self._tallier = Tallier(())
        self._columns: frozenset[str] = frozenset()

    def run(self, batch: Batch, now_ms: int, time_left_s: TimeLeft = unlimited) -> IngestReport:
        """Counts a batch. Raises Contended, StillLoading and what the stores raise; Lambda then delivers it again.

        A batch whose tally does not fit in one transaction is counted in halves, each as a separate batch.
        """
        try:
            return self._ingest(batch, now_ms, time_left_s)
        except TooLarge:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        first = self.run(batch.part(0, half), now_ms, time_left_s)
        return first + self.run(batch.part(half, len(batch)), now_ms, time_left_s)

    def _ingest(self, batch: Batch, now_ms: int, time_left_s: TimeLeft) -> IngestReport:
        arrived_ms = int(min(batch.arrived) * 1000) if batch.arrived else now_ms
        rules, problem = self._rules(now_ms)
        self._use(rules)
        decoded = self._decode(batch, now_ms)
        report = IngestReport(
            records=len(batch),
            late=decoded.late,
            repeats=decoded.repeats,
            lag_ms=max(0, now_ms - arrived_ms),
            rules_problem=problem,
        )
        report.malformed.update(piece.reason for piece in decoded.malformed)
        report.samples = [f"{piece.reason}: {piece.sample()}" for piece in decoded.malformed[:SAMPLES]]
        if not decoded:
            return report
        span_ms = decoded.span_ms()
        tally = self._tallier.tally(decoded.requests)
        prepared = self._follower.prepare(rules, span_ms[0], now_ms, time_left_s)
        counted = self._count(batch, decoded, tally, prepared)
        view = counted.appended.catch_up()
        report.replayed, report.requests = counted.replayed, counted.requests
        report.conflicts, report.view_entries, report.dropped = prepared.conflicts, view.entries, view.take_dropped()
        offences = self._announced.fresh(view.offences(tally, *span_ms, self._announced.quiet_until_ms))
        if offences:
            tail = counted.appended.tail
            report.detections = detections_of(
                offences,
                log=tail.log,
                offset=tail.offset - 1,
                rule_set=rules.version,
                detected_ms=now_ms,
                arrived_ms=arrived_ms,
            )
            self._detect(report.detections)
            self._announced.add(offences)
        return report

    def _count(self, batch: Batch, decoded: Decoded, tally: Tally, prepared: Prepared) -> CountedBatch:
        """Appends the records that are not counted yet. ``decoded`` and ``tally`` are those of the whole batch."""
        for _ in range(TRIES):
            tail = prepared.tail(batch.shard)
            replayed = bisect_right(batch.sequences, tail.last_sequence, key=int)
            if replayed and _belongs_to_another_stream(batch.arrived[replayed - 1], tail):
                prepared.open(batch.shard)
                continue
            fresh, fresh_tally = decoded, tally
            if replayed:
                fresh = self._decode(batch, prepared.now_ms, start=replayed)
                fresh_tally = self._tallier.tally(fresh.requests)
            if not fresh_tally:
                return CountedBatch(prepared.already_appended(tail), replayed, len(fresh))
            added = BatchTally(fresh_tally, int(batch.sequences[-1]), len(fresh), *fresh.span_ms())
            try:
                return CountedBatch(prepared.append(tail, added), replayed, len(fresh))
            except Conflict:
                continue
        raise Contended(f"{batch.shard}: lost {TRIES} consecutive appends to other containers")

    def _use(self, rules: RuleSet) -> None:
        if rules.rules != self._rule_set.rules:
            self._tallier = Tallier(rules.meters())
            self._columns = rules.columns()
        self._rule_set = rules

    def _decode(self, batch: Batch, now_ms: int, start: int = 0) -> Decoded:
        """Returns the requests of the records from number ``start`` on whose time is valid."""
        decoded = self._decoder.decode(batch.data, self._columns, start=start)
        return decoded.between(now_ms - RETENTION_MS, now_ms + SKEW_MS)


def _belongs_to_another_stream(arrived: float, tail: Tail) -> bool:
    """Returns whether a record with an old sequence number cannot have been counted in the log of ``tail``.

    A counted record arrives before its tally is written. One that arrived later is from a stream that was recreated.
    """
    return arrived * 1000 > tail.written_ms + SKEW_MS
