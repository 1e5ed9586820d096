"""Blocks: listing those in force, and blocking and unblocking by hand, which changes all given networks or none."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from heapq import nsmallest
from operator import attrgetter, neg
from typing import Annotated

from msgspec.structs import asdict, replace

from chalicelib.admin.answers import Page, at_most
from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import Fault, ForceNeeded, Invalid, fault
from chalicelib.admin.inputs import Widest, covering, overlapping, read_network, try_duration, try_network
from chalicelib.admin.listed_blocks import Listed, ListedBlocks
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.admin.schemas import MOST_NETWORKS, BlocksQuery, NewBlock, NewBlocks, UnblockQuery
from chalicelib.core.addresses import Network, NetworkSet, parse_network, span_of
from chalicelib.core.durations import format_duration
from chalicelib.core.events import block_event, end_event
from chalicelib.core.responses import Response
from chalicelib.core.rules import LONGEST_BLOCK_S
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.operators import Call
from chalicelib.core.state.records import Seconds
from chalicelib.core.wording import MOST_NAMED, commented, few, named, plural, reason, roughly, without_sets
from chalicelib.pipeline.block_lengths import read_lengths, writes_for
from chalicelib.pipeline.lifting import ended_at, write_to_forget, writes_to_lift
from chalicelib.pipeline.stored import State

PATH = "/v1/blocks"


class BlockView(Block, frozen=True, kw_only=True):
    """A block as operators see it."""

    withheld: bool
    """True if all of the network is on the allowlist, so that none of it is in an IP set."""
    carved: bool
    """True if parts of the network are on the allowlist. Only the rest of it is in an IP set."""
    reason: str
    """The reason in words."""
    until: Seconds
    """First second at which the block is over, with all its responses. Epoch seconds."""
    response: Response
    """The response to its requests: the hardest that is not over."""

    @classmethod
    def of(cls, block: Block, allowlist: NetworkSet, now: int) -> "BlockView":
        """Returns a block that is in force at the epoch second ``now``, as operators see it."""
        response = block.response_at(now) or Response.BLOCK
        view = {**asdict(block), "until": block.ends_at, "response": response, "reason": reason(block)}
        span = span_of(block.network)
        withheld = allowlist.covers(span)
        return cls(**view, withheld=withheld, carved=allowlist.meets(span) and not withheld)


class BlockPage(Page, frozen=True):
    total: int
    """Matching blocks on all pages."""
    blocks: Annotated[list[BlockView], at_most(1000)]


class BlockChange(ChangeAnswer, frozen=True, kw_only=True):
    blocks: Annotated[list[BlockView], at_most(MOST_NETWORKS)]


class UnblockChange(ChangeAnswer, frozen=True, kw_only=True):
    lifted: Annotated[list[BlockView], at_most(MOST_NETWORKS)]
    """The blocks as they stood."""


ORDERS = {"blocked_at": "blocked_at", "until": "ends_at", "count": "requests", "network": "place"}
"""Field of ``Listed`` by order."""


def list_blocks(blocks: ListedBlocks, state: State, query: BlocksQuery, now: int) -> BlockPage:
    """Returns a page of the blocks in force that match ``query``. Raises Invalid."""
    matching = _matching(blocks.in_force(now), query)
    places: Iterable[int] = map(attrgetter(ORDERS[query.sort.removeprefix("-")]), matching)
    if query.sort.startswith("-"):
        places = map(neg, places)
    # Tuples of their places and networks, because a key function would take longer than the rest of the call.
    ranked: Iterable[tuple[int, str, Listed]] = zip(places, map(attrgetter("network"), matching), matching, strict=True)
    if query.cursor:
        after = tuple(read_cursor(query.cursor, [int, str]))
        ranked = (each for each in ranked if each[:2] > after)
    shown, following = page(nsmallest(query.limit + 1, ranked), query.limit, lambda each: each[:2])
    allowlist = state.allowlist(now)
    views = [BlockView.of(blocks.block(block), allowlist, now) for _, _, block in shown]
    return BlockPage(now=now, total=len(matching), blocks=views, next=following)


def block(
    state: State,
    new: NewBlock | NewBlocks,
    *,
    widest: Widest,
    responses: AbstractSet[Response],
    caller: Caller,
    now: int,
) -> PlannedChange[BlockChange]:
    """Blocks every network in ``new``, or none.

    A block of the same network is replaced. ``responses``: those that have IP sets.

    Raises Invalid or ForceNeeded, which name everything that is wrong.
    """
    forms = {"": new} if isinstance(new, NewBlock) else {f"blocks[{n}].": form for n, form in enumerate(new.blocks)}
    blocks = _parse(forms, responses, caller, now)
    blocks |= _restored(state, {prefix: forms[prefix].rule for prefix in forms}, blocks)
    exempt = state.exemptions(now)
    objections = [
        fault("body", f"{prefix}network", block.network, objection)
        for prefix, block in blocks.items()
        if not forms[prefix].force
        for objection in _objections(block.network_value(), exempt.whole, widest, caller)
    ]
    if objections:
        raise ForceNeeded("; ".join(f"{each.value}: {each.accepted}" for each in objections[:3]), objections)
    names = [block.network for block in blocks.values()]
    stored = state.get_many(Block, names)
    replaced = {id: block.record for id, block in stored.items() if block.record.in_force(now)}
    over = [block.record for block in stored.values() if not block.record.in_force(now)]
    for prefix, block in blocks.items():
        if block.network in replaced:
            blocks[prefix] = replace(block, begun_at=replaced[block.network].refuses_from)
    views = [BlockView.of(block, exempt.networks, now) for block in blocks.values()]
    withheld = [block.network for block in views if block.withheld]
    carved = [block.network for block in views if block.carved]
    lengths = {block.until - now for block in views}
    answered = {block.response for block in views}
    how = "blocked" if answered == {Response.BLOCK} else f"under {' or '.join(sorted(answered))}"
    detail = f"{named(names)} {how} for {roughly(max(lengths))}" + ("" if len(lengths) == 1 else " at most")
    if replaced:
        detail += f"; {plural(len(replaced), 'block')} replaced"
    if withheld:
        detail += f"; {named(withheld)} withheld because of the allowlist"
    if carved:
        detail += f"; the allowlisted parts of {few(carved)} are not blocked"
    detail += commented(block.comment for block in blocks.values())
    return PlannedChange(
        answer=BlockChange(changed=True, detail=detail, undo=_undo(names, replaced, now), blocks=views),
        writes=[
            *(state.put(block, over=stored.get(block.network)) for block in blocks.values()),
            *writes_for(read_lengths(state), blocks.values()),
        ],
        action="block.post",
        target=", ".join(names),
        events=[
            *(end_event(block, block.ends_at) for block in over),
            *(block_event(block) for block in blocks.values()),
        ],
    )


def unblock(state: State, query: UnblockQuery, *, by: str, now: int) -> PlannedChange[UnblockChange]:
    """Lifts the blocks of exactly the given networks, and skips networks that are not blocked. Raises Invalid.

    ``by`` is the operator. Requests made until now do not count again, for any rule; later ones do. The offence behind
    a lifted block stays on record, unless ``forget`` removes all offences of the network.
    """
    networks = [read_network(text, "query") for text in query.network]
    names = list(dict.fromkeys(map(str, networks)))
    stored = state.get_many(Block, names)
    blocks = {name: stored[name] for name in names if name in stored and stored[name].record.in_force(now)}
    histories = state.get_many(History, names)
    forgotten = [name for name in names if query.forget and name in histories and histories[name].record.rules]
    writes = writes_to_lift(blocks.values(), histories, now, forget=query.forget)
    writes += [write_to_forget(name, histories[name], now) for name in forgotten if name not in blocks]
    details = []
    if blocks:
        details += [f"{named(list(blocks))} no longer blocked", "requests made so far do not count again"]
    if forgotten:
        details.append(f"the offences of {few(forgotten)} are forgotten")
    if not writes:
        details.append(f"{named(names)} not blocked")
        # The caller may mean a wider network: an IPv6 client is blocked with its /64.
        names_of_wider = [name for network in networks[:MOST_NAMED] for name in covering(network)[1:]]
        wider = [each.id for each in state.get_many(Block, names_of_wider).values() if each.record.in_force(now)]
        if wider:
            details.append(f"the wider {named(wider)}")
    lifted = [each.record for each in blocks.values()]
    allowlist = state.allowlist(now)
    answer = UnblockChange(
        changed=bool(writes),
        detail="; ".join(details),
        undo=_block_again(lifted, now) if lifted else None,
        lifted=[BlockView.of(block, allowlist, now) for block in lifted],
    )
    return PlannedChange(
        answer=answer,
        writes=writes,
        action="block.delete",
        target=", ".join(names),
        events=[end_event(block, ended_at(block, now), by) for block in lifted],
    )


def _matching(blocks: list[Listed], query: BlocksQuery) -> list[Listed]:
    if query.rule is not None:
        blocks = [block for block in blocks if block.rule == query.rule]
    if query.source is not None:
        blocks = [block for block in blocks if block.source == query.source]
    if query.text is not None:
        text, overlapping = query.text.lower(), set[str]()
        with suppress(ValueError):
            asked = NetworkSet([parse_network(text)])
            overlapping = {block.network for block in blocks if asked.meets(block.span)}
        blocks = [block for block in blocks if text in block.text or block.network in overlapping]
    return blocks


def _parse(
    forms: Mapping[str, NewBlock], responses: AbstractSet[Response], caller: Caller, now: int
) -> dict[str, Block]:
    """Returns the requested blocks under the keys of ``forms``, which are prefixes of field names. Raises Invalid."""
    faults: list[Fault] = []
    blocks: dict[str, Block] = {}
    networks: set[Network] = set()
    for prefix, form in forms.items():
        network = try_network(form.network, "body", f"{prefix}network")
        seconds = try_duration(form.block_for, f"{prefix}block_for", 1, LONGEST_BLOCK_S)
        faults += [part for part in (network, seconds) if isinstance(part, Fault)]
        if form.respond not in responses:
            faults.append(fault("body", f"{prefix}respond", form.respond, without_sets(form.respond, responses)))
        if isinstance(network, Fault) or isinstance(seconds, Fault):
            continue
        if network.prefixlen == 0:
            accepted = "a prefix of at least /1, because AWS WAF does not accept /0"
            faults.append(fault("body", f"{prefix}network", form.network, accepted))
            continue
        if network in networks:
            faults.append(fault("body", f"{prefix}network", form.network, "each network once"))
        networks.add(network)
        blocks[prefix] = Block.with_ends(
            {form.respond: now + seconds},
            network=str(network),
            blocked_at=now,
            comment=form.comment,
            by=caller.name,
        )
    if faults:
        raise Invalid(*faults)
    return blocks


def _restored(state: State, rules: Mapping[str, str | None], blocks: Mapping[str, Block]) -> dict[str, Block]:
    """Returns the blocks that are to be those of a rule, as far as the client's offence is on record.

    ``rules`` has the name of the rule, or None, by the key of the block.
    """
    named = {key: rule for key, rule in rules.items() if rule is not None}
    histories = state.get_many(History, [blocks[key].network for key in named]) if named else {}
    restored = {}
    for key, rule in named.items():
        history = histories.get(blocks[key].network)
        past = history.record.rules.get(rule) if history else None
        if past is not None:
            offence = {"rule": rule, "offence": past.offence, "evidence": replace(past.evidence, portrait=None)}
            restored[key] = replace(blocks[key], comment="", **offence)
    return restored


def _objections(network: Network, allowed: Sequence[Allow], widest: Widest, caller: Caller) -> Iterator[str]:
    """Yields each reason to block ``network`` only with force."""
    for entry in overlapping(allowed, network)[:1]:
        name = f"{entry.network} ({entry.comment})" if entry.comment else entry.network
        if network.prefixlen >= entry.network_value().prefixlen:
            yield f"{name} is on the allowlist; with force the block is stored and withheld"
        else:
            yield f"it overlaps {name} on the allowlist; with force only the rest of it is blocked"
    # API Gateway's own test calls come from no address.
    with suppress(ValueError):
        if parse_network(caller.address).overlaps(network):
            yield f"it contains {caller.address}, the address you call from; with force it is blocked anyway"
    if network.prefixlen < widest[network.version]:
        yield f"it is wider than /{widest[network.version]}; with force it is blocked anyway"


def _undo(names: Sequence[str], replaced: Mapping[str, Block], now: int) -> Call:
    """Returns the call that undoes new blocks.

    One call cannot both lift and restore blocks: if any block was replaced, the call makes the new ones that replaced
    none end after a second.
    """
    if not replaced:
        return Call(method="DELETE", path=PATH, query={"network": list(names)})
    brief = [Block(network=name, blocked_at=now, until=now + 1, comment="undone") for name in names]
    return _block_again([replaced.get(block.network, block) for block in brief], now)


def _block_again(blocks: Iterable[Block], now: int) -> Call:
    """Returns the call that blocks the same networks for the rest of their time, which counts as no offence.

    Only the hardest response that is not over is given again, until its own end: one call makes no block with several.
    The block of a client by a rule is restored as that of the rule; one of a guilty network is made by hand.
    """
    again = [
        {
            "network": block.network,
            "block_for": format_duration(block.ends[response] - now),
            "respond": str(response),
            "comment": block.comment if block.manual else f"again: {reason(block)}",
            "force": True,
            **({"rule": block.rule} if block.evidence is not None and not block.manual else {}),
        }
        for block in blocks
        if (response := block.response_at(now))
    ]
    return Call(method="POST", path=PATH, body={"blocks": again})
