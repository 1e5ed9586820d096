"""The history of one client: its requests, the counts they reached, offences, blocks, and near misses."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil
from operator import attrgetter

from chalicelib.core.addresses import Network, NetworkSet, PrefixMemo, network_of
from chalicelib.core.allowance import Allowance
from chalicelib.core.client_groups import group_digest
from chalicelib.core.distinct import mark
from chalicelib.core.durations import DAY_S, HOUR_S
from chalicelib.core.logs.requests import COLUMNS, MEASURED, Decoded, Requests, Source, Text
from chalicelib.core.measures import amounts
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.windows import counts_after
from sluice.logs.file_decoder import ChunkDecoder, LogDecoder
from sluice.logs.files import Chunk
from sluice.replay.breaches import BlockPeriod, Breach
from sluice.replay.engine import Options, spooled
from sluice.replay.rule_sets import group_prefix
from sluice.replay.strips import LogStats

NEAR = 0.8
"""Share of the limit from which a count is a near miss."""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request as the log describes it."""

    ms: int
    source: Source
    client: bytes
    texts: dict[str, Text]
    """The columns that the log has for it, by name."""
    amounts: dict[str, int]
    """By the name of each rule that counts it: 1, or the bytes or the time that the rule adds up."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """The highest count of a period in which the client came near a limit without exceeding it."""

    count: int
    ms: int


@dataclass(frozen=True, slots=True)
class Filled:
    """An hour or a day with requests that a quota counts, and how much of the quota was used at its end."""

    first_ms: int
    """Start of the hour or day, by UTC."""
    amount: int
    """Requests in it, or what the rule measures of them."""
    count: int
    """The count in the window that ends with the last of them."""


@dataclass(frozen=True, slots=True)
class RuleHistory:
    rule: Rule
    network: Network
    """The network that the rule counts as this client."""
    counts: tuple[int | None, ...]
    """For each request the count in the window that ends with it or, of a bucket, the level after it; None if the rule
    does not count it."""
    peak: int
    peak_ms: int | None
    """Time of the request that brought the count to its peak."""
    first_over_ms: int | None
    """Time of the first request over the limit."""
    periods: tuple[BlockPeriod, ...]
    near_misses: tuple[NearMiss, ...]
    allowlisted: bool
    filled: tuple[Filled, ...] = ()
    """The hours with requests that a quota counts or, if its window is longer than two days, the days; none of other
    rules."""

    @property
    def requests(self) -> int:
        """Number of requests that the rule counts."""
        return len(self.counts) - self.counts.count(None)


@dataclass(frozen=True, slots=True)
class ClientHistory:
    client: Network
    requests: list[LoggedRequest]
    """In order of time."""
    rules: list[RuleHistory]
    stats: LogStats
    """Figures of all clients in the logs."""

    def was_refused(self, request: LoggedRequest) -> bool:
        """Tests whether a rule that blocks would have refused the request."""
        return any(
            period.contains(request.ms)
            for history in self.rules
            if history.rule.action == "block"
            for period in history.periods
        )


class _ClientDecoder:
    """A decoder that counts all requests in the statistics, but returns only those of clients in one network."""

    def __init__(self, decoder: ChunkDecoder, network: Network) -> None:
        self._decoder = decoder
        self._network = NetworkSet((network,))
        self.stats = LogStats()
        self.requests: list[Requests] = []

    def decode(self, chunk: Chunk) -> Decoded:
        decoded = self._decoder.decode(chunk)
        self.stats.add_malformed(decoded.malformed, chunk)
        own_requests = []
        for requests in decoded.requests:
            self.stats.add_requests(requests)
            own = {client for client in set(requests.clients) if self._network.contains(client)}
            if own:
                own_requests.append(requests.select([client in own for client in requests.clients]))
        self.requests += own_requests
        return replace(decoded, requests=tuple(own_requests))


def explain(chunks: Iterable[Chunk], rules: RuleSet, options: Options, client: Network) -> ClientHistory:
    """Returns the history of ``client``, or of the network around it that the rules count as one client."""
    decoder = _ClientDecoder(LogDecoder(options.decoding(COLUMNS | MEASURED)), _widest(rules, client))
    with spooled(chunks, [rules], options, everyone=True, decoder=decoder) as log:
        breaches = log.result(rules).breaches
    first_ms, end_ms = options.from_ms or 0, options.to_ms
    requests = [
        request
        for batch in decoder.requests
        for request in _logged_requests(batch, rules)
        if first_ms <= request.ms and (end_ms is None or request.ms < end_ms)
    ]
    requests.sort(key=attrgetter("ms"))
    histories = [_rule_history(rule, client, requests, breaches, options) for rule in rules.rules]
    return ClientHistory(client, requests, histories, decoder.stats)


def _widest(rules: RuleSet, client: Network) -> Network:
    ipv4, ipv6 = group_prefix(rules)
    prefix = ipv4 if client.version == 4 else ipv6
    return client.supernet(new_prefix=prefix) if prefix < client.prefixlen else client


def _logged_requests(requests: Requests, rules: RuleSet) -> Iterator[LoggedRequest]:
    columns = [(name, column) for name in sorted(COLUMNS) if (column := requests.columns(name)) is not None]
    texts = [(name, list(column.texts())) for name, column in columns]
    matching = [(rule.name, rule.scope.rows(requests)) for rule in rules.rules]
    counted = [(name, range(len(requests)) if rows is None else frozenset(rows)) for name, rows in matching]
    amounts_by_rule = {rule.name: _amounts(rule, requests) for rule in rules.rules}
    for row, (ms, client) in enumerate(zip(requests.times, requests.clients, strict=True)):
        counting = {name: amount for name, rows in counted if row in rows and (amount := amounts_by_rule[name][row])}
        own_texts = {name: cells[row] for name, cells in texts if cells[row]}
        yield LoggedRequest(ms, requests.source, client, own_texts, counting)


def _amounts(rule: Rule, requests: Requests) -> Sequence[int]:
    """Returns what ``rule`` adds up of each request, or 1; 0 if it is not in the log."""
    if any(requests.columns(name) is None for name in rule.meter.keyed_by):
        return [0] * len(requests)
    if rule.measure.is_sum:
        return amounts(rule.measure, requests, None) or [0] * len(requests)
    return [1] * len(requests)


def _rule_history(
    rule: Rule, client: Network, requests: Sequence[LoggedRequest], breaches: Iterable[Breach], options: Options
) -> RuleHistory:
    prefix = PrefixMemo(*rule.prefixes)
    network = network_of(prefix[client.network_address.packed], *rule.prefixes)
    counts = _counts(rule, requests, prefix, options)
    counted = [(r.ms, count) for r, count in zip(requests, counts, strict=True) if count is not None]
    peak_ms, peak = max(counted, key=lambda moment: moment[1], default=(None, 0))
    own = [breach for breach in breaches if breach.rule == rule]
    return RuleHistory(
        rule=rule,
        network=network if client.prefixlen >= network.prefixlen else client,
        counts=counts,
        peak=peak,
        peak_ms=peak_ms,
        first_over_ms=next((ms for ms, count in counted if count > rule.limit), None),
        periods=tuple(sorted((period for b in own for period in b.periods), key=attrgetter("since"))),
        near_misses=tuple(near_misses(counted, rule)),
        allowlisted=any(breach.allowlisted for breach in own),
        filled=tuple(_filled(rule, requests, counts)) if rule.is_quota else (),
    )


def _filled(rule: Rule, requests: Sequence[LoggedRequest], counts: Sequence[int | None]) -> Iterator[Filled]:
    length_ms = 1000 * (HOUR_S if rule.window_s <= 2 * DAY_S else DAY_S)
    counted = [(r.ms, r.amounts[rule.name], c) for r, c in zip(requests, counts, strict=True) if c is not None]
    for number, moments in groupby(counted, key=lambda moment: moment[0] // length_ms):
        in_it = list(moments)
        yield Filled(number * length_ms, sum(amount for _, amount, _ in in_it), in_it[-1][2])


def _counts(
    rule: Rule, requests: Sequence[LoggedRequest], prefix: PrefixMemo, options: Options
) -> tuple[int | None, ...]:
    # A network wider than the rule's clients contains several of them, and each has its own windows.
    rows_by_client: dict[tuple[Source, bytes, tuple[str, ...]], list[int]] = {}
    for row, request in enumerate(requests):
        if rule.name in request.amounts:
            group = request.source, prefix[request.client], _texts(rule.by, rule, request)
            rows_by_client.setdefault(group, []).append(row)
    counts: list[int | None] = [None] * len(requests)
    for (source, *_), rows in rows_by_client.items():
        slots = [requests[row].ms // rule.slot_ms for row in rows]
        numbers = [requests[row].amounts[rule.name] for row in rows]
        if rule.measure.is_distinct:
            values = [_texts(rule.meter.keyed_by, rule, requests[row]) for row in rows]
            slots = [mark(slot, group_digest(texts)) for slot, texts in zip(slots, values, strict=True)]
        reached = counts_after(slots, numbers, Allowance.of(rule, source, options.sampling))
        for row, count in zip(rows, reached, strict=True):
            counts[row] = options.sampling.of(source).made(count)
    return tuple(counts)


def _texts(columns: Sequence[str], rule: Rule, request: LoggedRequest) -> tuple[str, ...]:
    """Returns the values of the request in ``columns``, as ``rule`` compares them."""
    texts = ((name, str(request.texts.get(name, ""))) for name in columns)
    return tuple(rule.scope.path_form(text) if name == "path" else text for name, text in texts)


def near_misses(counts: Iterable[tuple[int, int]], rule: Rule) -> list[NearMiss]:
    """Returns the periods in which the count reached four fifths of the limit without exceeding it.

    Periods less than a window apart are merged. ``counts``: time in milliseconds and count of each request, in order.
    """
    least = max(2, ceil(rule.limit * NEAR))
    periods: list[list[NearMiss]] = []
    for ms, count in counts:
        if count >= least:
            if not periods or ms - periods[-1][-1].ms >= rule.window_s * 1000:
                periods.append([])
            periods[-1].append(NearMiss(count, ms))
    highest = (max(period, key=attrgetter("count")) for period in periods)
    return [near for near in highest if near.count <= rule.limit]
