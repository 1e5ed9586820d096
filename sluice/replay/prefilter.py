"""Which clients of a log can be over a limit at all, before anything is counted by time.

A client with no more requests in the whole log than a rule allows in one window is within that rule's limit. Most
clients are, so only the others need slots and windows. Totals are kept per group: the clients within one network of
the rules' shortest prefixes, which share blocks. Past a number of groups totals are kept by hash, several groups to a
total; that can only let more through.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import compress

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import RuleSet
from chalicelib.core.scope import Scope
from chalicelib.core.tally import MeterTally, Tally, count
from sluice.replay.strips import Strip

MOST_GROUPS = 500_000
BUCKETS = 1 << 20
ROWS_A_TALLY = 100_000


def group_prefix(rules: RuleSet) -> tuple[int, int]:
    """The shortest prefixes of the rules: IPv4, IPv6."""
    ipv4 = min((rule.ipv4_prefix for rule in rules.rules), default=32)
    return ipv4, min((rule.ipv6_prefix for rule in rules.rules), default=64)


class Totals:
    """Requests of each group in one scope."""

    def __init__(self, most_groups: int = MOST_GROUPS) -> None:
        self._most_groups = most_groups
        self._exact: Counter[bytes] = Counter()
        self._hashed: array[int] | None = None

    def add(self, groups: Iterable[bytes]) -> None:
        self._exact.update(groups)
        if len(self._exact) > self._most_groups:
            if self._hashed is None:
                self._hashed = array("Q", bytes(8 * BUCKETS))
            for group, number in self._exact.items():
                self._hashed[hash(group) % BUCKETS] += number
            self._exact.clear()

    def above(self, least: int) -> "Groups":
        """The groups with more requests than ``least``; with very many groups, perhaps some others as well."""
        hashed = self._hashed
        if hashed is None:
            return Groups({group for group, number in self._exact.items() if number > least})
        for group, number in self._exact.items():
            hashed[hash(group) % BUCKETS] += number
        self._exact.clear()
        return Groups(frozenset(), bytes(number > least for number in hashed))


class Groups:
    """Groups, by name or by hash."""

    def __init__(self, names: Collection[bytes], hashes: bytes = b"") -> None:
        """``hashes``: for each bucket 1 if the groups that fall into it belong, else 0; none if names are enough."""
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
        """Whether each of ``groups`` is one of these."""
        return list(map(self.__contains__ if self._hashes else self._names.__contains__, groups))


class Masks(PrefixMemo):
    """Cuts clients to a prefix; costs nothing where they have it already."""

    def of(self, clients: list[bytes], longest: tuple[int, int]) -> list[bytes]:
        """``longest``: the prefix that ``clients``, all of one family, are cut to already."""
        if not clients:
            return clients
        same = self.ipv4_prefix >= longest[0] if len(clients[0]) == 4 else self.ipv6_prefix >= longest[1]
        return clients if same else self.mask_all(clients)


class Sieve:
    """Totals of one rule set while strips come in; tallies of who can matter, once all have."""

    def __init__(
        self,
        rules: RuleSet,
        scopes: Sequence[Scope],
        longest: tuple[int, int],
        *,
        sample_rate: int = 100,
        everyone: bool = False,
    ) -> None:
        """``scopes`` and ``longest`` as the strips have them. ``everyone``: let all clients through."""
        self._longest = longest
        self._everyone = everyone
        self._meters = [(meter, scopes.index(meter.scope)) for meter in rules.meters()]
        self._masks = {m.prefixes: Masks(*m.prefixes) for m, _ in self._meters}
        self._groups = Masks(*group_prefix(rules))
        self._totals: dict[int, tuple[Totals, int]] = {}
        for number, scope in enumerate(scopes):
            limits = [rule.limit * sample_rate // 100 for rule in rules.rules if rule.scope == scope]
            if limits:
                self._totals[number] = Totals(), min(limits)

    def weigh(self, strip: Strip) -> None:
        """Adds a strip to the totals."""
        if self._everyone:
            return
        groups = self._groups.of(strip.clients, self._longest)
        for number, (totals, _) in self._totals.items():
            rows = strip.rows[number]
            totals.add(groups if rows is None else [groups[row] for row in rows])

    def tallies(self, strips: Iterable[Strip]) -> Iterator[Tally]:
        """What is left of all strips, some at a time."""
        relevant = Groups(())
        for totals, least in self._totals.values():
            relevant |= totals.above(least)
        gathered: dict[tuple[Source, int], tuple[list[bytes], list[int]]] = {}
        held = 0
        for strip in strips:
            clients = strip.clients
            keep = None
            if not self._everyone:
                keep = relevant.flags(self._groups.of(clients, self._longest))
                if True not in keep:
                    continue
            for number, (meter, scope) in enumerate(self._meters):
                keys, times = _rows(clients, strip, strip.rows[scope], keep)
                if keys:
                    held += len(keys)
                    kept = gathered.setdefault((strip.source, number), ([], []))
                    kept[0].extend(self._masks[meter.prefixes].of(keys, self._longest))
                    kept[1].extend(times)
            if held > ROWS_A_TALLY:
                yield self._tally(gathered)
                gathered, held = {}, 0
        if gathered:
            yield self._tally(gathered)

    def _tally(self, gathered: Mapping[tuple[Source, int], tuple[list[bytes], list[int]]]) -> Tally:
        tally = []
        for (source, number), (keys, times) in gathered.items():
            meter, _ = self._meters[number]
            clients = count(keys, times, meter.slot_ms)
            tally.append(MeterTally.of(source, meter, clients))
        return tuple(tally)


def _rows(
    clients: list[bytes], strip: Strip, rows: "array[int] | None", keep: Sequence[bool] | None
) -> tuple[list[bytes], Sequence[int]]:
    times = strip.times
    if rows is None:
        return (clients, times) if keep is None else (list(compress(clients, keep)), list(compress(times, keep)))
    chosen = rows if keep is None else [row for row in rows if keep[row]]
    return [clients[row] for row in chosen], [times[row] for row in chosen]
