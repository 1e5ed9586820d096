"""Blocks: which are in force, made by hand, lifted."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from chalicelib.admin.changes import Caller, Change, Changed
from chalicelib.admin.networks import Widest, allowed_now, covering, overlapping, try_network
from chalicelib.admin.pages import page, read_cursor
from chalicelib.admin.refusals import Fault, ForceNeeded, Invalid, fault
from chalicelib.admin.words import plural, reason, roughly
from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.rules import LONGEST_BLOCK_S
from chalicelib.core.state import Allow, Block, Call, Evidence, History
from chalicelib.enforce import CLIENTS_A_WRITE
from chalicelib.ports import Conflict, Delete, Item, Put, StateStore, Write
from chalicelib.sweep import ended

MOST_AT_ONCE = 40
"""Networks in one call. Block, history, audit record and receipt have to fit into one transaction of 100."""

PATH = "/v1/blocks"
MOST_NAMED = 3
"""Networks named in a sentence; the others are counted."""


class BlockView(msgspec.Struct, frozen=True, kw_only=True):
    """A block as operators see it."""

    network: str
    rule: str
    blocked_at: int
    until: int
    offence: int
    evidence: Evidence | None
    comment: str
    by: str
    withheld: bool
    """It overlaps the allowlist and is in no IP set."""
    reason: str


class BlockPage(msgspec.Struct, frozen=True, kw_only=True):
    now: int
    total: int
    blocks: list[BlockView]
    next: str | None


class BlockChange(Changed, frozen=True, kw_only=True):
    blocks: list[BlockView]


class UnblockChange(Changed, frozen=True, kw_only=True):
    lifted: list[BlockView]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    rule: str | None = None
    source: str | None = None
    text: str | None = None
    """In network, rule, comment or maker, in any case; or an address or network that the block overlaps."""

    def test(self) -> Callable[[Block], bool]:
        text = (self.text or "").lower()
        network = None
        with suppress(ValueError):
            network = parse_network(text)

        def matches(block: Block) -> bool:
            if self.rule is not None and block.rule != self.rule:
                return False
            if self.source is not None and (block.evidence is None or block.evidence.source != self.source):
                return False
            words = f"{block.network}\n{block.rule}\n{block.comment}\n{block.by}".lower()
            return text in words or (network is not None and block.parsed().overlaps(network))

        return matches


ORDERS: dict[str, Callable[[Block], int]] = {
    "blocked_at": lambda block: block.blocked_at,
    "until": lambda block: block.until,
    "count": lambda block: block.evidence.count if block.evidence else 0,
    "network": lambda block: int(block.parsed().network_address) + (block.parsed().version == 6) * 2**33,
}


def view(block: Block, allowlist: NetworkSet) -> BlockView:
    return BlockView(
        network=block.network,
        rule=block.rule,
        blocked_at=block.blocked_at,
        until=block.until,
        offence=block.offence,
        evidence=block.evidence,
        comment=block.comment,
        by=block.by,
        withheld=allowlist.overlaps(block.parsed()),
        reason=reason(block),
    )


def blocks(
    state: StateStore, wanted: Filter, *, sort: str, limit: int, cursor: str | None, allowlist: NetworkSet, now: int
) -> BlockPage:
    """``sort``: a key of ``ORDERS``, with '-' in front for descending order."""
    order, sign = ORDERS[sort.removeprefix("-")], -1 if sort.startswith("-") else 1

    def place(block: Block) -> tuple[int, str]:
        return sign * order(block), block.network

    matches = wanted.test()
    read = (Block.read(item.body) for item in state.query(Block.kind))
    found = sorted((block for block in read if block.until > now and matches(block)), key=place)
    after = tuple(read_cursor(cursor, [int, str])) if cursor else None
    rest = [block for block in found if after is None or place(block) > after]
    some, following = page(rest, limit, place)
    return BlockPage(now=now, total=len(found), blocks=[view(block, allowlist) for block in some], next=following)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A block to be made by hand, as the caller wrote it."""

    network: str
    block_for: str
    comment: str = ""
    force: bool = False


