"""The audit: every change with its author, time and origin, and the call that undoes it."""

from typing import Annotated

import msgspec

from chalicelib.admin.answers import at_most
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.core.state import Audit, Call
from chalicelib.pipeline.stored import State


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """A change that an operator made."""

    id: str
    at_ms: int
    """Time of the change. Epoch milliseconds."""
    by: str
    """Name of the token, or ARN."""
    address: str
    """Address the call came from."""
    request: str
    """API Gateway's id of the call."""
    action: str
    """Such as allowlist.put or block.delete."""
    target: str
    """The network, rule set or control that was changed."""
    detail: str
    """The change in words."""
    undo: Call | None


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    now: int
    """The server's time. Epoch seconds."""
    records: Annotated[list[AuditView], at_most(200)]
    next: str | None
    """The cursor of the next page; null on the last page."""


def records(state: State, *, limit: int, cursor: str | None, now: int) -> AuditPage:
    """Returns a page of the audit, newest first."""
    below = read_cursor(cursor, [str])[0] if cursor else None
    newest = state.all(Audit, below=below, limit=limit + 1, descending=True)
    shown, following = page(newest, limit, lambda stored: [stored.id])
    views = []
    for stored in shown:
        record = stored.record
        views.append(
            AuditView(
                id=stored.id,
                at_ms=record.at_ms,
                by=record.by,
                address=record.address,
                request=record.request,
                action=record.action,
                target=record.target,
                detail=record.detail,
                undo=record.undo,
            )
        )
    return AuditPage(now=now, records=views, next=following)
