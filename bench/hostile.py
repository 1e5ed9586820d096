"""The cost of attacks: write units, view entries, memory and CPU under the traffic of ``tests/hostile``."""

import tracemalloc
from collections.abc import Iterator
from ipaddress import IPv6Address
from random import Random

from bench.measure import Figure, cpu_s
from chalicelib.core.logs.batch_decoder import BatchDecoder
from sluice.local.events import MOST_BYTES
from tests.support.attacks import PER_BATCH, PREFIX, batches, bomb
from tests.support.records import envelope, waf_text
from tests.support.target import HONEYPOT, Target, line

BATCHES = 20
VIEW_ENTRIES = 100_000


def figures() -> Iterator[Figure]:
    rng = Random(1)
    rotating = iter(lambda: PREFIX + rng.getrandbits(64), None)
    fresh = iter(lambda: PREFIX + (rng.getrandbits(32) << 64), None)
    for name, addresses in (("rotating in one IPv6 /64", rotating), ("always new IPv6 /64 networks", fresh)):
        target = Target(settings={"VIEW_ENTRIES": str(VIEW_ENTRIES)})
        most = 0
        for records in batches(addresses, BATCHES):
            target.ingest(records)
            most = max(most, target.evaluate().view_entries)
            target.now += 10
        requests = BATCHES * PER_BATCH
        units = target.logs.write_units + target.logs.position_units
        yield Figure(
            f"write units / one counter per address: {name}",
            units / requests,
            "x",
            1 / 60,
            f"{units} units for {requests:,} requests, each from another address",
        )
        yield Figure(
            f"view entries / VIEW_ENTRIES: {name}", most / VIEW_ENTRIES, "x", 1, f"{most:,} of {VIEW_ENTRIES:,}"
        )
    target = Target(rules=HONEYPOT)
    target.ingest([line(target.now - 1, str(IPv6Address(next(fresh)))) for _ in range(PER_BATCH)])
    target.evaluate()
    yield Figure(
        "state write units / offenders: a honeypot meets 10,000",
        target.state.write_units / PER_BATCH,
        "x",
        0.1,
        f"{target.state.write_units} units of detections; blocking them costs more",
    )
    yield from _bombs()


def _bombs() -> Iterator[Figure]:
    """Yields the figures of an event full of gzip bombs, with one honest record behind them."""
    packed = bomb(b'{"message":"' + b" " * 500 + b'"}', 15 << 20)
    event = [packed] * (MOST_BYTES * 3 // 4 // len(packed)) + [envelope(waf_text())]
    seconds = cpu_s(lambda: BatchDecoder().decode(event), rounds=1)
    tracemalloc.start()
    assert len(BatchDecoder().decode(event)) == 1
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    yield Figure(
        "gzip bombs: memory of an event full of them",
        most / 1e6,
        "MB",
        1000,
        f"{len(event) - 1} envelopes of 15 MB each, {len(event) * 15 / 1000:.1f} GB in all; a container has 1,769 MB",
    )
    yield Figure(
        "gzip bombs: CPU of an event full of them", seconds, "s", 30, "the function's time-out is a minute or more"
    )
