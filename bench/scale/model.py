"""Model of the resources that Sluice needs at a rate of requests. No I/O.

Every shard's writer is invoked once per second with the records of that second, and appends one tally. One evaluator
is invoked up to four times per second; it reads the next offsets of all logs in slices, and again those of the logs
that had all of them (``log_reader``). How many reads that takes depends on when the tallies come, so a few seconds are
simulated. The constants were measured; ``pipeline`` measures them again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from math import ceil, exp, floor, log2, sqrt

from bench.prices import PRICES
from chalicelib.core.grid import CELLS_PER_THRESHOLD, FEWEST_CELLS, STRETCH_MS
from chalicelib.edges.tally_table import FIRST_PAGE
from chalicelib.pipeline.evaluate import POSITION_KEPT_MS
from chalicelib.pipeline.log_reader import FURTHEST_AHEAD, MOST_KEYS, PUNCTUAL_MS
from chalicelib.pipeline.tally_logs import SKEW_MS
from sluice.deploy.sizing import (
    ENTRIES_PER_REQUEST,
    KEPT_BEYOND_S,
    LATENESS_S,
    MOST_MB,
    VCPU_MB,
    entries,
    evaluator_mb,
)

KEPT_S = LATENESS_S + KEPT_BEYOND_S
"""Seconds of requests in a view."""

RECORDS_PER_SHARD = 1000
"""Records per second and shard; CloudFront puts one line into each record."""

SECONDS_PER_CLIENT = 3
"""As many clients are active in ten seconds as requests arrive in three: visitors load pages, not single objects."""

ITEM_BYTES, CLIENT_BYTES, REQUEST_BYTES = 360.0, 3.44, 2.09
"""Size of a packed tally with the other attributes of its item: fixed, per distinct client, per request."""

REGISTRY_BYTES, POSITION_BYTES = 80, 55
"""Bytes per shard in the items of the registry and of the position."""

ENTRY_BYTES = 11
"""Bytes per entry in the columns of a view of tallies of a second."""

ROWS = ((5, 50), (60, 300))
"""Length of a row of totals in seconds, and the limit that its totals are compared with: the default rules' shortest
window, and the others."""

CONTAINER_MB = 120
"""Memory of a container without its view."""

BATCH_S, EVENT_S, RECORD_S = 64e-6, 2.6e-6, 3.3e-6
"""CPU of a writer: per batch; per request in the event's JSON; per counted request."""

MERGE_S, MERGED_ENTRY_S = 90e-6, 0.52e-6
"""CPU of unpacking and merging a tally: fixed, and per entry."""

LOAD_S, LOADED_ENTRY_S = 30e-6, 0.04e-6
"""CPU of unpacking and loading a tally into rows that no window is near: fixed, and per entry."""

EVALUATE_S, EVALUATED_ENTRY_S = 20e-6, 0.08e-6
"""CPU of evaluating a tally of clients below the limits, and of noting them as known: fixed, and per entry. While there
are fewer than 20,000 clients to note, noting takes about 0.2 µs more per entry."""

CALL_S, ITEM_S = 1.0e-3, 0.035e-3
"""CPU of a DynamoDB call by boto3, and per item returned: taken from runs of ``bench.bill``, not verified here."""

CALL_WAIT_S = 0.005
"""Waiting time of a DynamoDB call."""

INVOKE_S = 0.003
"""Billed time of an invocation beyond its CPU and its waiting."""

POLL_S, TABLE_POLL_S = 1.0, 0.25
PUBLISH_S = 0.75
"""Delay from a detection to the IP set update: a stream's poll, two functions, calls."""

TIME_OUT_S = 300
"""Time-out of the evaluator. A cold start may take half of it."""

INGEST_GB = VCPU_MB / 1024
"""Memory at which Lambda provides one vCPU."""

KEYS_PER_READ = 100
READ_BYTES_PER_CALL = 16 << 20
TABLE_UNITS = 40_000
"""Read units per second, and write units per second: the default quota of an on-demand table."""

PARTITION_READS = 3000
"""Read units per second and partition; an item is never spread over two partitions."""

WARM_UP_S, SIMULATED_S = 4, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    requests_per_second: float
    shards: int

    @property
    def batch(self) -> float:
        """Requests per shard in a batch of one second."""
        return self.requests_per_second / self.shards

    @property
    def entries(self) -> float:
        """Entries of a batch's tally."""
        return self.batch * ENTRIES_PER_REQUEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Units, calls and dollars per second."""

    write_units: float
    read_units: float
    calls: float
    invocations: float
    """Invocations of the evaluator per second."""
    writer_s: float
    """CPU seconds of a writer's batch."""
    cpu_s: float
    """CPU seconds of the evaluator per second."""
    memory_mb: float
    """Memory that the evaluator uses."""
    dollars_per_million: float
    cold_start_s: float
    """Seconds in which a new evaluator loads its view."""
    delay_s: float
    """Average time from a readable record to the IP set update, without AWS's own propagation."""
    stops: tuple[str, ...]
    """Limits that are exceeded."""


