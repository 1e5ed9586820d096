"""The allowlist: networks that are never published. Adding one lifts the blocks that it overlaps."""

from itertools import islice
from typing import Annotated

from chalicelib.admin.answers import Page, at_most
from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import ForceNeeded, Invalid, fault
from chalicelib.admin.inputs import Widest, overlapping, read_network
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.admin.schemas import AllowlistQuery, NetworkQuery, NewAllow
from chalicelib.core.state import Allow, Block, Call
from chalicelib.core.wording import plural
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State

MOST_ENTRIES = 5000
"""Most entries stored, expired ones included, because every publish reads all of them."""

MOST_LIFTED_SHOWN = 1000
PATH = "/v1/allowlist"


class AllowPage(Page, frozen=True):
    entries: Annotated[list[Allow], at_most(1000)]


class AllowChange(ChangeAnswer, frozen=True, kw_only=True):
    entry: Allow
    lifted: Annotated[list[str], at_most(MOST_LIFTED_SHOWN)]
    """The first 1000 networks whose blocks overlapped the entry and were lifted; the detail counts all."""


def list_allowlist(state: State, query: AllowlistQuery, now: int) -> AllowPage:
    """Returns a page of the entries in force, in order of the network's text. Raises Invalid."""
    above = read_cursor(query.cursor, [str])[0] if query.cursor else ""
    stored = (each.record for each in state.all(Allow, above=above))
    in_force = (entry for entry in stored if entry.in_force(now))
    entries, following = page(in_force, query.limit, lambda entry: [entry.network])
    return AllowPage(now=now, entries=entries, next=following)


def allow(
    state: State, new: NewAllow, *, widest: Widest, caller: Caller, history_s: int, now: int
) -> PlannedChange[AllowChange]:
    """Adds an entry or changes it, and lifts the blocks that it overlaps. Raises Invalid, ForceNeeded.

    ``history_s``: how long the events of their ends are kept.
    """
    network = read_network(new.network, "body")
    name = str(network)
    if new.expires_at is not None and new.expires_at <= now:
        raise Invalid(fault("body", "expires_at", new.expires_at, f"epoch seconds after now, which is {now}"))
    if network.prefixlen < widest[network.version] and not new.force:
        raise ForceNeeded(
            f"{name} would exempt every client in it; it is accepted only with force",
            [fault("body", "network", name, f"a prefix of at least /{widest[network.version]}, or force")],
        )
    overlapped = [block for block in state.all(Block) if block.record.network_value().overlaps(network)]
    lifted = [block.id for block in overlapped]
    stored = state.get(Allow, name)
    if stored is None and sum(1 for _ in islice(state.all(Allow), MOST_ENTRIES)) == MOST_ENTRIES:
        raise Invalid(fault("body", "network", name, f"at most {MOST_ENTRIES} entries; the allowlist is full"))
    before = stored.record if stored and stored.record.in_force(now) else None
    same = before is not None and (before.comment, before.expires_at) == (new.comment, new.expires_at)
    if before is not None and same and not lifted:
        answer = AllowChange(changed=False, detail=f"{name} is already on the allowlist", entry=before, lifted=[])
        return PlannedChange(answer=answer, action="allowlist.put", target=name)
    added_at = before.added_at if before else now
    entry = Allow(network=name, comment=new.comment, by=caller.name, added_at=added_at, expires_at=new.expires_at)
    detail = f"the entry for {name} is changed" if before and not same else f"{name} is on the allowlist"
    if lifted:
        detail += f"; lifted {plural(len(lifted), 'block')} that overlapped it"
    undo = _put_again(before) if before else Call(method="DELETE", path=PATH, query={"network": [name]})
    return PlannedChange(
        answer=AllowChange(changed=True, detail=detail, undo=undo, entry=entry, lifted=lifted[:MOST_LIFTED_SHOWN]),
        writes=[state.put(entry, over=stored, expires_at=entry.expires_at)],
        action="allowlist.put",
        target=name,
        # Not in one transaction, because there may be thousands of blocks. A block that overlaps the allowlist is
        # never published, so nothing depends on it, and a repeated call lifts the rest.
        after=lambda: lift(state, overlapped, now, history_s=history_s, by=caller.name),
    )


def disallow(state: State, query: NetworkQuery, now: int) -> PlannedChange[ChangeAnswer]:
    """Removes the entry for exactly the network in ``query``. Raises Invalid."""
    network = read_network(query.network, "query")
    name = str(network)
    stored = state.get(Allow, name)
    if stored is not None and stored.record.in_force(now):
        answer = ChangeAnswer(changed=True, detail=f"{name} is off the allowlist", undo=_put_again(stored.record))
        writes = [state.delete(stored)]
    else:
        overlaps = ", ".join(entry.network for entry in overlapping(state.exemptions(now).entries, network)[:5])
        detail = f"{name} is not on the allowlist" + (f"; entries that overlap it: {overlaps}" if overlaps else "")
        answer, writes = ChangeAnswer(changed=False, detail=detail), []
    return PlannedChange(answer=answer, writes=writes, action="allowlist.delete", target=name)


def _put_again(entry: Allow) -> Call:
    body = {"network": entry.network, "comment": entry.comment, "expires_at": entry.expires_at, "force": True}
    return Call(method="PUT", path=PATH, body=body)
