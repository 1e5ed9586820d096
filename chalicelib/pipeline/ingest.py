"""Ingest: the records of one Kinesis batch are counted once, and whoever is over a limit is reported.

Order matters (docs/state-protocol.md): append, then read the other logs, then evaluate the clients of the whole
delivered batch, also of records that an earlier try has counted; a crash may have come between.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from chalicelib.core.detections import Announced, detections_of
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import Decoded, Malformed, Reason, Requests
from chalicelib.core.rules import RuleSet
from chalicelib.core.state import Detection
from chalicelib.core.tally import Tallier, Tally
from chalicelib.pipeline.log_follower import RETENTION_MS, SKEW_MS, TRIES, BatchTally, LogFollower, Tail, TooLarge
from chalicelib.ports import Conflict, Contended

SAMPLES = 3
"""Malformed pieces shown in a report."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Kinesis records of one shard, in ascending order of their sequence numbers; one list element a record."""

    shard: str
    """Stream and shard id, such as ``logs/shardId-000000000000``."""
    sequences: Sequence[str]
    """Decimal numbers of up to 129 digits; as text, because reading them all would cost more than it is worth."""
    data: Sequence[bytes]
    arrived: Sequence[float]
    """Epoch seconds."""

    def __len__(self) -> int:
        return len(self.data)

    def part(self, start: int, end: int) -> "Batch":
        """The records from ``start`` (inclusive) to ``end`` (exclusive)."""
        return Batch(self.shard, self.sequences[start:end], self.data[start:end], self.arrived[start:end])


@dataclass(slots=True)
class Report:
    """What became of a batch."""

    records: int = 0
    requests: int = 0
    """Requests that this batch added to the counts."""
    malformed: Counter[Reason] = field(default_factory=Counter)
    samples: list[str] = field(default_factory=list)
    late: int = 0
    """Requests too old to count."""
    replayed: int = 0
    """Records that an earlier try had counted."""
    repeats: int = 0
    """Requests whose id came twice in the batch."""
    conflicts: int = 0
    view_entries: int = 0
    dropped: int = 0
    """Clients dropped from a full view."""
    lag_ms: int = 0
    """Age of the batch's oldest record."""
    detections: list[Detection] = field(default_factory=list)

    def __add__(self, later: "Report") -> "Report":
        """What became of two batches, one after the other."""
        return Report(
            records=self.records + later.records,
            requests=self.requests + later.requests,
            malformed=self.malformed + later.malformed,
            samples=(self.samples + later.samples)[:SAMPLES],
            late=self.late + later.late,
            replayed=self.replayed + later.replayed,
            repeats=self.repeats + later.repeats,
            conflicts=self.conflicts + later.conflicts,
            view_entries=later.view_entries,
            dropped=self.dropped + later.dropped,
            lag_ms=max(self.lag_ms, later.lag_ms),
            detections=self.detections + later.detections,
        )


class Ingest:
    """One container's ingest. Not to be entered twice at the same time."""

    def __init__(
        self,
        *,
        decoder: BatchDecoder,
        rules: Callable[[int], RuleSet],
        follower: LogFollower,
        detect: Callable[[Sequence[Detection]], None],
    ) -> None:
        """``rules`` gives the rule set active at a time in ms; ``detect`` stores detections, again if need be."""
        self._decoder = decoder
        self._rules = rules
        self._follower = follower
        self._detect = detect
        self._announced = Announced()
        self._rule_set = RuleSet(())
        self._tallier = Tallier(())
        self._wanted: frozenset[str] = frozenset()

    def __call__(self, batch: Batch, now_ms: int) -> Report:
        """Raises Contended or what a store raises; nothing is lost then, as Kinesis delivers the batch again.

        A batch whose tally no transaction takes is counted in halves, each a batch of its own.
        """
        try:
            return self._ingest(batch, now_ms)
        except TooLarge:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        return self(batch.part(0, half), now_ms) + self(batch.part(half, len(batch)), now_ms)

    def _ingest(self, batch: Batch, now_ms: int) -> Report:
        arrived_ms = int(min(batch.arrived) * 1000) if batch.arrived else now_ms
        report = Report(records=len(batch), lag_ms=max(0, now_ms - arrived_ms))
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
            place = f"{tail.log}/{tail.offset - 1:012d}"
            report.detections = detections_of(
                offences, place=place, rule_set=rules.version, detected_ms=now_ms, arrived_ms=arrived_ms
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
        report: Report,
        now_ms: int,
    ) -> Tail:
        """Counts the records that are not counted yet; the tail of the log that now covers the batch."""
        for _ in range(TRIES):
            tail = self._follower.tail(batch.shard, now_ms)
            cut = bisect_right(batch.sequences, tail.last_sequence, key=int)
            if cut and batch.arrived[cut - 1] * 1000 > tail.written_ms + SKEW_MS:
                # What is counted arrived before it was counted. These arrived later under an old number: the stream
                # was deleted and made anew.
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
        raise Contended(f"{batch.shard}: {TRIES} appends in a row were lost against others")

    def _use(self, rules: RuleSet) -> RuleSet:
        if rules.rules != self._rule_set.rules:
            self._tallier = Tallier(rules.meters())
            self._wanted = rules.columns()
        self._rule_set = rules
        return rules

    def _decode(
        self, data: Sequence[bytes], seen: set[bytes | str] | None, report: Report | None, now_ms: int
    ) -> Decoded:
        """Requests whose time can count."""
        decoded = self._decoder.decode(data, seen, self._wanted)
        timely, malformed, late = [], list(decoded.malformed), 0
        for requests in decoded.requests:
            kept, early = _timely(requests, now_ms, malformed)
            late += early
            if kept:
                timely.append(kept)
        if report is not None:
            report.malformed.update(piece.reason for piece in malformed)
            report.samples = [f"{piece.reason}: {piece.sample()}" for piece in malformed[:SAMPLES]]
            report.late, report.repeats = late, decoded.repeats
        return replace(decoded, requests=tuple(timely), malformed=tuple(malformed))


def _timely(requests: Requests, now_ms: int, malformed: list[Malformed]) -> tuple[Requests, int]:
    """The requests that are neither too old to count nor from the future, and how many were too old.

    Requests from the future are malformed: they must not push the present out of the windows.
    """
    lowest, highest = now_ms - RETENTION_MS, now_ms + SKEW_MS
    if min(requests.times) >= lowest and max(requests.times) <= highest:
        return requests, 0
    malformed.extend(Malformed(Reason.FUTURE, str(time).encode()) for time in requests.times if time > highest)
    late = sum(time < lowest for time in requests.times)
    return requests.select([lowest <= time <= highest for time in requests.times]), late
