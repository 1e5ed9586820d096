"""Breaches: the clients of a log over a rule's limit, and the blocks that would have followed.

``core.windows`` finds offences and ``core.decisions`` decides what follows from them, as in Lambda. Replay evaluates
every slot when it ends, so an offence is detected in the slot that completes it, and its block begins with the next
full second plus ``delay_s``, the time that detection and publishing are assumed to take. Requests made during a block
are in the log all the same, and count as they would in Lambda.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from heapq import merge
from operator import itemgetter

import msgspec

from chalicelib.core.addresses import Network, NetworkSet, PrefixMemo, network_of, supernets
from chalicelib.core.decisions import Outcome, decide
from chalicelib.core.detections import terms_of
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import Slots
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.state import Block, Detection, History, Offender, Past
from chalicelib.core.tally import folded
from chalicelib.core.windows import Window, over_limit, walk_windows
from sluice.replay.counts import Ledger
from sluice.replay.rule_sets import every_request, group_prefix
from sluice.replay.sampling import Sampling

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
    """Largest count in one window."""
    peak_first_ms: int
    peak_last_ms: int
    first_ms: int
    """Start of the slot in which the client first exceeded the limit."""
    requests: int
    """Requests of the client that the rule counts, in the whole log."""
    over: int
    """Requests that exceeded the limit of their window."""
    allowlisted: bool
    periods: tuple[BlockPeriod, ...]
    """In order, without overlaps."""
    refused_by_ten_s: Slots
    """Requests of the client, in any scope, made during ``periods``, by epoch second // 10."""

    @property
    def refused(self) -> int:
        return sum(self.refused_by_ten_s.values())


def crossings(slots: Slots, resolution: int, limit: int) -> Iterator[Window]:
    """Yields every window of ``resolution`` slots over ``limit`` that ends in an occupied slot, in order.

    >>> list(crossings({10: 2, 11: 1, 19: 1, 20: 1}, resolution=10, limit=3))
    [Window(count=4, first=10, last=19, since=10)]
    """
    order = sorted(slots)
    numbers = list(map(slots.__getitem__, order))
    since = rest = 0
    for (count, first, last), number in zip(walk_windows(order, numbers, resolution), numbers, strict=True):
        rest += number
        while rest - numbers[since] > limit:
            rest -= numbers[since]
            since += 1
        if count > limit:
            yield Window(count, order[first], last, order[since])


def peak(slots: Slots, resolution: int) -> int:
    """Returns the largest count in any window of ``resolution`` slots; there is at least one slot.

    >>> peak({10: 2, 11: 1, 19: 1, 20: 1}, 10)
    4
    """
    order = sorted(slots)
    if order[-1] - order[0] < resolution:
        return sum(slots.values())
    numbers = list(map(slots.__getitem__, order))
    return max(count for count, _, _ in walk_windows(order, numbers, resolution))


@dataclass(slots=True)
class _Case:
    """A client over a rule's limit in one source: its requests, and the effect that they have."""

    rule: Rule
    limit: int
    """The rule's limit, in logged requests."""
    source: Source
    client: bytes
    slots: Slots
    network: Network
    allowlisted: bool
    first: Window | None = None
    """First window over the limit."""
    highest: Window | None = None
    over: int = 0
    """Logged requests that exceeded the limit of their window."""
    decided_until_ms: int = 0
    """Windows with an earlier request are skipped."""
    periods: list[BlockPeriod] = field(default_factory=list)

    def crossings(self) -> Iterator[tuple[int, "_Case", Window]]:
        """Yields each window over the limit, after its last millisecond, and adds it to the figures."""
        for window in crossings(self.slots, self.rule.resolution, self.limit):
            self.first = self.first or window
            if self.highest is None or window.count > self.highest.count:
                self.highest = window
            self.over += min(self.slots[window.last], window.count - self.limit)
            yield (window.last + 1) * self.rule.slot_ms - 1, self, window

    def add(self, past: Past, now: int) -> None:
        """Adds what a decision at ``now`` changes to the periods."""
        if past.outcome == Outcome.EXTENDED:
            self.periods[-1] = replace(self.periods[-1], until=past.until)
        elif past.outcome in (Outcome.BLOCKED, Outcome.COUNTED) and past.until > now:
            evidence = past.evidence
            offence = (past.offence, evidence.count, evidence.first_ms, evidence.last_ms)
            self.periods.append(BlockPeriod(now, past.until, *offence))


