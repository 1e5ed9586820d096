"""The allowlist: networks that are never published, or that some rules do not block. Adding one lifts its blocks."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

from chalicelib.admin.answers import Page, at_most
from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import Fault, ForceNeeded, Invalid, fault
from chalicelib.admin.inputs import Widest, overlapping, read_network, try_network
from chalicelib.admin.listed_blocks import ListedBlocks
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.admin.rule_sets import rule_set
from chalicelib.admin.schemas import MOST_ENTRIES_AT_ONCE, AllowlistQuery, DisallowQuery, NewAllow, NewAllows
from chalicelib.core.addresses import NetworkSet, parse_network, span_of
from chalicelib.core.decisions import Standing, causes
from chalicelib.core.durations import utc_text
from chalicelib.core.exemptions import Exemptions
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.operators import Call
from chalicelib.core.wording import MOST_NAMED, commented, few, named, plural
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State, Stored

MOST_ENTRIES = 5000
"""Most entries stored, expired ones included, because every publish reads all of them."""

MOST_LIFTED_SHOWN = 1000
PATH = "/v1/allowlist"


class AllowPage(Page, frozen=True):
    entries: Annotated[list[Allow], at_most(1000)]


class AllowChange(ChangeAnswer, frozen=True, kw_only=True):
    entry: Allow | None
    """The first of the entries; null if there is none."""
    entries: Annotated[tuple[Allow, ...], at_most(MOST_ENTRIES_AT_ONCE)] = ()
    """The entries that were to be added or changed, as they are now."""
    lifted: Annotated[list[str], at_most(MOST_LIFTED_SHOWN)]
    """The first 1000 networks whose blocks were lifted because they are exempt; the detail counts all of them."""


def list_allowlist(state: State, query: AllowlistQuery, now: int) -> AllowPage:
    """Returns a page of the entries in force, in order of the network's text. Raises Invalid."""
    above = read_cursor(query.cursor, [str])[0] if query.cursor else ""
    stored = (each.record for each in state.all(Allow, above=above))
    in_force = (entry for entry in stored if entry.in_force(now))
    entries, following = page(in_force, query.limit, lambda entry: [entry.network])
    return AllowPage(now=now, entries=entries, next=following)


def allow(
    state: State,
    listed: ListedBlocks,
    new: NewAllow | NewAllows,
    *,
    widest: Widest,
    caller: Caller,
    history_s: int,
    now: int,
) -> PlannedChange[AllowChange]:
    """Adds, changes and removes entries as asked, all of them or none; lifts the blocks of networks that are now
    exempt.

    Networks that are exempt from all rules are carved out of wider blocks, whose rest stays published. ``history_s``:
    seconds for which the events of lifted blocks are kept. Raises Invalid or ForceNeeded, which name everything that is
    wrong.
    """
    forms = {"": new} if isinstance(new, NewAllow) else {f"entries[{n}].": form for n, form in enumerate(new.entries)}
    unwanted = [] if isinstance(new, NewAllow) else new.remove
    names = _parse(forms, unwanted, now)
    _require_consent(state, forms, names, widest)
    stored = state.get_many(Allow, list(names.values()))
    before = {name: each.record for name, each in stored.items() if each.record.in_force(now)}
    entries = {}
    for prefix, form in forms.items():
        name = names[prefix]
        entries[name] = Allow(
            network=name,
            comment=form.comment,
            by=caller.name,
            added_at=before[name].added_at if name in before else now,
            expires_at=form.expires_at,
            rules=tuple(dict.fromkeys(form.rules)),
        )
    removed = [stored[name] for name in before if name not in entries]
    _require_room(state, len(entries.keys() - stored.keys()) - len(removed), next(iter(entries), ""))
    added = [name for name in entries if name not in before]
    edited = [name for name, entry in entries.items() if name in before and not _same(entry, before[name])]
    lifted, kept, carved = _blocks_of(state, listed, list(entries.values()), now)
    changed = bool(added or edited or removed or lifted)
    shown = [entry if changed else before[name] for name, entry in entries.items()]
    details = [_addition([entries[name] for name in added])] if added else []
    details += (
        [f"{_entries(edited)} changed: {_edits([(before[name], entries[name]) for name in edited])}"] if edited else []
    )
    details += [f"{named([each.id for each in removed])} off the allowlist"] if removed else []
    if not details:
        details = [
            f"{named(list(entries))} already on the allowlist"
            if entries
            else f"{named(list(names.values()))} not on the allowlist"
        ]
    details += [f"lifted {plural(len(lifted), 'block')} in it"] if lifted else []
    details += [f"carved out of {plural(carved, 'wider block')}"] if carved else []
    details += [f"still blocked, because other rules blocked them too: {few(kept)}"] if kept else []
    return PlannedChange(
        answer=AllowChange(
            changed=changed,
            detail="; ".join(details),
            undo=_undo(added, [before[name] for name in [*edited, *(each.id for each in removed)]]),
            entry=next(iter(shown), None),
            entries=tuple(shown),
            lifted=[block.id for block in lifted[:MOST_LIFTED_SHOWN]],
        ),
        writes=[
            *(state.put(each, over=stored.get(each.network), expires_at=each.expires_at) for each in shown if changed),
            *(state.delete(each) for each in removed),
        ],
        action="allowlist.put",
        target=", ".join(names.values()),
        # Not in one transaction, because there may be thousands of blocks. What is on the allowlist is never published,
        # so nothing depends on it, and a repeated call lifts the rest.
        after=lambda: lift(state, lifted, now, history_s=history_s, by=caller.name),
    )


