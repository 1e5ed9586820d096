"""The networks that belong in the WAF IP sets, and the updates that put them there.

AWS accepts at most 10,000 networks and one family per set, no ``/0`` and no host bits (AWS WAF quotas; UpdateIPSet).
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, nlargest
from typing import NamedTuple

from chalicelib.core.addresses import Network, NetworkSet, Span, span_of
from chalicelib.core.cover import Cover
from chalicelib.core.state import Block

CAPACITY = 10_000
"""Most networks in one IP set: a fixed AWS quota."""


@dataclass(frozen=True, slots=True)
class IpSet:
    """A configured WAF IP set."""

    name: str
    id: str
    family: int
    """4 or 6."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The contents that the IP sets should have."""

    networks: Mapping[int, AbstractSet[Network]]
    """Networks by family, 4 and 6, collapsed so that none overlaps another. Those of a ``BlockList`` change with it."""
    allowlisted: int = 0
    """Blocks omitted because they overlap the allowlist."""
    overflow: int = 0
    """Blocks omitted because the sets are full: the oldest first, manual blocks last."""
    blocks: int = 0
    """Blocks in force."""


class _Listed(NamedTuple):
    """The part of a block that the list needs. Entries sort by rank: the greatest stay in full sets the longest."""

    manual: bool
    blocked_at: int
    span: Span
    until: int


class BlockList:
    """Blocks, and the networks to refuse for them. Its work grows with what changes, not with the number of blocks."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._blocks = {block.network: _listed(block) for block in blocks}
        self._ends = [(entry.until, network) for network, entry in self._blocks.items()]
        heapify(self._ends)
        self._ended: set[str] = set()
        self._allowlist: NetworkSet | None = None
        """The allowlist by which the blocks were sorted into the following; None before the first time."""
        self._withheld: set[str] = set()
        self._covers = {4: Cover(), 6: Cover()}
        self._unsorted: set[str] = set()

    def replace(self, network: str, block: Block | None) -> None:
        """Replaces the block of ``network``; None if it no longer has one."""
        before = self._blocks.pop(network, None)
        if before is not None:
            self._drop(network, before)
        if block is not None:
            entry = self._blocks[network] = _listed(block)
            heappush(self._ends, (entry.until, network))
            self._unsorted.add(network)

    def wanted(self, allowlist: NetworkSet, rooms: Mapping[int, int], now: int) -> Wanted:
        """Returns the networks of the blocks in force that do not overlap ``allowlist``, as many as fit.

        ``rooms``: the number of networks that fit, by family. ``now``: epoch seconds.
        """
        blocks = self.in_force(now)
        if self._allowlist is None or not self._allowlist.equals(allowlist):
            self._allowlist = allowlist
            self._sort_all()
        else:
            for network in self._unsorted:
                self._sort(network, allowlist)
        self._unsorted.clear()
        networks = {family: cover.networks for family, cover in self._covers.items()}
        overflow = 0
        for family, cover in self._covers.items():
            room = rooms.get(family, 0)
            if len(cover.networks) > room:
                ranked = [entry for entry in self._refused() if entry.span[0] == family]
                overflow += len(ranked) - room
                networks[family] = Cover(entry.span for entry in nlargest(room, ranked)).networks
        return Wanted(networks, len(self._withheld), overflow, blocks)

    def in_force(self, now: int) -> int:
        """Returns the number of blocks in force at the epoch second ``now``."""
        self._let_end(now)
        return len(self._blocks) - len(self._ended)

    def ending(self, before: int, most: int) -> tuple[str, ...]:
        """Returns the networks whose blocks are over at the epoch second ``before``; the ``most`` that end soonest."""
        ends = sorted((entry.until, network) for network, entry in self._blocks.items() if entry.until <= before)
        return tuple(network for _, network in ends[:most])

    def _refused(self) -> Iterable[_Listed]:
        """Returns the blocks in force that do not overlap the allowlist."""
        left_out = self._ended | self._withheld
        return (entry for network, entry in self._blocks.items() if network not in left_out)

    def _let_end(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, network = heappop(self._ends)
            entry = self._blocks.get(network)
            # A block that was replaced since has another end.
            if entry is not None and entry.until <= now and network not in self._ended:
                self._drop(network, entry)
                self._ended.add(network)

    def _drop(self, network: str, entry: _Listed) -> None:
        """Takes the block of ``network`` out of where it was sorted into."""
        for names in (self._unsorted, self._ended, self._withheld):
            if network in names:
                names.remove(network)
                return
        if self._allowlist is not None:
            self._covers[entry.span[0]].remove(entry.span)

    def _sort(self, network: str, allowlist: NetworkSet) -> None:
        entry = self._blocks[network]
        if allowlist.meets(entry.span):
            self._withheld.add(network)
        else:
            self._covers[entry.span[0]].add(entry.span)

    def _sort_all(self) -> None:
        assert self._allowlist is not None
        meets = self._allowlist.meets
        in_force = [(network, entry.span) for network, entry in self._blocks.items() if network not in self._ended]
        self._withheld = {network for network, span in in_force if meets(span)}
        spans = [span for network, span in in_force if network not in self._withheld]
        self._covers = {family: Cover(span for span in spans if span[0] == family) for family in (4, 6)}


def _listed(block: Block) -> _Listed:
    return _Listed(block.manual, block.blocked_at, span_of(block.network), block.until)


def wanted(blocks: Iterable[Block], allowlist: NetworkSet, rooms: Mapping[int, int], now: int) -> Wanted:
    """Returns the networks of the blocks in force that do not overlap ``allowlist``, as many as fit.

    ``rooms``: the number of networks that fit, by family. ``now``: epoch seconds.
    """
    return BlockList(blocks).wanted(allowlist, rooms, now)


def plan(
    wanted: AbstractSet[Network], published: Mapping[IpSet, frozenset[Network]]
) -> dict[IpSet, frozenset[Network]]:
    """Returns the new contents of the sets that must change so that together they hold ``wanted``.

    All sets are of one family. Networks stay in their set; new ones go to the emptiest set, so that few sets change.
    """
    kept: set[Network] = set()
    contents: dict[IpSet, set[Network]] = {}
    for ip_set, addresses in published.items():
        contents[ip_set] = set((addresses & wanted) - kept)
        kept |= contents[ip_set]
    missing = sorted(wanted - kept, key=lambda network: (int(network.network_address), network.prefixlen))
    for ip_set in sorted(contents, key=lambda s: len(contents[s])):
        room = CAPACITY - len(contents[ip_set])
        contents[ip_set].update(missing[:room])
        missing = missing[room:]
    return {s: frozenset(c) for s, c in contents.items() if c != published[s]}