@dataclass(slots=True)
class Reading:
    """The evaluator's work in some seconds."""

    seconds: float = 0.0
    invocations: int = 0
    slices: int = 0
    missing: int = 0
    """Offsets requested at which there was no item."""
    items: int = 0
    calls: int = 0
    busy_s: float = 0.0
    ages_s: float = 0.0
    """Sum of the items' ages when they have been evaluated."""

    def add(self, other: "Reading") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def shards_for(requests_per_second: float) -> int:
    """Returns the number of shards for a rate, each used to five sixths.

    >>> shards_for(1000), shards_for(100_000)
    (2, 120)
    """
    return max(1, ceil(requests_per_second * 1.2 / RECORDS_PER_SHARD))


def phases(shards: int) -> list[float]:
    """Returns the moment within a second, 0 to 1, at which each shard's writer appends: evenly spread, in no order.

    >>> [round(phase, 2) for phase in phases(3)]
    [0.62, 0.24, 0.85]
    """
    golden = (sqrt(5) - 1) / 2
    return [(number + 1) * golden % 1 for number in range(shards)]


def distinct(requests: float, clients: float) -> float:
    """Returns the expected distinct clients among ``requests`` of ``clients``, unevenly active as in ``bench.events``.

    >>> 765 < distinct(1000, 3000) < 785
    True
    """
    steps = 400
    ranks = [(step + 0.5) / steps for step in range(steps)]
    return clients * sum(1 - exp(-requests / clients / (2 * sqrt(rank))) for rank in ranks) / steps


def counting_s(batch: float) -> float:
    """Returns the CPU seconds of decoding, tallying and packing a batch."""
    return BATCH_S + RECORD_S * batch


def merging_s(entries: float) -> float:
    """Returns the CPU seconds of unpacking and merging a tally."""
    return MERGE_S + MERGED_ENTRY_S * entries


def loading_s(entries: float) -> float:
    """Returns the average CPU seconds of unpacking and loading a tally that an evaluator before has evaluated.

    Only rows near the requests to come are added to: the one with the earliest of them, the one before, and later ones.
    """
    load_s = LOAD_S + LOADED_ENTRY_S * entries
    added_to = sum(min(1, (PUNCTUAL_MS / 1000 + 1.5 * row_s) / KEPT_S) for row_s, _ in ROWS) / len(ROWS)
    return load_s + added_to * (merging_s(entries) - load_s)


def evaluating_s(entries: float) -> float:
    """Returns the CPU seconds of evaluating a tally that has been merged."""
    return EVALUATE_S + EVALUATED_ENTRY_S * entries


