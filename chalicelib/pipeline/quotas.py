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

Bounded. Everything is done in steps of bounded time and memory, between which the time left is looked at. What is left
is kept, and the next run continues with it. Items are read so few at a time that they fit into memory however large
they are, evaluated in slices, and added up in pieces. A roll-up is written early if much has been read, so that
a container that ends leaves little to be read again. If the view is too full, clients are dropped step by step.

Counting begins with an empty roll-up at the ends of all logs. So it does again if the newest roll-up is so old that
items behind its position may have expired, or if there has been no quota for some time. If loading takes as long, what
has been loaded is kept.
"""

import sys
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from chalicelib.core.detections import Announced, detections_of
from chalicelib.core.durations import DAY_S
from chalicelib.core.meter_tally import BadTally
from chalicelib.core.roll_ups import entries, finest_slots, for_quotas, packed, rolled_up, summed
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.state.detections import Detection
from chalicelib.core.tally import RETENTION_S, Tally, kept_s, merged, unpack
from chalicelib.core.view import View
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.tally_logs import RESERVE_S, SKEW_MS, TimeLeft, unlimited
from chalicelib.ports import Conflict, Gone, LogItem, LogKey, Position, Registry, RollUp, RollUps, TallyLogs
from chalicelib.reports import QuotaReport

EVERY_MS = 3_600_000
"""Milliseconds after which a roll-up is written."""

MOST_PENDING = 500_000
"""Entries read since the last roll-up at which they are added up, about 15 MB. If half of them are left, the next
roll-up is written."""

REACH_MS = kept_s(RETENTION_S) * 1000 - 600_000
"""Age of the newest roll-up up to which all items behind it still exist. Ten minutes allow for clocks that disagree."""

REMINDER_MS = 3_600_000
"""Longest time after which an offence that goes on is reported again: what made the enforcer ignore it, such as a pause
or an entry of the allowlist, may have ended."""

GAP_MS = 60_000
"""Age of an item from which on one before it that is not seen does not exist: the items of a transaction may become
visible one by one."""

FIRST_AHEAD, FURTHEST_AHEAD = 4, 32
"""Offsets of a log that a call requests first, and at most: they double as long as all of them exist."""

MOST_KEYS = 64
"""Offsets in a call at which no further log is added to it: its items are less than 40 MB, whatever they hold."""

SLICE = 100_000
"""Entries of items, not added up, at which they are evaluated: about 40 MB."""

TRIES = 2
"""Attempts of a run: after a conflict, it begins again with the roll-ups of the other container."""

KEPT_LONGER_S = DAY_S
"""Seconds for which a roll-up is kept after the longest window has left it behind."""

LOADING = "not loaded: {} roll-ups"
READING = "the logs are not read to their ends"
ADDING_UP = "what has been read is not added up"
DROPPING = "the memory is full, and not all clients to be dropped are"


def reminder_ms(rule: Rule) -> int:
    """Returns the time after which an offence that goes on is reported again, so early that ``extend`` prolongs its
    block before it ends."""
    return min(REMINDER_MS, rule.block_for_s * 250) if rule.extend else REMINDER_MS


@dataclass(slots=True)
class _Slice:
    """Counts of items that are to be evaluated together."""

    tallies: list[Tally] = field(default_factory=list)
    entries: int = 0
    keys: list[LogKey] = field(default_factory=list)
    first_ms: int = sys.maxsize
    last_ms: int = 0
    arrived_ms: int = sys.maxsize

    def take(self, key: LogKey, item: LogItem, tally: Tally) -> None:
        self.keys.append(key)
        if tally:
            self.tallies.append(tally)
            self.entries += entries([tally])
            self.first_ms = min(self.first_ms, item.first_slot_ms)
            self.last_ms = max(self.last_ms, item.last_slot_ms)
            self.arrived_ms = min(self.arrived_ms, item.arrived_ms)


class Quotas:
    """One container's evaluator of quotas, and its writer of roll-ups."""

    def __init__(
        self,
        *,
        logs: TallyLogs,
        roll_ups: RollUps,
        rules: Callable[[int], RulesInUse],
        new_view: Callable[[RuleSet], View],
        detect: Callable[[Sequence[Detection]], None],
        retention_s: int = RETENTION_S,
    ) -> None:
        """``rules`` returns the rules in use at a time in ms; ``detect`` stores detections, and may get one twice.

        The views of ``new_view`` need not drop clients at once.
        """
        self._logs = logs
        self._roll_ups = roll_ups
        self._rules = rules
        self._new_view = new_view
        self._detect = detect
        self._oldest_ms = retention_s * 1000 + REACH_MS + SKEW_MS
        """Greatest age of a request in an item that has not been read."""
        self._now_ms = 0
        self._report = QuotaReport()
        self._forget(RuleSet(()))

    def _forget(self, rules: RuleSet) -> None:
        """Starts from nothing, with ``rules``."""
        self._rule_set = rules
        self._finest = finest_slots(rules)
        self._view = self._new_view(rules)
        self._announced = Announced()
        self._work: Iterator[str] | None = None
        """The steps that are left, each of which yields what is then left, in words."""
        self._last: RollUp | None = None
        """The newest roll-up, once the roll-ups have been listed."""
        self._loading = False
        self._position: dict[str, int] = {}
        """The first offset of each log that has not been read."""
        self._slice = _Slice()
        self._pending: list[Tally] = []
        """The counts that have been evaluated since the last roll-up."""
        self._pending_entries = 0
        self._pending_ms: tuple[int, int] | None = None
        """Times of the earliest and the latest request in them."""
        self._read_ms = 0
        """The time from which on items may not have been read."""
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
        out_of_reach = now_ms - self._read_ms > REACH_MS
        if quotas.rules != self._rule_set.rules or (out_of_reach and not self._loading):
            self._forget(quotas)
        self._rule_set = quotas
        self._now_ms, self._report = now_ms, (report := QuotaReport())
        self._announced.forget({rule.name: now_ms - reminder_ms(rule) for rule in quotas.rules})
        try:
            for _ in range(TRIES):
                try:
                    if self._loading and out_of_reach:
                        self._begin(self._last)
                    report.unfinished = self._continue(time_left_s)
                    break
                except Conflict:  # another container has written the roll-up
                    report.conflicts += 1
                    self._forget(quotas)
        except Exception:
            self._forget(quotas)  # what it has read may be in the view in part
            raise
        report.entries = self._view.entries
        report.dropped = self._view.take_dropped()
        return report

    def _continue(self, time_left_s: TimeLeft) -> str | None:
        """Does what is left of an earlier run, and then what is due now. Returns what is left then."""
        resumes = self._work is not None
        while True:
            self._work = self._work or self._steps()
            for left in self._work:
                if time_left_s() < RESERVE_S:
                    return left
            self._work = None
            if not resumes:
                return None
            resumes = False

    def _steps(self) -> Iterator[str]:
        if self._last is None:
            listed = self._list()
            self._loading = True
            yield from self._load(listed)
            self._loading = False
        began_ms = self._now_ms
        quiet = yield from self._read(self._position)
        passed = self._pass_gaps(quiet)
        if passed:
            yield from self._read(passed)
        self._read_ms = began_ms
        if self._last is not None and self._now_ms - self._last.written_ms >= EVERY_MS:
            yield from self._roll_up()

    def _list(self) -> list[RollUp]:
        """Returns the roll-ups that are to be loaded, after a start with the newest, or at the ends of the logs."""
        now_ms, reach_ms = self._now_ms, self._reach_ms()
        newest_first = self._roll_ups.latest(now_ms - reach_ms)
        last = newest_first[0] if newest_first else None
        if last is None or now_ms - last.written_ms > REACH_MS:
            self._begin(last)
        else:
            self._start_after(last)
        # The store may have removed parts of expired ones: they were kept for a shorter window than the present one.
        return [
            roll_up
            for roll_up in newest_first
            if roll_up.last_slot_ms > now_ms - reach_ms and roll_up.written_ms + roll_up.kept_s * 1000 > now_ms
        ]

    def _begin(self, newest: RollUp | None) -> None:
        """Starts at the ends of the logs, with an empty roll-up. Raises Conflict if ``newest`` is not the newest."""
        self._report.began = True
        number = newest.number + 1 if newest else 0
        start = RollUp(number=number, position=self._ends(), written_ms=self._now_ms, kept_s=self._kept_s())
        self._roll_ups.add(start, ())
        self._start_after(start)

    def _start_after(self, roll_up: RollUp) -> None:
        self._last, self._position, self._read_ms = roll_up, dict(roll_up.position), roll_up.written_ms

    def _ends(self) -> Position:
        registry, _ = self._logs.read([])
        return {log: self._end(log) for logs in registry.values() for log in logs}

    def _end(self, log: str) -> int:
        """Returns the offset after the last item of a log."""
        last = self._logs.last(log)
        return 0 if last is None else last[0] + 1

    def _reach_ms(self) -> int:
        """Returns the age of a request up to which a window may contain it that is still to be evaluated."""
        return self._rule_set.longest_window_ms + self._oldest_ms

    def _kept_s(self) -> int:
        return self._reach_ms() // 1000 + KEPT_LONGER_S

    def _load(self, newest_first: Sequence[RollUp]) -> Iterator[str]:
        for left, roll_up in reversed(list(enumerate(newest_first))):
            since_ms = self._now_ms - self._oldest_ms
            self._view.keep_since(since_ms)
            for tally in self._counts(roll_up):
                self._view.load(tally, roll_up.first_slot_ms, roll_up.last_slot_ms, since_ms)
                yield from self._shrink()
            self._latest_ms = max(self._latest_ms, roll_up.last_slot_ms)
            if left:
                yield LOADING.format(left)

    def _counts(self, roll_up: RollUp) -> Iterator[Tally]:
        """Yields the counts of a roll-up, up to what is damaged: it stays so, and must not stop the quotas."""
        try:
            for body in self._roll_ups.bodies(roll_up):
                yield for_quotas(unpack(body), self._finest)
        except (BadTally, Gone):
            self._report.unreadable += 1

    def _shrink(self) -> Iterator[str]:
        return (DROPPING for _ in self._view.shrink())

    def _read(self, logs: Collection[str]) -> Generator[str, None, list[str]]:
        """Reads ``logs``, and new ones, up to their ends, and evaluates the items. Moves the position past them.

        Returns the logs of which no item was found.
        """
        ahead = dict.fromkeys(logs, FIRST_AHEAD)
        quiet: list[str] = []
        while True:
            before = accumulate(ahead.values(), initial=0)
            asked = {
                log: number for (log, number), keys in zip(ahead.items(), before, strict=False) if keys < MOST_KEYS
            }
            registry, items = self._logs.read(
                [(log, self._position[log] + step) for log, number in asked.items() for step in range(number)]
            )
            self._adopt(registry, ahead)
            for log, number in asked.items():
                if ahead.pop(log, None) is None:
                    continue
                first = self._position[log]
                while (item := items.get(key := (log, self._position[log]))) is not None:
                    self._position[log] += 1
                    self._slice.take(key, item, () if item.body is None else rolled_up(unpack(item.body), self._finest))
                    if self._slice.entries >= SLICE:
                        yield from self._evaluate()
                came = self._position[log] - first
                if came == number:
                    ahead[log] = min(2 * number, FURTHEST_AHEAD)
                elif not came and number == FIRST_AHEAD:
                    quiet.append(log)
            if not ahead:
                break
            yield READING
        yield from self._evaluate()
        return quiet

    def _adopt(self, registry: Registry, ahead: dict[str, int]) -> None:
        """Begins new logs of ``registry`` at their first offsets, and leaves those that it no longer names."""
        named = {log for logs in registry.values() for log in logs}
        for log in self._position.keys() - named:
            del self._position[log]
            ahead.pop(log, None)
        for log in sorted(named - self._position.keys()):
            self._position[log], ahead[log] = 0, FIRST_AHEAD

    def _pass_gaps(self, logs: Collection[str]) -> list[str]:
        """Moves the position of ``logs`` to the next item that has not been read. Returns those to be read again.

        Items no longer exist if they have expired, or the table was restored from a backup. A log may then also end
        before the position; the items written since the last read are new, and the others have been read.
        """
        moved = []
        for log in logs:
            at, last = self._position[log], self._logs.last(log)
            end = 0 if last is None else last[0] + 1
            if end < at:
                later = (
                    offset
                    for offset, item in self._logs.latest(log, self._read_ms, sys.maxsize)
                    if item.written_ms > self._read_ms
                )
                self._position[log] = min(later, default=end)
                # Of items that have expired, the store may have removed later ones before earlier ones.
                self._report.restored += last is not None and self._kept(last[1])
            elif end > at and (following := self._logs.first(log, at)):
                offset, item = following
                if offset == at or self._now_ms - item.written_ms > GAP_MS:
                    self._position[log] = offset
                    self._report.missing += offset - at
            if self._position[log] < end:
                moved.append(log)
        return moved

    def _kept(self, item: LogItem) -> bool:
        """Returns whether an item has not expired yet."""
        return self._now_ms < item.written_ms + item.kept_s * 1000

    def _evaluate(self) -> Iterator[str]:
        """Evaluates the clients of the slice, and stores their offences, named after the first of its items."""
        taken, self._slice = self._slice, _Slice()
        self._report.items += len(taken.keys)
        tally = merged([part for each in taken.tallies for part in each])
        if not tally:
            return
        self._pending.append(tally)
        self._pending_entries += entries([tally])
        earliest_ms, latest_ms = self._pending_ms or (taken.first_ms, taken.last_ms)
        self._pending_ms = min(taken.first_ms, earliest_ms), max(taken.last_ms, latest_ms)
        self._latest_ms = max(self._latest_ms, taken.last_ms)
        self._view.keep_since(self._now_ms - self._oldest_ms)
        suspects = self._view.merge(for_quotas(tally, self._finest), taken.first_ms, taken.last_ms)
        offences = self._announced.fresh(
            replace(offence, last_ms=min(offence.last_ms, self._latest_ms))  # the slot may not be over yet
            for offence in self._view.offences(suspects, taken.first_ms, taken.last_ms, self._announced)
        )
        self._announced.add(offences)
        log, offset = min(taken.keys)
        detections = detections_of(
            offences,
            log=log,
            offset=offset,
            rule_set=self._rule_set.version,
            detected_ms=self._now_ms,
            arrived_ms=taken.arrived_ms,
        )
        self._detect(detections)
        self._report.detections += detections
        yield READING
        yield from self._shrink()
        if self._pending_entries > MOST_PENDING:
            yield from self._add_up()
            if self._pending_entries > MOST_PENDING // 2:
                yield from self._roll_up()

    def _add_up(self) -> Iterator[str]:
        """Adds up what has been read since the last roll-up, so that a client in many items takes the memory of one."""
        sums = []
        for tally in summed(self._pending):
            sums.append(tally)
            yield ADDING_UP
        self._pending, self._pending_entries = sums, entries(sums)
        if self._pending_ms is not None:
            self._view.add_up((for_quotas(tally, self._finest) for tally in sums), *self._pending_ms)
            yield from self._shrink()  # dropped clients have returned

    def _roll_up(self) -> Iterator[str]:
        """Writes what has been read since the last roll-up. Raises Conflict if another container has."""
        assert self._last is not None
        yield from self._add_up()
        bodies: list[bytes] = []
        for tally in self._pending:
            bodies += packed(tally)
            yield ADDING_UP
        first_ms, last_ms = self._pending_ms or (0, 0)
        roll_up = RollUp(
            number=self._last.number + 1,
            position=dict(self._position),
            written_ms=self._now_ms,
            first_slot_ms=first_ms,
            last_slot_ms=last_ms,
            kept_s=self._kept_s(),
        )
        self._roll_ups.add(roll_up, bodies)
        self._last, self._pending, self._pending_entries, self._pending_ms = roll_up, [], 0, None
        self._view.settle()
        self._report.roll_ups += 1
