"""Import of objects: counts the logs in new objects of S3 once, part by part, however often they are notified.

An object is read as a stream and cut into parts. The tally of a part is appended to one of a few logs, in one
transaction with the part's receipt. The receipts of an object form a chain: each part starts where the one before it
ends. So an importer that starts, or that lost an append to another one, only needs to know where the chain ends
(docs/state-protocol.md, "Duties of an importer of objects").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.framing import TextPart, last_header, parts
from chalicelib.core.logs.malformed_counts import counted
from chalicelib.core.portraits import pack_portraits
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.sampling import Sampling
from chalicelib.core.tally import RETENTION_S
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.active_tallier import ActiveTallier
from chalicelib.pipeline.log_writer import TRIES, BatchTally, LogWriter, TooLarge
from chalicelib.pipeline.tally_logs import RESERVE_S, SKEW_MS, OutOfTime, TimeLeft, unlimited
from chalicelib.ports import Conflict, Contended, Gone, LogObject, LogObjects, PartReceipt, TallyLogs, Unavailable
from chalicelib.reports import ImportReport, IngestReport

LOGS = 4
"""Logs that importers append to. Each one costs a read per ring of the bell; more let more importers append at once."""

PART_BYTES = 8 << 20
"""Fewest bytes of a part but the last: about 30,000 CloudFront lines, whose columns and tally fit in 200 MB of
memory."""


class NotImported(Exception):
    """No notification of a batch could be completed; all have to be delivered again."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object that a notification names."""

    object: LogObject
    created_ms: int


@dataclass(frozen=True, slots=True)
class Notification:
    """A message of the queue."""

    id: str
    objects: Sequence[NewObject] = ()
    problem: str | None = None
    """Reason why it cannot be read; None if it can."""


class ImportObjects:
    """One container's importer. It reads one object at a time."""

    def __init__(
        self,
        *,
        objects: LogObjects,
        decoder: BatchDecoder,
        rules: Callable[[int], RulesInUse],
        logs: TallyLogs,
        writer: LogWriter,
        clock: Callable[[], float],
        retention_s: int = RETENTION_S,
        refusal_status: int = REFUSAL_STATUS,
        portraits_of: Sampling | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        """``rules`` returns the rules in use at a time in ms. Requests older than ``retention_s`` are late.

        ``refusal_status``: the status with which the rule group refuses requests. ``portraits_of``: the sampling of
        CloudFront's real-time log; None if no portraits are drawn.
        """
        self._objects = objects
        self._decoder = decoder
        self._rules = rules
        self._tallier = ActiveTallier(refusal_status, portraits_of)
        self._logs = logs
        self._writer = writer
        self._clock = clock
        self._retention_ms = retention_s * 1000
        self._part_bytes = part_bytes

    def run(self, notifications: Sequence[Notification], time_left_s: TimeLeft = unlimited) -> ImportReport:
        """Counts the objects of all notifications. Those that have to be delivered again are in ``failures``.

        A notification fails if an object cannot be read or counted now, or in the time that is left. What was counted
        of it stays counted, and the next delivery continues there.
        """
        report = ImportReport()
        for notification in notifications:
            try:
                self._take(notification, time_left_s, report)
            except (Unavailable, Contended, TooLarge) as exc:
                report.failures[notification.id] = str(exc)
        return report

    def _take(self, notification: Notification, time_left_s: TimeLeft, report: ImportReport) -> None:
        if notification.problem is not None:
            raise Unavailable(notification.problem)
        for new in notification.objects:
            try:
                self._import(new, time_left_s, report)
                report.objects += 1
            except Gone as exc:
                report.gone.append(str(exc))

    def _import(self, new: NewObject, time_left_s: TimeLeft, report: ImportReport) -> None:
        """Counts what has not been counted of an object. Raises Gone, Unavailable, Contended, OutOfTime, TooLarge."""
        done = self._logs.counted_up_to(new.object)
        start = 0
        for part in parts(self._objects.blocks(new.object), self._part_bytes):
            end = start + _length(part)
            while done < end:
                if time_left_s() < RESERVE_S:
                    raise OutOfTime(f"{new.object} is counted up to byte {done}")
                done = self._count(new, _rest(part, done - start), done, report)
            start = end

    def _count(self, new: NewObject, part: TextPart, start: int, report: ImportReport) -> int:
        """Counts a part that starts at byte ``start``, or its first half if it is too large for a transaction.

        Returns the end of what is counted then: by this importer, or by another one that was faster.
        """
        now_ms = int(self._clock() * 1000)
        rules, problem = self._rules(now_ms)
        self._tallier.use(rules)
        decoded = self._decoder.decode_text(part.text, part.header, self._tallier.columns)
        decoded = decoded.between(now_ms - self._retention_ms, now_ms + SKEW_MS)
        malformed = counted((*part.malformed, *decoded.malformed), lambda _: str(new.object))
        tally = self._tallier.tally(decoded.requests)
        added = BatchTally.of(
            tally,
            decoded,
            malformed,
            portraits=pack_portraits(self._tallier.draw(decoded.requests, tally, now_ms)),
            last_sequence=0,
            arrived_ms=new.created_ms,
            refused=self._tallier.refused(tally),
            now_ms=now_ms,
        )
        receipt = PartReceipt(object=new.object, start=start, end=start + _length(part), written_ms=now_ms)
        for attempt in range(TRIES):
            try:
                # If nothing is counted, the receipt is added alone.
                tail = self._writer.tail(_log_of(new.object, attempt), now_ms)
                self._writer.append(tail, added, now_ms, receipt)
            except Conflict:
                done = self._logs.counted_up_to(new.object)
                if done > start:
                    return done
                continue
            except TooLarge:
                first, *others = parts([part.text], len(part.text) // 2)
                if not others:
                    raise
                return self._count(new, replace(part, text=first.text), start, report)
            report.counted += IngestReport(
                requests=len(decoded),
                malformed_counts=malformed,
                late=decoded.late,
                repeats=decoded.repeats,
                conflicts=self._writer.take_conflicts(),
                lag_ms=max(0, now_ms - new.created_ms),
                rules_problem=problem,
            )
            return receipt.end
        raise Contended(f"{new.object}: lost {TRIES} consecutive appends to other importers")


def _length(part: TextPart) -> int:
    """Returns the bytes that the receipt of a part covers.

    Damage at the end of an object may leave no text. It takes one byte, so that it has a receipt and counts once.
    """
    return max(1, len(part.text))


def _rest(part: TextPart, start: int) -> TextPart:
    """Returns what follows the first ``start`` bytes of a part, which end with a piece."""
    if not start:
        return part
    return TextPart(part.text[start:], last_header(part.text[:start]) or part.header)


def _log_of(object: LogObject, attempt: int) -> str:
    """Returns the name under which the log for an attempt is registered, as a shard's is."""
    return f"s3/{(crc32(repr(object).encode()) + attempt) % LOGS}"
