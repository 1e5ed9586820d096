"""The networks that belong in the WAF IP sets, and the updates that put them there.

Each response has IP sets of its own, of both families. A block is published in the sets of one response at a time, the
hardest that is in force. When it moves from one response to another, it arrives in the new sets before it leaves the
old ones, so that there is no moment at which AWS WAF lets its requests pass.

AWS accepts at most 10,000 networks and one family per set, no ``/0`` and no host bits (AWS WAF quotas; UpdateIPSet).
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Self

from chalicelib.core.addresses import Network, NetworkSet, Span, span_of
from chalicelib.core.carving import carved
from chalicelib.core.cover import Cover
from chalicelib.core.responses import Response, hardness
from chalicelib.core.state.blocks import Block

CAPACITY = 10_000
"""Most networks in one IP set: a fixed AWS quota."""

NEARLY_FULL = 0.9
"""Share of the capacity above which networks are merged, to leave room for the blocks of the next minutes."""


class SetGroup(NamedTuple):
    """The IP sets of one response and family."""

    response: Response
    family: int
    """4 or 6."""


GROUPS = tuple(SetGroup(response, family) for response in Response for family in (4, 6))


@dataclass(frozen=True, slots=True)
class IpSet:
    """A configured WAF IP set."""

    name: str
    id: str
    family: int
    """4 or 6."""
    response: Response = Response.BLOCK

    @property
    def group(self) -> SetGroup:
        return SetGroup(self.response, self.family)


def rooms_of(sets: Iterable[IpSet]) -> dict[SetGroup, int]:
    """Returns the number of networks that fit into ``sets``, by group."""
    numbers = Counter(ip_set.group for ip_set in sets)
    return {group: CAPACITY * number for group, number in numbers.items()}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The contents that the IP sets should have."""

    covers: Mapping[SetGroup, Cover]
    """Networks of each group. Those of a ``BlockList`` change with it."""
    allowlisted: int = 0
    """Blocks omitted because all of their addresses are on the allowlist."""
    overflow: int = 0
    """Blocks omitted, at least in part, because their response has no sets or these are full: the oldest are omitted
    first, manual blocks last."""
    blocks: int = 0
    """Blocks in force."""
    places: Mapping[SetGroup, int] = field(default_factory=dict)
    """Number of networks of each group, including those that do not fit."""

    @property
    def networks(self) -> dict[SetGroup, AbstractSet[Network]]:
        """Networks of each group, collapsed so that none overlaps another. Those of a ``BlockList`` change with it."""
        return {group: cover.networks for group, cover in self.covers.items()}

    def surplus(self, rooms: Mapping[SetGroup, int]) -> dict[SetGroup, int]:
        """Returns the number of networks beyond ``NEARLY_FULL`` of the room, by group, for groups with any room."""
        surplus = {group: self.places.get(group, 0) - int(NEARLY_FULL * room) for group, room in rooms.items() if room}
        return {group: places for group, places in surplus.items() if places > 0}


class Ranked(NamedTuple):
    """The part of a block that the list needs. Entries sort by rank: the greatest stay in full sets the longest."""

    rank: int
    """2 for a block by an operator, 1 for one by a rule, 0 for one by a feed."""
    blocked_at: int
    span: Span
    ends: tuple[tuple[Response, int], ...]
    """The responses that are not over, each with its end, the hardest first; the last one, once it is over, too."""

    @property
    def group(self) -> SetGroup:
        return SetGroup(self.ends[0][0], self.span[0])


