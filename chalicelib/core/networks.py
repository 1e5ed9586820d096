"""Guilty networks: the smallest that explain the clients that rules have blocked.

A /24 is guilty if at least ``members`` of its clients are; what is blocked is the smallest network that holds them all.
A wider network is guilty if a quarter of its /24's are, and each of its halves has at least one with half of
``members``: otherwise, one half explains as much. In IPv6 a client is a /64, a /56 needs ``members`` of them, and a /48
as many of its /56's; wider networks need a quarter of their /48's.

A network with more than ``innocents`` known clients that no rule has blocked is never guilty; its halves may be. So
nothing is guilty before clients are known. An IPv6 client is known by its /48, which is no innocent if any client in it
is guilty.

A network is guilty until its guilty members are too few. All of this follows from the blocks in force alone, in
whatever order they came.

While IP sets are nearly full, fewer members suffice: half of ``members``, then a quarter and so on, but two at least.
As many networks are merged as it takes, with the same regard for innocents, before any client is left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import nlargest
from itertools import groupby
from typing import NamedTuple

import msgspec

from chalicelib.core.addresses import Span, network_at, span_of
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.known_clients import IPV4_BYTES, KnownClients, Mark
from chalicelib.core.responses import Response, hardness, prolonged
from chalicelib.core.rules import FEWEST_MEMBERS, NETWORKS, NetworkTerms
from chalicelib.core.state.blocks import MANUAL, Block, Members
from chalicelib.core.state.publishing import Guilty

GUILTY_SHARE = 4
"""A wider network is guilty if one in this many of its parts is."""
FEWEST_MERGED = 2
"""Fewest members of a network that is merged."""
MOST_NAMED = 10
"""Most members, and most innocents, of a network that are named."""

_BITS = {4: 32, 6: 128}
_CLIENT = {4: 0, 6: 64}
"""Host bits of a client, by family. Narrower networks within one client count as that client."""
_CROWD = 8
"""Bits that distinguish the parts of a network that needs ``members`` of them."""
_BASE = {4: 8, 6: 80}
"""Host bits of the networks into which guilty clients are sorted."""

Ends = Mapping[Response, int]
"""First second at which each response is over, the hardest first (``Block.ends``)."""
_Base = tuple[int, int]
"""Family, and the first bits of a base network as a number."""


class _Client(NamedTuple):
    """A guilty client."""

    ends: Ends
    since: int
    """Time since which it has been blocked. Epoch seconds."""


class _Part(NamedTuple):
    """A guilty client, or a network with guilty ones, within a wider network."""

    first: int
    """Its first address."""
    until: int
    """First second at which it is no longer guilty; 0 if it is not guilty enough to count, but must be explained
    too."""


class _Guilty(NamedTuple):
    """A guilty network."""

    first: int
    host_bits: int
    until: int

    def contains(self, other: "_Guilty") -> bool:
        return self.host_bits >= other.host_bits and not (self.first ^ other.first) >> self.host_bits


class _Kind(NamedTuple):
    """The parts of a network, and how many of them make it guilty."""

    host_bits: int
    """Host bits of a part."""
    needed: Callable[[int], int]
    """Returns the number of guilty parts that a network needs, for its host bits."""
    spares: Callable[[_Guilty], bool]
    """Returns whether a network holds few enough innocents."""


class GuiltyClients:
    """The clients that rules have blocked, sorted so that only crowded networks are examined."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._by_base: dict[_Base, dict[Span, _Client]] = {}
        self._crowded: set[_Base] = set()
        self._blocked: dict[str, Ends] = {}
        """The blocks of guilty networks, by network."""
        for block in blocks:
            self.replace(block.network, block)

    def replace(self, network: str, block: Block | None) -> None:
        """Replaces the block of ``network``; None if it no longer has one."""
        self._blocked.pop(network, None)
        if block is not None and block.rule == NETWORKS:
            self._blocked[network] = block.ends
        span = family, first, last = span_of(network)
        if last - first >> _BASE[family]:
            return  # It explains itself, and is wider than what it could make guilty.
        base = family, first >> _BASE[family]
        clients = self._by_base.setdefault(base, {})
        clients.pop(span, None)
        if block is not None and block.rule not in (MANUAL, NETWORKS):
            clients[span] = _Client(block.ends, block.refuses_from)
        if len(clients) >= FEWEST_MEMBERS // 2:
            self._crowded.add(base)
        else:
            self._crowded.discard(base)
        if not clients:
            del self._by_base[base]

    def networks(self, terms: NetworkTerms, known: KnownClients | None, now: int) -> list[Guilty]:
        """Returns the guilty networks at the epoch second ``now``, those with the most members first.

        One within another is among them only if it is guilty for longer. There are none while no clients are known.
        """
        if known is None:
            return []
        ends: dict[Span, Ends] = {}
        responses = {each for base in self._crowded for client in self._by_base[base].values() for each in client.ends}
        for response in sorted(responses, key=hardness, reverse=True):
            for family in (4, 6):
                for guilty in self._search(family, response, terms, known, now):
                    span = _span(family, guilty)
                    ends[span] = prolonged(ends.get(span, {}), response, guilty.until)
        described = [self._described(span, ends[span], known, now) for span in ends]
        return sorted(described, key=lambda each: (-each.members.number, each.network))

    def unblocked(self, terms: NetworkTerms, known: KnownClients | None, now: int) -> Iterator[Guilty]:
        """Yields those of ``networks`` that are not blocked, or not for as long as they are guilty."""
        for each in self.networks(terms, known, now):
            blocked = self._blocked.get(each.network, {})
            if any(prolonged(blocked, response, end) != blocked for response, end in each.ends.items()):
                yield each

    def merges(
        self,
        terms: NetworkTerms,
        known: KnownClients | None,
        now: int,
        surplus: Mapping[SetGroup, int],
        places: Callable[[SetGroup, Span], int],
    ) -> Iterator[Guilty]:
        """Yields networks to merge, none of which overlap, those with the most members first.

        ``surplus``: the number of places to save, by group. ``places`` returns the places that blocks within a network
        take.
        """
        left = dict(surplus)
        guilty = {each.network for each in self.networks(terms, known, now)} if left else set()
        merged: list[Span] = []
        members = terms.members
        while members > FEWEST_MERGED and any(places > 0 for places in left.values()):
            members = max(FEWEST_MERGED, members // 2)
            for each in self.unblocked(replace(terms, members=members), known, now):
                family, first, last = span = span_of(each.network)
                group = SetGroup(max(each.ends, key=hardness), family)
                saved = places(group, span) - 1 if left.get(group, 0) > 0 and each.network not in guilty else 0
                if saved <= 0 or any(of == family and a <= last and first <= b for of, a, b in merged):
                    continue
                left[group] -= saved
                merged.append(span)
                yield msgspec.structs.replace(each, members=msgspec.structs.replace(each.members, merged=True))

    def _search(
        self, family: int, response: Response, terms: NetworkTerms, known: KnownClients, now: int
    ) -> Iterator[_Guilty]:
        """Yields the networks that are guilty enough for ``response``."""

        def spares(guilty: _Guilty) -> bool:
            innocents = self._innocents(_span(family, guilty), known, now)
            return len(innocents) * known.estimate <= terms.innocents * known.marks

        base_bits = _BASE[family]
        widest_bits = _BITS[family] - (terms.ipv4 if family == 4 else terms.ipv6)
        wider = _Kind(base_bits, lambda bits: max(1, (1 << bits - base_bits) // GUILTY_SHARE), spares)
        few = -(-terms.members // 2)
        bases = sorted(number for of, number in self._crowded if of == family)
        for _, area in groupby(bases, key=lambda number: number >> widest_bits - base_bits):
            guilty: list[_Guilty] = []
            parts: list[_Part] = []
            for number in area:
                if len(self._by_base[family, number]) < few:
                    continue
                clients = _parts(self._by_base[family, number], response, _CLIENT[family], now)
                enough = len(clients) >= terms.members
                within = _of_clients(clients, family, terms.members, spares) if enough else []
                guilty += within
                if len(clients) >= few:
                    parts.append(_Part(number << base_bits, max((each.until for each in within), default=0)))
            yield from _outlasting(guilty, _made_by(parts, wider))

    def _innocents(self, span: Span, known: KnownClients, now: int) -> list[Mark]:
        """Returns the marks in ``span`` of known clients among which none is guilty."""
        return [mark for mark in known.within(network_at(span)) if not self._is_guilty(mark, now)]

    def _is_guilty(self, mark: Mark, now: int) -> bool:
        number = int.from_bytes(mark)
        family = 4 if len(mark) == IPV4_BYTES else 6
        # A mark of IPv6 is a base network.
        clients = self._by_base.get((family, number >> _BASE[4] if family == 4 else number), {})
        return any(
            (family == 6 or first <= number <= last) and now < max(client.ends.values())
            for (_, first, last), client in clients.items()
        )

    def _described(self, span: Span, ends: Ends, known: KnownClients, now: int) -> Guilty:
        family, first, last = span
        bases = range(first >> _BASE[family], (last >> _BASE[family]) + 1)
        members = {
            member: client.since
            for number in bases
            for member, client in self._by_base.get((family, number), {}).items()
            if first <= member[1] and member[2] <= last and now < max(client.ends.values())
        }
        innocents = self._innocents(span, known, now)[:MOST_NAMED]
        return Guilty(
            network=str(network_at(span)),
            ends=dict(ends),
            since=min(members.values()),
            members=Members(
                number=len(members),
                named=tuple(str(network_at(member)) for member in sorted(members)[:MOST_NAMED]),
                innocents=tuple(map(_text, innocents)),
            ),
        )


def guilty_networks(blocks: Iterable[Block], terms: NetworkTerms, known: KnownClients | None, now: int) -> list[Guilty]:
    """Returns the networks that explain the blocks that rules have made, as ``GuiltyClients.networks`` does."""
    return GuiltyClients(blocks).networks(terms, known, now)


def network_block(guilty: Guilty, former: Block | None, now: int) -> Block | None:
    """Returns the block that a guilty network gets at the epoch second ``now``; None if nothing changes.

    ``former``: the latest block of the network. While one that an operator or a rule made is in force, it stays.
    """
    if former is not None and not former.in_force(now):
        former = None
    if former is not None and former.rule != NETWORKS:
        return None
    ends = {} if former is None else former.ends
    for response, end in guilty.ends.items():
        if end > now:
            ends = prolonged(ends, response, end)
    if not ends or (former is not None and ends == former.ends):
        return None
    if former is not None:
        return msgspec.structs.replace(former.with_other_ends(ends), members=guilty.members)
    return Block.with_ends(
        ends, network=guilty.network, blocked_at=now, rule=NETWORKS, begun_at=now, members=guilty.members
    )


def _parts(clients: Mapping[Span, _Client], response: Response, host_bits: int, now: int) -> list[_Part]:
    """Returns the clients to which ``response`` or a harder one applies, in order of their addresses."""
    harder = {each for each in Response if hardness(each) > hardness(response)}
    untils: dict[int, int] = {}
    for (_, first, _), (ends, _) in clients.items():
        # The softer a response, the later its end.
        until = ends.get(response) or max((end for each, end in ends.items() if each in harder), default=0)
        number = first >> host_bits
        if until > max(now, untils.get(number, 0)):
            untils[number] = until
    return [_Part(number << host_bits, untils[number]) for number in sorted(untils)]


def _of_clients(
    clients: Sequence[_Part], family: int, members: int, spares: Callable[[_Guilty], bool]
) -> list[_Guilty]:
    """Returns the guilty networks within a base network."""
    guilty: list[_Guilty] = []
    host_bits = _CLIENT[family]
    while True:
        wider_bits = host_bits + _CROWD
        wider: list[_Part] = []
        outer: list[_Guilty] = []
        for number, parts_within in groupby(clients, key=lambda part: part.first >> wider_bits):
            parts = list(parts_within)
            wider.append(_Part(number << wider_bits, max(part.until for part in parts)))
            outer += _made_by(parts, _Kind(host_bits, lambda _: members, spares))
        guilty = _outlasting(guilty, outer)
        if wider_bits == _BASE[family]:
            return guilty
        clients, host_bits = wider, wider_bits


def _outlasting(guilty: Sequence[_Guilty], wider: Iterable[_Guilty]) -> list[_Guilty]:
    """Returns ``wider``, and those of ``guilty`` that are guilty for longer than all of them that contain them."""
    wider = list(wider)
    within = [each for each in guilty if not any(outer.contains(each) and outer.until >= each.until for outer in wider)]
    return [*wider, *within]


def _made_by(parts: Sequence[_Part], kind: _Kind, above: int = 0) -> Iterator[_Guilty]:
    """Yields the smallest network that holds all ``parts`` if they make it guilty for longer than ``above``, and the
    networks within it that are so for longer still. ``parts`` are in order of their addresses."""
    untils = [part.until for part in parts if part.until]
    if len(parts) < 2 or max(untils, default=0) <= above:
        return
    host_bits = max(kind.host_bits, (parts[0].first ^ parts[-1].first).bit_length())
    needed = kind.needed(host_bits)
    if len(untils) >= needed and (until := nlargest(needed, untils)[-1]) > above:
        guilty = _Guilty(parts[0].first >> host_bits << host_bits, host_bits, until)
        if kind.spares(guilty):
            yield guilty
            above = until
    middle = parts[-1].first >> host_bits - 1 << host_bits - 1
    for in_upper_half in (False, True):
        half = [part for part in parts if (part.first >= middle) is in_upper_half]
        yield from _made_by(half, kind, above)


def _span(family: int, guilty: _Guilty) -> Span:
    return family, guilty.first, guilty.first | (1 << guilty.host_bits) - 1


def _text(mark: Mark) -> str:
    """Returns the client that a mark stands for, as a network."""
    if len(mark) == IPV4_BYTES:
        number = int.from_bytes(mark)
        return str(network_at((4, number, number)))
    first = int.from_bytes(mark) << _BASE[6]
    return str(network_at((6, first, first | (1 << _BASE[6]) - 1)))
