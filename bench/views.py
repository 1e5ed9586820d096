"""A view of a million (client, slot) entries: its memory, and the CPU of merging, evaluating and rebuilding it."""

import pickle
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random

from bench.events import START_MS
from bench.ingest import NOW_MS
from bench.measure import MEASURED_RULES, Figure, cpu_s, paired_cpu_s
from bench.scale.model import loading_s
from chalicelib.core.detections import Announced
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.detections import Detection
from chalicelib.core.tally import Tally, pack, unpack
from chalicelib.core.view import Offence, View
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.evaluate import Evaluate
from chalicelib.pipeline.log_reader import LogReader
from chalicelib.ports import LogItem, TallyLogs
from sluice.local.stores import MemoryTallyLogs

ENTRIES = 1_000_000
REQUESTS_PER_TALLY = 10_000
SPAN_MS = 300_000
RULES = """
[[rule]]
name = "burst"
limit = 100
window = "5s"
"""
OFFENDERS = 10_000
OFFENDED_RULES = """
[[rule]]
name = "burst"
limit = 5
window = "5s"
"""
PER_SECOND, SECONDS = 2, 10
"""Requests of each offender per second, for so many seconds. All of them have been reported before the last one."""

LATENESS_MS = 120_000
LOGS, BATCHES, REQUESTS_PER_BATCH = 8, 190, 800
"""Rebuilt from this many logs, with one tally per second of this many requests."""

MERGED_AND_EVALUATED, KNOWN_OFFENDERS = 0.65, 2.7
"""Budgets: 0.4 and 0.25 of the ratios to the same peers that the first release reached, 1.6 and 11."""

Packed = tuple[bytes, int, int]
"""A packed tally, its first and its last time in ms."""


def evaluate(logs: TallyLogs, detect: Callable[[Sequence[Detection]], None]) -> Evaluate:
    """Returns a new container's evaluator, with the default rules."""
    rules = parse_rules(MEASURED_RULES.read_text())
    return Evaluate(logs=logs, reader=reader(logs), rules=lambda now_ms: RulesInUse(rules), detect=detect)  # noqa: ARG005


def reader(logs: TallyLogs) -> LogReader:
    return LogReader(logs, partial(View, sample_rate=100, most_entries=2 * ENTRIES), lateness_ms=LATENESS_MS)


