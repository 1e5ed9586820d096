"""Requests of a whole log per client and slot: the tallies of Lambda, without a clock.

A count belongs to the slot of its own time, so lines may come in any order, and nothing is evaluated before the last
one has been read. Memory is bounded: a ledger that grows too large is spilled to disk as packed tallies, partitioned
such that clients that share blocks stay together.
"""

from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import NamedTuple
from zlib import crc32

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.client_groups import client_of
from chalicelib.core.distinct import by_client, folded_marks
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Clients, MeterTally, Slots
from chalicelib.core.rules import Meter, Rule, RuleSet, serving
from chalicelib.core.tally import add_clients, folded, pack, unpack
from sluice.replay.rule_sets import group_prefix

MOST_ENTRIES = 400_000
"""Most (client, slot) pairs in memory: 40 MB, or 140 MB if each is of a different client."""

PARTS = 32
"""Ledgers that a spilled log is divided into."""

SPOOL_BYTES = 32 << 20
"""Spilled tallies kept in memory, all parts together; larger ones are files."""


class Counted(NamedTuple):
    """The requests of one source, as one meter counted them."""

    source: Source
    meter: Meter
    clients: Clients


class Ledger:
    """Requests per client and slot, by source and meter. Of a rule that counts different values, requests per client
    and mark (``distinct``)."""

    def __init__(self, rules: RuleSet) -> None:
        meters = rules.meters()
        self._meters: dict[Rule, Meter] = {}
        self._refusals: dict[Rule, Meter] = {}
        for rule in rules.rules:
            topic = rule.meter.topic
            meter = serving(rule.slot_ms, [meter for meter in meters if meter.topic == topic])
            assert meter is not None  # ``meters`` serve every rule
            self._meters[rule] = meter
            self._refusals[rule] = meter.refusals()
        self._clients: dict[tuple[Source, Meter], Clients] = {}
        self._marks: dict[tuple[Source, Meter], Clients] = {}
        """By meter of different values, its clients' requests by mark, once they have been asked for."""
        self.entries = 0
        """(client, slot) pairs; a pair that was added twice may count as two."""

    def add(self, counts: Iterable[Counted]) -> None:
        for source, meter, clients in counts:
            self.entries += sum(map(len, clients.values()))
            self._marks.pop((source, meter), None)
            add_clients(self._clients.setdefault((source, meter), {}), clients)

    def clients(self, source: Source, rule: Rule, more_than: int = -1) -> Iterator[tuple[bytes, Slots]]:
        """Yields clients with more than ``more_than`` requests that ``rule`` counts, and the counts in its slots."""
        meter = self._meters[rule]
        for client, slots in self._counted(source, meter).items():
            if sum(slots.values()) > more_than:
                yield client, _folded(slots, rule, meter)

    def slots(self, source: Source, rule: Rule, client: bytes) -> Slots:
        """Returns what ``rule`` counts of a client, in its slots."""
        meter = self._meters[rule]
        return _folded(self._counted(source, meter).get(client, {}), rule, meter)

    def refusals(self, source: Source, rule: Rule, client: bytes) -> Slots:
        """Returns the requests of a client, among those that ``rule`` counts, that were answered as refusals."""
        meter = self._refusals[rule]
        return _folded(self._counted(source, meter).get(client, {}), rule, meter)

    def _counted(self, source: Source, meter: Meter) -> Clients:
        clients = self._clients.get((source, meter), {})
        if not meter.measure.is_distinct:
            return clients
        if (source, meter) not in self._marks:
            self._marks[source, meter] = by_client(clients)
        return self._marks[source, meter]

    def counts(self) -> Iterator[Counted]:
        """Yields the whole content."""
        for (source, meter), clients in self._clients.items():
            yield Counted(source, meter, clients)


def _folded(slots: Slots, rule: Rule, meter: Meter) -> Slots:
    factor = rule.slot_ms // meter.slot_ms
    return folded_marks(slots, factor) if rule.measure.is_distinct else folded(slots, factor)


class Counts:
    """All tallies of one rule set, added in any order."""

    def __init__(self, rules: RuleSet, most_entries: int = MOST_ENTRIES) -> None:
        self._rules = rules
        self._most_entries = most_entries
        self._ledger = Ledger(rules)
        self._group = PrefixMemo(*group_prefix(rules))
        self._spools: list[SpooledTemporaryFile[bytes]] = []

    def add(self, counts: Iterable[Counted]) -> None:
        self._ledger.add(counts)
        if self._ledger.entries > self._most_entries:
            self._spill()

    def ledgers(self) -> Iterator[Ledger]:
        """Yields ledgers that together hold all counts; a network and all networks within it are in the same one."""
        if not self._spools:
            yield self._ledger
            return
        self._spill()
        both = (each for meter in self._rules.meters() for each in (meter, meter.refusals()))
        meters = {(meter.topic, meter.slot_ms): meter for meter in both}
        for spool in self._spools:
            ledger = Ledger(self._rules)
            spool.seek(0)
            while size := spool.read(8):
                tally = unpack(spool.read(int.from_bytes(size, "big")))
                ledger.add(Counted(c.source, meters[c.topic, c.slot_ms], c.clients()) for c in tally)
            yield ledger

    def close(self) -> None:
        for spool in self._spools:
            spool.close()

    def _spill(self) -> None:
        if not self._spools:
            self._spools = [SpooledTemporaryFile(SPOOL_BYTES // PARTS) for _ in range(PARTS)]  # noqa: SIM115
        for spool, part in zip(self._spools, self._parts(self._ledger.counts()), strict=True):
            if part:
                body = pack(part)
                spool.write(len(body).to_bytes(8, "big") + body)
        self._ledger = Ledger(self._rules)

    def _parts(self, counts: Iterable[Counted]) -> list[list[MeterTally]]:
        """Partitions counts by group: clients of one group always belong to the same part."""
        parts: list[list[MeterTally]] = [[] for _ in range(PARTS)]
        for source, meter, clients in counts:
            addresses = list(map(client_of, clients)) if meter.keyed_by else list(clients)
            numbers = [crc32(group) % PARTS for group in self._group.mask_all(addresses)]
            divided: list[Clients] = [{} for _ in range(PARTS)]
            for number, (client, slots) in zip(numbers, clients.items(), strict=True):
                divided[number][client] = slots
            for part, members in zip(parts, divided, strict=True):
                if members:
                    part.append(MeterTally.of(source, meter, members))
        return parts
