"""Ingest: counts the records of one Kinesis batch once, and reports the clients that are over a limit.

The order matters (docs/state-protocol.md): append, then read the other logs, then evaluate the clients of the whole
delivered batch. That includes records that an earlier delivery has counted, because it may have crashed before it
evaluated them.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chalicelib.core.detections import Announced, detections_of
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Decoded, Malformed, Reason, Requests
from chalicelib.core.rules import RuleSet
from chalicelib.core.state import Detection
from chalicelib.core.tally import RETENTION_MS, Tallier, Tally
from chalicelib.pipeline.log_follower import SKEW_MS, TRIES, BatchTally, LogFollower, Tail, TooLarge
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


class Ingest:
    """One container's ingest. It handles one batch at a time."""

    def __init__(
        self,
        *,
        decoder: BatchDecoder,
        rules: Callable[[int], RuleSet],
        follower: LogFollower,
        detect: Callable[[Sequence[Detection]], None],
    ) -> None:
        """``rules`` returns the rule set active at a time in ms; ``detect`` stores detections, some repeatedly."""
        self._decoder = decoder
        self._rules = rules
        self._follower = follower
        self._detect = detect
        self._announced = Announced()
        self._rule_set = RuleSet(())
        self._tallier = Tallier(())
        self._wanted: frozenset[str] = frozenset()

    def __call__(self, batch: Batch, now_ms: int) -> IngestReport:
        """Counts a batch. Raises Contended and what the stores raise; Lambda then delivers the batch again.

        A batch whose tally does not fit in one transaction is counted in halves, each as a batch of its own.
        """
        try:
            return self._ingest(batch, now_ms)
        except TooLarge:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        return self(batch.part(0, half), now_ms) + self(batch.part(half, len(batch)), now_ms)

    def _ingest(self, batch: Batch, now_ms: int) -> IngestReport:
        arrived_ms = int(min(batch.arrived) * 1000) if batch.arrived else now_ms
        report = IngestReport(records=len(batch), lag_ms=max(0, now_ms - arrived_ms))
        rules = self._use(self._rules(now_ms))
        decoded = self._decode(batch.data, None, report, now_ms)
        if not decoded:
            return report
        span_ms = decoded.span_ms()
        view = self._follower.prepare(rules, span_ms[0], now_ms)
        touched = self._tallier.tally(decoded.requests)
        conflicts = self._follower.conflicts
        tail = self._append(batch, decoded, span_ms, touched, report, now_ms)
        self._follower.catch_up(now_ms, own=tail)
        offences = self._announced.fresh(view.offences(touched, *span_ms))
        if offences:
            report.detections = detections_of(
                offences,
                log=tail.log,
                offset=tail.offset - 1,
                rule_set=rules.version,
                detected_ms=now_ms,
                arrived_ms=arrived_ms,
            )
            self._detect(report.detections)
            self._announced.add(offences, now_ms)
        report.conflicts = self._follower.conflicts - conflicts
        report.view_entries, report.dropped = view.entries, view.take_dropped()
        return report

    def _append(
        self,
        batch: Batch,
        decoded: Decoded,
        span_ms: tuple[int, int],
        touched: Tally,
        report: IngestReport,
        now_ms: int,
    ) -> Tail:
        """Counts the records that are not counted yet. Returns the tail of the log that now covers the batch."""
        for _ in range(TRIES):
            tail = self._follower.tail(batch.shard, now_ms)
            cut = bisect_right(batch.sequences, tail.last_sequence, key=int)
            if cut and batch.arrived[cut - 1] * 1000 > tail.written_ms + SKEW_MS:
                # A counted record arrives before its tally is written. These records carry old sequence numbers but
                # arrived later, so the stream was recreated.
                self._follower.open(batch.shard, now_ms)
                continue
            fresh, tally = decoded, touched
            if cut:
                seen: set[bytes | str] = set()
                self._decode(batch.data[:cut], seen, None, now_ms)
                fresh = self._decode(batch.data[cut:], seen, None, now_ms)
                tally = self._tallier.tally(fresh.requests)
            report.replayed, report.requests = cut, len(fresh)
            if not tally:
                return tail
            first_ms, last_ms = fresh.span_ms() if cut else span_ms
            counting = BatchTally(tally, int(batch.sequences[-1]), len(fresh), first_ms, last_ms)
            try:
                self._follower.append(tail, counting, now_ms)
            except Conflict:
                continue
            return tail
        raise Contended(f"{batch.shard}: {TRIES} appends in a row lost to other containers")

    def _use(self, rules: RuleSet) -> RuleSet:
        if rules.rules != self._rule_set.rules:
            self._tallier = Tallier(rules.meters())
            self._wanted = rules.columns()
        self._rule_set = rules
        return rules

    def _decode(
        self, data: Sequence[bytes], seen: set[bytes | str] | None, report: IngestReport | None, now_ms: int
    ) -> Decoded:
        """Returns the requests whose time is valid."""
        decoded = self._decoder.decode(data, seen, self._wanted)
        timely, malformed, late = [], list(decoded.malformed), 0
        for requests in decoded.requests:
            recent, too_old = _timely(requests, now_ms, malformed)
            late += too_old
            if recent:
                timely.append(recent)
        if report is not None:
            report.malformed.update(piece.reason for piece in malformed)
            report.samples = [f"{piece.reason}: {piece.sample()}" for piece in malformed[:SAMPLES]]
            report.late, report.repeats = late, decoded.repeats
        return replace(decoded, requests=tuple(timely), malformed=tuple(malformed))


def _timely(requests: Requests, now_ms: int, malformed: list[Malformed]) -> tuple[Requests, int]:
    """Returns the requests that are neither too old to count nor in the future, and the number of those too old.

    Requests in the future are malformed: they must not displace the present from the windows.
    """
    lowest, highest = now_ms - RETENTION_MS, now_ms + SKEW_MS
    if min(requests.times) >= lowest and max(requests.times) <= highest:
        return requests, 0
    malformed.extend(Malformed(Reason.FUTURE, str(time).encode()) for time in requests.times if time > highest)
    late = sum(time < lowest for time in requests.times)
    return requests.select([lowest <= time <= highest for time in requests.times]), late