def disallow(state: State, query: DisallowQuery, now: int) -> PlannedChange[ChangeAnswer]:
    """Removes the entries for exactly the networks in ``query``. Raises Invalid."""
    networks = {str(network): network for network in (read_network(text, "query") for text in query.network)}
    stored = [each for each in state.get_many(Allow, list(networks)).values() if each.record.in_force(now)]
    present = {each.id for each in stored}
    absent = [name for name in networks if name not in present]
    details = [f"{named([each.id for each in stored])} off the allowlist"] if stored else []
    if absent:
        entries = state.exemptions(now).entries
        overlaps = [entry.network for name in absent for entry in overlapping(entries, networks[name])][:5]
        overlapped = f"; entries that overlap {'it' if len(absent) == 1 else 'them'}: {', '.join(overlaps)}"
        details.append(f"{named(absent)} not on the allowlist" + (overlapped if overlaps else ""))
    answer = ChangeAnswer(
        changed=bool(stored), detail="; ".join(details), undo=_undo([], [each.record for each in stored])
    )
    writes = [state.delete(each) for each in stored]
    return PlannedChange(answer=answer, writes=writes, action="allowlist.delete", target=", ".join(networks))


def _parse(forms: Mapping[str, NewAllow], unwanted: Sequence[str], now: int) -> dict[str, str]:
    """Returns the names of the networks by the prefixes of their fields. Raises Invalid."""
    texts = {f"{prefix}network": form.network for prefix, form in forms.items()}
    texts |= {f"remove[{n}]": text for n, text in enumerate(unwanted)}
    faults = [
        fault("body", f"{prefix}expires_at", form.expires_at, f"epoch seconds after now, which is {now}")
        for prefix, form in forms.items()
        if form.expires_at is not None and form.expires_at <= now
    ]
    names: dict[str, str] = {}
    for field, text in texts.items():
        network = try_network(text, "body", field)
        if isinstance(network, Fault):
            faults.append(network)
        elif str(network) in names.values():
            faults.append(fault("body", field, text, "each network once"))
        else:
            names[field.removesuffix("network")] = str(network)
    if not 1 <= len(texts) <= MOST_ENTRIES_AT_ONCE:
        accepted = f"1 to {MOST_ENTRIES_AT_ONCE} networks, together with those to remove"
        faults.append(fault("body", "entries", f"{len(texts)} networks", accepted))
    if faults:
        raise Invalid(*faults)
    return names


def _require_consent(state: State, forms: Mapping[str, NewAllow], names: Mapping[str, str], widest: Widest) -> None:
    """Raises ForceNeeded if an entry without force exempts very many clients, or names a rule that is not in force."""
    objections = []
    if any(form.rules for form in forms.values()):
        known = [rule.name for rule in rule_set(state).rules]
        objections += [
            fault("body", f"{prefix}rules", rule, f"rules in force, which are {', '.join(known) or 'none'}, or force")
            for prefix, form in forms.items()
            for rule in form.rules
            if rule not in known and not form.force
        ]
    for prefix, form in forms.items():
        network = parse_network(names[prefix])
        if network.prefixlen < widest[network.version] and not form.force:
            accepted = f"a prefix of at least /{widest[network.version]}, or force"
            objections.append(fault("body", f"{prefix}network", names[prefix], accepted))
    if objections:
        raise ForceNeeded("; ".join(f"{each.value}: {each.accepted}" for each in objections[:3]), objections)


