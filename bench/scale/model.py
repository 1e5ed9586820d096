"""What Sluice needs at a rate of requests, by arithmetic. No I/O.

Every shard's consumer is invoked once a second with that second's records; it appends one tally and reads what all
others have appended. With ``parts`` the tally is split by client hash: each part has an evaluator of its own, which
reads that part of every shard and nothing else. The constants were measured; ``pipeline`` measures them again.
"""

from dataclasses import dataclass
from math import ceil, exp, sqrt

from bench.prices import PRICES

RECORDS_A_SHARD = 1000
"""A second; CloudFront puts one line into each record."""

SECONDS_A_CLIENT = 3
"""So many clients are active in ten seconds as requests arrive in three: visitors load pages, not single objects."""

ENTRIES_A_REQUEST = 1.08
"""(client, slot) pairs that the default rules make of a request: 50 ms slots, and few of a scope's."""

ITEM_BYTES, CLIENT_BYTES, REQUEST_BYTES = 330.0, 3.44, 2.09
"""Of a packed tally with its item's other attributes: fixed, per distinct client, per request."""

REGISTRY_BYTES = 70
"""Per shard, in the registry's item."""

KEPT_S = 420
"""Of requests that a view holds: lateness, the longest window, and about a stretch."""

ENTRY_BYTES = 110
MOST_ENTRIES = 20_000_000
"""The most that VIEW_ENTRIES can be set to; the default is a twentieth of it."""

CONTAINER_MB = 120
"""Besides the view."""

BATCH_S, EVENT_S, RECORD_S = 64e-6, 2.6e-6, 3.9e-6
"""CPU of a batch; of a request in the event's JSON; of counting it."""

MERGE_S, ENTRY_S = 20e-6, 1.2e-6
"""CPU of merging another shard's tally, and of each entry in it."""

CALL_S, ITEM_S = 1.0e-3, 0.1e-3
"""CPU of a DynamoDB call by boto3, and of each item that comes back: taken from the bill's runs, not held to any."""

CALL_WAIT_S = 0.005
"""What a DynamoDB call takes besides."""

INVOKE_S = 0.003
"""Billed for an invocation besides its CPU and its waiting."""

POLL_S = 1.0
PUBLISH_S = 0.75
"""From a detection to the update: stream poll, two functions, calls."""

INGEST_GB = 1769 / 1024
"""What gives one vCPU."""

KEYS_PER_READ = 100
READ_BYTES_A_CALL = 16 << 20
TABLE_UNITS = 40_000
"""Read units, and write units, a second: the default quota of an on-demand table."""

PARTITION_READS = 3000
"""Read units a second of one partition; one item is never spread over two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    requests_a_second: float
    shards: int
    parts: int = 1

    @property
    def batch(self) -> float:
        """Requests in each shard's batch of a second."""
        return self.requests_a_second / self.shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Units, calls and dollars of one second; CPU of one consumer's batch."""

    write_units: float
    read_units: float
    calls: float
    cpu_s: float
    memory_mb: float
    entries: float
    """That one consumer's view would hold if nothing bounded it."""
    dollars_a_million: float
    delay_s: float
    """From a record being readable to the IP set's update, on average; AWS's own propagation comes on top."""
    stops: tuple[str, ...]
    """Why it does not work, if it does not."""


def shards_for(requests_a_second: float) -> int:
    """Shards that take so many records, each full to five sixths.

    >>> shards_for(1000), shards_for(100_000)
    (2, 120)
    """
    return max(1, ceil(requests_a_second * 1.2 / RECORDS_A_SHARD))


def distinct(requests: float, clients: float) -> float:
    """Expected distinct clients among ``requests`` of ``clients`` whose keenness is uneven, as ``bench.events`` has it.

    >>> 765 < distinct(1000, 3000) < 785
    True
    """
    steps = 400
    ranks = [(step + 0.5) / steps for step in range(steps)]
    return clients * sum(1 - exp(-requests / clients / (2 * sqrt(rank))) for rank in ranks) / steps


def counting_s(batch: float) -> float:
    """CPU of decoding, tallying, packing and evaluating a batch."""
    return BATCH_S + RECORD_S * batch


