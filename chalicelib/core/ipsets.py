"""Which networks belong into the WAF IP sets, and what has to change for that.

AWS takes at most 10,000 networks a set, one family a set, no ``/0`` and no host bits (AWS WAF quotas; UpdateIPSet).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import collapse_addresses

from chalicelib.core.addresses import Network, NetworkSet
from chalicelib.core.state import Block

CAPACITY = 10_000
"""Networks in one IP set: a fixed AWS quota."""


@dataclass(frozen=True, slots=True)
class IpSet:
    """A configured WAF IP set."""

    name: str
    id: str
    family: int
    """4 or 6."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the IP sets are to hold."""

    networks: Mapping[int, frozenset[Network]]
    """By family, 4 and 6; collapsed, so that none overlaps another."""
    allowlisted: int = 0
    """Blocks left out because they overlap the allowlist."""
    overflow: int = 0
    """Blocks left out because there was no room; the oldest, manual ones last."""
    blocks: int = 0
    """Blocks in force."""


def wanted(blocks: Iterable[Block], allowlist: NetworkSet, rooms: Mapping[int, int], now: int) -> Wanted:
    """The networks of the blocks in force at ``now`` that do not overlap ``allowlist``, as many as there is room for.

    ``rooms``: networks that fit, by family.
    """
    running: dict[int, list[tuple[bool, int, Network]]] = {4: [], 6: []}
    allowlisted = 0
    for block in blocks:
        network = block.parsed()
        if block.until <= now:
            continue
        if allowlist.overlaps(network):
            allowlisted += 1
        else:
            running[network.version].append((block.manual, block.blocked_at, network))
    networks: dict[int, frozenset[Network]] = {}
    overflow = 0
    for family, entries in running.items():
        room = rooms.get(family, 0)
        collapsed = _collapsed(network for _, _, network in entries)
        if len(collapsed) > room:
            entries.sort(key=lambda entry: entry[:2], reverse=True)
            overflow += len(entries) - room
            collapsed = _collapsed(network for _, _, network in entries[:room])
        networks[family] = collapsed
    return Wanted(networks, allowlisted, overflow, allowlisted + sum(map(len, running.values())))


def _collapsed(networks: Iterable[Network]) -> frozenset[Network]:
    return frozenset(collapse_addresses(networks))  # type: ignore[type-var]


def plan(wanted: frozenset[Network], published: Mapping[IpSet, frozenset[Network]]) -> dict[IpSet, frozenset[Network]]:
    """What each set of one family is to hold so that together they hold ``wanted``; only sets that must change.

    Networks stay in the set they are in; new ones go where there is most room, so that few sets change.
    """
    held: set[Network] = set()
    contents: dict[IpSet, set[Network]] = {}
    for ip_set, addresses in published.items():
        contents[ip_set] = set(sorted((addresses & wanted) - held, key=_order)[:CAPACITY])
        held |= contents[ip_set]
    missing: Sequence[Network] = sorted(wanted - held, key=_order)
    for ip_set in sorted(contents, key=lambda s: len(contents[s])):
        room = CAPACITY - len(contents[ip_set])
        contents[ip_set].update(missing[:room])
        missing = missing[room:]
    return {s: frozenset(c) for s, c in contents.items() if c != published[s]}


def _order(network: Network) -> tuple[int, int]:
    return int(network.network_address), network.prefixlen
