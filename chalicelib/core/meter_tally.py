"""The columns of a tally: the form in which the counts of one meter are stored, and in which a view keeps them.

The clients' keys are stored together, and so are the numbers of slots of each client, the slots themselves, and the
requests in each. An entry, one client in one slot, takes about eight bytes in this form; in a dictionary per client, it
takes 140 to 380.
Nearly everything here is a few calls into C per meter, not one per entry.
"""

import struct
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate, chain, compress, count, islice
from operator import sub
from typing import TypeVar

import msgspec

from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Meter

T = TypeVar("T")

Slots = dict[int, int]
"""Requests by slot number (time in milliseconds // slot_ms)."""

Clients = dict[bytes, Slots]
"""Slots by client, a packed address cut to the meter's prefix, or by the key of a client's group."""

FEW = 16
"""Clients up to this number are searched for one by one in the keys; more are looked up in one pass over all keys."""

_64_OF = {size: struct.Struct(f"{size}s" * 64) for size in (4, 16)}


class BadTally(ValueError):
    """Bytes that are not a packed tally, or a tally that cannot be split."""


class MeterTally(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The requests of one source, as one meter counted them, in columns.

    ``per_key``, ``offsets`` and ``counts`` are packed integers (``pack_integers``), the latter two with one element per
    entry, in the order of the keys. ``keys4`` come before ``keys16``.
    """

    source: Source
    topic: bytes
    ipv4_prefix: int
    ipv6_prefix: int
    slot_ms: int
    first_slot: int
    keys4: bytes
    """Keys of IPv4 clients, 4 bytes each."""
    keys16: bytes
    """Keys of IPv6 clients, or of groups (``client_groups``), 16 bytes each."""
    per_key: bytes
    """Number of slots of each key."""
    offsets: bytes
    """Slots, as offsets from ``first_slot``."""
    counts: bytes
    """Requests in each slot."""

    @classmethod
    def of(cls, source: Source, meter: "Meter | MeterTally", clients: Clients) -> "MeterTally":
        """Returns the counts of ``clients``, at least one, by ``meter`` or the meter of another tally."""
        keys4 = [key for key in clients if len(key) == 4]
        keys16 = [key for key in clients if len(key) == 16]
        ordered = list(map(clients.__getitem__, keys4 + keys16))
        slots = list(chain.from_iterable(ordered))
        first = min(slots)
        return cls(
            source,
            meter.topic,
            meter.ipv4_prefix,
            meter.ipv6_prefix,
            meter.slot_ms,
            first,
            b"".join(keys4),
            b"".join(keys16),
            pack_integers(list(map(len, ordered))),
            pack_integers([slot - first for slot in slots]),
            pack_integers(list(chain.from_iterable(map(dict.values, ordered)))),
        )

    @property
    def entries(self) -> int:
        """Number of (client, slot) pairs."""
        return len(unpack_integers(self.counts))

    def check(self) -> None:
        """Raises BadTally if the columns do not fit together."""
        per_key, offsets = unpack_integers(self.per_key), unpack_integers(self.offsets)
        keys = divmod(len(self.keys4), 4), divmod(len(self.keys16), 16)
        whole = not keys[0][1] and not keys[1][1] and len(per_key) == keys[0][0] + keys[1][0]
        if not whole or sum(per_key) != len(offsets) or self.entries != len(offsets):
            raise BadTally("the columns of the packed tally do not fit together")

    def keys(self) -> list[bytes]:
        """Returns all clients, each once."""
        return _split(self.keys4, 4) + _split(self.keys16, 16)

    def keys_at(self, rows: Iterable[int]) -> list[bytes]:
        """Returns the clients at these positions in ``keys``."""
        number4 = len(self.keys4) // 4
        return [
            self.keys4[4 * row : 4 * row + 4]
            if row < number4
            else self.keys16[16 * (row - number4) : 16 * (row - number4) + 16]
            for row in rows
        ]

    def clients(self) -> Clients:
        """Returns all counts."""
        entries = zip(self.slots(), unpack_integers(self.counts), strict=True)
        per_key = unpack_integers(self.per_key)
        return {key: dict(islice(entries, number)) for key, number in zip(self.keys(), per_key, strict=True)}

    def slots_per_key(self) -> Sequence[int]:
        """Returns the number of slots of each client, in the order of ``keys``."""
        return unpack_integers(self.per_key)

    def totals(self) -> Sequence[int]:
        """Returns the requests of each client, in the order of ``keys``."""
        per_key, counts = unpack_integers(self.per_key), unpack_integers(self.counts)
        if len(per_key) == len(counts):
            return counts
        if counts.typecode == "B" and self.counts.count(b"\x01", 1) == len(counts):
            return per_key
        sums = list(accumulate(counts, initial=0))
        ends = [sums[end] for end in accumulate(per_key)]
        return list(map(sub, ends, [0, *ends]))

    def by_entry(self, of_clients: Iterable[T]) -> list[T]:
        """Returns for each entry its client's element of ``of_clients``, which is in the order of ``keys``."""
        entries: list[T] = []
        for each, number in zip(of_clients, unpack_integers(self.per_key), strict=True):
            if number == 1:  # nearly always, and this takes a quarter of the time
                entries.append(each)
            else:
                entries += [each] * number
        return entries

    def slots(self) -> list[int]:
        """Returns the slot of each entry."""
        first = self.first_slot
        return [first + offset for offset in unpack_integers(self.offsets)]

    def requests(self) -> Sequence[int]:
        """Returns the requests of each entry."""
        return unpack_integers(self.counts)

    def slots_of(self, clients: Collection[bytes]) -> Clients:
        """Returns the counts of those of ``clients`` that are counted here. Fast for a set, and for few clients."""
        rows = self._rows(clients)
        if not rows:
            return {}
        slots, counts = self.slots(), unpack_integers(self.counts)
        starts = list(accumulate(unpack_integers(self.per_key), initial=0))
        spans = {client: slice(starts[row], starts[row + 1]) for client, row in rows.items()}
        return {client: dict(zip(slots[span], counts[span], strict=True)) for client, span in spans.items()}

    def select(self, keep: Sequence[bool]) -> "MeterTally":
        """Returns the columns of the clients for which ``keep``, in the order of ``keys``, is true."""
        per_key, ipv4_clients = unpack_integers(self.per_key), len(self.keys4) // 4
        of_entries = self.by_entry(keep)
        return msgspec.structs.replace(
            self,
            keys4=b"".join(compress(_split(self.keys4, 4), keep)),
            keys16=b"".join(compress(_split(self.keys16, 16), keep[ipv4_clients:])),
            per_key=pack_integers(list(compress(per_key, keep))),
            offsets=pack_integers(list(compress(unpack_integers(self.offsets), of_entries))),
            counts=pack_integers(list(compress(unpack_integers(self.counts), of_entries))),
        )

    def apart(self, shares: Sequence[int], number: int) -> "list[MeterTally | None]":
        """Returns the columns of the clients of each share from 0 to ``number - 1``; None for a share of none.

        ``shares``: that of each client, in the order of ``keys``. Takes one pass, however many shares there are.
        """
        keys, per_key = self.keys(), unpack_integers(self.per_key)
        offsets, counts = unpack_integers(self.offsets), unpack_integers(self.counts)
        rows = sorted(range(len(shares)), key=shares.__getitem__)  # stable, so keys4 remain before keys16
        if len(counts) == len(rows):
            entries = rows
        else:
            entries = sorted(range(len(counts)), key=self.by_entry(shares).__getitem__)
        sizes, pieces, row, entry = Counter(shares), list[MeterTally | None](), 0, 0
        for share in range(number):
            mine = rows[row : row + sizes[share]]
            row += len(mine)
            numbers = list(map(per_key.__getitem__, mine))
            its_entries = entries[entry : entry + sum(numbers)]
            entry += len(its_entries)
            number4 = bisect_left(mine, len(self.keys4) // 4)
            columns = {
                "keys4": b"".join(map(keys.__getitem__, mine[:number4])),
                "keys16": b"".join(map(keys.__getitem__, mine[number4:])),
                "per_key": pack_integers(numbers),
                "offsets": pack_integers(list(map(offsets.__getitem__, its_entries))),
                "counts": pack_integers(list(map(counts.__getitem__, its_entries))),
            }
            pieces.append(msgspec.structs.replace(self, **columns) if mine else None)
        return pieces

    def _rows(self, clients: Collection[bytes]) -> dict[bytes, int]:
        """Returns the positions in ``keys`` of those of ``clients`` that are there."""
        if len(clients) > FEW:
            keys = self.keys()
            rows = list(compress(count(), map(clients.__contains__, keys)))
            return {keys[row]: row for row in rows}
        positions = {}
        for client in clients:
            column, before = (self.keys4, 0) if len(client) == 4 else (self.keys16, len(self.keys4) // 4)
            at = column.find(client)
            while at > 0 and at % len(client):
                at = column.find(client, at + 1)
            if at >= 0:
                positions[client] = before + at // len(client)
        return positions


def _split(column: bytes, size: int) -> list[bytes]:
    """Returns the keys in ``column``, of ``size`` bytes each: 4 or 16."""
    many = _64_OF[size]
    rest = len(column) - len(column) % many.size
    of_many = chain.from_iterable(many.iter_unpack(memoryview(column)[:rest]))
    return [*of_many, *(column[at : at + size] for at in range(rest, len(column), size))]


_CODES = "BHIQ"
"""Type codes of ``array`` for unsigned integers of 1, 2, 4 and 8 bytes."""


def pack_integers(values: list[int]) -> bytes:
    """Returns the narrowest array that holds ``values``, after its type code.

    >>> pack_integers([1, 300])
    b'H\\x01\\x00,\\x01'
    """
    largest = max(values, default=0)
    code = "B" if largest < 1 << 8 else "H" if largest < 1 << 16 else "I" if largest < 1 << 32 else "Q"
    return code.encode() + _little_endian(array(code, values)).tobytes()


def unpack_integers(packed: bytes) -> "array[int]":
    """Returns the integers that ``pack_integers`` packed. Raises BadTally, ValueError or IndexError for other bytes."""
    code = chr(packed[0])
    if code not in _CODES:
        raise BadTally(f"unknown integer width {code!r}")
    values = array(code)
    values.frombytes(packed[1:])
    return _little_endian(values)


def _little_endian(values: "array[int]") -> "array[int]":
    """Converts between this machine's byte order and little-endian, in place."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
