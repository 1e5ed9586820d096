"""A view: the tallies of all shards in one container's memory, and the offences in them. No clock, no I/O.

*Meters and grids.* Tallies arrive by meter: requests of one source, counted per client in slots of the meter's length.
A rule is evaluated from the coarsest meter whose slots divide its own, and the slots are folded on the way
(``rules.serving``, ``tally.folded``). A ``Grid`` holds what one meter counted in one source, for the rules it serves;
the ``View`` is all grids of a container. Tallies from before a change of rules may stem from other meters, and then
have their own grid. Each request reaches a rule through one grid only, so the rule adds up all grids that serve
it.

*Refusals.* Requests that were answered as Sluice's own refusals are counted twice: among all requests, and in grids of
their own, which exist only where there are any. What remains of the slots of an offender without them was served, so
an offence says since when the served requests alone are over the limit. Clients without an offence need none of it.

*Groups.* A rule may count a client's requests separately, for example by path. Its grids then hold groups in place of
clients (``client_groups``), and a client with several groups over the limit has one offence.

*Different values.* A rule may count how many different paths, for example, a client asks for. Its grids hold groups
too, but return a client's requests by mark (``distinct``) in place of slots, and a client is evaluated as a whole.

*Upper bounds first.* A grid keeps counts as the columns that they arrive in, and totals that show that most clients
cannot be over a limit. Merging a tally returns the others, which are evaluated; only the slots of those whose totals in
adjacent rows exceed a limit are extracted and examined exactly (``grid``).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import NamedTuple, Protocol

from chalicelib.core.allowance import Allowance
from chalicelib.core.client_groups import client_of
from chalicelib.core.distinct import folded_marks, marks_of, slot_of
from chalicelib.core.grid import Grid, client_hashes
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Clients, MeterTally, Slots
from chalicelib.core.rules import Rule, RuleSet, is_of_refusals, refusals_topic, serving
from chalicelib.core.sampling import Sampling
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT
from chalicelib.core.state.records import LARGEST_COUNT
from chalicelib.core.tally import Tally, add_clients, folded
from chalicelib.core.windows import Window, occupied, over_allowance, without

FULLEST_AFTER_DROP = 0.75
"""Share of ``most_entries`` to which a drop reduces a view, so that drops, which examine all clients, are rare."""


class GridKey(NamedTuple):
    """Identity of a grid: the meter that counted, and the rules that are evaluated from it."""

    source: Source
    topic: bytes
    slot_ms: int
    serves: tuple[int, ...]
    """Slot lengths of the rules."""


@dataclass(frozen=True, slots=True)
class Offence:
    """A client over a rule's limit."""

    rule: Rule
    source: Source
    client: bytes
    count: int
    """Requests in the window, or what the rule measures of them, scaled up if only a sample is logged."""
    first_ms: int
    """Start of the slot that holds the window's first request."""
    last_ms: int
    """Last millisecond of the slot that holds its last request."""
    since_ms: int
    """The latest time from which the requests up to ``last_ms`` alone are over the limit."""
    served_since_ms: int
    """The same for the requests that were not answered as refusals; see ``state.Offender``."""


Select = Callable[[MeterTally], MeterTally | None]
"""Returns some of the counts of a part of a tally, or None for none."""


class Quiet(Protocol):
    """Times in ms, per client: an offence that began earlier needs no report. 0 if all offences need one."""

    def until_ms(self, rule: Rule, source: Source, client: bytes) -> int:
        """Returns the time for offences by all requests."""

    def served_until_ms(self, rule: Rule, source: Source, client: bytes) -> int:
        """Returns the time for offences by served requests alone; reports of refusals do not postpone it."""

    def differ(self) -> bool:
        """Returns whether the two times differ for any client."""


class Loud(Quiet):
    """No quiet time at all."""

    def until_ms(self, rule: Rule, source: Source, client: bytes) -> int:  # noqa: ARG002
        return 0

    def served_until_ms(self, rule: Rule, source: Source, client: bytes) -> int:  # noqa: ARG002
        return 0

    def differ(self) -> bool:
        return False


LOUD = Loud()


