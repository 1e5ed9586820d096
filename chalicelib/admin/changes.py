"""Changes: decided first, then written together with their audit record, and only once per idempotency key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

import msgspec

from chalicelib.admin.errors import Invalid, fault
from chalicelib.core.state.events import HISTORY_S, Event
from chalicelib.core.state.operators import Audit, Call, Receipt
from chalicelib.core.tokens import Role
from chalicelib.pipeline.recording import audited, recorded
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, Write

RECEIPT_KEPT_S = 86400


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    """Name of the token, or ARN."""
    role: Role
    address: str
    """Address the call came from."""
    request: str = ""
    """API Gateway's id of the call."""


class ChangeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a change."""

    changed: bool
    """False if there was nothing to change; then the audit does not record the call."""
    detail: str
    """The change in words."""
    undo: Call | None = None
    """The call that undoes the change, except that offences stay forgotten; null if nothing else was changed."""


A = TypeVar("A", bound=ChangeAnswer)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange(Generic[A]):
    """A change that has been decided but not made; without writes there is nothing to do."""

    answer: A
    writes: Sequence[Write] = ()
    action: str
    """For the audit, such as ``block.delete``."""
    target: str
    events: Sequence[Event] = ()
    """Events that it causes."""
    after: Callable[[], object] = lambda: None
    """Runs after the change is written, outside its transaction."""


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key, and a digest of the call it came with."""

    key: str
    request: str


def make(
    state: State,
    decide: Callable[[], PlannedChange[A]],
    answer: type[A],
    *,
    caller: Caller,
    now_ms: int,
    once: Once | None = None,
    tries: int = 1,
    history_s: int = HISTORY_S,
) -> tuple[A, bool]:
    """Makes a change: writes all of it together with its audit record and its events, or nothing.

    Returns the answer, and whether it is from a receipt: the answer to an earlier call with the same idempotency key.

    With ``tries`` above 1 a change that conflicts with another is decided again, so it must not undo a concurrent
    edit. ``history_s``: how long events are kept. Raises Conflict, Refused, and what the store raises.
    """
    while True:
        if once is not None and (earlier := _receipt(state, answer, caller, once)) is not None:
            return earlier, True
        change = decide()
        writes = list(change.writes)
        if writes:
            writes += [audited(_audit(change, caller, now_ms)), *recorded(change.events, now_ms, history_s)]
        if once is not None:
            receipt = Receipt(request=once.request, answer=msgspec.json.encode(change.answer).decode())
            kept_until = now_ms // 1000 + RECEIPT_KEPT_S
            writes.append(state.put(receipt, id=_receipt_id(caller, once), expires_at=kept_until))
        try:
            if writes:
                state.write(writes)
        except Conflict:
            # The same call may have been made twice at once; then both return the same answer.
            if once is not None and (earlier := _receipt(state, answer, caller, once)) is not None:
                return earlier, True
            tries -= 1
            if not tries:
                raise
        else:
            change.after()
            return change.answer, False


def _audit(change: PlannedChange[A], caller: Caller, now_ms: int) -> Audit:
    return Audit(
        at_ms=now_ms,
        by=caller.name,
        address=caller.address,
        request=caller.request,
        action=change.action,
        target=change.target,
        detail=change.answer.detail,
        undo=change.answer.undo,
    )


def _receipt(state: State, answer: type[A], caller: Caller, once: Once) -> A | None:
    """Returns the answer to an earlier call with this key, if any. Raises Invalid if its path or body was another."""
    stored = state.get(Receipt, _receipt_id(caller, once))
    if stored is None:
        return None
    receipt = stored.record
    if receipt.request != once.request:
        accepted = "a new key for each call; this one was used with another path or body"
        raise Invalid(fault("header", "Idempotency-Key", once.key, accepted))
    return msgspec.json.decode(receipt.answer, type=answer)


def _receipt_id(caller: Caller, once: Once) -> str:
    return blake2b(f"{caller.name}\n{once.key}".encode(), digest_size=16).hexdigest()
