"""The tally of one batch: the requests each client made in each slot, per meter; and its packed form.

One batch makes one tally, which is stored as one item or, if it is too large, as several in one transaction: one write
per batch, not one per client. The packed form is columnar, so that packing, unpacking and compressing are a few calls
into C:

    zlib level 1 of MessagePack of a list of meters, each
    [source, topic, IPv4 prefix, IPv6 prefix, slot_ms, first slot,
     keys of 4 bytes, keys of 16 bytes, slots per key, slots, counts]

Slots are offsets from the first slot, in the order of the keys. Each of the last three is an array of little-endian
unsigned integers, as wide as its largest value needs; its first byte names the width (``meter_tally.MeterTally``).

A meter that measures bytes or time (``measures``) has the sums of its amounts in place of counts. One that counts the
different values of a column has groups (``client_groups``) in place of clients.

Requests that were answered as Sluice's own refusals are counted by each meter like all others, and once more by
themselves (``Meter.refusals``). A batch without any has no columns for them.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import lcm

import msgspec

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.client_groups import group_digests, group_keys
from chalicelib.core.logs.requests import Requests, Source
from chalicelib.core.measures import Measure, amounts
from chalicelib.core.meter_tally import BadTally, Clients, MeterTally, Slots
from chalicelib.core.refusals import REFUSAL_STATUS, refusal_rows
from chalicelib.core.rules import LONGEST_WINDOW_S, TOPIC_BYTES, Meter

VERSION = 1
"""Version of the packed form. The tally table rejects items of any other."""

RETENTION_S = 3600
"""Age beyond which a request is late and is not counted, in seconds, where no other is configured."""

LONGEST_RETENTION_S = 26 * 3600
"""Longest age that can be configured. CloudFront delivers standard logs within 24 hours, and up to 2 hours of requests
in one file (CloudFront Developer Guide, "Timing of standard log file delivery")."""

FENCE_S = 3600
"""Seconds for which the store keeps items after they have ceased to count, because they fence off stale writers."""

LARGEST_UNPACKED = 256 << 20
"""Most bytes that a packed tally may decompress to, so that a damaged item cannot exhaust memory."""


def kept_s(retention_s: int) -> int:
    """Returns the age, in seconds, at which the store may remove an item.

    An item as old as the retention and the longest window together holds nothing that can still count.

    >>> kept_s(RETENTION_S)
    10800
    """
    return retention_s + LONGEST_WINDOW_S + FENCE_S


Tally = Sequence[MeterTally]
"""The requests of one batch, per meter and source."""


class Tallier:
    """A tallier of requests for a set of meters."""

    def __init__(self, meters: Iterable[Meter], refusal_status: int = REFUSAL_STATUS) -> None:
        """``refusal_status``: the status with which the rule group refuses requests."""
        self._refusal_status = refusal_status
        self._meters = [(meter, meter.refusals()) for meter in meters]
        self.memos = {meter.prefixes: PrefixMemo(*meter.prefixes) for meter, _ in self._meters}
        """The networks of addresses, for each pair of prefixes that makes a client."""

    def tally(self, batches: Iterable[Requests]) -> Tally:
        """Returns the counts of each meter, and those of its refusals, unless it counted no request."""
        counts: list[MeterTally] = []
        for requests in batches:
            masked = {prefixes: memo.mask_all(requests.clients) for prefixes, memo in self.memos.items()}
            refused = frozenset(refusal_rows(requests, self._refusal_status))
            for meter, refusals in self._meters:
                keys, rows = masked[meter.prefixes], meter.scope.rows(requests)
                counts += _counted(requests, meter, keys, rows)
                if refused:
                    both = [row for row in (range(len(keys)) if rows is None else rows) if row in refused]
                    counts += _counted(requests, refusals, keys, both)
        return merged(counts)

    def refused(self, tally: Tally) -> int:
        """Returns how many requests of ``tally`` were answered as refusals, as far as a single meter counted them."""
        topics = {refusals.topic for meter, refusals in self._meters if meter.measure is Measure.REQUESTS}
        most: dict[Source, int] = {}
        for part in tally:
            if part.topic in topics:
                most[part.source] = max(most.get(part.source, 0), sum(part.totals()))
        return sum(most.values())


def merged(tally: Tally) -> Tally:
    """Returns the same counts, with one element per source, topic and slot length."""
    same: dict[tuple[Source, bytes, int], list[MeterTally]] = {}
    for counted in tally:
        same.setdefault((counted.source, counted.topic, counted.slot_ms), []).append(counted)
    return tally if len(same) == len(tally) else [_sum(parts) for parts in same.values()]


def _sum(parts: Sequence[MeterTally]) -> MeterTally:
    if len(parts) == 1:
        return parts[0]
    clients: Clients = {}
    for part in parts:
        add_clients(clients, part.clients())
    return MeterTally.of(parts[0].source, parts[0], clients)


def _counted(
    requests: Requests, meter: Meter, keys: Sequence[bytes], rows: Sequence[int] | None
) -> Iterator[MeterTally]:
    """Yields what ``meter`` counts in ``rows``, with None for all, unless there are none. ``keys``: one per row."""
    times: Sequence[int] = requests.times
    if rows is not None:
        keys, times = [keys[row] for row in rows], [times[row] for row in rows]
    if meter.keyed_by:
        digests = group_digests(meter.keyed_by, meter.scope, requests, rows)
        if digests is None:
            return
        keys = group_keys(keys, digests)
    if meter.measure.is_sum:
        clients = added_up(keys, times, amounts(meter.measure, requests, rows) or [], meter.slot_ms)
    else:
        clients = count(keys, times, meter.slot_ms)
    if clients:
        yield MeterTally.of(requests.source, meter, clients)


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


def added_up(keys: Sequence[bytes], times: Sequence[int], amounts: Sequence[int], slot_ms: int) -> Clients:
    """Returns the sums of ``amounts`` by client and slot, none of them 0; no clients if there are no amounts.

    >>> added_up([b"a", b"b", b"a"], [100, 100, 149], [500, 0, 20], 50)
    {b'a': {2: 520}}
    """
    clients: Clients = {}
    for key, time, amount in zip(keys, times, amounts, strict=False):
        if amount:
            slots, slot = clients.setdefault(key, {}), time // slot_ms
            slots[slot] = slots.get(slot, 0) + amount
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
"""Source, topic, client, and the number of a piece of time whose length is a multiple of the topic's slot lengths."""


