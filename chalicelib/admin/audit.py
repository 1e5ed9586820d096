"""The audit: every change with its author, time and origin, and the call that undoes it."""

from collections.abc import Iterator
from typing import Annotated

from msgspec.structs import asdict

from chalicelib.admin.answers import Page, at_most
from chalicelib.admin.pagination import read_cursor, write_cursor
from chalicelib.admin.schemas import AuditQuery
from chalicelib.core.state.events import events_from
from chalicelib.core.state.operators import Audit
from chalicelib.pipeline.stored import State, Stored

RECORDS_PER_READ = 200
MOST_EXAMINED = 2000
"""Changes after which a call stops to look for matching ones."""


class AuditView(Audit, frozen=True):
    """A change that an operator made."""

    id: str


class AuditPage(Page, frozen=True):
    records: Annotated[list[AuditView], at_most(200)]
    """There may be fewer than the limit, or none, although pages follow."""


def list_audit(state: State, query: AuditQuery, now: int) -> AuditPage:
    """Returns a page of the changes that match ``query``, newest first. Raises Invalid."""
    shown: list[AuditView] = []
    last = ""
    for examined, stored in enumerate(_changes(state, query)):
        if len(shown) == query.limit or examined == MOST_EXAMINED:
            return AuditPage(now=now, records=shown, next=write_cursor([last]))
        last = stored.id
        if _matches(stored.record, query):
            shown.append(AuditView(id=stored.id, **asdict(stored.record)))
    return AuditPage(now=now, records=shown, next=None)


def _changes(state: State, query: AuditQuery) -> Iterator[Stored[Audit]]:
    """Returns the changes of the time that ``query`` names, newest first, after those of earlier pages."""
    above = "" if query.since is None else events_from(query.since * 1000)
    below = None if query.until is None else events_from(query.until * 1000)
    if query.cursor:
        below = read_cursor(query.cursor, [str])[0]
    size = RECORDS_PER_READ if query.by or query.text else query.limit + 1
    return state.newest(Audit, above=above, below=below, per_read=size)


def _matches(change: Audit, query: AuditQuery) -> bool:
    if query.by not in ("", change.by):
        return False
    texts = (change.by, change.target, change.detail)
    return not query.text or any(query.text.casefold() in text.casefold() for text in texts)
