"""Arithmetic model of the resources that Sluice needs at a rate of requests. No I/O.

Every shard's consumer is invoked once per second with the records of that second; it appends one tally and reads the
tallies that all others have appended. With ``parts``, the tally is split by client hash: each part has its own
evaluator, which reads only that part of every shard. The constants were measured; ``pipeline`` measures them again.
"""

from dataclasses import dataclass
from math import ceil, exp, sqrt

from bench.prices import PRICES

RECORDS_A_SHARD = 1000
"""Records per second and shard; CloudFront puts one line into each record."""

SECONDS_A_CLIENT = 3
"""As many clients are active in ten seconds as requests arrive in three: visitors load pages, not single objects."""

ENTRIES_A_REQUEST = 1.08
"""(client, slot) pairs per request under the default rules: 50 ms slots, and few pairs of scoped rules."""

ITEM_BYTES, CLIENT_BYTES, REQUEST_BYTES = 330.0, 3.44, 2.09
"""Size of a packed tally with the other attributes of its item: fixed, per distinct client, per request."""

REGISTRY_BYTES = 70
"""Bytes per shard in the registry's item."""

KEPT_S = 375
"""Seconds of requests in a view: lateness, the longest window, and about one stretch."""

ENTRY_BYTES = 18
MOST_ENTRIES = 100_000_000
"""Upper bound of the setting VIEW_ENTRIES; the default is a tenth of it."""

CONTAINER_MB = 120
"""Memory of a container without its view."""

BATCH_S, EVENT_S, RECORD_S = 64e-6, 2.6e-6, 3.9e-6
"""CPU per batch; per request in the event's JSON; per counted request."""

MERGE_S, ENTRY_S = 100e-6, 0.6e-6
"""CPU of merging another shard's tally: fixed, and per entry."""

CALL_S, ITEM_S = 1.0e-3, 0.1e-3
"""CPU of a DynamoDB call by boto3, and per item returned: taken from runs of ``bench.bill``, not verified here."""

CALL_WAIT_S = 0.005
"""Waiting time of a DynamoDB call."""

INVOKE_S = 0.003
"""Billed time of an invocation beyond its CPU and its waiting."""

POLL_S = 1.0
PUBLISH_S = 0.75
"""Delay from a detection to the IP set update: stream polls, two functions, calls."""

INGEST_GB = 1769 / 1024
"""Memory at which Lambda provides one vCPU."""

KEYS_PER_READ = 100
READ_BYTES_A_CALL = 16 << 20
QUERY_BYTES = 1 << 20
TABLE_UNITS = 40_000
"""Read units per second, and write units per second: the default quota of an on-demand table."""

PARTITION_READS = 3000
"""Read units per second and partition; an item is never spread over two partitions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    requests_per_second: float
    shards: int
    parts: int = 1

    @property
    def batch(self) -> float:
        """Requests per shard in a batch of one second."""
        return self.requests_per_second / self.shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Units, calls and dollars per second; CPU per batch of one consumer."""

    write_units: float
    read_units: float
    calls: float
    cpu_s: float
    memory_mb: float
    entries: float
    """Entries that one consumer's view would hold without a bound."""
    dollars_per_million: float
    cold_start_s: float
    """CPU seconds in which a new container loads its view; it may take several invocations."""
    delay_s: float
    """Average time from a readable record to the IP set update, without AWS's own propagation."""
    stops: tuple[str, ...]
    """Limits that are exceeded."""


def shards_for(requests_per_second: float) -> int:
    """Returns the number of shards for a rate, each used to five sixths.

    >>> shards_for(1000), shards_for(100_000)
    (2, 120)
    """
    return max(1, ceil(requests_per_second * 1.2 / RECORDS_A_SHARD))


def distinct(requests: float, clients: float) -> float:
    """Returns the expected distinct clients among ``requests`` of ``clients``, unevenly active as in ``bench.events``.

    >>> 765 < distinct(1000, 3000) < 785
    True
    """
    steps = 400
    ranks = [(step + 0.5) / steps for step in range(steps)]
    return clients * sum(1 - exp(-requests / clients / (2 * sqrt(rank))) for rank in ranks) / steps


def counting_s(batch: float) -> float:
    """Returns the CPU seconds of decoding, tallying, packing and evaluating a batch."""
    return BATCH_S + RECORD_S * batch


def merging_s(batch: float) -> float:
    """Returns the CPU seconds of unpacking and merging the tally of a batch."""
    return MERGE_S + ENTRY_S * batch * ENTRIES_A_REQUEST


def estimate(load: Load) -> Estimate:
    """Returns the resources that ``load`` takes.

    >>> small = estimate(Load(requests_per_second=1000, shards=2))
    >>> small.write_units, small.stops
    (6, ())
    """
    shards, parts, batch = load.shards, load.parts, load.batch
    clients = distinct(batch, load.requests_per_second * SECONDS_A_CLIENT)
    item = ITEM_BYTES + (clients * CLIENT_BYTES + batch * REQUEST_BYTES) / parts
    registry = ceil(shards * REGISTRY_BYTES / 4096)
    # Every second, each reader requests from every other log the new item and the next one, which does not exist yet.
    # With one part the writers are the readers and need not read their own log.
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
    entries = load.requests_per_second * ENTRIES_A_REQUEST * KEPT_S / parts
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
        dollars_per_million=dollars / load.requests_per_second * 1e6,
        cold_start_s=shards * KEPT_S * (merging_s(batch / parts) + ITEM_S)
        + shards * ceil(KEPT_S * item / QUERY_BYTES) * CALL_S,
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
    """Returns the number of parts, a power of two up to 1,024, that exceeds the fewest limits and then costs least."""

    def drawbacks(parts: int) -> tuple[int, float]:
        split = estimate(Load(requests_per_second=load.requests_per_second, shards=load.shards, parts=parts))
        return len(split.stops), split.dollars_per_million

    return min((1 << power for power in range(11)), key=drawbacks)


def rival_dollars_per_million(load: Load) -> float:
    """Returns the cost of one counter per client: one write per client and batch, without CPU."""
    clients = distinct(load.batch, load.requests_per_second * SECONDS_A_CLIENT)
    return clients / load.batch * PRICES["dynamodb.write_unit"] * 1e6
