"""The tally of one batch: the requests each client made in each slot, per meter; and its packed form.

One batch makes one tally, which is stored as one item: one write per batch, not one per client. The packed form is
columnar, so that packing, unpacking and compressing are a few calls into C:

    zlib level 1 of MessagePack of a list of meters, each
    [source, topic, IPv4 prefix, IPv6 prefix, slot_ms, first slot,
     keys of 4 bytes, keys of 16 bytes, slots per key, slots, counts]

Slots are offsets from the first slot, in the order of the keys. Each of the last three is an array of little-endian
unsigned integers, as wide as its largest value needs; its first byte names the width.
"""

import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice
from math import lcm

import msgspec

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.logs.requests import Requests, Source
from chalicelib.core.rules import Meter

VERSION = 1
"""Version of the packed form. The tally table rejects items of any other."""

RETENTION_MS = 3_600_000
"""Age at which a request that is processed only now is late, and is not counted."""

DORMANT_MS = 2 * RETENTION_MS
"""Age of its last item at which a log takes no more items: no window that still counts reaches back so far."""

EXPIRE_MS = 3 * RETENTION_MS
"""Age at which the store may remove an item, one hour past DORMANT_MS."""

LARGEST_UNPACKED = 256 << 20
"""Most bytes that a packed tally may decompress to, so that a damaged item cannot exhaust memory."""

Slots = dict[int, int]
"""Requests by slot number (time in milliseconds // slot_ms)."""

Clients = dict[bytes, Slots]
"""Slots by client: a packed address cut to the meter's prefix."""


@dataclass(frozen=True, slots=True)
class MeterTally:
    """The requests of one source, as one meter counted them."""

    source: Source
    topic: bytes
    ipv4_prefix: int
    ipv6_prefix: int
    slot_ms: int
    clients: Clients

    @classmethod
    def of(cls, source: Source, meter: Meter, clients: Clients) -> "MeterTally":
        return cls(source, meter.topic, meter.ipv4_prefix, meter.ipv6_prefix, meter.slot_ms, clients)


Tally = tuple[MeterTally, ...]


class BadTally(ValueError):
    """Bytes that are not a packed tally, or a tally that cannot be split."""


class Tallier:
    """Tallies requests for a set of meters."""

    def __init__(self, meters: Iterable[Meter]) -> None:
        self._meters = list(meters)
        self._prefixes = {meter.prefixes: PrefixMemo(*meter.prefixes) for meter in self._meters}

    def tally(self, batches: Iterable[Requests]) -> Tally:
        """Returns the counts of all meters that counted at least one request."""
        counts = []
        for requests in batches:
            masked = {prefixes: memo.mask_all(requests.clients) for prefixes, memo in self._prefixes.items()}
            for meter in self._meters:
                rows = meter.scope.rows(requests)
                keys, times = masked[meter.prefixes], requests.times
                if rows is not None:
                    keys, times = [keys[row] for row in rows], [times[row] for row in rows]
                if keys:
                    counts.append(MeterTally.of(requests.source, meter, count(keys, times, meter.slot_ms)))
        return tuple(counts)