class View:
    """A container's memory of the tallies, exact for requests at or after ``since_ms``.

    ``sample_rate``: the percentage of requests that CloudFront's real-time log holds. ``most_entries`` bounds the
    memory: beyond it, the clients furthest below their limit are dropped.
    """

    def __init__(self, rules: RuleSet, *, sample_rate: int, most_entries: int, drops_at_once: bool = True) -> None:
        """``drops_at_once``: if false, the view may grow beyond ``most_entries`` until ``shrink`` is called."""
        self.rules = rules
        self.since_ms = 0
        self._sampling = Sampling(sample_rate)
        self._most_entries = most_entries
        self._drops_at_once = drops_at_once
        self._dropped = 0
        self._grids: dict[GridKey, Grid] = {}
        self._rules: dict[bytes, dict[int, list[Rule]]] = {}
        """By topic and slot length."""
        self._allowances = {
            (rule.name, source): Allowance.of(rule, source, self._sampling) for rule in rules.rules for source in Source
        }
        for rule in rules.rules:
            self._rules.setdefault(rule.meter.topic, {}).setdefault(rule.slot_ms, []).append(rule)
        self._rules |= {refusals_topic(topic): of_topic for topic, of_topic in self._rules.items()}

    @property
    def entries(self) -> int:
        """(client, slot) pairs in all grids."""
        return sum(grid.entries for grid in self._grids.values())

    def take_dropped(self) -> int:
        """Returns the number of clients dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def has_requests(self, source: Source, rule: Rule) -> bool:
        """Returns whether any request of ``source`` is counted for ``rule``."""
        return any(grid.entries for grid in self._grids_of(source, rule))

    def clients(self, source: Source, rule: Rule) -> Iterator[tuple[bytes, Slots]]:
        """Yields every client counted for ``rule``, with its counts in the rule's slots, or by mark.

        A client is yielded once per group if ``rule`` groups requests.
        """
        counted = _folded_sum(rule, [(grid, grid.clients()) for grid in self._grids_of(source, rule)])
        return ((client_of(key) if rule.by else key, slots) for key, slots in counted.items())

    def groups(self, source: Source, rule: Rule, client: bytes) -> list[Slots]:
        """Returns the counts of one client in the slots of ``rule``, for each group if the rule groups requests."""
        if rule.by:
            return [slots for other, slots in self.clients(source, rule) if other == client]
        return [self.slots(source, rule, client)]

    def slots(self, source: Source, rule: Rule, key: bytes) -> Slots:
        """Returns the counts of one client, or of one group of a client's requests, in the slots of ``rule``."""
        grids = self._grids_of(source, rule)
        return _folded_sum(rule, [(grid, {key: grid.slots(key)}) for grid in grids]).get(key, {})

    def _grids_of(self, source: Source, rule: Rule, *, of_refusals: bool = False) -> list[Grid]:
        topic, slot_ms = rule.meter.topic, rule.slot_ms
        if of_refusals:
            topic = refusals_topic(topic)
        return [
            grid
            for key, grid in self._grids.items()
            if key.source == source and key.topic == topic and slot_ms in key.serves
        ]

    def keep_since(self, since_ms: int) -> None:
        """Drops counts that no window of a request at or after ``since_ms`` can contain; never moves back."""
        if since_ms <= self.since_ms:
            return
        self.since_ms = since_ms
        for grid in self._grids.values():
            grid.keep_since(since_ms)

    def merge(self, tally: Tally, first_ms: int, last_ms: int, select: Select | None = None) -> Tally:
        """Adds a tally whose requests were all made within ``first_ms``..``last_ms``, both inclusive.

        ``select``: adds only what it returns for each part of the tally.

        Returns the counts of the clients of the tally that may be over a limit with all that has been merged so far.
        Nearly always, that is nothing. It is enough to evaluate these, if the clients of every later tally are as well:
        of the tallies that bring a client over a limit, the one merged last returns it.
        """
        suspects: list[MeterTally] = []
        for key, grid, columns, lowest, highest in self._selected(tally, first_ms, last_ms, select):
            suspected = grid.add(columns, lowest, highest)
            if is_of_refusals(key.topic) or self._is_shared(key):
                suspected = columns
            if suspected is not None:
                suspects.append(suspected)
        self._keep_within_bounds()
        return suspects if any(not is_of_refusals(each.topic) for each in suspects) else ()

    def load(self, tally: Tally, first_ms: int, last_ms: int, ready_ms: int, select: Select | None = None) -> None:
        """Adds a tally as ``merge`` does, but one whose clients have been evaluated already.

        This takes a fraction of the time if no window of a request at or after ``ready_ms`` reaches the tally. The rest
        of the time is taken, once, when requests made earlier are merged or evaluated.
        """
        for key, grid, columns, lowest, highest in self._selected(tally, first_ms, last_ms, select):
            grid.load(columns, lowest, highest, ready_ms // key.slot_ms)
        self._keep_within_bounds()

    def _selected(
        self, tally: Tally, first_ms: int, last_ms: int, select: Select | None
    ) -> Iterator[tuple[GridKey, Grid, MeterTally, int, int]]:
        """Yields the parts of ``tally`` to add, each with its grid and inclusive bounds of its slots."""
        for key, whole in self._parts(tally):
            columns = whole if select is None else select(whole)
            if columns is None:
                continue
            grid = self._grids.get(key)
            if grid is None:
                limits = [
                    (bound.slots * rule.slot_ms, bound.limit)
                    for rule in self._rules_of(key)
                    for bound in self._allowances[rule.name, key.source].bounds()
                ]
                distinct = any(rule.measure.is_distinct for rule in self._rules_of(key))
                grid = self._grids[key] = Grid(key.slot_ms, limits, self.since_ms, distinct=distinct)
            lowest, highest = first_ms // key.slot_ms, last_ms // key.slot_ms
            if columns is not whole:
                slots = columns.slots()
                lowest, highest = min(slots), max(slots)
            yield key, grid, columns, lowest, highest

    def add_up(self, sums: Iterable[Tally], first_ms: int, last_ms: int) -> None:
        """Replaces what has been merged since the view was settled by ``sums``, which hold the same, added up.

        All requests in them were made within ``first_ms``..``last_ms``, both inclusive. A client that is in several
        tallies then takes the memory of one. Clients that were dropped since may return.
        """
        for grid in self._grids.values():
            grid.take_back()
        for tally in sums:
            for key, columns in self._parts(tally):
                self._grids[key].put_back(columns, first_ms // key.slot_ms, last_ms // key.slot_ms)

    def settle(self) -> None:
        """Has ``add_up`` leave what has been merged so far."""
        for grid in self._grids.values():
            grid.settle()

    def _keep_within_bounds(self) -> None:
        if self._drops_at_once:
            for _ in self.shrink():
                pass

    def shrink(self) -> Iterator[None]:
        """Drops clients if there are more than ``most_entries`` entries, and yields after each step.

        A step takes as long as merging one tally did. Nothing may be added before the last of them.
        """
        if self.entries > self._most_entries:
            yield from self._drop(self.entries - int(self._most_entries * FULLEST_AFTER_DROP))

    def _is_shared(self, key: GridKey) -> bool:
        """Returns whether several grids serve a rule: a client may be over its limit only with all of them together."""
        return any(
            other != key and other[:2] == key[:2] and not set(other.serves).isdisjoint(key.serves)
            for other in self._grids
        )

    def offences(self, touched: Tally, first_ms: int, last_ms: int, quiet: Quiet = LOUD) -> list[Offence]:
        """Returns the clients over a limit in a window with a slot of ``touched``, each once per rule and source.

        All requests of ``touched`` were made within ``first_ms``..``last_ms``, both inclusive. An offence that began
        before both of the client's ``quiet`` times may be left out. So may one that began after
        ``last_ms``: none of its requests is in ``touched``, and the batch that adds the last of them finds it.
        """
        offences = []
        parts = dict(self._parts(touched))
        for key, columns in parts.items():
            if is_of_refusals(key.topic):
                continue
            distinct = any(rule.measure.is_distinct for rule in self._rules_of(key))
            clients, hashes = _clients(columns, distinct=distinct), client_hashes(columns, distinct=distinct)
            refusals = parts.get(key._replace(topic=refusals_topic(key.topic)))
            refused = _refused(columns, refusals, distinct=distinct) if refusals else ()
            for rule in self._rules_of(key):
                allowance = self._allowances[rule.name, key.source]
                near: dict[bytes, None] = {}
                for slots, limit in allowance.bounds():
                    window_ms = slots * rule.slot_ms
                    totals = self._most(key.source, rule, columns, hashes, window_ms, first_ms, last_ms)
                    near |= dict.fromkeys(compress(clients, map(limit.__lt__, totals)))
                loud = self._not_quiet(key.source, rule, near, refused, allowance, last_ms, quiet)
                offences += self._offences_of(rule, key.source, loud, allowance, columns, first_ms, last_ms)
        return offences

    def _offences_of(
        self,
        rule: Rule,
        source: Source,
        clients: Iterable[bytes],
        allowance: Allowance,
        touched: MeterTally,
        first_ms: int,
        last_ms: int,
    ) -> list[Offence]:
        """Returns the offences of ``clients``, all of which are in ``touched``."""
        window_ms, factor = rule.window_s * 1000, rule.slot_ms // touched.slot_ms
        between_ms = first_ms - window_ms, last_ms + window_ms
        if allowance.distinct:
            marks = marks_of(touched, set(clients))
            # The earliest window with one of the new slots ends with the first of them.
            ends = {client: slot_of(min(own)) // factor + 1 for client, own in marks.items()}
            began_ms = {client: end * rule.slot_ms - window_ms for client, end in ends.items()}
            clients = self._more_values_since(source, rule, began_ms, allowance.limit)
        counts = self._slots_between(source, rule, clients, *between_ms)
        slots_of = marks if allowance.distinct else touched.slots_of(counts.keys())
        over: dict[bytes, tuple[set[int], Window]] = {}
        for client, slots in counts.items():
            new = occupied(_folded(slots_of[client], factor, distinct=allowance.distinct), allowance)
            window = _touched_window(slots, new, allowance)
            if window is not None:
                over[client] = new, window
        refused = self._slots_between(source, rule, over, *between_ms, of_refusals=True)
        offences = []
        for client, (new, window) in over.items():
            served_since_ms = 0
            if refused.get(client):
                served = without(counts[client], refused[client])
                of_served = _touched_window(served, new, allowance)
                served_since_ms = of_served.since * rule.slot_ms if of_served else SERVED_WITHIN_LIMIT
            offences.append(self._offence(rule, source, client, window, served_since_ms))
        return _gravest(offences) if rule.by else offences

    def _most(
        self,
        source: Source,
        rule: Rule,
        touched: MeterTally,
        hashes: Sequence[int],
        window_ms: int,
        first_ms: int,
        last_ms: int,
    ) -> Iterable[int]:
        """Returns an upper bound on each client's requests in a window of ``window_ms``, in the order of ``hashes``."""
        bounds = [
            grid.most(touched, hashes, window_ms, first_ms // grid.slot_ms, last_ms // grid.slot_ms)
            for grid in self._grids_of(source, rule)
        ]
        if not bounds:  # nothing of this meter has been merged
            return [0] * len(hashes)
        # Several grids if the rules have just changed: a client may be over the limit only with all of them together.
        return bounds[0] if len(bounds) == 1 else map(sum, zip(*bounds, strict=True))

    def _not_quiet(
        self,
        source: Source,
        rule: Rule,
        clients: Iterable[bytes],
        refused: Collection[bytes],
        allowance: Allowance,
        last_ms: int,
        quiet: Quiet,
    ) -> list[bytes]:
        """Returns the ``clients`` that may be over the limit with requests made after one of their quiet times alone.

        Their counts since then are few, so this costs much less than to examine all windows of a client under attack.
        ``refused``: the clients whose new requests were all answered as refusals.
        """
        limit = allowance.limit
        named = client_of if rule.by else bytes
        by_time: dict[int, list[bytes]] = {}
        for client in clients:
            by_time.setdefault(quiet.until_ms(rule, source, named(client)), []).append(client)
        loud = by_time.pop(0, [])
        differ = quiet.differ()
        for until_ms, members in by_time.items():
            if differ:
                # Refusals may have been reported last; what is served now may be another offence.
                earliest_ms = min(until_ms - 1, last_ms)
                served = [client for client in members if client not in refused]
                loud += [c for c in served if quiet.served_until_ms(rule, source, named(c)) <= earliest_ms]
            if until_ms <= last_ms:
                since = -(-until_ms // rule.slot_ms)
                if allowance.distinct:
                    since_ms = dict.fromkeys(members, since * rule.slot_ms)
                    loud += self._more_values_since(source, rule, since_ms, limit)
                    continue
                counts = self._slots_between(source, rule, members, until_ms, last_ms + rule.window_s * 1000)
                loud += [c for c, slots in counts.items() if sum(n for s, n in slots.items() if s >= since) > limit]
        return loud

    def _more_values_since(self, source: Source, rule: Rule, since_ms: Mapping[bytes, int], limit: int) -> list[bytes]:
        """Returns the clients that may have had more than ``limit`` different values since their time in ``since_ms``,
        the start of a slot of ``rule``."""
        numbers = Counter[bytes]()
        for grid in self._grids_of(source, rule):
            numbers.update(grid.values_since(since_ms))
        return [client for client, number in numbers.items() if number > limit]

    def _slots_between(
        self,
        source: Source,
        rule: Rule,
        clients: Iterable[bytes],
        first_ms: int,
        last_ms: int,
        *,
        of_refusals: bool = False,
    ) -> Clients:
        """Returns counts of ``clients`` in the slots of ``rule``, or by mark, at least all within
        ``first_ms``..``last_ms``."""
        grids = self._grids_of(source, rule, of_refusals=of_refusals)
        return _folded_sum(rule, [(grid, grid.slots_between(clients, first_ms, last_ms)) for grid in grids])

    def _offence(self, rule: Rule, source: Source, client: bytes, window: Window, served_since_ms: int) -> Offence:
        slot_ms, sampling = rule.slot_ms, self._sampling.of(source)
        return Offence(
            rule=sampling.applied(rule),
            source=source,
            client=client_of(client) if rule.by else client,
            count=min(sampling.made(window.count), LARGEST_COUNT),
            first_ms=window.first * slot_ms,
            last_ms=(window.last + 1) * slot_ms - 1,
            since_ms=window.since * slot_ms,
            served_since_ms=served_since_ms,
        )

    def _rules_of(self, key: GridKey) -> Iterator[Rule]:
        return chain.from_iterable(self._rules[key.topic][slot_ms] for slot_ms in key.serves)

    def _parts(self, tally: Tally) -> list[tuple[GridKey, MeterTally]]:
        """Returns the parts of ``tally`` that rules are evaluated from, each with the key of its grid."""
        parts_by_topic: dict[tuple[Source, bytes], list[MeterTally]] = {}
        for part in tally:
            parts_by_topic.setdefault((part.source, part.topic), []).append(part)
        keyed = []
        for (source, topic), parts in parts_by_topic.items():
            lengths = self._rules.get(topic, ())
            serving_parts = {slot_ms: serving(slot_ms, parts) for slot_ms in lengths}
            for part in parts:
                serves = tuple(slot_ms for slot_ms in lengths if serving_parts[slot_ms] is part)
                if serves:
                    keyed.append((GridKey(source, topic, part.slot_ms, serves), part))
        return keyed

    def _drop(self, surplus: int) -> Iterator[None]:
        """Drops the clients with the smallest shares of their limits, with about ``surplus`` entries in all."""
        # Refusals go last: without them, a client's requests would all be taken for served.
        limits = {
            key: 0 if is_of_refusals(key.topic) else min(rule.limit for rule in self._rules_of(key))
            for key in self._grids
        }
        entries = Counter[int]()
        for key, grid in self._grids.items():
            for of_part in grid.entries_by_share(limits[key]):
                entries.update(of_part)
                yield
        share = 0
        while surplus > entries[share]:
            surplus -= entries[share]
            share += 1
        for key, grid in self._grids.items():
            for dropped, at_share in grid.drop(limits[key], share, surplus):
                self._dropped += dropped
                surplus -= at_share
                yield


def _gravest(offences: Iterable[Offence]) -> list[Offence]:
    """Returns one offence per client: that of the group that went over the limit last.

    Offences by served requests take precedence, because refused ones do not count while the client is blocked.
    """
    ascending = sorted(offences, key=lambda o: (o.served_since_ms or o.since_ms, o.since_ms, o.count))
    return list({offence.client: offence for offence in ascending}.values())


def _clients(columns: MeterTally, *, distinct: bool) -> list[bytes]:
    """Returns the client of each key, or its group: the client if the keys are of ``distinct`` values."""
    return list(map(client_of, columns.keys())) if distinct else columns.keys()


def _refused(touched: MeterTally, refusals: MeterTally, *, distinct: bool) -> Collection[bytes]:
    """Returns the clients all of whose requests in ``touched`` are ``refusals``."""
    made, refused = (_totals(columns, distinct=distinct) for columns in (touched, refusals))
    return {client for client, total in made.items() if total == refused.get(client)}


def _totals(columns: MeterTally, *, distinct: bool) -> dict[bytes, int]:
    totals: dict[bytes, int] = {}
    for client, total in zip(_clients(columns, distinct=distinct), columns.totals(), strict=True):
        totals[client] = totals.get(client, 0) + total
    return totals


def _touched_window(slots: Slots, touched: set[int], allowance: Allowance) -> Window | None:
    """Returns ``over_allowance`` for those of ``touched`` that have requests in ``slots``."""
    marks = touched & occupied(slots, allowance)
    return over_allowance(slots, marks, allowance) if marks else None


def _folded(slots: Slots, factor: int, *, distinct: bool) -> Slots:
    return folded_marks(slots, factor) if distinct else folded(slots, factor)


def _folded_sum(rule: Rule, counts: Iterable[tuple[Grid, Clients]]) -> Clients:
    """Returns the counts of several grids together, in the slots of ``rule`` or by mark."""
    total: Clients = {}
    for grid, clients in counts:
        factor = rule.slot_ms // grid.slot_ms
        distinct = grid.distinct
        add_clients(total, {client: _folded(slots, factor, distinct=distinct) for client, slots in clients.items()})
    return total