def _require_room(state: State, more: int, name: str) -> None:
    """Raises Invalid if there is no room for ``more`` entries, of which ``name`` is one."""
    if more > 0 and sum(1 for _ in islice(state.all(Allow), MOST_ENTRIES)) + more > MOST_ENTRIES:
        raise Invalid(fault("body", "network", name, f"at most {MOST_ENTRIES} entries; the allowlist is full"))


def _blocks_of(
    state: State, listed: ListedBlocks, entries: Sequence[Allow], now: int
) -> tuple[list[Stored[Block]], list[str], int]:
    """Returns the blocks that ``entries`` end, the networks whose blocks stay because another rule holds them, and the
    number of blocks that are only carved."""
    exempt = Exemptions.of(entries)
    lifted: list[Stored[Block]] = []
    of_rules: list[Stored[Block]] = []
    carved = 0
    meets = NetworkSet([entry.network_value() for entry in entries]).meets
    names = sorted(each.network for each in listed.in_force(now) if meets(each.span))
    for block in state.get_many(Block, names).values():
        span = span_of(block.id)
        if exempt.networks.covers(span):
            lifted.append(block)
        elif exempt.spares(span, block.record.rule):
            of_rules.append(block)
        elif exempt.networks.meets(span):
            carved += 1
    histories = state.get_many(History, [block.id for block in of_rules])
    kept: list[str] = []
    for block in of_rules:
        history = histories[block.id].record if block.id in histories else History(network=block.id)
        others = causes(Standing(history, block.record), now)
        if all(exempt.spares(span_of(block.id), rule) for rule in others):
            lifted.append(block)
        else:
            kept.append(block.id)
    return lifted, kept, carved


def _same(entry: Allow, other: Allow) -> bool:
    return (entry.comment, entry.expires_at, entry.rules) == (other.comment, other.expires_at, other.rules)


def _edits(pairs: Sequence[tuple[Allow, Allow]]) -> str:
    """Returns in words what has changed from the first entry of each pair to the second."""
    edits = []
    for old, new in pairs[:MOST_NAMED]:
        values = {
            "comment": (f"'{old.comment}'", f"'{new.comment}'"),
            "end": (_end(old), _end(new)),
            "rules": (", ".join(old.rules) or "all", ", ".join(new.rules) or "all"),
        }
        words = ", ".join(f"{name}: {was} becomes {now}" for name, (was, now) in values.items() if was != now)
        edits.append(words if len(pairs) == 1 else f"{new.network} ({words})")
    more = len(pairs) - MOST_NAMED
    return "; ".join(edits) + (f"; and {more} more" if more > 0 else "")


def _end(entry: Allow) -> str:
    return "never" if entry.expires_at is None else utc_text(entry.expires_at)


def _addition(entries: Sequence[Allow]) -> str:
    """Returns new entries in words, with the end, the rules and the comment that all of them share."""
    ends, scopes = {entry.expires_at for entry in entries}, {entry.rules for entry in entries}
    until = f" until {utc_text(end)}" if len(ends) == 1 and (end := ends.pop()) is not None else ""
    alone = f" for {', '.join(rules)} alone" if len(scopes) == 1 and (rules := scopes.pop()) else ""
    names = named([entry.network for entry in entries])
    return f"{names} on the allowlist{alone}{until}{commented(entry.comment for entry in entries)}"


def _entries(names: Sequence[str]) -> str:
    return f"the entry for {named(names)}" if len(names) == 1 else f"the entries for {named(names)}"


def _undo(added: Sequence[str], restored: Sequence[Allow]) -> Call | None:
    """Returns the call that removes the entries for ``added`` and puts ``restored`` back; None if both are empty."""
    if not added and not restored:
        return None
    if not restored:
        return Call(method="DELETE", path=PATH, query={"network": list(added)})
    bodies: list[dict[str, Any]] = [
        {"network": each.network, "comment": each.comment, "expires_at": each.expires_at, "force": True}
        | ({"rules": list(each.rules)} if each.rules else {})
        for each in restored
    ]
    body = bodies[0] if len(bodies) == 1 and not added else {"entries": bodies, "remove": list(added)}
    return Call(method="PUT", path=PATH, body=body)