def count(keys: Iterable[bytes], times: Iterable[int], slot_ms: int) -> Clients:
    """Returns the requests by client and slot; ``times`` in milliseconds.

    >>> count([b"a", b"b", b"a"], [100, 100, 149], 50)
    {b'a': {2: 2}, b'b': {2: 1}}
    """
    clients: Clients = {}
    for key, slot in zip(keys, [time // slot_ms for time in times], strict=True):
        slots = clients.get(key)
        if slots is None:
            clients[key] = {slot: 1}
        elif slot in slots:
            slots[slot] += 1
        else:
            slots[slot] = 1
    return clients


def folded(slots: Slots, factor: int) -> Slots:
    """Returns the same requests in slots ``factor`` times as long; ``slots`` itself if ``factor`` is 1.

    >>> folded({19: 1, 20: 2, 29: 3}, 10)
    {1: 1, 2: 5}
    """
    if factor == 1:
        return slots
    wide: Slots = {}
    for slot, number in slots.items():
        wide[slot // factor] = wide.get(slot // factor, 0) + number
    return wide


def add_clients(total: Clients, clients: Clients) -> None:
    """Adds ``clients`` to ``total``, client by client and slot by slot, without changing ``clients``."""
    for client, slots in clients.items():
        mine = total.get(client)
        if mine is None:
            total[client] = slots.copy()
        elif mine.keys().isdisjoint(slots):
            mine.update(slots)
        else:
            for slot, number in slots.items():
                mine[slot] = mine.get(slot, 0) + number


_Part = tuple[Source, bytes, bytes, int]
"""Source, topic, client, and the number of a piece of time: a common multiple of the topic's slot lengths."""


def split(tally: Tally) -> tuple[Tally, Tally]:
    """Returns two halves that add up to ``tally``, with about as many (client, slot) entries each.

    A topic may have been counted at several slot lengths. A request is in the same half at all of them, because a
    reader takes each half at one length only. Raises BadTally for a tally too small to split.
    """
    pieces: dict[tuple[Source, bytes], int] = {}
    for counted in tally:
        topic = counted.source, counted.topic
        pieces[topic] = lcm(pieces.get(topic, 1), counted.slot_ms)
    slots_per_piece = [pieces[c.source, c.topic] // c.slot_ms for c in tally]
    sizes: Counter[_Part] = Counter()
    for c, number in zip(tally, slots_per_piece, strict=True):
        for client, slots in c.clients.items():
            sizes.update((c.source, c.topic, client, slot // number) for slot in slots)
    if len(sizes) < 2:
        raise BadTally("a tally of one client at one moment cannot be split")
    parts = sorted(sizes)
    half, taken = sizes.total() / 2, accumulate(map(sizes.__getitem__, parts))
    cut = next(number for number, size in enumerate(taken, 1) if size >= half or number == len(parts) - 1)
    first = frozenset(parts[:cut])
    halves: tuple[list[MeterTally], list[MeterTally]] = ([], [])
    for c, number in zip(tally, slots_per_piece, strict=True):
        kept: tuple[Clients, Clients] = ({}, {})
        for client, slots in c.clients.items():
            for slot, requests in slots.items():
                clients = kept[(c.source, c.topic, client, slot // number) not in first]
                clients.setdefault(client, {})[slot] = requests
        for counts, clients in zip(halves, kept, strict=True):
            if clients:
                counts.append(replace(c, clients=clients))
    return tuple(halves[0]), tuple(halves[1])


class _Columns(msgspec.Struct, array_like=True, gc=False):
    """The packed form of a MeterTally, field by field."""

    source: Source
    topic: bytes
    ipv4_prefix: int
    ipv6_prefix: int
    slot_ms: int
    first_slot: int
    keys4: bytes
    keys16: bytes
    per_key: bytes
    slots: bytes
    counts: bytes


_lists = msgspec.msgpack.Decoder(list[_Columns])


def pack(tally: Tally) -> bytes:
    """Returns the packed form of ``tally``."""
    return zlib.compress(msgspec.msgpack.encode([_to_columns(counted) for counted in tally]), 1)


def unpack(body: bytes) -> Tally:
    """Returns the tally packed in ``body``; raises BadTally."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(body, LARGEST_UNPACKED)
        if not inflate.eof:
            raise BadTally("the packed tally is truncated or too large")
        return tuple(map(_from_columns, _lists.decode(plain)))
    except (zlib.error, msgspec.MsgspecError, ValueError, IndexError, KeyError) as exc:
        raise BadTally(str(exc)) from exc


def _to_columns(counted: MeterTally) -> _Columns:
    keys4 = [key for key in counted.clients if len(key) == 4]
    keys16 = [key for key in counted.clients if len(key) == 16]
    ordered = list(map(counted.clients.__getitem__, keys4 + keys16))
    slots = list(chain.from_iterable(ordered))
    first = min(slots)
    return _Columns(
        counted.source,
        counted.topic,
        counted.ipv4_prefix,
        counted.ipv6_prefix,
        counted.slot_ms,
        first,
        b"".join(keys4),
        b"".join(keys16),
        _pack_integers(list(map(len, ordered))),
        _pack_integers([slot - first for slot in slots]),
        _pack_integers(list(chain.from_iterable(map(dict.values, ordered)))),
    )


def _from_columns(columns: _Columns) -> MeterTally:
    keys4, keys16 = columns.keys4, columns.keys16
    keys = [keys4[at : at + 4] for at in range(0, len(keys4), 4)]
    keys += [keys16[at : at + 16] for at in range(0, len(keys16), 16)]
    first = columns.first_slot
    per_key, offsets, counts = map(_unpack_integers, (columns.per_key, columns.slots, columns.counts))
    if len(per_key) != len(keys) or sum(per_key) != len(offsets) or len(offsets) != len(counts):
        raise BadTally("the columns of the packed tally do not fit together")
    entries = zip([first + offset for offset in offsets], counts, strict=True)
    clients = {key: dict(islice(entries, number)) for key, number in zip(keys, per_key, strict=True)}
    return MeterTally(columns.source, columns.topic, columns.ipv4_prefix, columns.ipv6_prefix, columns.slot_ms, clients)


_CODES = "BHIQ"
"""Type codes of ``array`` for unsigned integers of 1, 2, 4 and 8 bytes."""


def _pack_integers(values: list[int]) -> bytes:
    """Returns the narrowest array that holds ``values``, after its type code.

    >>> _pack_integers([1, 300])
    b'H\\x01\\x00,\\x01'
    """
    largest = max(values)
    code = "B" if largest < 1 << 8 else "H" if largest < 1 << 16 else "I" if largest < 1 << 32 else "Q"
    return code.encode() + _little_endian(array(code, values)).tobytes()


def _unpack_integers(packed: bytes) -> "array[int]":
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
