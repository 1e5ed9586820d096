"""The pipeline, measured at low rates: real containers, one per shard, over stores that count units."""

import time
from dataclasses import dataclass
from random import Random

from bench.events import cloudfront_record, crowd
from bench.scale.model import SECONDS_A_CLIENT, Load
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.edges.events import kinesis_batch
from sluice import DEFAULT_RULES
from sluice.local.events import kinesis_event
from sluice.local.kinesis import StreamRecord
from tests.support.target import CountedLogs, Target

WARM_UP, MEASURED = 4, 4
"""Seconds of traffic before and during the measurement."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of one second, in the terms of ``Estimate``."""

    write_units: float
    read_units: float
    calls: float
    cpu_s: float
    """Least CPU of a consumer's batch, because every disturbance only adds to it."""
    entries: int


def measure(load: Load) -> Measured:
    rng, logs = Random(1), CountedLogs()
    client = crowd(Random(2), int(load.requests_per_second * SECONDS_A_CLIENT))
    containers = [Target(rules=DEFAULT_RULES.read_text(), logs=logs) for _ in range(load.shards)]
    least = float("inf")
    for second in range(WARM_UP + MEASURED):
        if second == WARM_UP:
            logs.calls.clear()
            logs.write_units = logs.read_units = 0
        for number, container in enumerate(containers):
            start_ms = container.now_ms
            container.now += 1
            records = [
                StreamRecord(
                    10**55 + second * 10**6 + n,
                    cloudfront_record(
                        rng, start_ms + int(n * 1000 / load.batch), client(), rng.getrandbits(40), DEFAULT_FIELDS
                    ),
                    container.now - 0.5,
                )
                for n in range(int(load.batch))
            ]
            event = kinesis_event("logs", f"shardId-{number}", records)
            started = time.process_time()
            report = container.services.ingest.run(kinesis_batch(event), container.now_ms)
            if second >= WARM_UP:
                least = min(least, time.process_time() - started)
            assert report.requests == len(records)
    return Measured(
        write_units=logs.write_units / MEASURED,
        read_units=logs.read_units / MEASURED,
        calls=(logs.calls["append"] + logs.calls["read"]) / MEASURED,
        cpu_s=least,
        entries=containers[0].view.entries,
    )