def merging_s(batch: float) -> float:
    """CPU of unpacking and merging the tally of a batch."""
    return MERGE_S + ENTRY_S * batch * ENTRIES_A_REQUEST


def estimate(load: Load) -> Estimate:
    """What ``load`` takes.

    >>> small = estimate(Load(requests_a_second=1000, shards=2))
    >>> small.write_units, small.stops
    (6, ())
    """
    shards, parts, batch = load.shards, load.parts, load.batch
    clients = distinct(batch, load.requests_a_second * SECONDS_A_CLIENT)
    item = ITEM_BYTES + (clients * CLIENT_BYTES + batch * REQUEST_BYTES) / parts
    registry = ceil(shards * REGISTRY_BYTES / 4096)
    # Each second every reader asks each other log for the new item and for the one after, which is not there yet.
    # With one part the writers are the readers, and know their own log.
    readers, logs = (shards, shards - 1) if parts == 1 else (parts, shards)
    item_reads = ceil(item / 4096)
    read_units = readers * (registry + logs * (item_reads + 1))
    write_units = shards * parts * ceil(item / 1024)
    reads = max(ceil((1 + 2 * logs) / KEYS_PER_READ), ceil(logs * item / READ_BYTES_A_CALL))
    merge = logs * (merging_s(batch / parts) + ITEM_S) + reads * CALL_S
    write = counting_s(batch) + EVENT_S * batch + parts * CALL_S
    cpu = write + merge if parts == 1 else max(write, merge)
    total_cpu = shards * write + readers * merge
    calls = shards * parts + readers * reads
    entries = load.requests_a_second * ENTRIES_A_REQUEST * KEPT_S / parts
    memory = CONTAINER_MB + entries * ENTRY_BYTES / 1e6
    waits = CALL_WAIT_S * (1 + reads)
    invocations = shards + (0 if parts == 1 else parts)
    gb_s = (total_cpu + shards * CALL_WAIT_S + readers * reads * CALL_WAIT_S + invocations * INVOKE_S) * max(
        INGEST_GB, memory / 1000
    )
    dollars = (
        write_units * PRICES["dynamodb.write_unit"]
        + read_units * PRICES["dynamodb.read_unit"]
        + gb_s * PRICES["lambda.gb_s"]
        + invocations * PRICES["lambda.request"]
    )
    return Estimate(
        write_units=write_units,
        read_units=read_units,
        calls=calls,
        cpu_s=cpu,
        memory_mb=memory,
        entries=entries,
        dollars_a_million=dollars / load.requests_a_second * 1e6,
        delay_s=POLL_S / 2 * (1 if parts == 1 else 2) + cpu + waits + PUBLISH_S,
        stops=tuple(_stops(load, read_units, write_units, readers, registry, item_reads, cpu, entries)),
    )


def _stops(
    load: Load,
    read_units: float,
    write_units: float,
    readers: int,
    registry: int,
    item_reads: int,
    cpu: float,
    entries: float,
) -> list[str]:
    stops = []
    if load.batch > RECORDS_A_SHARD:
        stops.append("more records than the shards take")
    if entries > MOST_ENTRIES:
        stops.append("memory")
    if max(read_units, write_units) > TABLE_UNITS:
        stops.append("table quota")
    if readers * max(registry, item_reads + 1) > PARTITION_READS:
        stops.append("hot partition")
    if cpu > POLL_S:
        stops.append("CPU")
    return stops


def parts_for(load: Load) -> int:
    """Of the powers of two up to 1,024, the parts with which the least stops, and then those that cost least."""

    def drawbacks(parts: int) -> tuple[int, float]:
        split = estimate(Load(requests_a_second=load.requests_a_second, shards=load.shards, parts=parts))
        return len(split.stops), split.dollars_a_million

    return min((1 << power for power in range(11)), key=drawbacks)


def rival_dollars_a_million(load: Load) -> float:
    """One counter per client, a write for each client of a batch, and no CPU reckoned."""
    clients = distinct(load.batch, load.requests_a_second * SECONDS_A_CLIENT)
    return clients / load.batch * PRICES["dynamodb.write_unit"] * 1e6
