"""Sweep: lifts expired blocks and measures the state, once a minute.

Blocks end here and not through DynamoDB's TTL, which may be days late. The sweep stores a heartbeat, which reaches the
publish function through the table's stream and makes it repair any difference between the IP sets and the list.
"""

from collections.abc import Callable

from chalicelib.core.state import Block, Heartbeat
from chalicelib.pipeline.inspection import inspect
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State
from chalicelib.reports import SweepReport


class Sweep:
    """The scheduled clean-up."""

    def __init__(self, *, state: State, clock: Callable[[], float]) -> None:
        """``clock``: epoch seconds."""
        self._state = state
        self._clock = clock

    def run(self) -> SweepReport:
        """Lifts the blocks that have expired and stores a heartbeat. Raises what the state store raises."""
        now = int(self._clock())
        stored = list(self._state.all(Block))
        expired = [block for block in stored if not block.record.in_force(now)]
        lifted, conflicts = lift(self._state, expired, now)
        inspected = inspect(self._state, self._state.control(Heartbeat).record)
        report = SweepReport(
            unreadable=inspected.unreadable,
            lifted=lifted,
            conflicts=conflicts,
            blocks=len(stored) - len(expired),
            breaker_open=self._state.breaker().open,
            paused=self._state.pause().paused,
        )
        beat = Heartbeat(at=now, blocks=report.blocks, lifted=len(lifted), **inspected._asdict())
        self._state.overwrite(beat)
        return report
