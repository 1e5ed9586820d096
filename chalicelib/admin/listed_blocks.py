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

from chalicelib.core.addresses import NetworkSet, Span
from chalicelib.core.ipsets import BlockList, Ranked, SetGroup, Wanted, ranked
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
    ranked: Ranked
    """Its span, time and ends, as the publisher sorts them."""
    ends_at: int
    """First second at which no response applies any more. Epoch seconds."""
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

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.ranked.span[0]

    @property
    def span(self) -> Span:
        return self.ranked.span

    @property
    def blocked_at(self) -> int:
        """Epoch seconds."""
        return self.ranked.blocked_at

    def response_at(self, now: int) -> Response | None:
        """Returns the response at the epoch second ``now``, the hardest that is not over; None if all are."""
        return next((response for response, end in self.ranked.ends if now < end), None)


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
            self._list = BlockList.of({network: each.ranked for network, each in self._listed.items()})
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
    entry = ranked(block)
    family, first, _ = entry.span
    return Listed(
        network=block.network,
        ranked=entry,
        ends_at=block.ends_at,
        rule=block.rule,
        source=block.evidence.source if block.evidence else None,
        requests=block.evidence.count if block.evidence else 0,
        response=entry.ends[0][0] if len(entry.ends) == 1 else None,
        merged=block.members is not None and block.members.merged,
        place=first + (family == 6) * 2**33,
        text=f"{block.network}\n{block.rule}\n{block.comment}\n{block.by}".lower(),
    )