def block(
    state: StateStore, wishes: Sequence[Wish], *, single: bool, widest: Widest, caller: Caller, now: int
) -> Change:
    """Blocks every network wished for, or none. ``single``: the caller wrote one, not a list of them.

    Raises Invalid and ForceNeeded, each with everything that is wrong.
    """
    made = _checked(wishes, single, caller, now)
    allowed = allowed_now(state, now)
    allowlist = NetworkSet(entry.parsed() for entry in allowed)
    objections = []
    for number, (wish, network, _) in enumerate(made):
        if not wish.force:
            why = _objection(network, overlapping(allowed, network), widest, caller)
            objections += [fault("body", _field(number, single), str(network), text) for text in why]
    if objections:
        raise ForceNeeded(
            "; ".join(f"{objection.value}: {objection.accepted}" for objection in objections[:3]), objections
        )
    stored = state.get_many(Block.kind, [block.network for _, _, block in made])
    writes, undos = [], []
    for _, _, block in made:
        held = stored.get(block.network)
        before = Block.read(held.body) if held else None
        version = held.version if held else 0
        writes.append(Put(Item(kind=block.kind, id=block.network, body=block.body(), version=version)))
        undos.append(before if before is not None and before.until > now else None)
    names = [block.network for _, _, block in made]
    length = {block.until - now for _, _, block in made}
    detail = f"{_named(names)} blocked for {roughly(max(length))}" + ("" if len(length) == 1 else " at most")
    replaced = [before for before in undos if before is not None]
    if not replaced:
        undo = Call(method="DELETE", path=PATH, query={"network": names})
    elif len(replaced) == len(made):
        undo = _again(replaced, now)
    else:
        # One call cannot both lift and restore; lifting all leaves nobody blocked whom nobody wanted blocked.
        undo = Call(method="DELETE", path=PATH, query={"network": names})
        detail += f"; {plural(len(replaced), 'block')} replaced"
    views = [view(block, allowlist) for _, _, block in made]
    withheld = [block.network for block in views if block.withheld]
    if withheld:
        detail += f"; {_named(withheld)} withheld, for overlapping the allowlist"
    answer = BlockChange(changed=True, detail=detail, undo=undo, blocks=views)
    return Change(answer=answer, writes=writes, action="block.post", target=", ".join(names))


def unblock(state: StateStore, networks: Sequence[Network], *, forget: bool, allowlist: NetworkSet, now: int) -> Change:
    """Lifts the blocks of exactly these networks; what is not blocked is left alone.

    Requests made until now may have been refused already, and do not count as new offences. ``forget`` wipes the
    offences as well.
    """
    names = list(dict.fromkeys(map(str, networks)))
    items = {id: item for id, item in state.get_many(Block.kind, names).items() if Block.read(item.body).until > now}
    histories = state.get_many(History.kind, names)
    lifted = [Block.read(items[name].body) for name in names if name in items]
    forgotten = [name for name in names if forget and name in histories and History.read(histories[name].body).rules]
    writes: list[Write] = [Delete(items[block.network]) for block in lifted]
    for name in dict.fromkeys([*(block.network for block in lifted), *forgotten]):
        history = ended(name, histories.get(name), now)
        writes.append(Put(_without_offences(history) if forget else history))
    target = ", ".join(names)
    if not writes:
        detail = f"{_named(names)} not blocked" + _wider(state, networks[:MOST_NAMED], now)
        answer = UnblockChange(changed=False, detail=detail, lifted=[])
        return Change(answer=answer, action="block.delete", target=target)
    detail = f"{_named([block.network for block in lifted])} no longer blocked" if lifted else ""
    if forgotten:
        detail += ("; " if detail else "") + f"the offences of {_few(forgotten)} are forgotten"
    # Nothing brings forgotten offences back.
    undo = _again(lifted, now) if lifted else None
    answer = UnblockChange(changed=True, detail=detail, undo=undo, lifted=[view(block, allowlist) for block in lifted])
    return Change(answer=answer, writes=writes, action="block.delete", target=target)


