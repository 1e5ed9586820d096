"""The cost of counting in DynamoDB, against one counter per client: units, dollars and calls, as consumed.

Sluice's cost is that of the writers, one per shard, and of the evaluator, which reads their batches and detects.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from bench.dynamodb import Meter, local
from bench.events import SPAN_MS, cloudfront_event, flood
from bench.ingest import NOW_MS, ingest, many, quiet
from bench.measure import Figure
from bench.rival import CounterPerClient
from bench.views import evaluate
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.edges.events import kinesis_batch
from chalicelib.edges.state_table import StateTable
from chalicelib.edges.tally_table import TallyTable
from chalicelib.pipeline.stored import State
from tests.support import dynamodb_local
from tests.support.tables import make_tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SHARDS = 4
PARTS = 4
"""Consecutive batches. Only the last one is measured, because every container has adapted to the rate by then."""

BUCKET_S = 5
"""Shortest window of the default rules: coarser counters could not enforce it."""

BUDGET = 1 / 60
CROWDS = {"quiet crowd": quiet, "flood": flood, "8,000 addresses": many}


def figures() -> Iterator[Figure]:
    if missing := dynamodb_local.missing():
        click.echo(f"bill: skipped, because DynamoDB Local cannot run: {missing}", err=True)
        return
    with local() as client:
        for number, crowd in enumerate(CROWDS):
            yield from _against_the_rival(client, crowd, f"bench-{number}")


def _against_the_rival(client: "DynamoDBClient", crowd: str, prefix: str) -> Iterator[Figure]:
    batches = [kinesis_batch(cloudfront_event(CROWDS[crowd], DEFAULT_FIELDS, part)) for part in range(PARTS)]
    (requests,) = BatchDecoder().decode(batches[-1].data).requests
    meter = Meter(client)
    rival = CounterPerClient(client, f"{prefix}-rival", bucket_s=BUCKET_S)
    started = time.process_time()
    counts = rival.count(requests)
    rival_s = time.process_time() - started
    rival.close()
    assert sum(counts.values()) == len(requests)
    million = 1e6 / len(requests)
    rival_units, rival_dollars, rival_calls = meter.write_units, meter.dollars * million, meter.calls.total()

    tables = make_tables(client, prefix)
    logs, state = TallyTable(client, tables.tally), State(StateTable(client, tables.state))
    writers = [ingest(logs=logs) for _ in range(SHARDS)]
    evaluator = evaluate(logs, lambda detections: state.overwrite(*detections, expires_at=NOW_MS // 1000))
    for part, batch in enumerate(batches):
        now_ms = NOW_MS + (part - 1) * SPAN_MS
        meter.reset()
        started = time.process_time()
        for number, writer in enumerate(writers):
            report = writer.run(replace(batch, shard=f"logs/{number}"), now_ms)
            assert report.requests == len(batch)
        calls = meter.calls.total() / SHARDS
        assert evaluator.run(now_ms).items == SHARDS
        counted_s = (time.process_time() - started) / SHARDS
    write_units, read_units = meter.write_units / SHARDS, meter.read_units / SHARDS
    dollars = meter.dollars / SHARDS * million
    how = f"{len(requests):,} requests per batch"
    yield Figure(
        f"write units / one counter per client: {crowd}",
        write_units / rival_units,
        "x",
        BUDGET,
        f"{how}: {write_units:.0f} units against {rival_units:.0f}, as DynamoDB Local charges them",
    )
    yield Figure(
        f"DynamoDB dollars per million requests: {crowd}",
        dollars,
        "$",
        None,
        f"{SHARDS} writers and the evaluator; {write_units * million:,.0f} write and {read_units * million:,.0f} read "
        f"units; one counter per client: ${rival_dollars:.3f}",
    )
    yield Figure(
        f"dollars / one counter per client: {crowd}",
        dollars / rival_dollars,
        "x",
        None,
        f"{SHARDS} shards, reads included; the rival is assumed to read nothing",
    )
    yield Figure(
        f"CPU / one counter per client: {crowd}",
        counted_s / rival_s,
        "x",
        None,
        f"boto3 included: {counted_s * 1000:.0f} ms per batch, decoding and evaluation as well, against "
        f"{rival_s * 1000:.0f} ms for {rival_calls:,} updates alone",
    )
    yield Figure(f"DynamoDB calls per warm batch: {crowd}", calls, "calls", 1, "by a writer")