class BreachFinder:
    def __init__(self, rules: RuleSet, *, allowlist: NetworkSet, sampling: Sampling, delay_s: int) -> None:
        self._rules = rules
        self._allowlist = allowlist
        self._sampling = sampling
        self._delay_s = delay_s
        self._every_request = every_request(rules)
        self._group = PrefixMemo(*group_prefix(rules))
        self._detections = {
            (rule.name, source): Detection(
                id=f"replay/{rule.name}/{source}",
                terms=terms_of(rule, rules.version),
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
                limit = self._sampling.logged(rule.limit)
                for client, slots in ledger.clients(source, rule, more_than=limit):
                    if over_limit(slots, slots, rule.resolution, limit) is not None:
                        network = network_of(client, *rule.prefixes)
                        case = _Case(rule, limit, source, client, slots, network, self._allowlist.overlaps(network))
                        groups.setdefault(self._group[client], []).append(case)
        if not groups:
            return []
        members = self._members(ledger, groups)
        breaches: list[Breach] = []
        for name, cases in groups.items():
            self._decide(merge(*(case.crossings() for case in cases), key=itemgetter(0)))
            breaches += (self._breach(case, members[name]) for case in cases)
        return breaches

    def _members(self, ledger: Ledger, groups: Iterable[bytes]) -> dict[bytes, list[tuple[bytes, Slots]]]:
        """Returns all clients of each group, with all their requests by second."""
        members: dict[bytes, list[tuple[bytes, Slots]]] = {name: [] for name in groups}
        for source in Source:
            for client, slots in ledger.clients(source, self._every_request):
                name = self._group[client]
                if name in members:
                    members[name].append((client, folded(slots, 1000 // self._every_request.slot_ms)))
        return members

    def _decide(self, crossings: Iterable[tuple[int, _Case, Window]]) -> None:
        """Decides about the crossings of one group, in order of time, and adds block periods to their cases.

        A group has the clients that can share blocks: those in one network of the shortest prefixes.
        """
        blocks = _Blocks()
        blocked_by: dict[Network, _Case] = {}
        for last_ms, case, window in crossings:
            since_ms = window.since * case.rule.slot_ms
            if since_ms < case.decided_until_ms:
                continue
            now = last_ms // 1000 + 1 + self._delay_s
            blocks.lift_ended(now)
            block = blocks.in_force.get(case.network)
            if (block is not None and not case.rule.extend) or (block is None and blocks.cover(case.network)):
                continue
            first_ms = window.first * case.rule.slot_ms
            decision = decide(
                self._detections[case.rule.name, case.source],
                Offender(str(case.network), self._sampling.made(window.count), first_ms, last_ms, since_ms),
                block=block,
                history=blocks.histories.get(case.network),
                allowed=case.allowlisted,
                now=now,
            )
            if decision.block is not None:
                blocks.in_force[case.network] = decision.block
                if block is None:
                    blocked_by[case.network] = case
            if decision.history is not None:
                blocks.histories[case.network] = decision.history
                past = decision.history.rules[case.rule.name]
                # A block may be extended by requests from another source: its period stays with the case it began in.
                owner = blocked_by[case.network] if past.outcome == Outcome.EXTENDED else case
                owner.add(past, now)
                if decision.block is None:
                    # Without a block, nothing else prevents a second decision about the same requests.
                    case.decided_until_ms = past.until * 1000

    def _breach(self, case: _Case, members: Iterable[tuple[bytes, Slots]]) -> Breach:
        made, slot_ms = self._sampling.made, case.rule.slot_ms
        first, highest = case.first, case.highest
        refused = _refused(case, members) if case.periods else {}
        assert first is not None
        assert highest is not None
        return Breach(
            rule=case.rule,
            client=case.client,
            network=case.network,
            source=case.source,
            peak=made(highest.count),
            peak_first_ms=highest.first * slot_ms,
            peak_last_ms=(highest.last + 1) * slot_ms - 1,
            first_ms=first.last * slot_ms,
            requests=made(sum(case.slots.values())),
            over=made(case.over),
            allowlisted=case.allowlisted,
            periods=tuple(case.periods),
            refused_by_ten_s={ten: made(number) for ten, number in refused.items()},
        )


class _Blocks:
    def __init__(self) -> None:
        self.in_force: dict[Network, Block] = {}
        self.histories: dict[Network, History] = {}

    def lift_ended(self, now: int) -> None:
        """Lifts blocks whose time is over, as the sweep does."""
        for network, block in list(self.in_force.items()):
            if block.until <= now:
                del self.in_force[network]
                history = self.histories.get(network) or History(network=str(network))
                self.histories[network] = msgspec.structs.replace(history, ended_at=block.until)

    def cover(self, network: Network) -> bool:
        """Tests whether a block of the network or of a wider one is in force."""
        return bool(self.in_force) and any(wider in self.in_force for wider in (network, *supernets(network)))


def _refused(case: _Case, members: Iterable[tuple[bytes, Slots]]) -> Slots:
    """Returns the requests of the case's network during its periods, by tens of seconds."""
    client, periods = case.client, case.periods
    memo = PrefixMemo(*case.rule.prefixes)
    starts = [period.since for period in periods]
    refused: Counter[int] = Counter()
    for member, seconds in members:
        if len(member) == len(client) and memo[member] == client:
            for second, number in seconds.items():
                at = bisect_right(starts, second) - 1
                if at >= 0 and second < periods[at].until:
                    refused[second // TEN_S] += number
    return refused
