"""Client addresses as packed bytes: 4 bytes for IPv4, 16 for IPv6.

Bytes rather than integers, because Python randomises the hashes of bytes: clients cannot choose addresses that collide.
The memos are bounded, so a flood of new addresses cannot exhaust memory.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, summarize_address_range
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

Network = IPv4Network | IPv6Network

Span = tuple[int, int, int]
"""A network: its version, and its first and last address as integers."""

MEMO_ENTRIES = 1 << 16
NETWORKS_KEPT = 1 << 17
"""Most networks remembered: more than ten full IP sets hold, because each update reads and plans all of them again."""

MAPPED_IPV4 = bytes(10) + b"\xff\xff"
LONGEST_TEXT = 64
NO_NETWORK = "is not an IP address or network such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/64"


def pack(text: bytes | str) -> bytes | None:
    """Returns the packed form of the address that ``text`` spells, or None if it spells none.

    All spellings of an IPv6 address give the same bytes. An IPv4-mapped IPv6 address gives the IPv4 address.

    >>> pack(b"192.0.2.7").hex(), pack(b"::FFFF:192.0.2.7").hex()
    ('c0000207', 'c0000207')
    >>> pack(b"2001:0DB8::1") == pack(b"2001:db8:0:0::1")
    True
    >>> pack(b"x.x.x.x") is None
    True
    """
    if len(text) > LONGEST_TEXT:
        return None
    try:
        plain = text if isinstance(text, str) else text.decode("ascii")
        if ":" not in plain:
            return inet_pton(AF_INET, plain)
        packed = inet_pton(AF_INET6, plain)
    except (OSError, ValueError):  # ValueError: not ASCII, or an embedded NUL
        return None
    return packed[12:] if packed.startswith(MAPPED_IPV4) else packed


class AddressMemo(dict[bytes | str, bytes | None]):
    """Packed addresses by text, computed once per distinct text."""

    def __missing__(self, text: bytes | str) -> bytes | None:
        packed = pack(text)
        if len(text) <= LONGEST_TEXT:
            self[text] = packed
        return packed

    def pack_all(self, texts: Iterable[bytes | str]) -> list[bytes | None]:
        if len(self) > MEMO_ENTRIES:
            self.clear()
        return list(map(self.__getitem__, texts))


class PrefixMemo(dict[bytes, bytes]):
    """The first address of each address's network of ``ipv4_prefix`` or ``ipv6_prefix`` bits, both packed.

    >>> PrefixMemo(24, 64)[bytes([192, 0, 2, 7])].hex()
    'c0000200'
    """

    def __init__(self, ipv4_prefix: int, ipv6_prefix: int) -> None:
        self.ipv4_prefix, self.ipv6_prefix = ipv4_prefix, ipv6_prefix
        self._mask4 = -1 << (32 - ipv4_prefix)
        self._mask6 = -1 << (128 - ipv6_prefix)

    def __missing__(self, packed: bytes) -> bytes:
        size = len(packed)
        mask = self._mask4 if size == 4 else self._mask6
        network = self[packed] = (int.from_bytes(packed, "big") & mask).to_bytes(size, "big")
        return network

    def mask_all(self, addresses: Sequence[bytes]) -> list[bytes]:
        if len(self) > MEMO_ENTRIES:
            self.clear()
        return list(map(self.__getitem__, addresses))


def network_of(client: bytes, ipv4_prefix: int, ipv6_prefix: int) -> Network:
    """Returns the network that a masked client key stands for.

    >>> network_of(bytes([192, 0, 2, 0]), 24, 64)
    IPv4Network('192.0.2.0/24')
    """
    return IPv4Network((client, ipv4_prefix)) if len(client) == 4 else IPv6Network((client, ipv6_prefix))


def parse_network(text: str) -> Network:
    """Returns the network that ``text`` names: an address, or a network without host bits.

    Raises ValueError for anything else; the message gives the accepted forms or, for host bits, the network.

    >>> parse_network("192.0.2.7")
    IPv4Network('192.0.2.7/32')
    >>> parse_network("192.0.2.7/24")
    Traceback (most recent call last):
    ...
    ValueError: '192.0.2.7/24' has host bits set; the network is 192.0.2.0/24
    """
    return network_at(span_of(text))


def span_of(text: str) -> Span:
    """Returns the span of a network that ``parse_network`` accepts; raises the same ValueError.

    >>> span_of("192.0.2.0/24") == (4, 0xC0000200, 0xC00002FF)
    True
    """
    # Networks are stored and published in this form, which is parsed here ten times as fast as by ``ipaddress``.
    address, slash, length = text.partition("/")
    packed = pack(address)
    bits = 128 if ":" in address else 32
    prefix = _PREFIXES.get(length, bits + 1) if slash else bits
    if packed is not None and len(packed) * 8 == bits and prefix <= bits:
        first, hosts = int.from_bytes(packed, "big"), (1 << bits - prefix) - 1
        if not first & hosts:
            return 4 if bits == 32 else 6, first, first | hosts
    return network_span(_parse(text))


def require_network(text: str) -> None:
    """Raises ValueError unless ``text`` is a network in the one form in which networks are stored.

    >>> require_network("192.0.2.0/24")
    >>> require_network("2001:DB8::/64")
    Traceback (most recent call last):
    ...
    ValueError: '2001:DB8::/64' is not how the network is stored: 2001:db8::/64
    """
    version, first, last = span = span_of(text)
    family, size = (AF_INET, 4) if version == 4 else (AF_INET6, 16)
    # Five times as fast as the text of ``ipaddress``, which differs for a few IPv6 addresses that embed an IPv4 one.
    quick = f"{inet_ntop(family, first.to_bytes(size))}/{size * 8 - (last - first).bit_length()}"
    if text != quick or (version == 6 and "." in quick):
        stored = str(network_at(span))
        if text != stored:
            raise ValueError(f"{text!r} is not how the network is stored: {stored}")


_PREFIXES = {str(length): length for length in range(129)}


@lru_cache(NETWORKS_KEPT)
def network_at(span: Span) -> Network:
    """Returns the network of a span: the same object while it is remembered, so that comparing it is cheap.

    >>> network_at((4, 0xC0000200, 0xC00002FF))
    IPv4Network('192.0.2.0/24')
    """
    version, first, last = span
    host_bits = (last - first).bit_length()
    return IPv4Network((first, 32 - host_bits)) if version == 4 else IPv6Network((first, 128 - host_bits))


def network_span(network: Network) -> Span:
    """Returns the span of a network."""
    return network.version, int(network.network_address), int(network.broadcast_address)


def _parse(text: str) -> Network:
    """Returns the network as ``ipaddress`` reads it, but an IPv4-mapped IPv6 network as the IPv4 one.

    >>> _parse("::ffff:192.0.2.0/120")
    IPv4Network('192.0.2.0/24')
    """
    if "%" in text:  # a zone index: it has no meaning beyond one link, and AWS rejects it
        raise ValueError(f"{text!r} {NO_NETWORK}")
    try:
        interface = ip_interface(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} {NO_NETWORK}") from None
    network = interface.network
    if interface.ip != network.network_address:
        raise ValueError(f"{text!r} has host bits set; the network is {network}")
    if network.version == 6 and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def supernets(network: Network) -> Iterator[Network]:
    """Yields every wider network that contains ``network``, narrowest first, down to a prefix of one bit.

    >>> [str(wider) for wider in supernets(IPv4Network("192.0.0.0/4"))]
    ['192.0.0.0/3', '192.0.0.0/2', '128.0.0.0/1']
    """
    for prefix in range(network.prefixlen - 1, 0, -1):
        yield network.supernet(new_prefix=prefix)


class NetworkSet:
    """Networks, sorted so that finding one that overlaps another network takes logarithmic time."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        # Sorted and merged, the networks are intervals apart from each other: an overlap is one bisection away.
        for version, start, end in sorted(map(network_span, networks)):
            ends = self._ends[version]
            if ends and start <= ends[-1] + 1:
                ends[-1] = max(ends[-1], end)
            else:
                self._starts[version].append(start)
                ends.append(end)

    def overlaps(self, network: Network) -> bool:
        return self.meets(network_span(network))

    def meets(self, span: Span) -> bool:
        """Returns whether any of the networks overlaps ``span``."""
        version, first, last = span
        at = bisect_right(self._starts[version], last)
        return at > 0 and self._ends[version][at - 1] >= first

    def covers(self, span: Span) -> bool:
        """Returns whether all addresses of ``span`` are in the networks."""
        version, first, last = span
        at = bisect_right(self._starts[version], first)
        return at > 0 and self._ends[version][at - 1] >= last

    def outside(self, span: Span) -> list[Span]:
        """Returns, in order, the fewest networks that hold exactly the addresses of ``span`` in none of the networks.

        >>> allowed = NetworkSet([IPv4Network("192.0.2.7"), IPv4Network("192.0.2.64/26")])
        >>> [str(network_at(each)) for each in allowed.outside(span_of("192.0.2.0/25"))]
        ['192.0.2.0/30', '192.0.2.4/31', '192.0.2.6/32', '192.0.2.8/29', '192.0.2.16/28', '192.0.2.32/27']
        """
        version, first, last = span
        starts, ends = self._starts[version], self._ends[version]
        gaps: list[tuple[int, int]] = []
        for at in range(bisect_left(ends, first), bisect_right(starts, last)):
            gaps.append((first, starts[at] - 1))
            first = ends[at] + 1
        gaps.append((first, last))
        address = IPv4Address if version == 4 else IPv6Address
        return [
            network_span(network)
            for start, end in gaps
            if start <= end
            for network in summarize_address_range(address(start), address(end))
        ]

    def contains(self, packed: bytes) -> bool:
        version = 4 if len(packed) == 4 else 6
        number = int.from_bytes(packed, "big")
        at = bisect_right(self._starts[version], number)
        return at > 0 and self._ends[version][at - 1] >= number

    def __bool__(self) -> bool:
        return bool(self._starts[4] or self._starts[6])

    def equals(self, other: "NetworkSet") -> bool:
        return (self._starts, self._ends) == (other._starts, other._ends)
