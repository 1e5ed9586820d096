"""The audit: every change with its author, time and origin, and the call that undoes it."""

from typing import Annotated

from msgspec.structs import asdict

from chalicelib.admin.answers import Page, at_most
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.admin.schemas import AuditQuery
from chalicelib.core.state import Audit
from chalicelib.pipeline.stored import State


class AuditView(Audit, frozen=True):
    """A change that an operator made."""

    id: str


class AuditPage(Page, frozen=True):
    records: Annotated[list[AuditView], at_most(200)]


def list_audit(state: State, query: AuditQuery, now: int) -> AuditPage:
    """Returns a page of the audit, newest first. Raises Invalid."""
    below = read_cursor(query.cursor, [str])[0] if query.cursor else None
    newest = state.all(Audit, below=below, limit=query.limit + 1, descending=True)
    records, following = page(newest, query.limit, lambda stored: [stored.id])
    views = [AuditView(id=stored.id, **asdict(stored.record)) for stored in records]
    return AuditPage(now=now, records=views, next=following)
