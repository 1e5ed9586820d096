"""What a rule set would have done to the clients of a log: offences, blocks, and the requests refused by them.

Who offends is asked of ``over_limit``, as in Lambda; what an offence means, of ``decide``. Replay sees every slot when
it ends, so an offence is found in the very slot that makes it one, and a block begins with the next full second after
it (plus ``delay_s``, the time that detection and publishing are assumed to take). Requests made while blocked are in
the log all the same, and count as they would in Lambda.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge

import msgspec

from chalicelib.core.addresses import Network, NetworkSet, PrefixMemo, network_of
from chalicelib.core.decisions import Outcome, decide
from chalicelib.core.detections import terms_of
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.state import Block, Detection, History, Offender, Past
from chalicelib.core.tally import Slots, folded
from chalicelib.core.windows import Window, over_limit
from sluice.replay.counts import Ledger, every_request
from sluice.replay.prefilter import group_prefix

TEN_S = 10
"""Seconds that requests over time are told in."""

BEYOND = 1 << 62


@dataclass(frozen=True, slots=True)
class Stay:
    """A block as it would have been; for a rule that only counts, as it would be if it blocked."""

    since: int
    """Epoch seconds: the first in which requests are refused."""
    until: int
    """The first in which they no longer are."""
    offence: int
    count: int
    first_ms: int
    last_ms: int
    """The requests that brought it about."""


@dataclass(slots=True)
class Verdict:
    """One client and one rule whose limit its requests exceeded."""

    rule: Rule
    client: bytes
    network: Network
    source: Source
    peak: int
    """The largest count in one window."""
    peak_first_ms: int
    peak_last_ms: int
    first_ms: int
    """Start of the slot in which the client was first over the limit."""
    requests: int
    """Of the client, in the rule's scope, in the whole log."""
    over: int
    """Requests that found their window full."""
    allowlisted: bool = False
    stays: list[Stay] = field(default_factory=list)
    refused_by_ten_s: Slots = field(default_factory=dict)
    """Requests of the client, in any scope, made during ``stays``, by epoch second // 10."""

    @property
    def refused(self) -> int:
        return sum(self.refused_by_ten_s.values())

    @property
    def blocked_for_s(self) -> int:
        return sum(stay.until - stay.since for stay in self.stays)


def crossings(slots: Slots, resolution: int, limit: int) -> Iterator[Window]:
    """Every window of ``resolution`` slots over ``limit`` that ends in an occupied slot, in order.

    >>> list(crossings({10: 2, 11: 1, 19: 1, 20: 1}, resolution=10, limit=3))
    [Window(count=4, first=10, last=19, since=10)]
    """
    order = sorted(slots)
    left = since = total = rest = 0
    for last in order:
        number = slots[last]
        total += number
        rest += number
        while order[left] <= last - resolution:
            total -= slots[order[left]]
            left += 1
        while rest - slots[order[since]] > limit:
            rest -= slots[order[since]]
            since += 1
        if total > limit:
            yield Window(total, order[left], last, order[since])


def peak(slots: Slots, resolution: int) -> int:
    """The largest count in any window of ``resolution`` slots.

    >>> peak({10: 2, 11: 1, 19: 1, 20: 1}, 10)
    4
    """
    order = sorted(slots)
    if order[-1] - order[0] < resolution:
        return sum(slots.values())
    best = total = left = 0
    for last in order:
        total += slots[last]
        while order[left] <= last - resolution:
            total -= slots[order[left]]
            left += 1
        best = max(best, total)
    return best


_Crossing = tuple[int, int, Window]
"""The last millisecond of the window's last slot, the number of its verdict, and the window."""


