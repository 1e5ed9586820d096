"""The stored blocks, for calls that list or count all of them.

A call reads every block from the store, so that it shows every change made before it. But decoding 100,000
blocks takes seconds. So a container remembers what it has decoded, and decodes only those blocks again whose bodies
have changed since its last call.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from operator import attrgetter
from typing import NamedTuple

from chalicelib.core.addresses import NetworkSet, Span, span_of
from chalicelib.core.ipsets import BlockList, SetGroup, Wanted
from chalicelib.core.responses import Response
from chalicelib.core.state.blocks import Block
from chalicelib.pipeline.stored import State, read_item
from chalicelib.ports import Item

STRETCH = 128
"""Items that are compared one by one if they differ."""

_BY_ID = attrgetter("id")


class Listed(NamedTuple):
    """The fields of a block that lists and counts need."""

    network: str
    family: int
    """4 or 6."""
    span: Span
    blocked_at: int
    """Epoch seconds."""
    ends_at: int
    """First second at which no response applies any more. Epoch seconds."""
    ends: tuple[tuple[Response, int], ...]
    """The first second at which each response is over, the hardest first. Epoch seconds."""
    rule: str
    source: str | None
    """The log in which its requests were; None without evidence."""
    requests: int
    """Requests that led to it; 0 without evidence."""
    response: Response | None
    """The response, if there is only one; None for several, one after the other."""
    merged: bool
    """True for a guilty network with fewer members than the rules ask for."""
    place: int
    """Place of the network in numeric order."""
    text: str
    """Network, rule, comment and author, in lower case."""

    def response_at(self, now: int) -> Response | None:
        """Returns the response at the epoch second ``now``, the hardest that is not over; None if all are."""
        return next((response for response, end in self.ends if now < end), None)


class ListedBlocks:
    """The blocks as one container decodes them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._items: list[Item] = []
        """The items of the last reading, readable or not, in order of id."""
        self._listed: dict[str, Listed] = {}
        """Those that were not over at the last call."""
        self._ends: list[tuple[int, str]] = []
        """A heap of the ends of these blocks, and of blocks that were replaced since."""
        self._list: BlockList | None = None
        """The same blocks, as the publisher sorts them; None until they are asked for."""

    def in_force(self, now: int) -> list[Listed]:
        """Returns the blocks in force at the epoch second ``now``, in no order. Raises what the state store raises."""
        self._read()
        while self._ends and self._ends[0][0] <= now:
            _, network = heappop(self._ends)
            if network in self._listed and self._listed[network].ends_at <= now:
                del self._listed[network]
        return list(self._listed.values())

    def block(self, listed: Listed) -> Block:
        """Returns the whole block, as it was last read."""
        return Block.from_json(self._items[bisect_left(self._items, listed.network, key=_BY_ID)].body)

    def wanted(self, allowlist: NetworkSet, rooms: Mapping[SetGroup, int], now: int) -> Wanted:
        """Returns the networks to publish for the blocks that ``in_force`` has read."""
        if self._list is None:
            self._list = BlockList(map(self.block, self._listed.values()))
        return self._list.wanted(allowlist, rooms, now)

    def _read(self) -> None:
        """Reads all blocks, and decodes those that have changed."""
        items = self._state.items(Block)
        for network, item in differences(self._items, items):
            block = None if item is None else read_item(item)
            self._replace(network, block if isinstance(block, Block) else None)
        self._items = items

    def _replace(self, network: str, block: Block | None) -> None:
        self._listed.pop(network, None)
        if block is not None:
            self._listed[network] = _listed(block)
            heappush(self._ends, (block.ends_at, network))
        if self._list is not None:
            self._list.replace(network, block)


def differences(before: list[Item], after: list[Item]) -> Iterator[tuple[str, Item | None]]:
    """Yields the id of each item that differs between two lists in order of id, with the item in ``after``, if any.

    Equal stretches are compared as lists, which takes a fraction of the time of looking at each item.
    """
    if before == after:
        return
    longer = max(before, after, key=len)
    if len(longer) > STRETCH:
        middle = longer[len(longer) // 2].id
        at, then = (bisect_left(items, middle, key=_BY_ID) for items in (before, after))
        yield from differences(before[:at], after[:then])
        yield from differences(before[at:], after[then:])
        return
    old, new = ({item.id: item for item in items} for items in (before, after))
    yield from ((id, new.get(id)) for id in sorted(old.keys() | new.keys()) if old.get(id) != new.get(id))


def _listed(block: Block) -> Listed:
    span = span_of(block.network)
    ends = tuple(block.ends.items()) if block.softer else ((Response.BLOCK, block.until),)
    return Listed(
        network=block.network,
        family=span[0],
        span=span,
        blocked_at=block.blocked_at,
        ends_at=block.ends_at,
        ends=ends,
        rule=block.rule,
        source=block.evidence.source if block.evidence else None,
        requests=block.evidence.count if block.evidence else 0,
        response=ends[0][0] if len(ends) == 1 else None,
        merged=block.members is not None and block.members.merged,
        place=span[1] + (span[0] == 6) * 2**33,
        text=f"{block.network}\n{block.rule}\n{block.comment}\n{block.by}".lower(),
    )
