"""Sweep: lifts expired blocks, ends a pause whose time is over, and measures the state, once a minute.

Blocks end here and not through DynamoDB's TTL, which may be days late. The sweep stores a heartbeat, which reaches the
publish function through the table's stream and makes it repair any difference between the IP sets and the list.

No reader takes a pause for one from its end on. The sweep only notes that it has ended, in its record and in the audit,
from which the end is announced.

The publisher, which knows all blocks, notes those that end soon in its record. The sweep reads these and no others. If
the note is old, for example because nothing is published, it reads all blocks.
"""

from collections.abc import Callable
from contextlib import suppress

from chalicelib.core.state.blocks import Block
from chalicelib.core.state.events import HISTORY_S
from chalicelib.core.state.operators import Audit, Call, Pause
from chalicelib.core.state.publishing import Heartbeat, Publisher
from chalicelib.core.state.trends import QUARTER_S
from chalicelib.pipeline.inspection import inspect
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.moving import move
from chalicelib.pipeline.recording import audited
from chalicelib.pipeline.rule_breakers import stopped_rules
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict
from chalicelib.reports import SweepReport

NOTE_VALID_S = 150
"""Greatest age of the publisher's note: it answers each heartbeat. Also its greatest lead, as clocks disagree."""

MOST_LIFTED = 5000
"""Most blocks that one sweep lifts, so that it ends in time; the rest, which are not published, have to wait."""


class Sweep:
    """The scheduled clean-up."""

    def __init__(self, *, state: State, clock: Callable[[], float], history_s: int = HISTORY_S) -> None:
        """``clock``: epoch seconds. ``history_s``: how long events are kept."""
        self._state = state
        self._clock = clock
        self._history_s = history_s

    def run(self) -> SweepReport:
        """Lifts expired blocks, notes the end of a pause, stores a heartbeat, and moves some records of version 0.2.

        Raises what the state store raises.
        """
        now = int(self._clock())
        note = self._state.control(Publisher).record
        if abs(now - note.at) <= NOTE_VALID_S:
            expired = [b for b in self._state.get_many(Block, note.ending).values() if not b.record.in_force(now)]
            in_force = note.blocks - sum(block.record.in_force(note.at) for block in expired)
        else:
            stored = list(self._state.all(Block))
            expired = [block for block in stored if not block.record.in_force(now)]
            in_force = len(stored) - len(expired)
        lifted, conflicts = lift(self._state, expired[:MOST_LIFTED], now, history_s=self._history_s)
        last = self._state.control(Heartbeat).record
        inspected = inspect(self._state, last)
        same_quarter = last.at // QUARTER_S == now // QUARTER_S
        report = SweepReport(
            unreadable=inspected.unreadable,
            lifted=lifted,
            conflicts=conflicts,
            blocks=in_force,
            stopped_rules=sum(1 for _ in stopped_rules(self._state)),
            paused=self._pause(now).paused,
        )
        beat = Heartbeat(
            at=now,
            blocks=report.blocks,
            most_blocks=max(report.blocks, last.most_blocks if same_quarter else 0),
            most_before=last.most_before if same_quarter else last.most_blocks,
            lifted=len(lifted),
            **inspected._asdict(),
        )
        self._state.overwrite(beat)
        move(self._state.store)
        return report

    def _pause(self, now: int) -> Pause:
        """Returns the pause in force, after it has noted the end of one whose time is over."""
        stored = self._state.control(Pause)
        pause = stored.record.as_of(now)
        if pause is not stored.record:
            change = Audit(
                at_ms=now * 1000,
                by=pause.by,
                address="",
                request="",
                action="resume",
                target="enforcement",
                detail="resumed, because the time of the pause is over: blocks are enforced again",
                undo=Call(method="POST", path="/v1/pause", body={"release": stored.record.release}),
            )
            with suppress(Conflict):  # an operator has paused or resumed in the meantime
                self._state.write([self._state.put(pause, over=stored), audited(change)])
        return pause
