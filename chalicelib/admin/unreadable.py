"""Stored records that cannot be read: an operator looks at one, removes it, and can put it back."""

from chalicelib.admin.answers import TimedAnswer
from chalicelib.admin.changes import ChangeAnswer, PlannedChange
from chalicelib.admin.errors import Invalid, NotFound, fault
from chalicelib.admin.schemas import LONGEST_RECORD, RecordQuery, UnreadableRecord
from chalicelib.core.state.operators import Audit, Call, Receipt
from chalicelib.core.state.records import Unreadable
from chalicelib.pipeline.stored import State, read_item
from chalicelib.ports import Delete, Item, Put

PATH = "/v1/unreadable"
KEPT = (Audit.kind, Receipt.kind)
"""Kinds from which nothing is removed by hand."""


class UnreadableView(TimedAnswer, frozen=True, kw_only=True):
    """A stored record that cannot be read."""

    kind: str
    id: str
    reason: str
    """The reason why it cannot be read."""
    body: str
    """The record as it is stored."""
    expires_at: int | None
    """When the store may remove it; null for never. Epoch seconds."""


def show_unreadable(state: State, query: RecordQuery, now: int) -> UnreadableView:
    """Returns a record that cannot be read. Raises NotFound if there is none, or if it can be read."""
    stored = _unreadable(state, query.kind, query.id)
    if isinstance(stored, str):
        raise NotFound(f"{stored[0].upper()}{stored[1:]}.")
    item, unreadable = stored
    return UnreadableView(
        now=now, kind=item.kind, id=item.id, reason=unreadable.reason, body=_text(item), expires_at=item.expires_at
    )


def remove_unreadable(state: State, query: RecordQuery) -> PlannedChange[ChangeAnswer]:
    """Removes a record that cannot be read, and no other.

    Raises Invalid for a record of the audit, a receipt, and one that is too long to be put back.
    """
    target = f"{query.kind} {query.id}"
    stored = _unreadable(state, query.kind, query.id)
    if isinstance(stored, str):
        return PlannedChange(answer=ChangeAnswer(changed=False, detail=stored), action="record.delete", target=target)
    if query.kind in KEPT:
        accepted = "a kind other than audit, which is kept complete, and receipt, which expires within a day"
        raise Invalid(fault("query", "kind", query.kind, accepted))
    item, _ = stored
    body = {"kind": item.kind, "id": item.id, "body": _text(item), "expires_at": item.expires_at}
    if len(_text(item)) > LONGEST_RECORD:
        accepted = f"a record of at most {LONGEST_RECORD:,} characters; a longer one could not be put back"
        raise Invalid(fault("query", "id", query.id, accepted))
    return PlannedChange(
        answer=ChangeAnswer(changed=True, detail=f"{target} is removed", undo=Call(method="PUT", path=PATH, body=body)),
        writes=[Delete(item)],
        action="record.delete",
        target=target,
    )


def restore_unreadable(state: State, form: UnreadableRecord) -> PlannedChange[ChangeAnswer]:
    """Puts back a record that cannot be read. Raises Invalid for one that can, and for an id that is taken."""
    target = f"{form.kind} {form.id}"
    item = Item(kind=form.kind, id=form.id, body=form.body.encode(), expires_at=form.expires_at)
    if not isinstance(read_item(item), Unreadable):
        raise Invalid(fault("body", "body", form.body, "a record that cannot be read; others have their own calls"))
    stored = state.item(form.kind, form.id)
    if stored is not None and stored.body != item.body:
        raise Invalid(fault("body", "id", form.id, "an id under which nothing is stored"))
    undo = Call(method="DELETE", path=PATH, query={"kind": [form.kind], "id": [form.id]})
    changed = ChangeAnswer(changed=True, detail=f"{target} is put back, although it cannot be read", undo=undo)
    unchanged = ChangeAnswer(changed=False, detail=f"{target} is stored already")
    return PlannedChange(
        answer=changed if stored is None else unchanged,
        writes=[Put(item)] if stored is None else [],
        action="record.put",
        target=target,
    )


def _unreadable(state: State, kind: str, id: str) -> tuple[Item, Unreadable] | str:
    """Returns what is stored under an id and cannot be read, or a clause that says why there is no such record."""
    item = state.item(kind, id)
    record = item and read_item(item)
    if item is None or record is None:
        return f"there is no {kind} record {id}"
    return (item, record) if isinstance(record, Unreadable) else f"the {kind} record {id} can be read"


def _text(item: Item) -> str:
    return item.body.decode(errors="replace")
