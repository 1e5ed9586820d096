"""Both passes of a replay: logs are read once for all rule sets, then each rule set is evaluated."""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from chalicelib.core.addresses import Network, NetworkSet
from chalicelib.core.exemptions import Exemptions
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.json_fields import JsonFields
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.refusals import REFUSAL_STATUS
from chalicelib.core.rules import RuleSet
from chalicelib.core.sampling import Sampling
from chalicelib.core.state.allowlist import Allow
from sluice.logs.file_decoder import ChunkDecoder, LogDecoder
from sluice.logs.files import Chunk
from sluice.replay.breaches import Breach, BreachFinder
from sluice.replay.breaker_model import Intervention, LogMemory, interventions
from sluice.replay.counts import Counts, Ledger
from sluice.replay.network_model import NetworkBlocks, blocked_networks, with_refused
from sluice.replay.prefilter import Prefilter
from sluice.replay.rule_sets import client_prefix, with_every_request
from sluice.replay.strips import LogStats, Spool, StripReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings for reading and evaluating logs, independent of rules."""

    fields: tuple[str, ...] = DEFAULT_FIELDS
    """Fields of CloudFront real-time lines."""
    trusted: tuple[Network, ...] = ()
    """Proxies whose X-Forwarded-For is trusted."""
    json_fields: JsonFields = ()
    """Keys of JSON access logs of other programs, by the column that they hold."""
    allowlist: tuple[Allow, ...] = ()
    sample_rate: int = 100
    """Percentage of requests that CloudFront real-time logs hold, 1 to 100."""
    block_status: int = REFUSAL_STATUS
    """Status by which logs show the requests that Sluice has refused."""
    from_ms: int | None = None
    """Requests before this time are skipped; None for no bound."""
    to_ms: int | None = None
    """Requests at this time and later are skipped; None for no bound."""
    delay_s: int = 0
    """Seconds from an offence to its block."""

    def decoding(self, columns: frozenset[str]) -> DecodeOptions:
        """Returns the options of a decoder of ``columns``."""
        return DecodeOptions(self.fields, columns, NetworkSet(self.trusted), self.json_fields)

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.sample_rate)


@dataclass(frozen=True, slots=True)
class Result:
    """The effect that one rule set would have had."""

    rules: RuleSet
    stats: LogStats
    breaches: list[Breach]
    interventions: list[Intervention]
    """Rules that circuit breakers would have stopped or slowed down. The breaches do not take this into account."""
    networks: list[NetworkBlocks]
    """Guilty networks that would have been blocked, in order of time. The breaches do not take this into account."""


def replay(chunks: Iterable[Chunk], rule_sets: Sequence[RuleSet], options: Options) -> list[Result]:
    """Returns a result for each of ``rule_sets``. Raises ValueError for ``options.fields`` that cannot be decoded."""
    with spooled(chunks, rule_sets, options) as log:
        return [log.result(rules) for rules in rule_sets]


class SpooledLog:
    """A log after the first pass, ready to be evaluated by the rule sets it was read for."""

    def __init__(
        self, stats: LogStats, spool: Spool, prefilters: Mapping[RuleSet, Prefilter], options: Options
    ) -> None:
        self.stats = stats
        self._spool = spool
        self._prefilters = prefilters
        self.options = options

    def ledgers(self, rules: RuleSet) -> Iterator[Ledger]:
        """Runs the second pass and yields its ledgers; each client is in exactly one of them."""
        with closing(Counts(with_every_request(rules))) as counts:
            for counted in self._prefilters[rules].counts(self._spool):
                counts.add(counted)
            yield from counts.ledgers()

    def result(self, rules: RuleSet, ledgers: Iterable[Ledger] | None = None) -> Result:
        """Returns the breaches in ``ledgers``, by default those of the second pass, in a fixed order."""
        options = self.options
        exempt = Exemptions.of(options.allowlist)
        finder = BreachFinder(rules, exempt=exempt, sampling=options.sampling, delay_s=options.delay_s)
        if ledgers is None:
            ledgers = self.ledgers(rules)
        breaches = [breach for ledger in ledgers for breach in finder.find(ledger)]
        breaches.sort(key=lambda b: (b.rule.name, -b.peak, b.first_ms, b.client, b.source))
        if not any(breach.periods for breach in breaches):
            return Result(rules, self.stats, breaches, [], [])
        # Reads the log once more, if clients can become known in it.
        memory = LogMemory(self._spool, self.stats.span_ms())
        networks: list[NetworkBlocks] = []
        if rules.networks is not None:
            networks = blocked_networks(finder.blocks, rules.networks, memory, options.trusted)
        if networks:
            networks = with_refused(networks, self._spool, breaches, finder.is_allowlisted, options.sampling)
        return Result(rules, self.stats, breaches, interventions(breaches, memory), networks)


@contextmanager
def spooled(
    chunks: Iterable[Chunk],
    rule_sets: Sequence[RuleSet],
    options: Options,
    *,
    everyone: bool = False,
    decoder: ChunkDecoder | None = None,
) -> Iterator[SpooledLog]:
    """Runs the first pass: reads ``chunks`` for all of ``rule_sets``.

    With ``everyone``, ledgers hold all clients, not only those that can be over a limit. ``decoder`` replaces the one
    that decodes all requests. Raises ValueError for ``options.fields`` that cannot be decoded.
    """
    with _gc_paused(), Spool() as spool:
        counted = {rules: with_every_request(rules) for rules in rule_sets}
        everything = RuleSet(tuple(rule for rules in counted.values() for rule in rules.rules))
        scopes, prefix = tuple(dict.fromkeys(rule.scope for rule in everything.rules)), client_prefix(everything)
        measures = tuple(dict.fromkeys(rule.measure for rule in everything.rules if rule.measure.is_sum))
        keyed = (rule.meter for rule in everything.rules if rule.meter.keyed_by)
        groupings = tuple(dict.fromkeys((meter.keyed_by, meter.scope) for meter in keyed))
        prefilters = {
            rules: Prefilter(
                counted[rules],
                scopes,
                prefix,
                measures=measures,
                groupings=groupings,
                sampling=options.sampling,
                everyone=everyone,
            )
            for rules in rule_sets
        }
        if decoder is None:
            decoder = LogDecoder(options.decoding(everything.columns()))
        reader = StripReader(
            decoder,
            scopes,
            prefix,
            between_ms=(options.from_ms, options.to_ms),
            measures=measures,
            groupings=groupings,
            refusal_status=options.block_status,
        )
        stats = LogStats()
        for chunk_stats, strips in map(reader.read, chunks):
            stats.add(chunk_stats)
            for strip in strips:
                for prefilter in prefilters.values():
                    prefilter.add(strip, *chunk_stats.span_ms())
                spool.append(strip)
        yield SpooledLog(stats, spool, prefilters, options)


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pauses garbage collection, because searching millions of cells and counts for cycles is slow and finds none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
