"""Breaches: the clients of a log over a rule's limit, and the blocks that would have followed.

``core.windows`` finds offences and ``core.decisions`` decides what follows from them, as in Lambda. Replay evaluates
every slot when it ends, so an offence is detected in the slot that completes it, and its block begins with the next
full second plus ``delay_s``, the time that detection and publishing are assumed to take. A client under a softer
response than block is assumed to pass: to solve each challenge, for example. So it climbs its rule's ladder as fast as
it can. Requests made during a block are in the log all the same, but would have been refused: they count for rules with
``extend`` only. So do those that the log shows as refused within ``PROPAGATION_S`` after a block, because AWS releases
a client late.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heapreplace
from itertools import accumulate, islice, repeat
from operator import attrgetter, sub
from typing import NamedTuple

from chalicelib.core.addresses import Network, PrefixMemo, network_of, network_span
from chalicelib.core.allowance import Allowance
from chalicelib.core.buckets import Level, walk_levels
from chalicelib.core.client_groups import client_of
from chalicelib.core.decisions import PROPAGATION_S, PUNISHED, Outcome, Standing, decide
from chalicelib.core.detections import terms_of
from chalicelib.core.distinct import slot_of, walk_values
from chalicelib.core.exemptions import Exemptions
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Slots
from chalicelib.core.responses import Response
from chalicelib.core.rules import Action, Rule, RuleSet
from chalicelib.core.sampling import Sampling
from chalicelib.core.state.blocks import Block, History, Past
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT, Detection, Offender
from chalicelib.core.tally import folded
from chalicelib.core.windows import Window, counts_after, over_allowance, window_of_values, without
from sluice.replay.counts import Ledger
from sluice.replay.rule_sets import every_request, group_prefix, requests_of

BlocksByMinute = dict[int, dict[str, Block]]
"""Blocks of networks as they are at the start (epoch second) of the minute after each change, by network."""

TEN_S = 10
"""Length in seconds of the intervals in which requests over time are counted."""


@dataclass(frozen=True, slots=True)
class BlockPeriod:
    """A block as it would have been; for a rule that only counts, as if it blocked."""

    since: int
    """First second (epoch) in which requests are refused."""
    until: int
    """First second (epoch) after the block."""
    offence: int
    """Number of the offence, from 1."""
    count: int
    first_ms: int
    last_ms: int
    """The offence: ``count`` requests from ``first_ms`` to ``last_ms``, both inclusive."""
    response: Response = Response.BLOCK
    """Requests are refused only if this is ``BLOCK``: to softer responses, clients are assumed to find the answer."""

    def contains(self, ms: int) -> bool:
        """Tests whether a request made at ``ms`` is refused."""
        return self.since <= ms // 1000 < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One client over one rule's limit in one source."""

    rule: Rule
    client: bytes
    network: Network
    source: Source
    peak: int
    """Largest count in one window, in the unit of the rule's measure; of a bucket, the highest level."""
    peak_first_ms: int
    peak_last_ms: int
    first_ms: int
    """Start of the slot in which the client first exceeded the limit."""
    requests: int
    """Requests of the client that the rule counts, in the whole log."""
    over: int
    """Requests, or what the rule measures of them, that exceeded the limit of their window."""
    allowlisted: bool
    periods: tuple[BlockPeriod, ...]
    """In order, without overlaps."""
    refused_by_ten_s: Slots
    """Requests of the client, in any scope, made during ``periods``, by epoch second // 10."""

    @property
    def refused(self) -> int:
        return sum(self.refused_by_ten_s.values())


