"""The prefilter: finds the clients of a log that can be over a limit, before anything is counted by time.

A client with no more requests in the whole log than a rule allows in one window is within that rule's limit. Most
clients are, so only the others need slots and windows. Totals are kept per group, which is one network of the rules'
shortest prefixes: the clients in it share blocks. Past a number of groups, totals are kept by hash, several groups to
one total; that can only let more clients through.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import compress

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import RuleSet
from chalicelib.core.scope import Scope
from chalicelib.core.tally import count
from sluice.replay.counts import Counted
from sluice.replay.rule_sets import group_prefix
from sluice.replay.sampling import WHOLE_LOG, Sampling
from sluice.replay.strips import Strip

MOST_GROUPS = 500_000
"""Most groups that have their own total."""

BUCKETS = 1 << 20
ROWS_PER_TALLY = 100_000


class Totals:
    """Requests of each group in one scope."""

    def __init__(self, most_groups: int = MOST_GROUPS) -> None:
        self._most_groups = most_groups
        self._exact: Counter[bytes] = Counter()
        self._hashed: array[int] | None = None

    def add(self, groups: Iterable[bytes]) -> None:
        """Counts one request for each of ``groups``."""
        self._exact.update(groups)
        if len(self._exact) > self._most_groups:
            if self._hashed is None:
                self._hashed = array("Q", bytes(8 * BUCKETS))
            for group, number in self._exact.items():
                self._hashed[hash(group) % BUCKETS] += number
            self._exact.clear()

    def above(self, limit: int) -> "Groups":
        """Returns the groups with more requests than ``limit``; among very many groups, perhaps others as well."""
        hashed = self._hashed
        if hashed is None:
            return Groups({group for group, number in self._exact.items() if number > limit})
        for group, number in self._exact.items():
            hashed[hash(group) % BUCKETS] += number
        self._exact.clear()
        return Groups(frozenset(), bytes(number > limit for number in hashed))


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
    """Cuts clients to a prefix, unless they are no longer than that already."""

    def cut(self, clients: list[bytes], prefix: tuple[int, int]) -> list[bytes]:
        """Cuts ``clients``, which are of one family and already cut to the prefix lengths ``prefix``."""
        if not clients:
            return clients
        is_cut = self.ipv4_prefix >= prefix[0] if len(clients[0]) == 4 else self.ipv6_prefix >= prefix[1]
        return clients if is_cut else self.mask_all(clients)


class Prefilter:
    """Adds up strips for one rule set, then tallies the clients that can be over a limit."""

    def __init__(
        self,
        rules: RuleSet,
        scopes: Sequence[Scope],
        client_prefix: tuple[int, int],
        *,
        sampling: Sampling = WHOLE_LOG,
        everyone: bool = False,
    ) -> None:
        """``scopes`` and ``client_prefix`` are those of the strips. With ``everyone``, all clients are tallied."""
        self._client_prefix = client_prefix
        self._everyone = everyone
        self._meters = [(meter, scopes.index(meter.scope)) for meter in rules.meters()]
        self._masks = {m.prefixes: Masks(*m.prefixes) for m, _ in self._meters}
        self._groups = Masks(*group_prefix(rules))
        self._totals: dict[int, tuple[Totals, int]] = {}
        for number, scope in enumerate(scopes):
            limits = [sampling.logged(rule.limit) for rule in rules.rules if rule.scope == scope]
            if limits:
                self._totals[number] = Totals(), min(limits)

    def add(self, strip: Strip) -> None:
        if self._everyone:
            return
        groups = self._groups.cut(strip.clients, self._client_prefix)
        for number, (totals, _) in self._totals.items():
            rows = strip.rows[number]
            totals.add(groups if rows is None else [groups[row] for row in rows])

    def counts(self, strips: Iterable[Strip]) -> Iterator[list[Counted]]:
        """Yields counts of the clients that can be over a limit; ``strips`` are all strips that were added."""
        relevant = Groups(())
        for totals, limit in self._totals.values():
            relevant |= totals.above(limit)
        batch: dict[tuple[Source, int], tuple[list[bytes], list[int]]] = {}
        size = 0
        for strip in strips:
            clients = strip.clients
            keep = None
            if not self._everyone:
                keep = relevant.flags(self._groups.cut(clients, self._client_prefix))
                if True not in keep:
                    continue
            for number, (meter, scope) in enumerate(self._meters):
                keys, times = _rows(strip, strip.rows[scope], keep)
                if keys:
                    size += len(keys)
                    all_keys, all_times = batch.setdefault((strip.source, number), ([], []))
                    all_keys.extend(self._masks[meter.prefixes].cut(keys, self._client_prefix))
                    all_times.extend(times)
            if size > ROWS_PER_TALLY:
                yield self._counts(batch)
                batch, size = {}, 0
        if batch:
            yield self._counts(batch)

    def _counts(self, batch: Mapping[tuple[Source, int], tuple[list[bytes], list[int]]]) -> list[Counted]:
        counts = []
        for (source, number), (keys, times) in batch.items():
            meter, _ = self._meters[number]
            counts.append(Counted(source, meter, count(keys, times, meter.slot_ms)))
        return counts


def _rows(strip: Strip, rows: "array[int] | None", keep: Sequence[bool] | None) -> tuple[list[bytes], Sequence[int]]:
    """Returns clients and times of ``rows`` whose ``keep`` is true; None stands for all."""
    clients, times = strip.clients, strip.times
    if rows is None:
        return (clients, times) if keep is None else (list(compress(clients, keep)), list(compress(times, keep)))
    chosen = rows if keep is None else [row for row in rows if keep[row]]
    return [clients[row] for row in chosen], [times[row] for row in chosen]