def split(tally: Tally) -> tuple[Tally, Tally]:
    """Returns two halves that add up to ``tally``, with about equally many (client, slot) entries.

    A topic may have been counted at several slot lengths. A request is in the same half at all of them, because a
    reader takes each half at one length only; and so is a refusal in both of its topics, because a reader that knew
    the request without its refusal would take it for served. Raises BadTally for a tally too small to split.
    """
    topics = [(c.source, c.topic[:TOPIC_BYTES]) for c in tally]
    pieces: dict[tuple[Source, bytes], int] = {}
    for topic, counted in zip(topics, tally, strict=True):
        pieces[topic] = lcm(pieces.get(topic, 1), counted.slot_ms)
    slots_per_piece = [pieces[topic] // c.slot_ms for topic, c in zip(topics, tally, strict=True)]
    sizes: Counter[_Part] = Counter()
    for topic, c, number in zip(topics, tally, slots_per_piece, strict=True):
        for client, slots in c.clients().items():
            sizes.update((*topic, client, slot // number) for slot in slots)
    if len(sizes) < 2:
        raise BadTally("a tally of one client at one moment cannot be split")
    parts = sorted(sizes)
    half, taken = sizes.total() / 2, accumulate(map(sizes.__getitem__, parts))
    cut = next(number for number, size in enumerate(taken, 1) if size >= half or number == len(parts) - 1)
    first = frozenset(parts[:cut])
    halves: tuple[list[MeterTally], list[MeterTally]] = ([], [])
    for topic, c, number in zip(topics, tally, slots_per_piece, strict=True):
        kept: tuple[Clients, Clients] = ({}, {})
        for client, slots in c.clients().items():
            for slot, requests in slots.items():
                clients = kept[(*topic, client, slot // number) not in first]
                clients.setdefault(client, {})[slot] = requests
        for counts, clients in zip(halves, kept, strict=True):
            if clients:
                counts.append(MeterTally.of(c.source, c, clients))
    return halves


_lists = msgspec.msgpack.Decoder(list[MeterTally])


def pack(tally: Tally) -> bytes:
    """Returns the packed form of a tally."""
    return zlib.compress(msgspec.msgpack.encode(tally), 1)


def unpack(body: bytes) -> Tally:
    """Returns the tally packed in ``body``; raises BadTally."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(body, LARGEST_UNPACKED)
        if not inflate.eof:
            raise BadTally("the packed tally is truncated or too large")
        tally = _lists.decode(plain)
        for counted in tally:
            counted.check()
    except (zlib.error, msgspec.MsgspecError, ValueError, IndexError, KeyError) as exc:
        raise BadTally(str(exc)) from exc
    return tally
