"""Requests of a whole log counted per client and slot: the tallies and views of Lambda, without a clock.

No order is asked of the lines: a count belongs to the slot of its own time, whenever it comes, and nobody is judged
before the last line has been read. Memory is bounded: a view that has grown too large is put away in packed tallies,
by groups of clients that can be judged by themselves.
"""

from collections.abc import Iterator
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from zlib import crc32

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.requests import Source
from chalicelib.core.rules import LARGEST_LIMIT, Rule, RuleSet
from chalicelib.core.scope import EVERYTHING
from chalicelib.core.tally import Counted, Tally, pack, unpack
from chalicelib.core.windows import View
from sluice.replay.sieve import group_prefix

MOST_ENTRIES = 400_000
"""(client, slot) pairs held before they are put away: some 100 MB."""

PARTS = 32
SPOOL_BYTES = 32 << 20
UNBOUNDED = 1 << 62
EVERY_REQUEST = "every request"


def every_request(rules: RuleSet) -> Rule:
    """A rule that nobody breaks and that counts all requests, in slots that end with every full second.

    One of the set's own rules where there is such a one, so that nothing is counted twice.
    """
    ipv4 = max((rule.ipv4 for rule in rules.rules), default=32)
    ipv6 = max((rule.ipv6 for rule in rules.rules), default=64)
    for rule in rules.rules:
        if rule.scope == EVERYTHING and (rule.ipv4, rule.ipv6) == (ipv4, ipv6) and 1000 % rule.slot_ms == 0:
            return rule
    return Rule(name=EVERY_REQUEST, limit=LARGEST_LIMIT, window_s=100, ipv4=ipv4, ipv6=ipv6)


def with_every_request(rules: RuleSet) -> RuleSet:
    extra = every_request(rules)
    return rules if extra in rules.rules else replace(rules, rules=(*rules.rules, extra))


class Counts:
    """All tallies of one rule set, added in any order."""

    def __init__(self, rules: RuleSet, sample_rate: int = 100, most_entries: int = MOST_ENTRIES) -> None:
        self.rules = rules
        self._sample_rate = sample_rate
        self._most_entries = most_entries
        self._view = self._new_view()
        self._group = PrefixMemo(*group_prefix(rules))
        self._spools: list[SpooledTemporaryFile[bytes]] = []

    def add(self, tally: Tally) -> None:
        self._view.merge(tally)
        if self._view.entries > self._most_entries:
            self._put_away()

    def views(self) -> Iterator[View]:
        """Views that hold everything between them; a network and all others it contains are in the same one."""
        if not self._spools:
            yield self._view
            return
        self._put_away()
        for spool in self._spools:
            view = self._new_view()
            spool.seek(0)
            while size := spool.read(8):
                view.merge(unpack(spool.read(int.from_bytes(size, "big"))))
            yield view

    def close(self) -> None:
        for spool in self._spools:
            spool.close()

    def _new_view(self) -> View:
        return View(self.rules, sample_rate=self._sample_rate, most_entries=UNBOUNDED)

    def _put_away(self) -> None:
        if not self._spools:
            self._spools = [SpooledTemporaryFile(SPOOL_BYTES // PARTS) for _ in range(PARTS)]  # noqa: SIM115
        for spool, part in zip(self._spools, self._parts(everything(self._view)), strict=True):
            if part:
                body = pack(part)
                spool.write(len(body).to_bytes(8, "big") + body)
        self._view = self._new_view()

    def _parts(self, tally: Tally) -> list[Tally]:
        """Cut by group: the hash must be the same for every client of one, and for every tally."""
        parts: list[list[Counted]] = [[] for _ in range(PARTS)]
        for counted in tally:
            clients = counted.clients
            numbers = [crc32(group) % PARTS for group in self._group.mask_all(list(clients))]
            divided: list[dict[bytes, dict[int, int]]] = [{} for _ in range(PARTS)]
            for number, (client, slots) in zip(numbers, clients.items(), strict=True):
                divided[number][client] = slots
            for part, some in zip(parts, divided, strict=True):
                if some:
                    part.append(replace(counted, clients=some))
        return [tuple(part) for part in parts]


def everything(view: View) -> Tally:
    """All that a view holds."""
    held: dict[tuple[Source, bytes, int], Counted] = {}
    for source in Source:
        for rule in view.rules.rules:
            grid, meter = view.grid(source, rule), rule.meter
            if grid is not None and grid.clients:
                place = (source, meter.topic, rule.slot_ms)
                held[place] = Counted(source, meter.topic, rule.ipv4, rule.ipv6, rule.slot_ms, grid.clients)
    return tuple(held.values())
