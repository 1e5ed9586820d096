"""A view of a million (client, slot) entries: its memory, and the time to merge tallies into it and to rebuild it."""

import pickle
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

from bench.events import START_MS
from bench.ingest import NOW_MS
from bench.measure import Figure, cpu_s, paired_cpu_s
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.tally import Tally, pack, unpack
from chalicelib.core.windows import View
from chalicelib.pipeline.log_follower import LogFollower
from chalicelib.ports import LogItem
from sluice import DEFAULT_RULES
from sluice.local.stores import MemoryTallyLogs

ENTRIES = 1_000_000
A_TALLY = 10_000
SPAN_MS = 300_000
RULES = """
[[rule]]
name = "burst"
limit = 100
window = "5s"
"""
LOGS, BATCHES, A_BATCH = 8, 310, 800
"""Rebuilt from this many logs, with one tally per second of this many requests."""


def tallies(rules: RuleSet, requests: int, *, spread: bool = False) -> Iterator[tuple[bytes, int, int]]:
    """Yields packed tallies with first and last time: a million entries over five minutes.

    Each client makes ``requests``, within half a minute; ``spread``: all over the five minutes.
    """
    (meter,) = rules.meters()
    rng = Random(3)
    numbers = rng.sample(range(1 << 24, 223 << 24), ENTRIES // requests)
    parts = ENTRIES // A_TALLY
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


def filled(rules: RuleSet, packed: list[tuple[bytes, int, int]]) -> View:
    view = View(rules, sample_rate=100, most_entries=2 * ENTRIES)
    for body, first_ms, last_ms in packed:
        view.merge(unpack(body), first_ms, last_ms)
    assert view.entries == ENTRIES
    return view


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
    full, peer = paired_cpu_s(lambda: lambda: filled(rules, packed), lambda: lambda: counted(packed), rounds=3)
    yield Figure(
        "merge CPU / Counter",
        full / peer,
        "x",
        None,
        f"{ENTRIES / full / 1e6:.2f} million entries per second, unpacked and merged; peer: unpacked into one "
        "collections.Counter of (client, slot)",
    )
    logs, seconds = recorded()
    rebuild = cpu_s(lambda: rebuilt(logs), rounds=3)
    yield Figure(
        "cold start: view rebuilt from the logs, CPU / time covered",
        rebuild / seconds,
        "x",
        None,
        f"{LOGS} logs of {BATCHES} tallies of {A_BATCH} requests in {rebuild:.2f} s of CPU",
    )


def counted(packed: list[tuple[bytes, int, int]]) -> Counter[tuple[bytes, int]]:
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
    rules = parse_rules(DEFAULT_RULES.read_text())
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
            members = {rng.choice(crowd): {(at + rng.randrange(1000)) // meter.slot_ms: 1} for _ in range(A_BATCH)}
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
                        requests=A_BATCH,
                    )
                ],
            )
    return logs, float(BATCHES)


def rebuilt(logs: MemoryTallyLogs) -> View:
    rules = parse_rules(DEFAULT_RULES.read_text())
    make: Callable[[RuleSet], View] = lambda rules: View(rules, sample_rate=100, most_entries=2 * ENTRIES)  # noqa: E731
    view = LogFollower(logs, make, lateness_ms=300_000).prepare(rules, NOW_MS - 1000, NOW_MS).view
    assert view.entries > LOGS * BATCHES * A_BATCH * 0.9
    return view
