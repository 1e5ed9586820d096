"""Sweep: lifts expired blocks and measures the state, once a minute.

Blocks end here and not through DynamoDB's TTL, which may be days late. The sweep stores a heartbeat, which reaches the
publish function through the table's stream and makes it repair any difference between the IP sets and the list.

The publisher, which knows all blocks, notes those that end soon in its record. The sweep reads these and no others. If
the note is old, for example because nothing is published, it reads all blocks.
"""

from collections.abc import Callable

from chalicelib.core.state import HISTORY_S, Block, Heartbeat, Publisher
from chalicelib.pipeline.inspection import inspect
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.moving import move
from chalicelib.pipeline.rule_breakers import stopped_rules
from chalicelib.pipeline.stored import State
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
        """Lifts expired blocks, stores a heartbeat, and moves some records from where version 0.2 stored them.

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
        inspected = inspect(self._state, self._state.control(Heartbeat).record)
        report = SweepReport(
            unreadable=inspected.unreadable,
            lifted=lifted,
            conflicts=conflicts,
            blocks=in_force,
            stopped_rules=sum(1 for _ in stopped_rules(self._state)),
            paused=self._state.pause().paused,
        )
        beat = Heartbeat(at=now, blocks=report.blocks, lifted=len(lifted), **inspected._asdict())
        self._state.overwrite(beat)
        move(self._state.store)
        return report
