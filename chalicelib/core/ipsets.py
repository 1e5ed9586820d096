"""The networks that belong in the WAF IP sets, and the updates that put them there.

AWS accepts at most 10,000 networks and one family per set, no ``/0`` and no host bits (AWS WAF quotas; UpdateIPSet).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chalicelib.core.addresses import Network, NetworkSet, Span, network_at, span_of
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

    networks: Mapping[int, frozenset[Network]]
    """Networks by family, 4 and 6, collapsed so that none overlaps another."""
    allowlisted: int = 0
    """Blocks omitted because they overlap the allowlist."""
    overflow: int = 0
    """Blocks omitted because the sets are full: the oldest first, manual blocks last."""
    blocks: int = 0
    """Blocks in force."""


def wanted(blocks: Iterable[Block], allowlist: NetworkSet, rooms: Mapping[int, int], now: int) -> Wanted:
    """Returns the networks of the blocks in force that do not overlap ``allowlist``, as many as fit.

    ``rooms``: the number of networks that fit, by family. ``now``: epoch seconds.
    """
    running: dict[int, list[tuple[bool, int, Span]]] = {4: [], 6: []}
    allowlisted = 0
    for block in blocks:
        if not block.in_force(now):
            continue
        span = span_of(block.network)
        if allowlist.meets(span):
            allowlisted += 1
        else:
            running[span[0]].append((block.manual, block.blocked_at, span))
    networks: dict[int, frozenset[Network]] = {}
    overflow = 0
    for family, entries in running.items():
        room = rooms.get(family, 0)
        collapsed = _collapsed(span for _, _, span in entries)
        if len(collapsed) > room:
            entries.sort(key=lambda entry: entry[:2], reverse=True)
            overflow += len(entries) - room
            collapsed = _collapsed(span for _, _, span in entries[:room])
        networks[family] = frozenset(map(network_at, collapsed))
    return Wanted(networks, allowlisted, overflow, allowlisted + sum(map(len, running.values())))


def _collapsed(spans: Iterable[Span]) -> list[Span]:
    """Returns the fewest networks that contain the same addresses. ``spans`` are of one family.

    >>> _collapsed([(4, 2, 3), (4, 8, 8), (4, 0, 1), (4, 3, 3), (4, 9, 9)])
    [(4, 0, 3), (4, 8, 9)]
    """
    # Two networks are either nested or disjoint. In ascending order, the wider first, each network lies within the
    # last one kept, or is its other half (the merged network may in turn be a half of the one before), or is separate.
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[1], -span[2])):
        if kept and span[2] <= kept[-1][2]:
            continue
        kept.append(span)
        while len(kept) > 1 and _are_halves(kept[-2], kept[-1]):
            (family, first, _), (_, _, last) = kept[-2:]
            kept[-2:] = [(family, first, last)]
    return kept


def _are_halves(lower: Span, upper: Span) -> bool:
    """Returns whether the two make up one network. The halves of ``/0`` do not, because AWS rejects it."""
    size, half_of_all = lower[2] - lower[1] + 1, 1 << (31 if lower[0] == 4 else 127)
    return size < half_of_all and upper[1] == lower[1] + size and upper[2] == lower[2] + size and not lower[1] & size


def plan(wanted: frozenset[Network], published: Mapping[IpSet, frozenset[Network]]) -> dict[IpSet, frozenset[Network]]:
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
