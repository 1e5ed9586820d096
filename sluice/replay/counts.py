"""Requests of a whole log counted per client and slot: the tallies of Lambda, without a clock.

No order is asked of the lines: a count belongs to the slot of its own time, whenever it comes, and nobody is judged
before the last line has been read. Memory is bounded: a ledger that has grown too large is put away in packed
tallies, by groups of clients that can be judged by themselves.
"""

from collections.abc import Iterator
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from zlib import crc32

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import LARGEST_LIMIT, Meter, Rule, RuleSet, serving
from chalicelib.core.scope import EVERYTHING
from chalicelib.core.tally import Clients, MeterTally, Slots, Tally, add_clients, folded, pack, unpack
from sluice.replay.prefilter import group_prefix

MOST_ENTRIES = 400_000
"""(client, slot) pairs held before they are put away: 40 MB, or 140 MB where each is another client."""

PARTS = 32
SPOOL_BYTES = 32 << 20
EVERY_REQUEST = "every-request"


def every_request(rules: RuleSet) -> Rule:
    """A rule that counts all requests, in slots that end with every full second.

    One of the set's own rules where there is such a one, so that nothing is counted twice; else one nobody breaks.
    """
    ipv4 = max((rule.ipv4_prefix for rule in rules.rules), default=32)
    ipv6 = max((rule.ipv6_prefix for rule in rules.rules), default=64)
    for rule in rules.rules:
        if rule.scope == EVERYTHING and rule.prefixes == (ipv4, ipv6) and 1000 % rule.slot_ms == 0:
            return rule
    return Rule(name=EVERY_REQUEST, limit=LARGEST_LIMIT, window_s=100, ipv4_prefix=ipv4, ipv6_prefix=ipv6)


def with_every_request(rules: RuleSet) -> RuleSet:
    extra = every_request(rules)
    return rules if extra in rules.rules else replace(rules, rules=(*rules.rules, extra))


class Ledger:
    """Requests per client and slot, by source and meter."""

    def __init__(self, rules: RuleSet) -> None:
        meters = rules.meters()
        self._meters: dict[Rule, Meter] = {}
        for rule in rules.rules:
            topic = rule.meter.topic
            meter = serving(rule.slot_ms, [meter for meter in meters if meter.topic == topic])
            assert meter is not None  # ``meters`` serve every rule
            self._meters[rule] = meter
        self._held: dict[tuple[Source, bytes, int], Clients] = {}
        self._prefixes = {meter.topic: meter.prefixes for meter in meters}
        self.entries = 0
        """(client, slot) pairs; a pair that came twice may count as two."""

    def add(self, tally: Tally) -> None:
        """Adds a tally."""
        for counted in tally:
            mine = self._held.setdefault((counted.source, counted.topic, counted.slot_ms), {})
            self.entries += sum(map(len, counted.clients.values()))
            add_clients(mine, counted.clients)

    def clients(self, source: Source, rule: Rule, more_than: int = -1) -> Iterator[tuple[bytes, Slots]]:
        """The clients of whose requests ``rule`` counts more than ``more_than``, each with its slots, as the rule's."""
        meter = self._meters[rule]
        factor = rule.slot_ms // meter.slot_ms
        for client, slots in self._held.get((source, meter.topic, meter.slot_ms), {}).items():
            if sum(slots.values()) > more_than:
                yield client, folded(slots, factor)

    def tally(self) -> Tally:
        """All that is held."""
        return tuple(
            MeterTally(source, topic, *self._prefixes[topic], slot_ms, clients)
            for (source, topic, slot_ms), clients in self._held.items()
        )


class Counts:
    """All tallies of one rule set, added in any order."""

    def __init__(self, rules: RuleSet, most_entries: int = MOST_ENTRIES) -> None:
        self._rules = rules
        self._most_entries = most_entries
        self._ledger = Ledger(rules)
        self._group = PrefixMemo(*group_prefix(rules))
        self._spools: list[SpooledTemporaryFile[bytes]] = []

    def add(self, tally: Tally) -> None:
        """Takes a tally over, which must not be used any more."""
        self._ledger.add(tally)
        if self._ledger.entries > self._most_entries:
            self._put_away()

    def ledgers(self) -> Iterator[Ledger]:
        """Ledgers that hold everything between them; a network and all others it contains are in the same one."""
        if not self._spools:
            yield self._ledger
            return
        self._put_away()
        for spool in self._spools:
            ledger = Ledger(self._rules)
            spool.seek(0)
            while size := spool.read(8):
                ledger.add(unpack(spool.read(int.from_bytes(size, "big"))))
            yield ledger

    def close(self) -> None:
        for spool in self._spools:
            spool.close()

    def _put_away(self) -> None:
        if not self._spools:
            self._spools = [SpooledTemporaryFile(SPOOL_BYTES // PARTS) for _ in range(PARTS)]  # noqa: SIM115
        for spool, part in zip(self._spools, self._parts(self._ledger.tally()), strict=True):
            if part:
                body = pack(part)
                spool.write(len(body).to_bytes(8, "big") + body)
        self._ledger = Ledger(self._rules)

    def _parts(self, tally: Tally) -> list[Tally]:
        """Cut by group: the hash must be the same for every client of one, and for every tally."""
        parts: list[list[MeterTally]] = [[] for _ in range(PARTS)]
        for counted in tally:
            clients = counted.clients
            numbers = [crc32(group) % PARTS for group in self._group.mask_all(list(clients))]
            divided: list[Clients] = [{} for _ in range(PARTS)]
            for number, (client, slots) in zip(numbers, clients.items(), strict=True):
                divided[number][client] = slots
            for part, some in zip(parts, divided, strict=True):
                if some:
                    part.append(replace(counted, clients=some))
        return [tuple(part) for part in parts]
