"""Changes: decided first, then written together with their audit record, and once for an idempotency key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

import msgspec

from chalicelib.admin.errors import Invalid, fault
from chalicelib.core.state import Audit, Call, Receipt
from chalicelib.core.tokens import Role
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, Write

AUDIT_KEPT_S = 400 * 86400
RECEIPT_KEPT_S = 86400


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of an operation."""

    name: str
    """Name of the token, or ARN: what the audit says."""
    role: Role
    address: str
    """Where the call comes from."""
    request: str = ""
    """API Gateway's id of the call."""


class ChangeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a change."""

    changed: bool
    """False if there was nothing to change; then nothing was written."""
    detail: str
    """The change in words."""
    undo: Call | None = None
    """The call that undoes the change; null if nothing was changed."""


A_co = TypeVar("A_co", bound=ChangeAnswer, covariant=True)
A = TypeVar("A", bound=ChangeAnswer)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange(Generic[A_co]):
    """A change that has been decided but not made; without writes there is nothing to do."""

    answer: A_co
    writes: Sequence[Write] = ()
    action: str
    """For the audit, such as ``block.delete``."""
    target: str
    after: Callable[[], object] = lambda: None
    """Runs once the change is made: for what needs no transaction."""


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key, and a digest of the call it came with."""

    key: str
    request: str


@dataclass(frozen=True, slots=True)
class Done(Generic[A_co]):
    answer: A_co
    replayed: bool = False
    """True if it answers an earlier call with the same idempotency key."""


def make(
    state: State,
    decide: Callable[[], PlannedChange[A]],
    answer: type[A],
    *,
    caller: Caller,
    now_ms: int,
    once: Once | None = None,
    tries: int = 1,
) -> Done[A]:
    """Makes a change: writes all of it together with its audit record, or nothing.

    With ``tries`` above 1 a change that conflicts with another is decided again, so it must not undo a concurrent
    edit. Raises Conflict, Refused, and what the store raises.
    """
    while True:
        if once is not None and (earlier := _receipt(state, answer, caller, once)) is not None:
            return earlier
        change = decide()
        writes = list(change.writes)
        if writes:
            writes.append(_audit(change, caller, now_ms))
        if once is not None:
            receipt = Receipt(request=once.request, answer=msgspec.json.encode(change.answer).decode())
            expires_at = now_ms // 1000 + RECEIPT_KEPT_S
            id = _receipt_id(caller, once)
            writes.append(state.put(receipt, id=id, expires_at=expires_at))
        try:
            if writes:
                state.write(writes)
        except Conflict:
            # The same call may have been made twice at once; then the other one's answer is this one's.
            if once is not None and (earlier := _receipt(state, answer, caller, once)) is not None:
                return earlier
            tries -= 1
            if not tries:
                raise
        else:
            change.after()
            return Done(change.answer)


def _audit(change: PlannedChange[ChangeAnswer], caller: Caller, now_ms: int) -> Write:
    record = Audit(
        at_ms=now_ms,
        by=caller.name,
        address=caller.address,
        request=caller.request,
        action=change.action,
        target=change.target,
        detail=change.answer.detail,
        undo=change.answer.undo,
    )
    # Two calls of one millisecond differ in their content, if only in the request's id.
    id = f"{now_ms:013d}-{blake2b(record.to_json(), digest_size=4).hexdigest()}"
    return State.put(record, id=id, expires_at=now_ms // 1000 + AUDIT_KEPT_S)


def _receipt(state: State, answer: type[A], caller: Caller, once: Once) -> Done[A] | None:
    """Raises Invalid if the key came with another call before."""
    stored = state.get(Receipt, _receipt_id(caller, once))
    if stored is None:
        return None
    receipt = stored.record
    if receipt.request != once.request:
        accepted = "a key of its own for each call; this one came with another path or body before"
        raise Invalid.of([fault("header", "Idempotency-Key", once.key, accepted)])
    return Done(msgspec.json.decode(receipt.answer, type=answer), replayed=True)


def _receipt_id(caller: Caller, once: Once) -> str:
    return blake2b(f"{caller.name}\n{once.key}".encode(), digest_size=16).hexdigest()
