"""Blocking and unblocking by hand, one network or some, all or none."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from chalicelib.admin.answers import at_most
from chalicelib.admin.blocks import BlockView, view
from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import Fault, ForceNeeded, Invalid, fault
from chalicelib.admin.networks import Widest, covering, overlapping, try_network
from chalicelib.admin.schemas import MOST_NETWORKS, NewBlock, NewBlocks
from chalicelib.admin.wording import plural, reason, roughly
from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.rules import LONGEST_BLOCK_S
from chalicelib.core.state import Allow, Block, Call, History
from chalicelib.pipeline.lifting import ended, writes_to_lift
from chalicelib.pipeline.stored import State, networks_of

PATH = "/v1/blocks"
MOST_NAMED = 3
"""Networks named in a sentence; the others are counted."""


class BlockChange(ChangeAnswer, frozen=True, kw_only=True):
    blocks: Annotated[list[BlockView], at_most(MOST_NETWORKS)]


class UnblockChange(ChangeAnswer, frozen=True, kw_only=True):
    lifted: Annotated[list[BlockView], at_most(MOST_NETWORKS)]
    """The blocks as they stood."""


def block(
    state: State, new: NewBlock | NewBlocks, *, widest: Widest, caller: Caller, now: int
) -> PlannedChange[BlockChange]:
    """Blocks every network in ``new``, or none.

    A block of the same network is replaced. Raises Invalid and ForceNeeded, each with everything that is wrong.
    """
    single = isinstance(new, NewBlock)
    wishes = [new] if isinstance(new, NewBlock) else new.blocks
    made = _checked(wishes, single, caller, now)
    allowed = state.allowed(now)
    allowlist = networks_of(allowed)
    objections = []
    for number, (wish, network, _) in enumerate(made):
        if not wish.force:
            why = _objection(network, overlapping(allowed, network), widest, caller)
            objections += [fault("body", _field(number, single), str(network), text) for text in why]
    if objections:
        raise ForceNeeded(
            "; ".join(f"{objection.value}: {objection.accepted}" for objection in objections[:3]), objections
        )
    blocks = [block for _, _, block in made]
    names = [block.network for block in blocks]
    stored = state.get_many(Block, names)
    writes = [state.put(block, over=stored.get(block.network)) for block in blocks]
    replaced = {id: block.record for id, block in stored.items() if block.record.in_force(now)}
    length = {block.until - now for block in blocks}
    detail = f"{_named(names)} blocked for {roughly(max(length))}" + ("" if len(length) == 1 else " at most")
    if replaced:
        detail += f"; {plural(len(replaced), 'block')} replaced"
    views = [view(block, allowlist) for block in blocks]
    withheld = [block.network for block in views if block.withheld]
    if withheld:
        detail += f"; {_named(withheld)} withheld, for overlapping the allowlist"
    answer = BlockChange(changed=True, detail=detail, undo=_unmade(names, replaced, now), blocks=views)
    return PlannedChange(answer=answer, writes=writes, action="block.post", target=", ".join(names))


def unblock(
    state: State, networks: Sequence[Network], *, forget: bool, allowlist: NetworkSet, now: int
) -> PlannedChange[UnblockChange]:
    """Lifts the blocks of exactly these networks; what is not blocked is left alone.

    Requests made until now may have been refused already, and do not count as new offences. ``forget`` wipes the
    offences as well.
    """
    names = list(dict.fromkeys(map(str, networks)))
    stored = state.get_many(Block, names)
    blocks = [stored[name] for name in names if name in stored and stored[name].record.in_force(now)]
    lifted = [block.record for block in blocks]
    histories = state.get_many(History, names)
    forgotten = [name for name in names if forget and name in histories and histories[name].record.rules]
    writes = writes_to_lift(blocks, histories, now, forget=forget)
    for name in forgotten:
        if all(block.id != name for block in blocks):
            writes.append(ended(name, histories[name], now, forget=True))
    target = ", ".join(names)
    if not writes:
        detail = f"{_named(names)} not blocked" + _wider(state, networks[:MOST_NAMED], now)
        answer = UnblockChange(changed=False, detail=detail, lifted=[])
        return PlannedChange(answer=answer, action="block.delete", target=target)
    detail = f"{_named([block.network for block in lifted])} no longer blocked" if lifted else ""
    if forgotten:
        detail += ("; " if detail else "") + f"the offences of {_few(forgotten)} are forgotten"
    # Nothing brings forgotten offences back.
    undo = _again(lifted, now) if lifted else None
    answer = UnblockChange(changed=True, detail=detail, undo=undo, lifted=[view(block, allowlist) for block in lifted])
    return PlannedChange(answer=answer, writes=writes, action="block.delete", target=target)


def _wider(state: State, networks: Sequence[Network], now: int) -> str:
    """Blocks of wider networks, which may be what the caller means: an IPv6 client is blocked with its /64."""
    names = [name for network in networks for name in covering(network)[1:]]
    wider = [block.id for block in state.get_many(Block, names).values() if block.record.in_force(now)]
    return f" by themselves; blocked is {_few(wider)}, which holds them" if wider else ""


def _checked(
    wishes: Sequence[NewBlock], single: bool, caller: Caller, now: int
) -> list[tuple[NewBlock, Network, Block]]:
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
    if _holds(network, caller.address):
        yield f"it holds {caller.address}, the address you call from; with force it is blocked all the same"
    if widest.refuses(network):
        yield f"it is wider than /{widest.prefix(network)}; with force it is blocked all the same"


def _holds(network: Network, address: str) -> bool:
    """Returns whether ``address`` is in ``network``; API Gateway's own test calls come from no address."""
    try:
        return parse_network(address).overlaps(network)
    except ValueError:
        return False


def _unmade(names: Sequence[str], replaced: Mapping[str, Block], now: int) -> Call:
    """Undoes new blocks. One call cannot both lift and restore; what it cannot lift, it ends a second later."""
    if not replaced:
        return Call(method="DELETE", path=PATH, query={"network": list(names)})
    ended_soon = [Block(network=name, blocked_at=now, until=now + 1, comment="undone") for name in names]
    return _again([replaced.get(block.network, block) for block in ended_soon], now)


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


def _field(number: int, single: bool, name: str = "network") -> str:
    return name if single else f"blocks[{number}].{name}"


def _named(names: Sequence[str]) -> str:
    return f"{_few(names)} {'is' if len(names) == 1 else 'are'}"


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
