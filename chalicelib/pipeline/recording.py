"""Recording: events are stored in the transaction that makes them true, so none is lost and none is stored twice.

A transaction has one record for all of its events. So they cost a fraction of what blocks and histories cost, however
many clients attack (G4).
"""

from collections.abc import Sequence

from chalicelib.core.state import Event, Events
from chalicelib.pipeline.stored import State
from chalicelib.ports import Write


def recorded(events: Sequence[Event], at_ms: int, history_s: int) -> list[Write]:
    """Returns the write that records ``events``, at most one; ``history_s``: how long they are kept."""
    if not events:
        return []
    return [State.put(Events(at_ms=at_ms, events=tuple(events)), expires_at=at_ms // 1000 + history_s)]
