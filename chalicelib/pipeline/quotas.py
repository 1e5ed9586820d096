"""Quotas: reads the tally logs forward, evaluates the rules with a window of days, and writes roll-ups.

The position of the newest roll-up says how far the logs are covered. Every item before it is in exactly one roll-up,
and every item after it in none::

    log 1     0 1 2 3 4 5 | 6 7 8 9 10 | 11 12 13
    log 2     0 1 2 3 | 4 5 6 7 8 9 10 | 11 12
    covered   roll-up 0   | roll-up 1  | not yet

A container loads the roll-ups whose counts a window may still contain. It then reads the items behind the position,
once a minute, and evaluates their clients against all. Each hour, it writes what it has read since the last roll-up as
the next one, on condition that no other container has. One that has lost the race loads everything again.

Never missed. Of the items that together bring a client over a quota, one is read last. The container that reads it has
all others, whether in roll-ups or because it has read them before, and stores the detection before it writes the
roll-up that covers the item. If it ends in between, the next container starts at the roll-up before, and reads and
evaluates the item again: the same offence is then stored twice, and decided once.

Counting begins with an empty roll-up at the ends of all logs. So it does again if the newest roll-up is so old that
items behind its position may have expired, or if there has been no quota for some time.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from chalicelib.core.detections import detections_of
from chalicelib.core.roll_ups import bodies, entries, finest_slots, for_quotas, rolled_up
from chalicelib.core.rules import RuleSet
from chalicelib.core.state.detections import Detection
from chalicelib.core.tally import RETENTION_S, Tally, kept_s, merged, unpack
from chalicelib.core.view import View
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.tally_logs import RESERVE_S, SKEW_MS, TimeLeft, unlimited
from chalicelib.ports import Conflict, LogItem, LogKey, Position, RollUp, RollUps, TallyLogs
from chalicelib.reports import QuotaReport

EVERY_MS = 3_600_000
"""Milliseconds after which a roll-up is written."""

MOST_PENDING = 300_000
"""Entries read since the last roll-up at which the next one is written earlier: adding them up takes 150 MB."""

REACH_MS = kept_s(RETENTION_S) * 1000 - 600_000
"""Age of the newest roll-up up to which all items behind it still exist. Ten minutes allow for clocks that disagree."""

Items = Sequence[tuple[LogKey, LogItem]]
"""Items of the logs, with their places."""

AHEAD = 32
"""Offsets requested per log and call."""

MOST_ITEMS = 500
"""Items that are evaluated together at most, apart from those of one call."""

KEPT_LONGER_S = 86400
"""Seconds for which a roll-up is kept after the longest window has left it behind."""


class Quotas:
    """One container's evaluator of quotas, and its writer of roll-ups."""

    def __init__(
        self,
        *,
        logs: TallyLogs,
        roll_ups: RollUps,
        rules: Callable[[int], RulesInUse],
        new_view: Callable[[RuleSet], View],
        most_entries: int,
        detect: Callable[[Sequence[Detection]], None],
        retention_s: int = RETENTION_S,
    ) -> None:
        """``rules`` returns the rules in use at a time in ms; ``detect`` stores detections, and may get one twice.

        ``most_entries``: those of the views that ``new_view`` makes.
        """
        self._logs = logs
        self._roll_ups = roll_ups
        self._rules = rules
        self._new_view = new_view
        self._most_entries = most_entries
        self._detect = detect
        self._oldest_ms = retention_s * 1000 + REACH_MS + SKEW_MS
        """Greatest age of a request in an item that has not been read."""
        self._forget(RuleSet(()))

    def _forget(self, rules: RuleSet) -> None:
        """Starts from nothing, with ``rules``."""
        self._rule_set = rules
        self._finest = finest_slots(rules)
        self._view = self._new_view(rules)
        self._last: RollUp | None = None
        """The newest roll-up, once the roll-ups have been listed."""
        self._unloaded: list[RollUp] = []
        """The roll-ups that are still to be loaded."""
        self._position: dict[str, int] = {}
        """The first offset of each log that has not been read."""
        self._pending: list[Tally] = []
        """The counts that have been read since the last roll-up."""
        self._pending_entries = 0
        self._pending_ms: tuple[int, int] | None = None
        """Times of the earliest and the latest request in them."""
        self._read_ms = 0
        self._latest_ms = 0
        """Time of the latest request in the view."""

    def run(self, now_ms: int, time_left_s: TimeLeft = unlimited) -> QuotaReport | None:
        """Evaluates the new items, and writes a roll-up if one is due. Returns None if there is no quota.

        If the time runs out, the next call continues. Raises what the stores raise.
        """
        quotas = self._rules(now_ms).rules.quotas()
        if not quotas.rules:
            self._forget(quotas)
            return None
        if quotas.rules != self._rule_set.rules or now_ms - self._read_ms > REACH_MS:
            self._forget(quotas)
        self._rule_set = quotas
        report = QuotaReport()
        try:
            self._run(now_ms, time_left_s, report)
        except Conflict:  # another container has written the roll-up
            report.conflicts += 1
            self._forget(quotas)
        except Exception:
            self._forget(quotas)  # what it has read may be in the view in part
            raise
        report.entries = self._view.entries
        report.dropped = self._view.take_dropped()
        return report

    def _run(self, now_ms: int, time_left_s: TimeLeft, report: QuotaReport) -> None:
        if self._last is None:
            self._list(now_ms, report)
        while self._unloaded:
            self._load(self._unloaded[-1], now_ms)
            self._unloaded.pop()
            if time_left_s() < RESERVE_S:
                report.unfinished = f"not loaded: {len(self._unloaded)} roll-ups"
                return
        for items in self._new_items():
            self._evaluate(items, now_ms, report)
            if self._pending_entries > MOST_PENDING:
                self._roll_up(now_ms, report)
            if time_left_s() < RESERVE_S:
                report.unfinished = "the logs are not read to their ends"
                return
        self._read_ms = now_ms
        if self._last is not None and now_ms - self._last.written_ms >= EVERY_MS:
            self._pass_gaps(report)
            self._roll_up(now_ms, report)
            if self._view.entries > self._most_entries // 2:
                self._forget(self._rule_set)  # the same counts, added up, take a fraction of the memory

    def _list(self, now_ms: int, report: QuotaReport) -> None:
        """Finds the roll-ups that are to be loaded, and begins with the newest, or at the ends of the logs."""
        reach_ms = self._reach_ms()
        newest_first = self._roll_ups.latest(now_ms - reach_ms)
        last = newest_first[0] if newest_first else None
        if last is None or now_ms - last.written_ms > REACH_MS:
            report.began = True
            start = RollUp(number=last.number + 1 if last else 0, position=self._ends(), written_ms=now_ms)
            last = replace(start, kept_s=self._kept_s())
            self._roll_ups.add(last, ())
        self._last, self._position, self._read_ms = last, dict(last.position), now_ms
        # The store may have removed parts of expired ones: they were kept for a shorter window than the present one.
        self._unloaded = [
            roll_up
            for roll_up in newest_first
            if roll_up.last_slot_ms > now_ms - reach_ms and roll_up.written_ms + roll_up.kept_s * 1000 > now_ms
        ]

    def _ends(self) -> Position:
        registry, _ = self._logs.read([])
        ends = {log: self._logs.last(log) for logs in registry.values() for log in logs}
        return {log: 0 if end is None else end[0] + 1 for log, end in ends.items()}

    def _reach_ms(self) -> int:
        """Returns the age of a request up to which a window may contain it that is still to be evaluated."""
        return self._rule_set.longest_window_ms + self._oldest_ms

    def _kept_s(self) -> int:
        return self._reach_ms() // 1000 + KEPT_LONGER_S

    def _load(self, roll_up: RollUp, now_ms: int) -> None:
        since_ms = now_ms - self._oldest_ms
        self._view.keep_since(since_ms)
        for body in self._roll_ups.bodies(roll_up):
            tally = for_quotas(unpack(body), self._finest)
            self._view.load(tally, roll_up.first_slot_ms, roll_up.last_slot_ms, since_ms)
        self._latest_ms = max(self._latest_ms, roll_up.last_slot_ms)

    def _new_items(self) -> Iterator[Items]:
        """Yields the items behind the position, some at a time, and moves the position past them."""
        behind: Collection[str] = self._position
        taken: list[tuple[LogKey, LogItem]] = []
        while behind is self._position or behind:
            keys = [(log, self._position[log] + step) for log in behind for step in range(AHEAD)]
            registry, items = self._logs.read(keys)
            full = []
            for log in behind:
                first = self._position[log]
                while (item := items.get(key := (log, self._position[log]))) is not None:
                    taken.append((key, item))
                    self._position[log] += 1
                if self._position[log] == first + AHEAD:
                    full.append(log)
            named = {log for logs in registry.values() for log in logs}
            new = named - self._position.keys()
            self._position = {log: at for log, at in self._position.items() if log in named} | dict.fromkeys(new, 0)
            behind = [*(log for log in full if log in named), *sorted(new)]
            if taken and (not behind or len(taken) >= MOST_ITEMS):
                yield taken
                taken = []

    def _evaluate(self, new: Items, now_ms: int, report: QuotaReport) -> None:
        """Merges items, and stores the offences of their clients, named after the first of the items."""
        report.items += len(new)
        counted = [item for _, item in new if item.body is not None]
        tally = merged([part for item in counted for part in rolled_up(unpack(item.body or b""), self._finest)])
        if not tally:
            return
        log, offset = min(key for key, _ in new)
        first_ms = min(item.first_slot_ms for item in counted)
        last_ms = max(item.last_slot_ms for item in counted)
        self._pending.append(tally)
        self._pending_entries += entries([tally])
        earliest_ms, latest_ms = self._pending_ms or (first_ms, last_ms)
        self._pending_ms = min(first_ms, earliest_ms), max(last_ms, latest_ms)
        self._latest_ms = max(self._latest_ms, last_ms)
        self._view.keep_since(now_ms - self._oldest_ms)
        suspects = self._view.merge(for_quotas(tally, self._finest), first_ms, last_ms)
        # Reported each time, because the enforcer's reason to ignore an offence may no longer apply.
        offences = [
            replace(offence, last_ms=min(offence.last_ms, self._latest_ms))  # the slot may not be over yet
            for offence in self._view.offences(suspects, first_ms, last_ms)
        ]
        arrived_ms = min(item.arrived_ms for item in counted)
        detections = detections_of(
            offences,
            log=log,
            offset=offset,
            rule_set=self._rule_set.version,
            detected_ms=now_ms,
            arrived_ms=arrived_ms,
        )
        self._detect(detections)
        report.detections += detections

    def _roll_up(self, now_ms: int, report: QuotaReport) -> None:
        """Writes what has been read since the last roll-up. Raises Conflict if another container has."""
        assert self._last is not None
        first_ms, last_ms = self._pending_ms or (0, 0)
        roll_up = RollUp(
            number=self._last.number + 1,
            position=dict(self._position),
            written_ms=now_ms,
            first_slot_ms=first_ms,
            last_slot_ms=last_ms,
            kept_s=self._kept_s(),
        )
        self._roll_ups.add(roll_up, bodies(self._pending))
        self._last, self._pending, self._pending_entries, self._pending_ms = roll_up, [], 0, None
        report.roll_ups += 1

    def _pass_gaps(self, report: QuotaReport) -> None:
        """Moves the position past items that no longer exist, as after the table was restored, up to the next ones."""
        ends = {log: self._logs.last(log) for log in self._position}
        behind = {log: at for log, at in self._position.items() if (end := ends[log]) is not None and end[0] >= at}
        _, items = self._logs.read(behind.items())
        for log, at in behind.items():
            if (log, at) not in items:
                offsets = [offset for offset, _ in self._logs.latest(log, 0, sys.maxsize)]
                oldest = min(offset for offset in offsets if offset >= at)
                report.missing += oldest - at
                self._position[log] = oldest
