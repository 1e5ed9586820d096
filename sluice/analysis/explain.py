"""One client's time line: its requests, the count in every window as it grew, offences, blocks, and near misses."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from chalicelib.core.addresses import Network, NetworkSet, PrefixMemo, network_of
from chalicelib.core.logs.requests import Column, Decoded, Requests, Source, Text
from chalicelib.core.logs.waf import COLUMNS
from chalicelib.core.rules import Rule, RuleSet
from sluice.logs.file_decoder import Chunk, LogDecoder
from sluice.replay.counts import Counts, with_every_request
from sluice.replay.engine import Options, Plan, judge_of
from sluice.replay.prefilter import Sieve
from sluice.replay.strips import Seen
from sluice.replay.verdicts import Stay, Verdict

NEAR = 0.8
"""Of the limit: what counts as a near miss."""


@dataclass(slots=True)
class Made:
    """A request."""

    ms: int
    source: Source
    client: bytes
    texts: dict[str, Text]
    """What the log says of it, by column; only what it has."""
    counts: dict[str, int] = field(default_factory=dict)
    """By rule that counts it: the requests in the window that ends in its slot, itself the last of them."""
    refused: bool = False
    """Made while blocked."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """The highest count of a time in which the client came near a limit and did not exceed it."""

    count: int
    ms: int


@dataclass(frozen=True, slots=True)
class Chapter:
    """One rule and the client."""

    rule: Rule
    network: Network
    """What the rule counts as this client."""
    requests: int
    """Those that the rule counts."""
    peak: int
    peak_ms: int | None
    """Of the request that brought the count to its peak."""
    first_over_ms: int | None
    """Of the first request over the limit."""
    stays: tuple[Stay, ...]
    near_misses: tuple[NearMiss, ...]
    allowlisted: bool


@dataclass(frozen=True, slots=True)
class Story:
    client: Network
    made: list[Made]
    """In the order of time."""
    chapters: list[Chapter]
    seen: Seen
    """Of all clients in the logs."""


class _Only:
    """Decodes as usual, and keeps what was asked by clients within one network; everything else is left out."""

    def __init__(self, decoder: LogDecoder, network: Network) -> None:
        self._decoder = decoder
        self._network = NetworkSet((network,))
        self.seen = Seen()
        self.found: list[Requests] = []

    def decode(self, block: Chunk) -> Decoded:
        decoded = self._decoder.decode(block)
        self.seen.refuse(decoded.malformed)
        kept = []
        for requests in decoded.requests:
            self.seen.take(requests)
            own = {client for client in set(requests.clients) if self._network.contains(client)}
            if own:
                kept.append(requests.select([client in own for client in requests.clients]))
        self.found += kept
        return replace(decoded, requests=tuple(kept))


def explain(blocks: Iterable[Chunk], rules: RuleSet, options: Options, client: Network) -> Story:
    """What ``rules`` make of ``client``; where a rule counts wider networks, of the one that ``client`` is in."""
    counted = with_every_request(rules)
    plan = Plan.of([counted], options)
    wide = _widest(rules, client)
    only = _Only(LogDecoder(options.fields, COLUMNS, NetworkSet(options.trusted)), wide)
    read = plan.reader(only)
    sieve = Sieve(counted, plan.scopes, plan.longest, sample_rate=options.sample_rate, everyone=True)
    counts = Counts(counted)
    for block in blocks:
        for tally in sieve.tallies(read(block)[1]):
            counts.add(tally)
    judge = judge_of(rules, options)
    verdicts = [verdict for ledger in counts.ledgers() for verdict in judge.verdicts(ledger)]
    counts.close()
    first_ms, end_ms = options.from_ms or 0, options.to_ms
    made = [
        one
        for requests in only.found
        for one in _made(requests)
        if first_ms <= one.ms and (end_ms is None or one.ms < end_ms)
    ]
    made.sort(key=attrgetter("ms"))
    chapters = [_chapter(rule, client, made, verdicts, options) for rule in rules.rules]
    return Story(client, made, chapters, only.seen)


def _widest(rules: RuleSet, client: Network) -> Network:
    prefix = min(rule.ipv4_prefix if client.version == 4 else rule.ipv6_prefix for rule in rules.rules)
    return client.supernet(new_prefix=prefix) if prefix < client.prefixlen else client


def _made(requests: Requests) -> Iterator[Made]:
    columns = [(name, column) for name in sorted(COLUMNS) if (column := requests.columns(name)) is not None]
    texts = [(name, list(map(column.text, column.cells))) for name, column in columns]
    for row, (ms, client) in enumerate(zip(requests.times, requests.clients, strict=True)):
        yield Made(ms, requests.source, client, {name: cells[row] for name, cells in texts if cells[row]})


def _counts(one: Made, rule: Rule) -> bool:
    """Whether ``rule`` counts the request."""

    def columns(name: str) -> Column | None:
        return Column([one.texts[name]], lambda text: text) if name in one.texts else None

    rows = rule.scope.rows(Requests(one.source, [one.ms], [one.client], columns))
    return rows is None or len(rows) > 0


def _chapter(
    rule: Rule, client: Network, made: Sequence[Made], verdicts: Sequence[Verdict], options: Options
) -> Chapter:
    start = client.network_address.packed
    prefix = PrefixMemo(*rule.prefixes)
    network = network_of(prefix[start], *rule.prefixes)
    # A client wider than what the rule counts is several of its clients: their counts are kept apart.
    own = [one for one in made if _counts(one, rule)]
    windows: dict[tuple[Source, bytes], deque[int]] = {}
    peak, peak_ms, first_over_ms = 0, None, None
    counts = []
    for one in own:
        window = windows.setdefault((one.source, prefix[one.client]), deque())
        slot = one.ms // rule.slot_ms
        while window and window[0] <= slot - rule.resolution:
            window.popleft()
        window.append(slot)
        count = one.counts[rule.name] = len(window) * 100 // options.sample_rate
        counts.append((one.ms, count))
        if count > peak:
            peak, peak_ms = count, one.ms
        if count > rule.limit and first_over_ms is None:
            first_over_ms = one.ms
    mine = [v for v in verdicts if v.rule == rule]
    stays = tuple(sorted((stay for v in mine for stay in v.stays), key=attrgetter("since")))
    if rule.action == "block":
        for one in made:
            second = one.ms // 1000
            one.refused = one.refused or any(stay.since <= second < stay.until for stay in stays)
    return Chapter(
        rule,
        network if client.prefixlen >= network.prefixlen else client,
        len(own),
        peak,
        peak_ms,
        first_over_ms,
        stays,
        tuple(near_misses(counts, rule)),
        any(v.allowlisted for v in mine),
    )


def near_misses(counts: Iterable[tuple[int, int]], rule: Rule) -> Iterator[NearMiss]:
    """The times in which the count reached four fifths of the limit and stayed within it, a window or more apart.

    ``counts``: time in milliseconds and count after each request, in order.
    """
    least = max(2, -int(-rule.limit * NEAR // 1))
    highest: NearMiss | None = None
    last_ms = 0
    for ms, count in counts:
        if highest is not None and ms - last_ms >= rule.window_s * 1000:
            if highest.count <= rule.limit:
                yield highest
            highest = None
        if count >= least:
            last_ms = ms
            if highest is None or count > highest.count:
                highest = NearMiss(count, ms)
    if highest is not None and highest.count <= rule.limit:
        yield highest
