"""Evaluate: reads what ingest has appended, and reports the clients that are over a limit.

The tally table's stream serves as a bell. At each ring, all logs are read to their ends, and the clients of the new
items are evaluated against all counts (``tally_logs``). A ring that comes twice or late costs a read; the next one
makes up for a lost one.
"""

from collections.abc import Callable, Iterable, Sequence

from chalicelib.core.detections import Announced, detections_of
from chalicelib.core.portraits import RecentPortraits, unpack_portraits
from chalicelib.core.rules import RuleSet
from chalicelib.core.state.detections import Detection
from chalicelib.core.tally import RETENTION_S, Tally
from chalicelib.core.view import Offence, View
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.log_reader import LogReader, Unevaluated
from chalicelib.pipeline.tally_logs import RESERVE_S, OutOfTime, TimeLeft, unlimited
from chalicelib.ports import Position, TallyLogs, Unavailable
from chalicelib.reports import EvaluateReport

POSITION_KEPT_MS = 10_000
"""Milliseconds after which the position is stored again. A successor evaluates the items read since then once more."""

POSITION_ITEMS = 1000
"""Items after which the position is stored earlier, so that an evaluator killed in a backlog has made progress."""

POSITION_OVERDUE_MS = 300_000
"""Milliseconds after which a position that cannot be stored fails the invocation, so that it is noticed."""


class Evaluate:
    """One container's evaluator."""

    def __init__(
        self,
        *,
        logs: TallyLogs,
        reader: LogReader,
        rules: Callable[[int], RulesInUse],
        detect: Callable[[Sequence[Detection]], None],
        note: Callable[[Iterable[Tally], int], None] = lambda *_: None,
        warn: Callable[[Iterable[Unevaluated], int], None] = lambda *_: None,
        retention_s: int = RETENTION_S,
    ) -> None:
        """``rules`` returns the rules in use at a time in ms; ``detect`` stores detections, and may get one twice.

        ``note`` gets the tallies that have been evaluated, ``warn`` their items, both with the time in epoch seconds.
        """
        self._logs = logs
        self._reader = reader
        self._rules = rules
        self._detect = detect
        self._note = note
        self._warn = warn
        self._retention_ms = retention_s * 1000
        self._rule_set = RuleSet(())
        self._announced = Announced()
        self._portraits = RecentPortraits()
        self._stored: Position | None = None
        """The position that this container stored last."""
        self._stored_ms = 0
        self._unstored = 0
        """Items evaluated since then."""
        self._started_ms = 0

    def run(self, now_ms: int, time_left_s: TimeLeft = unlimited) -> EvaluateReport:
        """Evaluates all new items, or sets ``unfinished`` if the time runs out. Raises what the stores raise."""
        self._use(self._rules(now_ms).rules.windows())
        if self._reader.position is None:
            self._start(now_ms)
        report = EvaluateReport()
        behind: Sequence[str] | None = None
        while behind is None or behind:
            if behind and time_left_s() < RESERVE_S:
                report.unfinished = f"not read to their ends: {len(behind)} logs"
                break
            try:
                view, behind = self._reader.read_on(self._rule_set, now_ms, time_left_s, behind)
            except OutOfTime as exc:
                report.unfinished = str(exc)
                break
            self._evaluate(view, now_ms, report)
            report.view_entries = view.entries + self._reader.past.entries
            report.dropped += view.take_dropped() + self._reader.past.take_dropped()
            del view  # so that the reader can release it before it loads another
        return report

    def _use(self, rules: RuleSet) -> None:
        if rules.rules != self._rule_set.rules:
            self._announced = Announced()  # a rule that only counted may block now
        self._rule_set = rules

    def _start(self, now_ms: int) -> None:
        """Starts at the stored position or, if none was ever stored, with the items of the retention."""
        stored = self._logs.position()
        self._reader.start_at({} if stored is None else stored, now_ms - self._retention_ms if stored is None else 0)
        self._started_ms = now_ms

    def _evaluate(self, view: View, now_ms: int, report: EvaluateReport) -> None:
        """Evaluates the items of a slice, stores the detections, and moves the position."""
        items = sorted(self._reader.unevaluated, key=lambda item: (item.log, item.offset))
        for item in items:
            self._portraits.add(unpack_portraits(item.portraits), item.last_ms)
        try:
            self._report([(item, self._offences(view, item)) for item in items], now_ms, report)
        except Exception:
            self._announced = Announced()  # to report them again
            raise
        report.items += len(items)
        self._unstored += len(items)
        self._reader.evaluated()
        self._note((item.tally for item in items), now_ms // 1000)
        self._warn(items, now_ms // 1000)
        self._store_position(now_ms)

    def _offences(self, view: View, item: Unevaluated) -> list[Offence]:
        """Returns the offences of an item's clients that have not just been reported, and notes them as reported."""
        offences = view.offences(item.suspects, item.first_ms, item.last_ms, self._announced)
        if item.first_ms < view.since_ms:
            offences += self._reader.past.offences(item.tally, item.first_ms, item.last_ms, self._announced)
        unreported = self._announced.fresh(offences)
        self._announced.add(unreported)
        return unreported

    def _report(
        self, evaluated: Sequence[tuple[Unevaluated, list[Offence]]], now_ms: int, report: EvaluateReport
    ) -> None:
        """Stores the detections of a slice, named after the first item with an offender."""
        guilty = [item for item, offences in evaluated if offences]
        if not guilty:
            return
        arrived_ms = min(item.arrived_ms for item in guilty)
        detections = detections_of(
            [offence for _, offences in evaluated for offence in offences],
            log=guilty[0].log,
            offset=guilty[0].offset,
            rule_set=self._rule_set.version,
            detected_ms=now_ms,
            arrived_ms=arrived_ms,
            portraits=self._portraits,
        )
        self._detect(detections)
        report.detections += detections
        report.lag_ms = max(report.lag_ms, now_ms - arrived_ms)

    def _store_position(self, now_ms: int) -> None:
        position = self._reader.position
        is_due = now_ms - self._stored_ms >= POSITION_KEPT_MS or self._unstored >= POSITION_ITEMS
        if not is_due or position is None or position == self._stored:
            return
        try:
            self._logs.store_position(position)
        except Unavailable:
            # An old position only costs work, so the next ring tries again.
            if now_ms - max(self._stored_ms, self._started_ms) > POSITION_OVERDUE_MS:
                raise
        else:
            self._stored, self._stored_ms, self._unstored = position, now_ms, 0
