"""Changes: decided first, then written together with their audit record, and once for an idempotency key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from chalicelib.admin.errors import Invalid, fault
from chalicelib.core.state import Audit, Call, Receipt
from chalicelib.core.tokens import Role
from chalicelib.ports import Conflict, Item, Put, StateStore, Write

AUDIT_KEPT_S = 400 * 86400
RECEIPT_KEPT_S = 86400


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call."""

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
    """False: everything was so already."""
    detail: str
    undo: Call | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """A change that has been decided and not yet made; without writes there is nothing to do."""

    answer: ChangeAnswer
    writes: Sequence[Write] = ()
    action: str
    """For the audit, such as ``block.delete``."""
    target: str


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key, and a digest of the call it came with."""

    key: str
    request: str


@dataclass(frozen=True, slots=True)
class Done:
    answer: bytes
    """JSON."""
    replayed: bool = False
    """It is the answer to the first call with the same idempotency key."""


def make(
    state: StateStore,
    decide: Callable[[], PlannedChange],
    *,
    caller: Caller,
    now_ms: int,
    once: Once | None = None,
    tries: int = 1,
) -> Done:
    """Makes a change: all of its writes and its audit record, or nothing.

    ``tries`` above 1 decides again after somebody else was quicker: only for changes that lose nobody's edit.
    Raises Conflict, Refused, and what the store raises.
    """
    for left in reversed(range(tries)):
        if once is not None and (earlier := _receipt(state, caller, once)) is not None:
            return earlier
        change = decide()
        answer = msgspec.json.encode(change.answer)
        writes = list(change.writes)
        if writes:
            writes.append(Put(_audit(change, caller, now_ms)))
        if once is not None:
            receipt = Receipt(request=once.request, answer=answer.decode())
            expires_at = now_ms // 1000 + RECEIPT_KEPT_S
            id = _receipt_id(caller, once)
            writes.append(Put(Item(kind=receipt.kind, id=id, body=receipt.to_json(), expires_at=expires_at)))
        try:
            if writes:
                state.write(writes)
        except Conflict:
            # The same call may have been made twice at once: then the other one's answer is this one's.
            if once is not None and (earlier := _receipt(state, caller, once)) is not None:
                return earlier
            if not left:
                raise
            continue
        return Done(answer)
    raise AssertionError("unreachable")


def _audit(change: PlannedChange, caller: Caller, now_ms: int) -> Item:
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
    return Item(kind=record.kind, id=id, body=record.to_json(), expires_at=now_ms // 1000 + AUDIT_KEPT_S)


def _receipt(state: StateStore, caller: Caller, once: Once) -> Done | None:
    """Raises Invalid if the key came with another call before."""
    item = state.get(Receipt.kind, _receipt_id(caller, once))
    if item is None:
        return None
    receipt = Receipt.from_json(item.body)
    if receipt.request != once.request:
        accepted = "a key of its own for each call; this one came with another path or body before"
        raise Invalid.of([fault("header", "Idempotency-Key", once.key, accepted)])
    return Done(receipt.answer.encode(), replayed=True)


def _receipt_id(caller: Caller, once: Once) -> str:
    return blake2b(f"{caller.name}\n{once.key}".encode(), digest_size=16).hexdigest()
