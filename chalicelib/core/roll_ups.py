"""Roll-ups: what tallies hold for quotas, in slots of a quarter of an hour. No clock, no I/O.

A quota's window is a day or longer, so its counts are kept for much longer than tallies are, and in longer slots. A
roll-up holds the counts of many tallies, in the same packed form. Only topics of quotas are in it: what is not asked
for is not kept. Refusals are among them, so that requests that Sluice answered itself are known here as well.

A roll-up always has slots of ``QUOTA_SLOT_S``, whatever the quotas' own are. So a quota with another window, but the
same scope, has its counts at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Clients, MeterTally, pack_integers
from chalicelib.core.rules import QUOTA_SLOT_S, TOPIC_BYTES, RuleSet, serving
from chalicelib.core.tally import Tally, add_clients, folded, pack, split

LARGEST_BODY = 300_000
"""Most bytes of a packed part of a roll-up: it fits into an item of the table, of 400 KB, with room to spare."""

PIECE = 25_000
"""Entries that are added up at a time: about 10 MB."""

SLOT_MS = QUOTA_SLOT_S * 1000


def finest_slots(quotas: RuleSet) -> dict[bytes, int]:
    """Returns for each topic of ``quotas`` the length of the shortest of their slots, in milliseconds."""
    finest: dict[bytes, int] = {}
    for rule in quotas.rules:
        topic = rule.meter.topic
        finest[topic] = min(rule.slot_ms, finest.get(topic, rule.slot_ms))
    return finest


def rolled_up(tally: Tally, topics: Iterable[bytes]) -> Tally:
    """Returns the counts of ``topics`` in ``tally``, and of the refusals among them, in slots of ``SLOT_MS``.

    A topic may have been counted at several slot lengths, each of which has every request: one of them is taken.
    """
    counted = frozenset(topics)
    same: dict[tuple[Source, bytes], list[MeterTally]] = {}
    for part in tally:
        if part.topic[:TOPIC_BYTES] in counted:
            same.setdefault((part.source, part.topic), []).append(part)
    taken = (serving(SLOT_MS, parts) for parts in same.values())
    return [in_slots(part, SLOT_MS) for part in taken if part is not None]


def in_slots(part: MeterTally, slot_ms: int) -> MeterTally:
    """Returns the same counts in slots of ``slot_ms``, a multiple of the slots that they are in."""
    factor = slot_ms // part.slot_ms
    if factor == 1:
        return part
    slots = part.slots()
    first = min(slots) // factor
    wider = msgspec.structs.replace(part, slot_ms=slot_ms, first_slot=first)
    if first < max(slots) // factor:
        clients = {client: folded(slots, factor) for client, slots in part.clients().items()}
        return MeterTally.of(part.source, wider, clients)
    totals = list(part.totals())
    number = len(totals)
    columns = {"per_key": pack_integers([1] * number), "offsets": pack_integers([0] * number)}
    return msgspec.structs.replace(wider, counts=pack_integers(totals), **columns)


def for_quotas(tally: Tally, finest: Mapping[bytes, int]) -> Tally:
    """Returns the counts of a roll-up as quotas are evaluated from them; ``finest``: see ``finest_slots``."""
    lengths = ((part, finest.get(part.topic[:TOPIC_BYTES])) for part in tally)
    return [in_slots(part, slot_ms) for part, slot_ms in lengths if slot_ms is not None]


def summed(tallies: Iterable[Tally]) -> Iterator[Tally]:
    """Yields the sum of ``tallies`` in pieces of about ``PIECE`` entries, with each client in one of them.

    Adding up takes hundreds of bytes per entry, in columns it takes about ten: so the memory is that of one piece.
    Clients are divided by Python's hashes, which differ between interpreters: no client can choose its piece.
    """
    parts = [part for tally in tallies for part in tally]
    number = -(-sum(part.entries for part in parts) // PIECE)
    shares: list[list[MeterTally]] = [[] for _ in range(number)]
    for part in parts:
        pieces = part.apart([number_of % number for number_of in map(hash, part.keys())], number)
        for share, piece in zip(shares, pieces, strict=True):
            if piece is not None:
                share.append(piece)
    del parts
    sums: dict[tuple[Source, bytes, int], tuple[MeterTally, Clients]] = {}
    for share in shares:
        for part in share:
            _, clients = sums.setdefault((part.source, part.topic, part.slot_ms), (part, {}))
            add_clients(clients, part.clients())
        share.clear()
        if sum(sum(map(len, clients.values())) for _, clients in sums.values()) >= -(-PIECE // 2):
            yield _columns(sums.values())
            sums.clear()
    if sums:
        yield _columns(sums.values())


def _columns(sums: Iterable[tuple[MeterTally, Clients]]) -> Tally:
    return [MeterTally.of(part.source, part, clients) for part, clients in sums]


def packed(tally: Tally) -> Iterator[bytes]:
    """Yields ``tally``, packed in parts of at most ``LARGEST_BODY``."""
    body = pack(tally)
    if len(body) <= LARGEST_BODY:
        yield body
        return
    for half in split(tally):
        yield from packed(half)


def entries(tallies: Sequence[Tally]) -> int:
    """Returns the number of (client, slot) pairs in ``tallies``; a pair in several of them counts as several."""
    return sum(part.entries for tally in tallies for part in tally)