class Crossings:
    """The windows that end in an occupied slot and hold more than a rule allows, in order.

    >>> from chalicelib.core.buckets import Drain
    >>> list(Crossings({10: 2, 11: 1, 19: 1, 20: 1}, Allowance(10, 3)))
    [Window(count=4, first=10, last=19, since=10)]
    >>> list(Crossings({10: 3, 12: 4, 14: 1}, Allowance(100, 3, Drain(unit=1, per_slot=1, last=1))))
    [Window(count=4, first=10, last=12, since=10)]
    """

    def __init__(self, slots: Slots, allowance: Allowance) -> None:
        """``slots``: at least one."""
        self._allowance = allowance
        self._limit = limit = allowance.limit
        self._order = sorted(slots)
        self._sums = list(accumulate(map(slots.__getitem__, self._order), initial=0))
        self._levels: list[Level] = []
        """Levels that the slots of a bucket end with; none for windows."""
        if allowance.drain is None:
            firsts = map(bisect_right, repeat(self._order), [last - allowance.resolution for last in self._order])
            self._counts = list(map(sub, islice(self._sums, 1, None), map(self._sums.__getitem__, firsts)))
        else:
            numbers = list(map(slots.__getitem__, self._order))
            self._levels = list(walk_levels(self._order, numbers, allowance.resolution, allowance.drain, limit))
            self._counts = [level.requests for level in self._levels]
        self._ends = [end for end, count in enumerate(self._counts) if count > limit]
        """Positions of the last slots of the windows over the limit."""

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Window]:
        return map(self._window, self._ends)

    def __getitem__(self, at: int) -> Window:
        return self._window(self._ends[at])

    def highest(self) -> Window:
        """Returns the first window with the largest count."""
        return self._window(self._counts.index(max(self._counts)))

    def over(self) -> int:
        """Returns the number of requests that exceeded the limit of their window."""
        counts, sums, limit = self._counts, self._sums, self._limit
        return sum(min(sums[end + 1] - sums[end], counts[end] - limit) for end in self._ends)

    def last(self, at: int) -> int:
        """Returns the last slot of a window."""
        return self._order[self._ends[at]]

    def after(self, at: int, slot: int) -> int:
        """Returns the position, after ``at``, of the first window that ends in ``slot`` or later."""
        return bisect_left(self._ends, slot, at + 1, key=self._order.__getitem__)

    def served(self, window: Window, refused: Slots) -> Window | None:
        """Returns the window without the requests in ``refused``; None if what was served alone is within the limit.

        >>> Crossings({10: 2, 11: 4, 19: 1}, Allowance(10, 3)).served(Window(7, 10, 19, 11), {11: 1})
        Window(count=6, first=10, last=19, since=11)
        """
        first, end = bisect_left(self._order, window.first), bisect_right(self._order, window.last)
        numbers = map(sub, self._sums[first + 1 : end + 1], self._sums[first:end])
        slots = without(dict(zip(self._order[first:end], numbers, strict=True)), refused)
        return over_allowance(slots, [window.last], self._allowance) if window.last in slots else None

    def _window(self, end: int) -> Window:
        if self._levels:
            level = self._levels[end]
            return Window(level.requests, self._order[level.first], level.last, self._order[level.since])
        last = self._order[end]
        first = bisect_right(self._order, last - self._allowance.resolution, 0, end)
        since = bisect_left(self._sums, self._sums[end + 1] - self._limit, first, end + 1) - 1
        return Window(self._counts[end], self._order[first], last, self._order[since])


class ValueCrossings(Crossings):
    """The same, if the limit is one of different values.

    >>> from chalicelib.core.distinct import mark
    >>> a, b = b"path---a", b"path---b"
    >>> list(ValueCrossings({mark(10, a): 1, mark(11, b): 2, mark(12, b): 1}, Allowance(10, 1, distinct=True)))
    [Window(count=2, first=10, last=11, since=10), Window(count=2, first=10, last=12, since=10)]
    """

    def __init__(self, slots: Slots, allowance: Allowance) -> None:
        """``slots``: at least one mark."""
        self._allowance = allowance
        self._limit = allowance.limit
        self._slots = slots
        self._marks = sorted(slots)
        self._order: list[int] = []
        self._counts: list[int] = []
        self._new: list[int] = []
        """For each slot of ``order``, the values that occur in it and not in the rest of its window."""
        for each, (number, is_new) in zip(self._marks, walk_values(self._marks, allowance.resolution), strict=True):
            if not self._order or self._order[-1] != slot_of(each):
                self._order.append(slot_of(each))
                self._counts.append(0)
                self._new.append(0)
            self._counts[-1] = number
            self._new[-1] += is_new
        self._ends = [end for end, number in enumerate(self._counts) if number > self._limit]

    def over(self) -> int:
        """Returns the number of values that exceeded the limit of their window."""
        return sum(min(self._new[end], self._counts[end] - self._limit) for end in self._ends)

    def served(self, window: Window, refused: Slots) -> Window | None:
        """Returns the window without the requests in ``refused``; None if what was served alone is within the limit."""
        served = without({each: self._slots[each] for each in self._within(window.last)}, refused)
        is_touched = window.last in map(slot_of, served)
        return over_allowance(served, [window.last], self._allowance) if is_touched else None

    def _window(self, end: int) -> Window:
        return window_of_values(self._within(self._order[end]), self._limit)

    def _within(self, last: int) -> list[int]:
        """Returns the marks of the window that ends with slot ``last``, ascending."""
        first, end = (
            bisect_right(self._marks, slot, key=slot_of) for slot in (last - self._allowance.resolution, last)
        )
        return self._marks[first:end]


