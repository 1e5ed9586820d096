"""Recording: events and the audit are stored in the transaction that makes them true, so none is lost or stored twice.

A transaction has one record for all of its events. So they cost a fraction of what blocks and histories cost, however
many clients attack (G4).
"""

from collections.abc import Sequence
from hashlib import blake2b

from chalicelib.core.state.events import Event, Events
from chalicelib.core.state.operators import Audit
from chalicelib.pipeline.stored import State
from chalicelib.ports import Write

AUDIT_KEPT_S = 400 * 86400


def recorded(events: Sequence[Event], at_ms: int, history_s: int) -> list[Write]:
    """Returns the write that records ``events``, at most one; ``history_s``: how long they are kept."""
    if not events:
        return []
    return [State.put(Events(at_ms=at_ms, events=tuple(events)), expires_at=at_ms // 1000 + history_s)]


def audited(change: Audit) -> Write:
    """Returns the write that records a change in the audit."""
    # Two changes in one millisecond differ in content, at least in the id of the request.
    id = f"{change.at_ms:013d}-{blake2b(change.to_json(), digest_size=4).hexdigest()}"
    return State.put(change, id=id, expires_at=change.at_ms // 1000 + AUDIT_KEPT_S)
