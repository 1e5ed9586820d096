"""The prefilter: finds the clients of a log that can be over a limit, before anything is counted by slot.

Requests are added up by *stretches*, pieces of time at least as long as any window, so every window lies within two
neighbouring stretches. A client with no more requests in any two neighbours than a rule allows in one window is within
that rule's limit. Most clients are, so only the others need slots and windows.

Totals are kept per group, which is one network of the rules' shortest prefixes: the clients in it share blocks. Beyond
``MOST_TOTALS``, the stretches become twice as long, until one holds the whole log. Then totals are kept by hash,
several groups to one total. Both can only let more clients through.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import compress, product
from typing import TypeVar

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.client_groups import group_keys
from chalicelib.core.logs.requests import Source
from chalicelib.core.measures import Measure
from chalicelib.core.rules import Meter, Rule, RuleSet
from chalicelib.core.sampling import WHOLE_LOG, Sampling
from chalicelib.core.scope import Scope
from chalicelib.core.tally import added_up, count
from sluice.replay.counts import Counted
from sluice.replay.rule_sets import group_prefix
from sluice.replay.strips import END_OF_TIME_MS, Grouping, Strip

LEAST_STRETCH_MS = 60_000
"""Shortest stretch: shorter ones let fewer clients through, but take more time than that saves."""

MOST_TOTALS = 500_000
"""Most totals kept for a scope; each is of one group in one stretch."""

BUCKETS = 1 << 20
"""Totals of a scope once they are kept by hash: 8 MB."""

ROWS_PER_TALLY = 100_000
"""Number of rows beyond which the rows are tallied and yielded."""


T = TypeVar("T")


class Totals:
    """Requests of each group in one scope, by stretch."""

    def __init__(self, stretch_ms: int, most_totals: int = MOST_TOTALS) -> None:
        """No window of the scope's rules is longer than ``stretch_ms``."""
        self._stretch_ms = stretch_ms
        self._most_totals = most_totals
        self._stretches: dict[int, Counter[bytes]] = {}
        """Totals by time // ``stretch_ms``."""
        self._size = 0
        self._hashed: array[int] | None = None

    def add(self, groups: Sequence[bytes], times: Sequence[int], first_ms: int, last_ms: int) -> None:
        """Counts the requests of ``groups`` made at ``times``, all within ``first_ms``..``last_ms``, both inclusive."""
        first, last = first_ms // self._stretch_ms, last_ms // self._stretch_ms
        if first == last:
            self._add(first, groups)
        else:
            divided: defaultdict[int, list[bytes]] = defaultdict(list)
            for time, group in zip(times, groups, strict=True):
                divided[time // self._stretch_ms].append(group)
            for number, members in divided.items():
                self._add(number, members)
        if self._size > self._most_totals:
            self._shrink()

    def add_amounts(
        self, groups: Sequence[bytes], times: Sequence[int], amounts: Sequence[int], rows: Sequence[int] | None
    ) -> None:
        """Adds up the ``amounts`` of the requests in ``rows`` (all if None) instead of counting the requests."""
        for row in range(len(groups)) if rows is None else rows:
            totals = self._stretches.setdefault(times[row] // self._stretch_ms, Counter())
            self._size -= len(totals)
            totals[groups[row]] += amounts[row]
            self._size += len(totals)
        if self._size > self._most_totals:
            self._shrink()

    def _add(self, number: int, groups: Iterable[bytes]) -> None:
        totals = self._stretches.setdefault(number, Counter())
        self._size -= len(totals)
        totals.update(groups)
        self._size += len(totals)

    def _shrink(self) -> None:
        if len(self._stretches) == 1:
            self._hash()
            return
        self._stretch_ms *= 2
        finer, self._stretches = self._stretches, {}
        for number, totals in finer.items():
            self._stretches.setdefault(number // 2, Counter()).update(totals)
        self._size = sum(map(len, self._stretches.values()))

    def _hash(self) -> "array[int]":
        """Moves all totals to the buckets, without their stretches, and puts later requests into one stretch."""
        hashed = self._hashed = self._hashed or array("Q", bytes(8 * BUCKETS))
        for totals in self._stretches.values():
            for group, number in totals.items():
                hashed[hash(group) % BUCKETS] += number
        self._stretches, self._size, self._stretch_ms = {}, 0, END_OF_TIME_MS
        return hashed

    def above(self, limit: int) -> "Groups":
        """Returns the groups that have more requests than ``limit`` in two neighbouring stretches, and perhaps others.

        There are others only if totals are kept by hash.
        """
        if self._hashed is not None:
            return Groups(frozenset(), bytes(number > limit for number in self._hash()))
        above: set[bytes] = set()
        nothing: Counter[bytes] = Counter()
        for number, totals in self._stretches.items():
            before, after = (self._stretches.get(neighbour, nothing) for neighbour in (number - 1, number + 1))
            # The larger of two numbers is at least half their sum.
            many = {group for group, requests in totals.items() if requests > limit // 2}
            above |= {group for group in many if totals[group] + max(before[group], after[group]) > limit}
        return Groups(above)


class Groups:
    """A set of groups, by name or by hash."""

    def __init__(self, names: Collection[bytes], hashes: bytes = b"") -> None:
        """``hashes`` holds 1 for each bucket whose groups belong to the set, else 0; it is empty if names suffice."""
        self._names = names
        self._hashes = hashes

    def __contains__(self, group: bytes) -> bool:
        return group in self._names or (self._hashes != b"" and self._hashes[hash(group) % BUCKETS] == 1)

    def __or__(self, other: "Groups") -> "Groups":
        hashes = self._hashes or other._hashes
        if self._hashes and other._hashes:
            hashes = bytes(map(int.__or__, self._hashes, other._hashes))
        return Groups({*self._names, *other._names}, hashes)

    def flags(self, groups: Iterable[bytes]) -> list[bool]:
        """Tests each of ``groups`` for membership."""
        return list(map(self.__contains__ if self._hashes else self._names.__contains__, groups))


class Masks(PrefixMemo):
    """Clients cut to a prefix, unless they are no longer than that already."""

    def cut(self, clients: list[bytes], prefix: tuple[int, int]) -> list[bytes]:
        """Cuts ``clients``, which are of one family and already cut to the prefix lengths ``prefix``."""
        if not clients:
            return clients
        is_cut = self.ipv4_prefix >= prefix[0] if len(clients[0]) == 4 else self.ipv6_prefix >= prefix[1]
        return clients if is_cut else self.mask_all(clients)


class Prefilter:
    """A filter for one rule set: adds up strips, then tallies the clients that can be over a limit."""

    def __init__(
        self,
        rules: RuleSet,
        scopes: Sequence[Scope],
        client_prefix: tuple[int, int],
        *,
        measures: Sequence[Measure] = (),
        groupings: Sequence[Grouping] = (),
        sampling: Sampling = WHOLE_LOG,
        everyone: bool = False,
    ) -> None:
        """``scopes``, ``client_prefix``, ``measures`` and ``groupings`` are those of the strips.

        With ``everyone``, all clients are tallied.
        """
        self._client_prefix = client_prefix
        self._everyone = everyone
        self._meters = [(meter, meter.refusals(), scopes.index(meter.scope)) for meter in rules.meters()]
        self._masks = {meter.prefixes: Masks(*meter.prefixes) for meter, _, _ in self._meters}
        self._groups = Masks(*group_prefix(rules))
        self._measures = measures
        self._groupings = groupings
        self._totals: dict[tuple[int, Measure, bool], tuple[Totals, int]] = {}
        """By number of the scope, measure, and whether quotas or other rules count: over days, most clients make more
        requests than a window of seconds allows."""
        for number, scope in enumerate(scopes):
            for measure, of_quotas in product((Measure.REQUESTS, *measures), (False, True)):
                alike = (rule for rule in rules.rules if rule.scope == scope and rule.is_quota is of_quotas)
                counting = [rule for rule in alike if _bounded_by(rule) is measure]
                if counting:
                    stretch_ms = max(LEAST_STRETCH_MS, *(rule.window_s * 1000 for rule in counting))
                    least = min(sampling.logged(rule.limit) for rule in counting)
                    self._totals[number, measure, of_quotas] = Totals(stretch_ms), least

    def add(self, strip: Strip, first_ms: int, last_ms: int) -> None:
        """Adds requests that were all made within ``first_ms``..``last_ms``, both inclusive."""
        if self._everyone:
            return
        groups = self._groups.cut(strip.clients, self._client_prefix)
        for (number, measure, _), (totals, _) in self._totals.items():
            rows, times = strip.rows[number], strip.times
            if measure is not Measure.REQUESTS:
                amounts = self._amounts(strip, measure)
                if amounts is not None:
                    totals.add_amounts(groups, times, amounts, rows)
            elif rows is None:
                totals.add(groups, times, first_ms, last_ms)
            elif rows:
                totals.add([groups[row] for row in rows], [times[row] for row in rows], first_ms, last_ms)

    def _amounts(self, strip: Strip, measure: Measure) -> "array[int] | None":
        return strip.amounts[self._measures.index(measure)]

    def counts(self, strips: Iterable[Strip]) -> Iterator[list[Counted]]:
        """Yields counts of the clients that can be over a limit; ``strips`` are all strips that were added."""
        relevant = Groups(())
        for totals, limit in self._totals.values():
            relevant |= totals.above(limit)
        batch: _Batch = {}
        size = 0
        for strip in strips:
            clients = strip.clients
            keep = None
            if not self._everyone:
                keep = relevant.flags(self._groups.cut(clients, self._client_prefix))
                if True not in keep:
                    continue
            for meter, refusals, scope in self._meters:
                rows = strip.rows[scope]
                size += self._add(batch, strip, meter, rows, keep)
                if strip.refusals:
                    refused = strip.refusals if rows is None else array("I", sorted({*rows} & {*strip.refusals}))
                    size += self._add(batch, strip, refusals, refused, keep)
            if size > ROWS_PER_TALLY:
                yield _counts(batch)
                batch, size = {}, 0
        if batch:
            yield _counts(batch)

    def _add(
        self, batch: "_Batch", strip: Strip, meter: Meter, rows: "array[int] | None", keep: Sequence[bool] | None
    ) -> int:
        """Adds to ``batch`` the ``rows`` of a strip that ``meter`` counts; returns their number."""
        amounts = self._amounts(strip, meter.measure) if meter.measure.is_sum else None
        if amounts is None and meter.measure.is_sum:
            return 0
        groups = strip.groups[self._groupings.index((meter.keyed_by, meter.scope))] if meter.keyed_by else None
        if groups is None and meter.keyed_by:
            return 0
        keys, times = _rows(strip, rows, keep)
        if keys:
            all_keys, all_times, all_amounts = batch.setdefault((strip.source, meter), ([], [], []))
            clients = self._masks[meter.prefixes].cut(keys, self._client_prefix)
            all_keys.extend(clients if groups is None else group_keys(clients, _of_rows(groups, rows, keep)))
            all_times.extend(times)
            if amounts is not None:
                all_amounts.extend(_of_rows(amounts, rows, keep))
        return len(keys)


def _bounded_by(rule: Rule) -> Measure:
    """Returns the measure that bounds what ``rule`` counts: a client has no more different values than requests."""
    return Measure.REQUESTS if rule.measure.is_distinct else rule.measure


_Batch = dict[tuple[Source, Meter], tuple[list[bytes], list[int], list[int]]]
"""Clients, times and, of a measure that is a sum, amounts, by source and meter."""


def _counts(batch: _Batch) -> list[Counted]:
    return [
        Counted(
            source,
            meter,
            added_up(keys, times, amounts, meter.slot_ms)
            if meter.measure.is_sum
            else count(keys, times, meter.slot_ms),
        )
        for (source, meter), (keys, times, amounts) in batch.items()
    ]


def _rows(strip: Strip, rows: "array[int] | None", keep: Sequence[bool] | None) -> tuple[list[bytes], Sequence[int]]:
    """Returns clients and times of ``rows`` whose ``keep`` is true; None stands for all."""
    clients = strip.clients if rows is None and keep is None else list(_of_rows(strip.clients, rows, keep))
    return clients, _of_rows(strip.times, rows, keep)


def _of_rows(values: Sequence[T], rows: "array[int] | None", keep: Sequence[bool] | None) -> Sequence[T]:
    """Returns the values of ``rows`` whose ``keep`` is true; None stands for all."""
    if rows is None:
        return values if keep is None else list(compress(values, keep))
    chosen = rows if keep is None else [row for row in rows if keep[row]]
    return [values[row] for row in chosen]
