"""Known clients: those that Sluice counted before, kept in digests of bounded size.

A client is known by its *mark*: its IPv4 address, or the /48 of its IPv6 address, because a client that has one
address of a /48 usually has them all. A digest holds the marks of one period as they are, so a stranger is never taken
for a known client: its false-positive rate is zero. What is bounded is the number of marks. When there are too many,
those of one half of all clients, by a hash, are dropped, and from then on only the others are noted: the digest is a
sample, and the shares that are computed from it are estimates. Noting a mark twice changes nothing, and digests can be
merged in any order, so a digest may be written by several containers, and any part of the work may be done again.

A client becomes known ``PERIOD_S`` after the end of the period in which it was counted, and is known until ``KEPT_S``
after that end.
So an attack does not make its own clients known, not even one that continues past midnight.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Self
from zlib import crc32

from chalicelib.core.addresses import Network
from chalicelib.core.client_groups import ungrouped
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.state.breakers import Known

PERIOD_S = 6 * 3600
"""Length of the period that one digest covers."""

KEPT_S = 3 * 86400
"""Time for which a client is known after it was counted, to within a period."""

MEMORY_S = 86400
"""Time that the digests must cover before they are used."""

MOST_MARKS = 20_000
"""Most marks of a digest: 160 KB as JSON if all are of IPv6. A share of 2 % is then accurate to about a tenth of
itself."""

IPV4_BYTES, IPV6_BYTES = 4, 6
"""Length of a mark."""

Mark = bytes


@dataclass(frozen=True, slots=True)
class Digest:
    """The marks of clients, of which one half was dropped ``halvings`` times."""

    marks: frozenset[Mark] = frozenset()
    halvings: int = 0

    def plus(self, clients: Iterable[bytes]) -> "Digest":
        """Returns the digest with the marks of ``clients``, packed addresses; ``self`` if it has them already.

        >>> Digest().plus([bytes([192, 0, 2, 7]), bytes(range(16))]).marks == {b"\\xc0\\x00\\x02\\x07", bytes(range(6))}
        True
        """
        marks = [client[:IPV6_BYTES] for client in clients]
        new = _sample(marks, self.halvings) - self.marks
        return _bounded(self.marks | new, self.halvings) if new else self

    def merged(self, other: "Digest") -> "Digest":
        """Returns the digest of the clients of both."""
        halvings = max(self.halvings, other.halvings)
        return _bounded(frozenset(_sample(self.marks | other.marks, halvings)), halvings)


def _bounded(marks: frozenset[Mark], halvings: int) -> Digest:
    while len(marks) > MOST_MARKS:
        halvings += 1
        marks = frozenset(_sample(marks, halvings))
    return Digest(marks, halvings)


def may_be_noted(counted: MeterTally, halvings: int) -> list[bytes]:
    """Returns the clients of ``counted`` whose marks a digest may keep after ``halvings``, and few others.

    A CRC is linear: that of an address is the exclusive or of one number per byte. So the first byte of all of them is
    computed with a few operations on whole columns.
    """
    column, others = (
        counted.keys4,
        [ungrouped(counted.keys16[at : at + 16]) for at in range(0, len(counted.keys16), 16)],
    )
    if not halvings:
        return counted.keys()[: len(column) // IPV4_BYTES] + others
    first = 0
    for at, table in enumerate(_FIRST_BYTES):
        first ^= int.from_bytes(column[at::IPV4_BYTES].translate(table), "little")
    flags = first.to_bytes(len(column) // IPV4_BYTES, "little").translate(_KEPT[min(halvings, 8)])
    return [column[at : at + IPV4_BYTES] for at in compress(range(0, len(column), IPV4_BYTES), flags)] + others


_FIRST_BYTES = [
    bytes(
        (crc32(bytes(at) + bytes([number]) + bytes(IPV4_BYTES - 1 - at)) ^ (crc32(bytes(IPV4_BYTES)) if at else 0))
        >> 24
        for number in range(256)
    )
    for at in range(IPV4_BYTES)
]
"""By position of a byte in an IPv4 address and by its value: its part of the first byte of the address's CRC."""