def crossings_of(slots: Slots, allowance: Allowance) -> Crossings:
    """Returns the crossings in ``slots``, at least one, which are marks if the limit is one of different values."""
    return (ValueCrossings if allowance.distinct else Crossings)(slots, allowance)


def minute_after(second: int) -> int:
    """Returns the start of the minute after an epoch second.

    >>> minute_after(119), minute_after(120)
    (120, 180)
    """
    return (second // 60 + 1) * 60


def peak(slots: Slots, allowance: Allowance) -> int:
    """Returns the largest count in any window or, of a bucket, the highest level; there is at least one slot.

    >>> peak({10: 2, 11: 1, 19: 1, 20: 1}, Allowance(10, 3))
    4
    """
    order = sorted(slots)
    if order[-1] - order[0] < allowance.resolution and allowance.drain is None and not allowance.distinct:
        return sum(slots.values())
    return max(counts_after(order, list(map(slots.__getitem__, order)), allowance))


@dataclass(slots=True)
class _Case:
    """A client over a rule's limit in one source: its requests, or what is measured of them, and their effect.

    For a rule that groups requests, it is one group of the client's requests.
    """

    rule: Rule
    source: Source
    client: bytes
    slots: Slots
    refused: Slots
    """Those of the requests that were answered as refusals."""
    requests: int
    """Number of logged requests that the rule counts."""
    network: Network
    within: tuple[Network, ...]
    """The networks of other rules' clients that contain it, and itself."""
    allowlisted: bool
    crossings: Crossings
    at: int = 0
    """Position of the next window in ``crossings``."""
    periods: list[BlockPeriod] = field(default_factory=list)

    def next_last_ms(self) -> int:
        """Returns the last millisecond of the next window, at which it is known to be over the limit."""
        return (self.crossings.last(self.at) + 1) * self.rule.slot_ms - 1

    def served_since_ms(self, window: Window) -> int:
        """Returns an Offender's ``served_since_ms``: since when, up to the end of ``window``, served requests alone
        exceed the limit."""
        if not self.refused:
            return 0
        served = self.crossings.served(window, self.refused)
        return served.since * self.rule.slot_ms if served else SERVED_WITHIN_LIMIT

    def skip(self, until_ms: int) -> bool:
        """Moves to the next window whose last millisecond is at or after ``until_ms``. Returns whether there is one."""
        self.at = self.crossings.after(self.at, until_ms // self.rule.slot_ms)
        return self.at < len(self.crossings)

    def add(self, past: Past, now: int) -> None:
        """Updates the periods after a decision at ``now`` that punishes the client."""
        if past.outcome == Outcome.EXTENDED and self.periods[-1].until >= now:
            self.periods[-1] = replace(self.periods[-1], until=past.until)
        else:
            evidence = past.evidence
            offence = (past.offence, evidence.count, evidence.first_ms, evidence.last_ms)
            # A client that climbs its rule's ladder does so before the softer response is over.
            if self.periods and self.periods[-1].until > now:
                self.periods[-1] = replace(self.periods[-1], until=now)
            self.periods.append(BlockPeriod(now, past.until, *offence, past.response))


class _Member(NamedTuple):
    """One client of a group, as one log shows it."""

    source: Source
    client: bytes
    seconds: Slots
    """All its requests by second."""


class BreachFinder:
    def __init__(self, rules: RuleSet, *, exempt: Exemptions, sampling: Sampling, delay_s: int) -> None:
        self._rules = rules
        self._exempt = exempt
        self._sampling = sampling
        self._delay_s = delay_s
        self._every_request = every_request(rules)
        self._group = PrefixMemo(*group_prefix(rules))
        self.blocks: BlocksByMinute = {}
        """The blocks made in the ledgers searched so far; none if they make no network guilty."""
        self._detections = {
            (rule.name, source): Detection(
                id=f"replay/{rule.name}/{source}",
                # What a rule that only counts would have done is decided as if it blocked.
                terms=terms_of(rule, rules.version, Action.BLOCK),
                source=source,
                offenders=(),
                detected_ms=0,
                arrived_ms=0,
            )
            for rule in rules.rules
            for source in Source
        }

    def find(self, ledger: Ledger) -> list[Breach]:
        """Returns all breaches in ``ledger``, including those of allowlisted clients."""
        groups: dict[bytes, list[_Case]] = {}
        for source in Source:
            for rule in self._rules.rules:
                allowance = Allowance.of(rule, source, self._sampling)
                for key, slots in ledger.clients(source, rule, more_than=allowance.limit):
                    crossings = crossings_of(slots, allowance)
                    if crossings:
                        client = client_of(key) if rule.by else key
                        network = network_of(client, *rule.prefixes)
                        lengths = {other.prefixes[len(client) == 16] for other in self._rules.rules}
                        allowlisted = self._exempt.spares(network_span(network), rule.name)
                        within = tuple(
                            network.supernet(new_prefix=length) for length in lengths if length <= network.prefixlen
                        )
                        refused = ledger.refusals(source, rule, key)
                        requests = sum(ledger.slots(source, requests_of(rule), client).values())
                        case = _Case(
                            rule, source, client, slots, refused, requests, network, within, allowlisted, crossings
                        )
                        groups.setdefault(self._group[client], []).append(case)
        if not groups:
            return []
        members = self._members(ledger, groups)
        breaches: list[Breach] = []
        for name, cases in groups.items():
            self._decide(cases)
            breaches += _of_clients(self._breach(case, members[name]) for case in cases)
        return breaches

    def _members(self, ledger: Ledger, groups: Iterable[bytes]) -> dict[bytes, list[_Member]]:
        """Returns all clients of each group that are not allowlisted, with all their requests by second."""
        members: dict[bytes, list[_Member]] = {name: [] for name in groups}
        for source in Source:
            for client, slots in ledger.clients(source, self._every_request):
                name = self._group[client]
                if name in members and not self.is_allowlisted(client):
                    members[name].append(_Member(source, client, folded(slots, 1000 // self._every_request.slot_ms)))
        return members

    def is_allowlisted(self, client: bytes) -> bool:
        """Returns whether no rule blocks ``client``, a packed address without the bits that no rule looks at."""
        return bool(self._exempt.networks) and self._exempt.networks.covers(
            network_span(network_of(client, *self._every_request.prefixes))
        )

    def _decide(self, cases: Sequence[_Case]) -> None:
        """Decides about the windows of one group's cases, in order of time, and adds block periods to the cases.

        A group has the clients that can share blocks: those in one network of the shortest prefixes.
        """
        blocks = _Blocks()
        counting = {case.rule.name: _Blocks() for case in cases}
        blocks_of = [counting[case.rule.name] if self._only_counts(case) else blocks for case in cases]
        waiting = [(case.next_last_ms(), number) for number, case in enumerate(cases) if not case.allowlisted]
        heapify(waiting)
        while waiting:
            last_ms, number = waiting[0]
            case = cases[number]
            if case.skip(self._decide_one(case, last_ms, blocks, blocks_of[number])):
                heapreplace(waiting, (case.next_last_ms(), number))
            else:
                heappop(waiting)

    def _only_counts(self, case: _Case) -> bool:
        return self._sampling.of(case.source).applied(case.rule).action is Action.COUNT

    def _decide_one(self, case: _Case, last_ms: int, blocks: "_Blocks", own: "_Blocks") -> int:
        """Decides about the next window of ``case``; ``own`` are the blocks that the rule would make.

        Returns a time: windows that end before it are skipped, because they would change nothing.
        """
        window = case.crossings[case.at]
        since_ms = window.since * case.rule.slot_ms
        refused_until = max(each.refused_until(case.within, since_ms, last_ms) for each in {blocks, own})
        if refused_until and not case.rule.extend:
            return refused_until * 1000
        now = last_ms // 1000 + 1 + self._delay_s
        offender = Offender(
            network=str(case.network),
            count=self._sampling.of(case.source).made(window.count),
            first_ms=window.first * case.rule.slot_ms,
            last_ms=last_ms,
            since_ms=since_ms,
            served_since_ms=SERVED_WITHIN_LIMIT if refused_until else case.served_since_ms(window),
        )
        standing = own.standing(case.network)
        detection = self._detections[case.rule.name, case.source]
        decision = decide(detection, offender, standing, propagation_s=PROPAGATION_S, now=now)
        if decision.outcome in PUNISHED:
            past = decision.standing.history.rules[case.rule.name]
            own.decided(case, decision.standing, now)
            # A block may be extended by requests from another source: its period stays with the case it began in.
            own.blocked_by[case.network, case.rule.name].add(past, now)
            if self._rules.networks is not None and own is blocks and decision.standing.block is not None:
                self.blocks.setdefault(minute_after(now), {})[str(case.network)] = decision.standing.block
        return last_ms

    def _breach(self, case: _Case, members: Iterable[_Member]) -> Breach:
        made, slot_ms = self._sampling.of(case.source).made, case.rule.slot_ms
        first, highest = case.crossings[0], case.crossings.highest()
        refused = _refused(case, members, self._sampling) if case.periods else {}
        return Breach(
            rule=case.rule,
            client=case.client,
            network=case.network,
            source=case.source,
            peak=made(highest.count),
            peak_first_ms=highest.first * slot_ms,
            peak_last_ms=(highest.last + 1) * slot_ms - 1,
            first_ms=first.last * slot_ms,
            requests=made(case.requests),
            over=made(case.crossings.over()),
            allowlisted=case.allowlisted,
            periods=tuple(case.periods),
            refused_by_ten_s=refused,
        )


def _of_clients(breaches: Iterable[Breach]) -> Iterator[Breach]:
    """Yields one breach per client, rule and source: the breaches of a client's groups of requests are combined."""
    same: dict[tuple[str, Source, bytes], list[Breach]] = {}
    for breach in breaches:
        same.setdefault((breach.rule.name, breach.source, breach.client), []).append(breach)
    for of_client in same.values():
        refused = sum((Counter(breach.refused_by_ten_s) for breach in of_client), Counter[int]())
        yield replace(
            max(of_client, key=lambda breach: breach.peak),
            first_ms=min(breach.first_ms for breach in of_client),
            over=sum(breach.over for breach in of_client),
            periods=tuple(sorted((p for breach in of_client for p in breach.periods), key=attrgetter("since"))),
            refused_by_ten_s=refused,
        )


class _Blocks:
    """Blocks and histories of one group."""

    def __init__(self) -> None:
        self.blocked_by: dict[tuple[Network, str], _Case] = {}
        """The case in which the latest punishment of each network by each rule began."""
        self._standings: dict[Network, Standing] = {}
        self._refused: dict[Network, list[tuple[int, int]]] = {}
        """When each network is blocked, in order: the first second, and the first after it."""

    def standing(self, network: Network) -> Standing:
        return self._standings.get(network) or Standing(History(network=str(network)))

    def decided(self, case: _Case, standing: Standing, now: int) -> None:
        """Notes a decision at ``now`` that punishes the client of ``case``."""
        network, block = case.network, standing.block
        self._standings[network] = standing
        if standing.history.rules[case.rule.name].outcome == Outcome.BLOCKED:
            self.blocked_by[network, case.rule.name] = case
        if block is not None and block.until:
            periods = self._refused.setdefault(network, [])
            since = periods.pop()[0] if periods and periods[-1][1] >= now else now
            periods.append((since, block.until))

    def refused_until(self, networks: Iterable[Network], first_ms: int, last_ms: int) -> int:
        """Returns the end of the latest block of any of ``networks`` between two times; 0 if there was none."""
        return max(self._until(network, first_ms, last_ms) for network in networks) if self._refused else 0

    def _until(self, network: Network, first_ms: int, last_ms: int) -> int:
        for since, until in reversed(self._refused.get(network, ())):
            if until * 1000 <= first_ms:
                break
            if since * 1000 <= last_ms:
                return until
        return 0


def _refused(case: _Case, members: Iterable[_Member], sampling: Sampling) -> Slots:
    """Returns the requests of the case's network during its periods, by tens of seconds."""
    client, periods = case.client, case.periods
    memo = PrefixMemo(*case.rule.prefixes)
    starts = [period.since for period in periods]
    logged: dict[Source, Counter[int]] = {}
    for source, member, seconds in members:
        if len(member) == len(client) and memo[member] == client:
            by_ten_s = logged.setdefault(source, Counter())
            for second, number in seconds.items():
                at = bisect_right(starts, second) - 1
                if at >= 0 and second < periods[at].until and periods[at].response is Response.BLOCK:
                    by_ten_s[second // TEN_S] += number
    refused: Counter[int] = Counter()
    for source, by_ten_s in logged.items():
        refused.update({ten: sampling.of(source).made(number) for ten, number in by_ten_s.items()})
    return refused