def tallies(rules: RuleSet, requests: int, *, spread: bool = False) -> Iterator[Packed]:
    """Yields packed tallies with first and last time: a million entries over five minutes.

    Each client makes ``requests``, within half a minute; ``spread``: all over the five minutes.
    """
    (meter,) = rules.meters()
    rng = Random(3)
    numbers = rng.sample(range(1 << 24, 223 << 24), ENTRIES // requests)
    parts = ENTRIES // REQUESTS_PER_TALLY
    span = SPAN_MS // parts
    clients: list[dict[bytes, dict[int, int]]] = [{} for _ in range(parts)]
    for number in numbers:
        first = 0 if spread else rng.randrange(parts - 9)
        for part in rng.sample(range(first, parts if spread else first + 10), requests):
            slot = (START_MS + part * span + rng.randrange(span)) // meter.slot_ms
            clients[part][number.to_bytes(4, "big")] = {slot: 1}
    for part, members in enumerate(clients):
        counted = MeterTally.of(Source.CLOUDFRONT, meter, members)
        yield pack([counted]), START_MS + part * span, START_MS + (part + 1) * span - 1


def filled(rules: RuleSet, packed: list[Packed]) -> View:
    view = View(rules, sample_rate=100, most_entries=2 * ENTRIES)
    for body, first_ms, last_ms in packed:
        view.merge(unpack(body), first_ms, last_ms)
    assert view.entries == ENTRIES
    return view


def evaluated(view: View, packed: list[Packed], announced: Announced) -> list[Offence]:
    """Merges tallies one after the other. Returns the offences of their clients that have not just been reported."""
    reported = []
    for body, first_ms, last_ms in packed:
        suspects = view.merge(unpack(body), first_ms, last_ms)
        fresh = announced.fresh(view.offences(suspects, first_ms, last_ms, announced))
        announced.add(fresh)
        reported += fresh
    return reported


def offending() -> list[Packed]:
    """Returns one packed tally per second; in each, every offender makes ``PER_SECOND`` requests."""
    (meter,) = parse_rules(OFFENDED_RULES).meters()
    rng = Random(5)
    keys = [number.to_bytes(4, "big") for number in rng.sample(range(1 << 24, 223 << 24), OFFENDERS)]
    packed = []
    for second in range(SECONDS):
        first_ms = START_MS + second * 1000
        slots = range(first_ms // meter.slot_ms, (first_ms + 1000) // meter.slot_ms)
        members = {key: dict.fromkeys(rng.sample(slots, PER_SECOND), 1) for key in keys}
        packed.append((pack([MeterTally.of(Source.CLOUDFRONT, meter, members)]), first_ms, first_ms + 999))
    return packed


def attacked(packed: list[Packed]) -> Callable[[], object]:
    """Returns the evaluation of the last tally in a container that has reported all of its clients."""
    view, announced = View(parse_rules(OFFENDED_RULES), sample_rate=100, most_entries=2 * ENTRIES), Announced()
    assert len(evaluated(view, packed[:-1], announced)) == OFFENDERS

    def last() -> None:
        assert not evaluated(view, packed[-1:], announced)

    return last


def bytes_per_entry() -> float:
    """Returns the memory that a view of the pickled tallies on standard input adds to this process, per entry.

    The tallies are made in another process, whose freed memory would hide what the view takes.
    """
    rules = parse_rules(RULES)
    packed = pickle.load(sys.stdin.buffer)
    before = resident_mb()
    view = filled(rules, packed)
    return (resident_mb() - before) * 1e6 / view.entries


def resident_mb() -> float:
    pages = int(open("/proc/self/statm").read().split()[1])  # noqa: SIM115, PTH123
    return pages * resource.getpagesize() / 1e6


def figures() -> Iterator[Figure]:
    rules = parse_rules(RULES)
    for name, requests, spread, budget in (
        ("clients come and go", 5, False, 20),
        ("every client in every minute", 5, True, 40),
        ("one request per client", 1, False, 25),
    ):
        script = "from bench.views import bytes_per_entry; print(bytes_per_entry())"
        packed = list(tallies(rules, requests, spread=spread))
        value = float(subprocess.check_output([sys.executable, "-c", script], input=pickle.dumps(packed)))
        clients = ENTRIES // requests
        how = f"{ENTRIES:,} entries of {clients:,} clients over five minutes; resident memory of a fresh process"
        yield Figure(f"view memory per entry: {name}", value, "bytes", budget, how)
    packed = list(tallies(rules, 5))

    def watched() -> None:
        assert not evaluated(View(rules, sample_rate=100, most_entries=2 * ENTRIES), packed, Announced())

    merged, whole, peer = paired_cpu_s(
        lambda: lambda: filled(rules, packed), lambda: watched, lambda: lambda: counted(packed), rounds=3
    )
    yield Figure(
        "merge CPU / Counter",
        merged / peer,
        "x",
        None,
        f"{ENTRIES / merged / 1e6:.2f} million entries per second, unpacked and merged; peer: unpacked into one "
        "collections.Counter of (client, slot)",
    )
    yield Figure(
        "merge and evaluate CPU / Counter",
        whole / peer,
        "x",
        MERGED_AND_EVALUATED,
        f"{ENTRIES / whole / 1e6:.2f} million entries per second; the same peer, which evaluates nothing",
    )
    attack = offending()
    known, peer = paired_cpu_s(lambda: attacked(attack), lambda: lambda: counted(attack[-1:]), rounds=5)
    yield Figure(
        "CPU of 10,000 known offenders in a batch / Counter",
        known / peer,
        "x",
        KNOWN_OFFENDERS,
        f"{known * 1000:.0f} ms to merge and evaluate {PER_SECOND * OFFENDERS:,} requests, all by clients reported "
        "within ten seconds; the same peer",
    )
    logs, seconds = recorded()
    rebuild = cpu_s(lambda: rebuilt(logs), rounds=3)
    yield Figure(
        "cold start: view rebuilt from the logs, CPU / time covered",
        rebuild / seconds,
        "x",
        None,
        f"{LOGS} logs of {BATCHES} tallies of {REQUESTS_PER_BATCH} requests in {rebuild:.2f} s of CPU",
    )
    modelled = LOGS * BATCHES * loading_s(REQUESTS_PER_BATCH)
    yield Figure(
        "cold start: CPU / the scale model's",
        rebuild / modelled,
        "x",
        2,
        f"{modelled:.2f} s by the model, without the calls",
    )


def counted(packed: list[Packed]) -> Counter[tuple[bytes, int]]:
    """Returns the same entries, counted in the obvious way."""
    counts: Counter[tuple[bytes, int]] = Counter()
    for body, _, _ in packed:
        for part in unpack(body):
            for key, slots in part.clients().items():
                for slot, requests in slots.items():
                    counts[key, slot] += requests
    return counts


def recorded() -> tuple[MemoryTallyLogs, float]:
    """Returns logs as busy shards write them, and the seconds that they cover."""
    rules = parse_rules(MEASURED_RULES.read_text())
    (meter, *_) = rules.meters()
    rng = Random(4)
    crowd = [rng.randrange(1 << 24, 223 << 24).to_bytes(4, "big") for _ in range(20_000)]
    logs = MemoryTallyLogs()
    start = NOW_MS - BATCHES * 1000
    for number in range(LOGS):
        name = f"logs/{number}@{start}"
        logs.register(f"logs/{number}", (), (name,))
        for offset in range(BATCHES):
            at = start + offset * 1000
            members = {
                rng.choice(crowd): {(at + rng.randrange(1000)) // meter.slot_ms: 1} for _ in range(REQUESTS_PER_BATCH)
            }
            tally: Tally = [MeterTally.of(Source.CLOUDFRONT, meter, members)]
            logs.append(
                name,
                offset,
                [
                    LogItem(
                        body=pack(tally),
                        last_sequence=offset,
                        written_ms=at + 1000,
                        first_slot_ms=at,
                        last_slot_ms=at + 999,
                        requests=REQUESTS_PER_BATCH,
                    )
                ],
            )
    return logs, float(BATCHES)


def rebuilt(logs: MemoryTallyLogs) -> View:
    """Returns the view of an evaluator that starts where another one has evaluated everything."""
    starting, (registry, _) = reader(logs), logs.read([])
    starting.start_at({log: BATCHES for names in registry.values() for log in names})
    view, _ = starting.read_on(parse_rules(MEASURED_RULES.read_text()), NOW_MS)
    assert not starting.unevaluated
    assert view.entries > LOGS * BATCHES * REQUESTS_PER_BATCH * 0.9
    return view