def _wider(state: StateStore, networks: Sequence[Network], now: int) -> str:
    """Blocks of wider networks, which may be what the caller means: an IPv6 client is blocked with its /64."""
    names = [name for network in networks for name in covering(network)[1:]]
    found = [
        block for item in state.get_many(Block.kind, names).values() if (block := Block.read(item.body)).until > now
    ]
    return f" by themselves; blocked is {_few([block.network for block in found])}, which holds them" if found else ""


def lift(state: StateStore, items: Sequence[Item], now: int) -> None:
    """Lifts blocks in as many transactions as it takes; one that has changed meanwhile is left alone."""
    for start in range(0, len(items), CLIENTS_A_WRITE):
        some = items[start : start + CLIENTS_A_WRITE]
        histories = state.get_many(History.kind, [item.id for item in some])
        writes: list[Write] = []
        for item in some:
            writes += [Delete(item), Put(ended(item.id, histories.get(item.id), now))]
        try:
            state.write(writes)
        except Conflict:
            if len(some) > 1:
                half = len(some) // 2
                lift(state, some[:half], now)
                lift(state, some[half:], now)


def _checked(wishes: Sequence[Wish], single: bool, caller: Caller, now: int) -> list[tuple[Wish, Network, Block]]:
    """Each wish with its network and block. Raises Invalid."""
    faults, made, seen = [], [], set()
    for number, wish in enumerate(wishes):
        field = _field(number, single)
        network = try_network(wish.network, "body", field)
        seconds = _seconds(wish.block_for, _field(number, single, "block_for"))
        faults += [found for found in (network, seconds) if isinstance(found, Fault)]
        if isinstance(network, Fault) or isinstance(seconds, Fault):
            continue
        if network.prefixlen == 0:
            faults.append(fault("body", field, wish.network, "a prefix longer than /0, which AWS WAF does not take"))
        elif network in seen:
            faults.append(fault("body", field, wish.network, "each network once"))
        seen.add(network)
        block = Block(network=str(network), blocked_at=now, until=now + seconds, comment=wish.comment, by=caller.name)
        made.append((wish, network, block))
    if faults:
        raise Invalid.of(faults)
    return made


def _seconds(text: str, field: str) -> int | Fault:
    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        return fault("body", field, text, str(exc))
    if not 1 <= seconds <= LONGEST_BLOCK_S:
        return fault("body", field, text, f"1s .. {format_duration(LONGEST_BLOCK_S)}")
    return seconds


def _objection(network: Network, allowed: Sequence[Allow], widest: Widest, caller: Caller) -> Iterable[str]:
    if allowed:
        first = allowed[0]
        told = f"{first.network} ({first.comment})" if first.comment else first.network
        yield f"it overlaps {told} on the allowlist; with force it is stored, and withheld from the IP sets"
    if NetworkSet([parse_network(caller.address)]).overlaps(network):
        yield f"it holds {caller.address}, the address you call from; with force it is blocked all the same"
    if widest.refuses(network):
        yield f"it is wider than /{widest.prefix(network)}; with force it is blocked all the same"


def _again(blocks: Iterable[Block], now: int) -> Call:
    """Blocks for what is left of ``blocks``; by hand, so that no rule answers for them."""
    again = [
        {
            "network": block.network,
            "block_for": format_duration(block.until - now),
            "comment": block.comment if block.manual else f"again: {reason(block)}",
            "force": True,
        }
        for block in blocks
    ]
    return Call(method="POST", path=PATH, body={"blocks": again})


def _without_offences(item: Item) -> Item:
    return replace(item, body=msgspec.structs.replace(History.read(item.body), rules={}).body())


def _field(number: int, single: bool, name: str = "network") -> str:
    return name if single else f"blocks[{number}].{name}"


def _named(names: Sequence[str]) -> str:
    return f"{_few(names)} {'is' if len(names) == 1 else 'are'}"


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
