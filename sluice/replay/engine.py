"""Replay: logs and rule sets in, verdicts out. On any input the offenders are those that an exact count names.

Blocks of lines are decoded, by several processes if asked, and laid aside as strips, in whatever order they come, which
changes nothing; those who can be over a limit are sifted out of them and counted by time; then every client is judged.
"""

import gc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from chalicelib.core.addresses import Network, NetworkSet
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.rules import RuleSet
from chalicelib.core.scope import Scope
from sluice.logs.file_decoder import Chunk, ChunkDecoder, LogDecoder
from sluice.replay.counts import Counts, Ledger, with_every_request
from sluice.replay.prefilter import Sieve
from sluice.replay.strips import Laid, Seen, Strip, StripReader
from sluice.replay.verdicts import Judge, Verdict

AHEAD = 2
"""Blocks handed to each process before their counts are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How logs are read and judged, whatever the rules."""

    fields: tuple[str, ...] = DEFAULT_FIELDS
    """Of CloudFront real-time lines."""
    trusted: tuple[Network, ...] = ()
    """Proxies whose X-Forwarded-For is believed."""
    allowlist: tuple[Network, ...] = ()
    sample_rate: int = 100
    from_ms: int | None = None
    """Inclusive."""
    to_ms: int | None = None
    """Exclusive."""
    delay_s: int = 0
    """From an offence to the block."""
    jobs: int = 1


@dataclass(slots=True)
class Result:
    """What one rule set would have done."""

    rules: RuleSet
    seen: Seen
    verdicts: list[Verdict] = field(default_factory=list)


Look = Callable[[int, Ledger], None]
"""Called with the number of a rule set, and with each ledger of its counts."""


def replay(
    blocks: Iterable[Chunk],
    rule_sets: Sequence[RuleSet],
    options: Options,
    *,
    everyone: bool = False,
    look: Look = lambda number, ledger: None,  # noqa: ARG005
) -> list[Result]:
    """A result for each of ``rule_sets``.

    ``everyone``: the ledgers hold all clients, not only those that can be over a limit. Raises ValueError for
    ``options.fields`` that cannot be.
    """
    with _collector_resting(), Laid() as laid:
        counted = [with_every_request(rules) for rules in rule_sets]
        plan = Plan.of(counted, options)
        sieves = [
            Sieve(rules, plan.scopes, plan.longest, sample_rate=options.sample_rate, everyone=everyone)
            for rules in counted
        ]
        seen = Seen()
        for piece, strips in _strips(blocks, plan):
            seen.add(piece)
            for strip in strips:
                for sieve in sieves:
                    sieve.weigh(strip)
                laid.append(strip)
        results = []
        for number, (rules, sieve) in enumerate(zip(rule_sets, sieves, strict=True)):
            counts = Counts(counted[number])
            for tally in sieve.tallies(laid):
                counts.add(tally)
            results.append(Result(rules, seen, _judged(number, rules, counts, options, look)))
        return results


@dataclass(frozen=True, slots=True)
class Plan:
    """How strips are to be made; all a worker process needs to know."""

    options: Options
    scopes: tuple[Scope, ...]
    longest: tuple[int, int]

    @classmethod
    def of(cls, rule_sets: Sequence[RuleSet], options: Options) -> "Plan":
        every = [rule for rules in rule_sets for rule in rules.rules]
        longest = max(rule.ipv4_prefix for rule in every), max(rule.ipv6_prefix for rule in every)
        return cls(options, tuple(dict.fromkeys(rule.scope for rule in every)), longest)

    def reader(self, decoder: ChunkDecoder | None = None) -> StripReader:
        """``decoder``: instead of one of all requests. Raises ValueError for fields that cannot be."""
        options = self.options
        wanted = frozenset(column for scope in self.scopes for column in scope.columns())
        decoder = decoder or LogDecoder(options.fields, wanted, NetworkSet(options.trusted))
        return StripReader(decoder, self.scopes, self.longest, (options.from_ms, options.to_ms))


def judge_of(rules: RuleSet, options: Options) -> Judge:
    return Judge(
        rules, allowlist=NetworkSet(options.allowlist), sample_rate=options.sample_rate, delay_s=options.delay_s
    )


def _judged(number: int, rules: RuleSet, counts: Counts, options: Options, look: Look) -> list[Verdict]:
    judge = judge_of(rules, options)
    verdicts = []
    for ledger in counts.ledgers():
        look(number, ledger)
        verdicts += judge.verdicts(ledger)
    counts.close()
    verdicts.sort(key=lambda v: (v.rule.name, -v.peak, v.first_ms, v.client, v.source))
    return verdicts


@contextmanager
def _collector_resting() -> Iterator[None]:
    """Cells and counts hold no cycles; looking for some among millions of them takes longer than reading the log."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _strips(blocks: Iterable[Chunk], plan: Plan) -> Iterator[tuple[Seen, list[Strip]]]:
    read = plan.reader()
    jobs = plan.options.jobs
    if jobs == 1:
        yield from map(read, blocks)
        return
    with ProcessPoolExecutor(jobs, initializer=_begin, initargs=(plan,)) as pool:
        waiting: deque[Future[tuple[Seen, list[Strip]]]] = deque()
        for block in blocks:
            waiting.append(pool.submit(_read, block))
            if len(waiting) >= jobs * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_here: list[StripReader] = []
"""The reader of this worker process."""


def _begin(plan: Plan) -> None:
    gc.disable()
    _here[:] = [plan.reader()]


def _read(block: Chunk) -> tuple[Seen, list[Strip]]:
    return _here[0](block)