_KEPT = [bytes(number >> 8 - halvings == 0 for number in range(256)) for halvings in range(9)]
"""By number of halvings, up to eight, and first byte of a CRC: whether the mark may be kept."""


def _sample(marks: Collection[Mark], halvings: int) -> set[Mark]:
    """Returns the marks that are left after ``halvings``: those whose hash begins with as many zero bits."""
    if not halvings:
        return set(marks)
    end = 1 << (32 - min(halvings, 32))
    return set(compress(marks, map(end.__gt__, map(crc32, marks))))


def mark_of(network: Network) -> Mark:
    """Returns the mark of the first client in ``network``.

    >>> from chalicelib.core.addresses import parse_network
    >>> mark_of(parse_network("2001:db8:7:1::/64")).hex()
    '20010db80007'
    """
    return network.network_address.packed[:IPV6_BYTES]


def period_of(now: int) -> int:
    """Returns the start of the period of ``now``, both in epoch seconds."""
    return now - now % PERIOD_S


def known_record(started_at: int, counted_since: int, digest: Digest) -> Known:
    """Returns the record of a period's digest."""
    ordered = sorted(digest.marks)
    return Known(
        started_at=started_at,
        counted_since=counted_since,
        halvings=digest.halvings,
        ipv4=b"".join(mark for mark in ordered if len(mark) == IPV4_BYTES),
        ipv6=b"".join(mark for mark in ordered if len(mark) == IPV6_BYTES),
    )


def digest_of(record: Known) -> Digest:
    """Returns the digest of a record. Bytes after the last whole mark are ignored."""
    return Digest(frozenset([*_marks(record.ipv4, IPV4_BYTES), *_marks(record.ipv6, IPV6_BYTES)]), record.halvings)


def _marks(column: bytes, size: int) -> Iterator[Mark]:
    return (column[at : at + size] for at in range(0, len(column) - size + 1, size))


class KnownClients:
    """The known clients of a moment."""

    def __init__(self, digest: Digest) -> None:
        self._numbers = {
            family: array("Q", sorted(int.from_bytes(mark, "big") for mark in digest.marks if len(mark) == size))
            for family, size in ((4, IPV4_BYTES), (6, IPV6_BYTES))
        }
        self.marks = len(digest.marks)
        """Number of marks; more than zero."""
        self.estimate = self.marks << digest.halvings
        """Number of known clients; an estimate if the digest is a sample."""

    @classmethod
    def at(cls, records: Collection[Known], now: int) -> Self | None:
        """Returns the known clients at ``now``; None if there are none, or the memory is less than a day long.

        ``records``: the digests of all periods. ``now``: epoch seconds.
        """
        if not records or min(record.counted_since for record in records) > now - MEMORY_S:
            return None
        digest = Digest()
        for record in records:
            if now - KEPT_S - PERIOD_S < record.started_at <= now - 2 * PERIOD_S:
                digest = digest.merged(digest_of(record))
        return cls(digest) if digest.marks else None

    def within(self, network: Network) -> list[Mark]:
        """Returns the marks of the known clients in ``network``; the /48's for a network within a /48.

        >>> from chalicelib.core.addresses import parse_network
        >>> known = KnownClients(Digest().plus([bytes([192, 0, 2, 7]), bytes([192, 0, 2, 9])]))
        >>> [mark.hex() for mark in known.within(parse_network("192.0.2.0/24"))]
        ['c0000207', 'c0000209']
        """
        size, bits = (IPV4_BYTES, 32) if network.version == 4 else (IPV6_BYTES, 128)
        shift = bits - 8 * size
        first, last = int(network.network_address) >> shift, int(network.broadcast_address) >> shift
        numbers = self._numbers[network.version]
        between = numbers[bisect_left(numbers, first) : bisect_right(numbers, last)]
        return [number.to_bytes(size, "big") for number in between]