def row_mb(row_s: float, limit: int, requests_per_second: float) -> float:
    """Returns the memory of the totals of one row of ``row_s``, whose cells are doubled as needed.

    >>> row_mb(60, 300, 1_000_000)
    8.388608
    """
    requests = row_s * requests_per_second
    cells = FEWEST_CELLS
    while cells < min(2 * requests, CELLS_PER_THRESHOLD * requests / (limit // 2 + 1)):
        cells *= 2
    return 2 * cells / 1e6


def estimate(load: Load) -> Estimate:
    """Returns the resources that ``load`` takes.

    >>> small = estimate(Load(requests_per_second=1000, shards=2))
    >>> round(small.write_units, 1), small.stops
    (6.1, ())
    """
    shards, rate = load.shards, load.requests_per_second
    clients = distinct(load.batch, rate * SECONDS_PER_CLIENT)
    item = ITEM_BYTES + clients * CLIENT_BYTES + load.batch * REQUEST_BYTES
    item_reads = ceil(item / 4096)
    registry = ceil(shards * REGISTRY_BYTES / 4096)
    memory = (
        CONTAINER_MB
        + entries(rate) * ENTRY_BYTES / 1e6
        # Rows are dropped as a whole, once neither the lateness nor the longest window reaches them.
        + sum((ceil((KEPT_S - STRETCH_MS / 1000) / row_s) + 1) * row_mb(row_s, limit, rate) for row_s, limit in ROWS)
    )
    read = reading(load, item)
    seconds = read.seconds
    position = 1000 / POSITION_KEPT_MS
    write_units = shards * ceil(item / 1024) + position * ceil(shards * POSITION_BYTES / 1024)
    read_units = (read.slices * registry + read.items * item_reads + read.missing) / seconds
    writer_s = counting_s(load.batch) + EVENT_S * load.batch + CALL_S
    evaluated_s = merging_s(load.entries) + ITEM_S + evaluating_s(load.entries)
    cpu = shards * evaluated_s + (read.calls / seconds + position) * CALL_S
    writers_gb_s = shards * (writer_s + CALL_WAIT_S + INVOKE_S) * INGEST_GB
    evaluator_gb_s = (read.busy_s + read.invocations * INVOKE_S) / seconds * evaluator_mb(rate) / 1024
    dollars = (
        write_units * PRICES["dynamodb.write_unit"]
        + read_units * PRICES["dynamodb.read_unit"]
        + (writers_gb_s + evaluator_gb_s) * PRICES["lambda.gb_s"]
        + (shards + read.invocations / seconds) * PRICES["lambda.request"]
    )
    result = Estimate(
        write_units=write_units,
        read_units=read_units,
        calls=shards + read.calls / seconds + position,
        invocations=read.invocations / seconds,
        writer_s=writer_s,
        cpu_s=cpu,
        memory_mb=memory,
        dollars_per_million=dollars / rate * 1e6,
        cold_start_s=_cold_start_s(load),
        delay_s=POLL_S / 2 + writer_s + CALL_WAIT_S + read.ages_s / max(1, read.items) + PUBLISH_S,
        stops=(),
    )
    return replace(result, stops=tuple(_stops(load, result, registry * read.slices / seconds)))


def reading(load: Load, item_bytes: float) -> Reading:
    """Simulates the evaluator as ``LogReader`` and Lambda's polling of the table's stream make it work."""
    items_per_call = max(1, floor(READ_BYTES_PER_CALL / item_bytes))
    merge_s = merging_s(load.entries) + ITEM_S
    evaluate_s = evaluating_s(load.entries)
    shifts = phases(load.shards)
    offsets, ahead = [0] * load.shards, [1] * load.shards
    total, polled, at = Reading(), -1.0, 0.0
    began, end = float(WARM_UP_S), WARM_UP_S + SIMULATED_S
    while at < end:
        if not any(floor(at - shift) > floor(polled - shift) for shift in shifts):
            at += TABLE_POLL_S
            continue
        polled = start = at
        each = Reading(invocations=1)
        behind, begun = list(range(load.shards)), list(offsets)
        while behind and at < start + TIME_OUT_S:
            keys = came_in_slice = 0
            still_behind = []
            for log in behind:
                if keys >= MOST_KEYS:
                    still_behind.append(log)
                    continue
                asked, first = ahead[log], offsets[log]
                came = min(asked, max(0, floor(at - shifts[log]) + 1 - first))
                keys += asked
                came_in_slice += came
                offsets[log] += came
                each.ages_s -= sum(offset + shifts[log] for offset in range(first, first + came))
                ahead[log] = min(offsets[log] - begun[log] + 1, FURTHEST_AHEAD)
                if came == asked:
                    still_behind.append(log)
            behind = still_behind
            calls = max(ceil((keys + 1) / KEYS_PER_READ), ceil(came_in_slice / items_per_call))
            at += calls * (CALL_S + CALL_WAIT_S) + came_in_slice * (merge_s + evaluate_s)
            each.slices += 1
            each.calls += calls
            each.items += came_in_slice
            each.missing += keys - came_in_slice
            each.ages_s += came_in_slice * at
        each.busy_s = at - start
        if start >= WARM_UP_S or at >= end:
            total.add(each)
            began = min(began, start)
        at = TABLE_POLL_S * ceil(at / TABLE_POLL_S)
    total.seconds = at - began
    return total


def _cold_start_s(load: Load) -> float:
    """Returns the time in which a new evaluator reads every log backwards and loads what concerns its view.

    Items of clocks that are fast or slow are among those read (``SKEW_MS``), but they are not loaded.
    """
    read = KEPT_S + SKEW_MS / 1000
    queries = ceil(log2(read / FIRST_PAGE + 1))
    unevaluated = POSITION_KEPT_MS / 1000
    each = queries * (CALL_S + CALL_WAIT_S) + read * ITEM_S + KEPT_S * loading_s(load.entries)
    return load.shards * (each + unevaluated * evaluating_s(load.entries))


def _stops(load: Load, estimated: Estimate, registry_reads: float) -> Iterator[str]:
    if load.batch > RECORDS_PER_SHARD:
        yield "more records than the shards take"
    if evaluator_mb(load.requests_per_second) > MOST_MB or estimated.memory_mb > MOST_MB:
        yield "memory"
    if max(estimated.read_units, estimated.write_units) > TABLE_UNITS:
        yield "table quota"
    if registry_reads > PARTITION_READS:
        yield "hot partition"
    if estimated.cpu_s > 1:
        yield "CPU"
    if estimated.cold_start_s > TIME_OUT_S / 2:
        yield "cold start"


def rival_dollars_per_million(load: Load) -> float:
    """Returns the cost of one counter per client: one write per client and batch, without CPU."""
    clients = distinct(load.batch, load.requests_per_second * SECONDS_PER_CLIENT)
    return clients / load.batch * PRICES["dynamodb.write_unit"] * 1e6