class Judge:
    """Judges the clients of one ledger after the other."""

    def __init__(
        self, rules: RuleSet, *, allowlist: NetworkSet | None = None, sample_rate: int = 100, delay_s: int = 0
    ) -> None:
        self._rules = rules
        self._allowlist = allowlist or NetworkSet(())
        self._sample_rate = sample_rate
        self.delay_s = delay_s
        self._every = every_request(rules)
        self._group = PrefixMemo(*group_prefix(rules))
        self._detections: dict[tuple[str, Source], Detection] = {}

    def verdicts(self, ledger: Ledger) -> list[Verdict]:
        """Of every client and rule in ``ledger`` whose limit was exceeded, allowlisted or not."""
        groups: dict[bytes, dict[tuple[Rule, Source, bytes], Slots]] = {}
        for source in Source:
            for rule in self._rules.rules:
                limit = self.limit(rule)
                for client, slots in ledger.clients(source, rule, more_than=limit):
                    if over_limit(slots, slots, rule.resolution, limit) is not None:
                        groups.setdefault(self._group[client], {})[rule, source, client] = slots
        if not groups:
            return []
        members = self._members(ledger, groups)
        found = []
        for name, cases in groups.items():
            verdicts = self._group_verdicts(cases)
            for verdict in verdicts:
                if verdict.stays:
                    refused = _refused(verdict, members[name])
                    verdict.refused_by_ten_s = {ten: self.scaled(number) for ten, number in refused.items()}
            found += verdicts
        return found

    def _members(self, ledger: Ledger, groups: Iterable[bytes]) -> dict[bytes, list[tuple[bytes, Slots]]]:
        """The clients of each group that sent anything at all, and when, by second."""
        members: dict[bytes, list[tuple[bytes, Slots]]] = {name: [] for name in groups}
        for source in Source:
            for client, slots in ledger.clients(source, self._every):
                name = self._group[client]
                if name in members:
                    members[name].append((client, folded(slots, 1000 // self._every.slot_ms)))
        return members

    def _group_verdicts(self, cases: dict[tuple[Rule, Source, bytes], Slots]) -> list[Verdict]:
        verdicts = [self._measured(*who, slots) for who, slots in cases.items()]
        streams = [
            self._crossings(number, v.rule, slots)
            for number, (v, slots) in enumerate(zip(verdicts, cases.values(), strict=True))
        ]
        _Group(self, verdicts).sentence(merge(*streams) if len(streams) > 1 else streams[0])
        return verdicts

    def _crossings(self, number: int, rule: Rule, slots: Slots) -> Iterator[_Crossing]:
        slot_ms = rule.slot_ms
        for window in crossings(slots, rule.resolution, self.limit(rule)):
            yield (window.last + 1) * slot_ms - 1, number, window

    def _measured(self, rule: Rule, source: Source, client: bytes, slots: Slots) -> Verdict:
        limit, slot_ms = self.limit(rule), rule.slot_ms
        highest = first = None
        over = 0
        for window in crossings(slots, rule.resolution, limit):
            first = first or window
            if highest is None or window.count > highest.count:
                highest = window
            over += min(slots[window.last], window.count - limit)
        assert first is not None
        assert highest is not None
        network = network_of(client, *rule.prefixes)
        return Verdict(
            rule=rule,
            client=client,
            network=network,
            source=source,
            peak=self.scaled(highest.count),
            peak_first_ms=highest.first * slot_ms,
            peak_last_ms=(highest.last + 1) * slot_ms - 1,
            first_ms=first.last * slot_ms,
            requests=self.scaled(sum(slots.values())),
            over=self.scaled(over),
            allowlisted=self._allowlist.overlaps(network),
        )

    def limit(self, rule: Rule) -> int:
        """What the log's own counts are held against: a sampled log holds fewer requests than there were."""
        return rule.limit * self._sample_rate // 100

    def scaled(self, count: int) -> int:
        return count * 100 // self._sample_rate

    def detection(self, rule: Rule, source: Source) -> Detection:
        key = rule.name, source
        if key not in self._detections:
            self._detections[key] = Detection(
                id=f"replay/{rule.name}/{source}",
                terms=terms_of(rule, self._rules.version),
                source=source,
                offenders=(),
                detected_ms=0,
                arrived_ms=0,
            )
        return self._detections[key]


class _Group:
    """The clients that share blocks: those of one network of the rules' shortest prefixes."""

    def __init__(self, judge: Judge, verdicts: Sequence[Verdict]) -> None:
        self._judge = judge
        self._verdicts = verdicts
        self._names = [str(verdict.network) for verdict in verdicts]
        self._blocks: dict[Network, Block] = {}
        self._histories: dict[Network, History] = {}
        self._known_until_ms = [0] * len(verdicts)

    def sentence(self, crossings: Iterable[_Crossing]) -> None:
        """Decides about ``crossings``, in the order of time, and writes the stays into the verdicts."""
        for last_ms, number, window in crossings:
            verdict = self._verdicts[number]
            since_ms = window.since * verdict.rule.slot_ms
            if since_ms < self._known_until_ms[number]:
                continue
            now = last_ms // 1000 + 1 + self._judge.delay_s
            block = self._block(verdict.network, now)
            if (block is not None and not verdict.rule.extend) or (block is None and self._covered(verdict.network)):
                continue
            first_ms = window.first * verdict.rule.slot_ms
            offender = Offender(self._names[number], self._judge.scaled(window.count), first_ms, last_ms, since_ms)
            decision = decide(
                self._judge.detection(verdict.rule, verdict.source),
                offender,
                block=block,
                history=self._histories.get(verdict.network),
                allowed=verdict.allowlisted,
                now=now,
            )
            if decision.block is not None:
                self._blocks[verdict.network] = decision.block
            if decision.history is not None:
                self._histories[verdict.network] = decision.history
                past = decision.history.rules[verdict.rule.name]
                _enter(verdict.stays, past, now)
                if decision.block is None:
                    # Nothing is blocked, so nothing else keeps the same requests from being decided about again.
                    self._known_until_ms[number] = past.until * 1000

    def _block(self, network: Network, now: int) -> Block | None:
        """The network's own block; those whose time is over are lifted, as the sweep does."""
        for other, block in list(self._blocks.items()):
            if block.until <= now:
                del self._blocks[other]
                history = self._histories.get(other) or History(network=str(other))
                self._histories[other] = msgspec.structs.replace(history, ended_at=block.until)
        return self._blocks.get(network)

    def _covered(self, network: Network) -> bool:
        """Whether the block of a wider network is in force."""
        return any(
            network.version == wider.version and network.subnet_of(wider)  # type: ignore[arg-type]
            for wider in self._blocks
        )


def _enter(stays: list[Stay], past: Past, now: int) -> None:
    if past.outcome == Outcome.EXTENDED:
        stays[-1] = replace(stays[-1], until=past.until)
    elif past.outcome in (Outcome.BLOCKED, Outcome.COUNTED) and past.until > now:
        evidence = past.evidence
        stays.append(Stay(now, past.until, past.offence, evidence.count, evidence.first_ms, evidence.last_ms))


def _refused(verdict: Verdict, members: Iterable[tuple[bytes, Slots]]) -> Slots:
    """Requests of the verdict's network during its stays, by tens of seconds."""
    rule, client = verdict.rule, verdict.client
    memo = PrefixMemo(*rule.prefixes)
    spans = [(stay.since, stay.until) for stay in verdict.stays]
    refused: Counter[int] = Counter()
    for member, seconds in members:
        if len(member) == len(client) and memo[member] == client:
            for second, number in seconds.items():
                # Stays are few, in order, and do not overlap.
                at = bisect_right(spans, (second, BEYOND)) - 1
                if at >= 0 and second < spans[at][1]:
                    refused[second // TEN_S] += number
    return refused
