"""Who changed what, when, from where, and the call that undoes it."""

import msgspec

from chalicelib.admin.pagination import page, read_cursor
from chalicelib.core.state import Audit, Call
from chalicelib.ports import StateStore


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    at_ms: int
    by: str
    address: str
    request: str
    action: str
    target: str
    detail: str
    undo: Call | None


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    now: int
    records: list[AuditView]
    next: str | None


def records(state: StateStore, *, limit: int, cursor: str | None, now: int) -> AuditPage:
    """Newest first."""
    below = read_cursor(cursor, [str])[0] if cursor else None
    items = state.query(Audit.kind, below=below, limit=limit + 1, descending=True)
    some, following = page(items, limit, lambda item: [item.id])
    views = []
    for item in some:
        record = Audit.from_json(item.body)
        views.append(
            AuditView(
                id=item.id,
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