class BlockList:
    """Blocks, and the networks to refuse for them. Its work grows with what changes, not with the number of blocks."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._fill({block.network: ranked(block) for block in blocks})

    @classmethod
    def of(cls, blocks: Mapping[str, Ranked]) -> Self:
        """Returns the list of these blocks by network, whose records need not be decoded again."""
        listed = cls()
        listed._fill(dict(blocks))
        return listed

    def _fill(self, blocks: dict[str, Ranked]) -> None:
        self._blocks = blocks
        self._ends = [(end, network) for network, entry in self._blocks.items() for _, end in entry.ends]
        """The times at which a response of a block is over, or was to be before the block was replaced."""
        heapify(self._ends)
        self._ended: set[str] = set()
        self._allowlist: NetworkSet | None = None
        """The allowlist by which the blocks were sorted into the following; None before the first time."""
        self._withheld: set[str] = set()
        self._carved: dict[Span, Sequence[Span]] = {}
        """The published parts of each network that is partly on the allowlist."""
        self._covers = {group: Cover() for group in GROUPS}
        self._ranked: dict[SetGroup, list[Ranked]] = {group: [] for group in GROUPS}
        """The blocks of which anything is to be published, by rank."""
        self._unsorted: set[str] = set()

    def replace(self, network: str, block: Block | None) -> None:
        """Replaces the block of ``network``; None if it no longer has one."""
        before = self._blocks.pop(network, None)
        if before is not None:
            self._drop(network, before)
        if block is not None:
            entry = self._blocks[network] = ranked(block)
            for _, end in entry.ends:
                heappush(self._ends, (end, network))
            self._unsorted.add(network)

    def wanted(self, allowlist: NetworkSet, rooms: Mapping[SetGroup, int], now: int) -> Wanted:
        """Returns the networks of the blocks in force without what is on ``allowlist``, as many as fit.

        ``rooms``: the number of networks that fit, by group. ``now``: epoch seconds.
        """
        blocks = self.in_force(now)
        if self._allowlist is None or not self._allowlist.equals(allowlist):
            self._allowlist = allowlist
            self._sort_all()
        else:
            for network in self._unsorted:
                self._sort(network, allowlist)
        self._unsorted.clear()
        covers = dict(self._covers)
        overflow = 0
        for group, cover in self._covers.items():
            room = rooms.get(group, 0)
            if len(cover) > room:
                fitting, complete = self._fitting(group, room)
                overflow += len(self._ranked[group]) - complete
                covers[group] = Cover(fitting)
        places = {group: len(cover) for group, cover in self._covers.items()}
        return Wanted(covers, len(self._withheld), overflow, blocks, places)

    def in_force(self, now: int) -> int:
        """Returns the number of blocks in force at the epoch second ``now``."""
        self._let_end(now)
        return len(self._blocks) - len(self._ended)

    def places_within(self, group: SetGroup, span: Span) -> int:
        """Returns how many networks of ``group``, as ``wanted`` last returned them, lie within ``span``."""
        return self._covers[group].within(span)

    def ending(self, before: int, most: int) -> tuple[str, ...]:
        """Returns the networks whose blocks are over at the epoch second ``before``; the ``most`` that end soonest."""
        ends = sorted(
            (entry.ends[-1][1], network) for network, entry in self._blocks.items() if entry.ends[-1][1] <= before
        )
        return tuple(network for _, network in ends[:most])

    def _fitting(self, group: SetGroup, room: int) -> tuple[list[Span], int]:
        """Returns the first ``room`` networks published for blocks, and the number of completely published blocks."""
        ranked = self._ranked[group]
        spans: list[Span] = []
        for complete, entry in enumerate(reversed(ranked)):
            spans += self._pieces(entry)
            if len(spans) > room:
                return spans[:room], complete
        return spans, len(ranked)

    def _pieces(self, entry: Ranked) -> Sequence[Span]:
        return self._carved.get(entry.span, (entry.span,))

    def _let_end(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, network = heappop(self._ends)
            entry = self._blocks.get(network)
            # A block that was replaced since has other ends.
            if entry is None or now < entry.ends[0][1] or network in self._ended:
                continue
            self._drop(network, entry)
            left = tuple(pair for pair in entry.ends if now < pair[1])
            if left:
                self._blocks[network] = entry._replace(ends=left)
                self._unsorted.add(network)
            else:
                self._blocks[network] = entry._replace(ends=entry.ends[-1:])
                self._ended.add(network)

    def _drop(self, network: str, entry: Ranked) -> None:
        """Removes the block of ``network`` from the group that it was sorted into."""
        for names in (self._unsorted, self._ended, self._withheld):
            if network in names:
                names.remove(network)
                return
        if self._allowlist is not None:
            ranked, cover = self._ranked[entry.group], self._covers[entry.group]
            del ranked[bisect_left(ranked, entry)]
            for piece in self._pieces(entry):
                cover.remove(piece)
            self._carved.pop(entry.span, None)

    def _sort(self, network: str, allowlist: NetworkSet) -> None:
        entry = self._blocks[network]
        pieces = self._sorted(network, allowlist)
        if pieces:
            insort(self._ranked[entry.group], entry)
        for piece in pieces:
            self._covers[entry.group].add(piece)

    def _sorted(self, network: str, allowlist: NetworkSet) -> Sequence[Span]:
        """Files a block as withheld, carved or whole. Returns the networks that are published for it."""
        span = self._blocks[network].span
        pieces = carved(span, allowlist)
        if not pieces:
            self._withheld.add(network)
        elif pieces[0] != span:
            self._carved[span] = pieces
        return pieces

    def _sort_all(self) -> None:
        assert self._allowlist is not None
        spans: dict[SetGroup, list[Span]] = {group: [] for group in GROUPS}
        entries: dict[SetGroup, list[Ranked]] = {group: [] for group in GROUPS}
        self._withheld = set()
        self._carved = {}
        for network, entry in self._blocks.items():
            if network not in self._ended:
                pieces = self._sorted(network, self._allowlist)
                if pieces:
                    spans[entry.group] += pieces
                    entries[entry.group].append(entry)
        self._covers = {group: Cover(of_group) for group, of_group in spans.items()}
        self._ranked = {group: sorted(of_group) for group, of_group in entries.items()}


def ranked(block: Block) -> Ranked:
    """Returns the part of a block that a list needs."""
    ends = tuple(block.ends.items()) if block.softer else ((Response.BLOCK, block.until),)
    # Feeds list networks that nothing may ever come from: a full set keeps those of offenders before theirs.
    rank = 1 if not block.manual else 2 if block.by_operator else 0
    return Ranked(rank, block.blocked_at, span_of(block.network), ends)


def wanted(blocks: Iterable[Block], allowlist: NetworkSet, rooms: Mapping[SetGroup, int], now: int) -> Wanted:
    """Returns the networks of the blocks in force without what is on ``allowlist``, as many as fit.

    ``rooms``: the number of networks that fit, by group. ``now``: epoch seconds.
    """
    return BlockList(blocks).wanted(allowlist, rooms, now)


def next_contents(
    wanted: Mapping[SetGroup, AbstractSet[Network]],
    published: Mapping[IpSet, frozenset[Network]],
    allowlist: NetworkSet,
) -> dict[IpSet, frozenset[Network]]:
    """Returns the new contents of the sets that must change next, so that in the end they hold ``wanted``.

    A network that moves to another set stays until it has arrived there, unless the set it leaves is full or the
    network overlaps ``allowlist``. A set that is not among those ``published`` is out of reach: a network that moves
    there from a softer response stays where it is.
    """
    planned: dict[IpSet, frozenset[Network]] = dict(published)
    for group in {ip_set.group for ip_set in published}:
        of_group = {ip_set: networks for ip_set, networks in published.items() if ip_set.group == group}
        planned |= plan(wanted.get(group, frozenset()), of_group)
    arriving = {ip_set: networks - published[ip_set] for ip_set, networks in planned.items()}
    out_of_reach = {group: wanted[group] for group in wanted.keys() - {ip_set.group for ip_set in published}}
    changed = {ip_set: networks for ip_set, networks in planned.items() if networks != published[ip_set]}
    for ip_set, networks in changed.items():
        elsewhere = [
            n for other in arriving if other != ip_set and other.family == ip_set.family for n in arriving[other]
        ]
        elsewhere += [
            network
            for group, of_group in out_of_reach.items()
            if group.family == ip_set.family and hardness(group.response) > hardness(ip_set.response)
            for network in of_group
        ]
        leaving = published[ip_set] - networks
        if elsewhere and leaving:
            moves = NetworkSet(elsewhere).overlaps
            staying = [network for network in leaving if moves(network) and not allowlist.overlaps(network)]
            changed[ip_set] = networks.union(staying[: CAPACITY - len(networks)])
    return {ip_set: networks for ip_set, networks in changed.items() if networks != published[ip_set]}


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
