"""Announce: publishes decisions outside Sluice (``core.announcements``).

Events and the audit are stored in the same transactions as the changes they describe, and the table's stream delivers
them at least once to enforce, which announces them. So none is lost between the decision and its announcement, and the
stream needs no further reader. An announcement that is sent twice has the same id.

In a flood, each container announces a bounded number of events per minute one by one. A minute in which events were
left out is noted, and summarised from the stored events when it is over. A minute with announcements that could not be
sent is noted as well, and announced again from the stored events at each of the sweep's heartbeats until that succeeds.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from chalicelib.core.announcements import Announcement, of_change, of_event, summary
from chalicelib.core.state.events import Events, Unannounced, events_from
from chalicelib.core.state.operators import Audit
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.pipeline.stored import State
from chalicelib.ports import Announcements, Conflict, Contended, StreamChange, Unavailable
from chalicelib.reports import AnnounceReport

MOST_PER_MINUTE = 60
"""Most announcements about clients, per minute and container. Enforce has at most four containers."""

MINUTE_S = 60

SETTLED_S = 60
"""Seconds after the end of a minute by which its events are stored: an invocation takes no longer."""

MOST_REPEATED = 5
"""Most minutes that are summarised or announced again at one heartbeat."""

MOST_MINUTES = 1440
"""Most minutes that are noted: a day. After a longer outage, the earliest are never announced."""

SILENT_S = 50
"""Seconds without a further attempt after one that failed, so that an outage does not delay enforcement repeatedly."""

TRIES = 5


class Announce:
    """One container's announcer."""

    def __init__(
        self, *, state: State, announcements: Announcements | None, clock: Callable[[], float], stage: str
    ) -> None:
        """``announcements``: their receiver in addition to the log, if any. ``clock``: epoch seconds.

        ``stage``: the setting SERVICE.
        """
        self._state = state
        self._announcements = announcements
        self._clock = clock
        self._stage = stage
        self._by_minute: Counter[int] = Counter()
        """Announcements about clients, by the minute of the event."""
        self._noted = Unannounced()
        """Minutes that this container has noted."""
        self._silent_until = 0.0

    def run(self, changes: Sequence[StreamChange]) -> AnnounceReport:
        """Announces the events and changes by operators among ``changes``. Raises what the state store raises."""
        report = AnnounceReport()
        minutes, flooded = set[int](), set[int]()
        for minute, announcement in self._of(changes):
            if announcement.about_clients:
                self._by_minute[minute] += 1
                if self._by_minute[minute] > MOST_PER_MINUTE:
                    report.left_out += 1
                    flooded.add(minute)
                    continue
            minutes.add(minute)
            report.announcements.append(announcement)
        if self._send(report.announcements):
            minutes.clear()
        else:
            report.failed = len(report.announcements)
        self._note(flooded=flooded, failed=minutes)
        if any((change.kind, change.id) == (Heartbeat.kind, Heartbeat.id) for change in changes):
            report += self._repeat()
        return report

    def _of(self, changes: Sequence[StreamChange]) -> Iterator[tuple[int, Announcement]]:
        """Yields the announcements of new records among ``changes``, with the minutes of their events."""
        for change in changes:
            if change.body is None or change.existed:
                continue
            if change.kind == Events.kind:
                events = Events.read(change.id, change.body)
                if isinstance(events, Events):
                    yield from ((_minute(events.at_ms), each) for each in self._of_events(change.id, events))
            elif change.kind == Audit.kind:
                audit = Audit.read(change.id, change.body)
                if isinstance(audit, Audit) and (announcement := of_change(audit, change.id, self._stage)):
                    yield _minute(audit.at_ms), announcement

    def _of_events(self, id: str, events: Events) -> Iterator[Announcement]:
        for number, event in enumerate(events.events):
            yield of_event(event, f"{id}/{number}", events.at_ms, self._stage)

    def _send(self, announcements: Sequence[Announcement]) -> bool:
        """Returns whether they were accepted."""
        if not announcements or self._announcements is None:
            return True
        if self._clock() < self._silent_until:
            return False
        try:
            self._announcements.send(announcements)
        except Unavailable:
            self._silent_until = self._clock() + SILENT_S
            return False
        return True

    def _note(self, *, flooded: Collection[int], failed: Collection[int]) -> None:
        """Notes minutes, unless this container has noted them before. Raises Contended and what the store raises."""
        if self._noted.covers(flooded, failed):
            return
        self._change(lambda record: record.with_minutes(flooded, failed, MOST_MINUTES))
        self._noted = self._noted.with_minutes(flooded, failed, MOST_MINUTES)

    def _repeat(self) -> AnnounceReport:
        """Announces the rest of those noted minutes that are over, earliest first."""
        report, done = AnnounceReport(), set[int]()
        record = self._state.control(Unannounced).record
        over = int(self._clock()) - MINUTE_S - SETTLED_S
        for minute in sorted({*record.flooded, *record.failed})[:MOST_REPEATED]:
            if minute > over:
                break
            announcements = self._left_of(minute, record)
            if not self._send(announcements):
                report.failed += len(announcements)
                break
            report.announcements += announcements
            done.add(minute)
        if done:
            self._change(lambda record: record.without(done))
        return report

    def _left_of(self, minute: int, record: Unannounced) -> list[Announcement]:
        """Returns the announcements due for a minute that ``record`` notes, from the stored events and audit."""
        of_clients, others = list[Announcement](), list[Announcement]()
        above, below = events_from(minute * 1000), events_from((minute + MINUTE_S) * 1000)
        for events in self._state.all(Events, above=above, below=below):
            for each in self._of_events(events.id, events.record):
                (of_clients if each.about_clients else others).append(each)
        for audit in self._state.all(Audit, above=above, below=below):
            if announcement := of_change(audit.record, audit.id, self._stage):
                others.append(announcement)
        is_flooded = minute in record.flooded or len(of_clients) > MOST_PER_MINUTE
        if is_flooded:
            counts: Counter[tuple[str, str]] = Counter()
            for each in of_clients:
                counts[each.type, each.rule] += each.number
            of_clients = [summary(minute, counts, self._stage)]
        return [*(others if minute in record.failed else ()), *of_clients]

    def _change(self, new: Callable[[Unannounced], Unannounced]) -> None:
        """Replaces the record by the result of ``new``. Raises Contended and whatever the store raises."""
        for _ in range(TRIES):
            stored = self._state.control(Unannounced)
            try:
                self._state.write([self._state.put(new(stored.record), over=stored)])
                return
            except Conflict:
                continue
        raise Contended(f"conflicts with concurrent changes {TRIES} times in a row: {Unannounced.id}")


def _minute(at_ms: int) -> int:
    """Returns the start of the minute of a time in epoch milliseconds; in epoch seconds."""
    return at_ms // 1000 // MINUTE_S * MINUTE_S
