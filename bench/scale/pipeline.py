"""The pipeline, measured at low rates: one writer per shard and an evaluator, over stores that count units.

The evaluator's reader alone is measured at more shards, with tallies of one request and reads that take time.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from random import Random

from bench.events import cloudfront_record, crowd
from bench.measure import MEASURED_RULES
from bench.scale.model import (
    CALL_S,
    CALL_WAIT_S,
    ITEM_S,
    KEYS_PER_READ,
    SECONDS_PER_CLIENT,
    SIMULATED_S,
    TABLE_POLL_S,
    WARM_UP_S,
    Load,
    evaluating_s,
    merging_s,
    phases,
)
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.tally import pack
from chalicelib.core.view import View
from chalicelib.edges.events import kinesis_batch
from chalicelib.pipeline.log_reader import LogReader
from chalicelib.ports import LogItem, LogKey, Registry
from sluice.local.events import kinesis_event
from sluice.local.kinesis import StreamRecord
from sluice.local.stores import MemoryTallyLogs
from tests.support.target import NOW, CountedLogs, Target

WARM_UP, MEASURED = 4, 10
"""Seconds of traffic before and during the measurement, in which the position is stored once."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of one second, in the terms of ``Estimate``."""

    write_units: float
    read_units: float
    calls: float
    writer_s: float
    """Least CPU of a writer's batch, because every disturbance only adds to it."""
    cpu_s: float
    """CPU of the evaluator: the least of a tally in any invocation, times the shards."""
    entries: int


def measure(load: Load) -> Measured:
    rng, logs = Random(1), CountedLogs()
    client = crowd(Random(2), int(load.requests_per_second * SECONDS_PER_CLIENT))
    writers = [Target(rules=MEASURED_RULES.read_text(), logs=logs) for _ in range(load.shards)]
    evaluator = Target(rules=MEASURED_RULES.read_text(), logs=logs)
    batch_s: list[float] = []
    tally_s: list[float] = []

    def append(number: int, second: int, at: float) -> None:
        writer = writers[number]
        writer.now = NOW + at
        start_ms = writer.now_ms - 1000
        records = [
            StreamRecord(
                10**55 + second * 10**6 + n,
                cloudfront_record(
                    rng, start_ms + int(n * 1000 / load.batch), client(), rng.getrandbits(40), DEFAULT_FIELDS
                ),
                writer.now - 0.5,
            )
            for n in range(int(load.batch))
        ]
        event = kinesis_event("logs", f"shardId-{number}", records)
        started = time.process_time()
        report = writer.services.ingest.run(kinesis_batch(event), writer.now_ms)
        batch_s.append(time.process_time() - started)
        assert report.requests == len(records)

    def poll(at: float) -> None:
        evaluator.now = NOW + at
        started = time.process_time()
        items = evaluator.evaluate().items
        tally_s.append((time.process_time() - started) / items)

    def second(number: int) -> None:
        appends = sorted((number + phase, writer) for writer, phase in enumerate(phases(load.shards)))
        polls = round(1 / TABLE_POLL_S)
        for poll_number in range(1, polls + 1):
            until = number + poll_number / polls
            due = [(at, writer) for at, writer in appends if until - TABLE_POLL_S <= at < until]
            for at, writer in due:
                append(writer, number, at)
            if due:  # the stream's records ring
                poll(until)

    for number in range(WARM_UP):
        second(number)
    logs.calls.clear()
    logs.write_units = logs.read_units = logs.position_units = 0
    for number in range(WARM_UP, WARM_UP + MEASURED):
        second(number)
    return Measured(
        write_units=(logs.write_units + logs.position_units) / MEASURED,
        read_units=logs.read_units / MEASURED,
        calls=logs.calls.total() / MEASURED,
        writer_s=min(batch_s),
        cpu_s=min(tally_s) * load.shards,
        entries=evaluator.view.entries,
    )


class _TimedLogs(MemoryTallyLogs):
    """Logs that are appended to once per second and shard, and whose reads take as long as in the model."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self.now = 0.0
        self.slices = self.missing = 0
        self._merge_s = merging_s(load.entries) + ITEM_S
        self._phases = phases(load.shards)
        self._ends = [0] * load.shards
        rules = parse_rules(MEASURED_RULES.read_text())
        self._body = pack([MeterTally.of(Source.CLOUDFRONT, rules.meters()[0], {b"four": {NOW * 20: 1}})])
        for shard in range(load.shards):
            self.register(f"logs/{shard}", (), (self._log(shard),))

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        now_ms = NOW * 1000
        for shard, phase in enumerate(self._phases):
            for offset in range(self._ends[shard], floor(self.now - phase) + 1):
                item = LogItem(
                    body=self._body,
                    last_sequence=offset,
                    written_ms=now_ms,
                    first_slot_ms=now_ms,
                    last_slot_ms=now_ms + 999,
                )
                self.append(self._log(shard), offset, [item])
                self._ends[shard] = offset + 1
        registry, items = super().read(keys)
        if keys:
            self.slices += 1
            self.missing += len(keys) - len(items)
            self.now += ceil((len(keys) + 1) / KEYS_PER_READ) * (CALL_S + CALL_WAIT_S) + len(items) * self._merge_s
        return registry, items

    @staticmethod
    def _log(shard: int) -> str:
        return f"logs/{shard}@{NOW * 1000}"


def slices_and_missing(load: Load) -> tuple[float, float]:
    """Returns the slices that the reader reads, and the offsets that it requests in vain, per second."""
    logs, rules = _TimedLogs(load), parse_rules(MEASURED_RULES.read_text())
    reader = LogReader(logs, partial(View, sample_rate=100, most_entries=1_000_000), lateness_ms=120_000)
    reader.start_at({})
    began = float(WARM_UP_S)
    while logs.now < WARM_UP_S + SIMULATED_S:
        if logs.now <= WARM_UP_S:
            began, logs.slices, logs.missing = logs.now, 0, 0
        _, behind = reader.read_on(rules, NOW * 1000)
        while True:
            logs.now += len(reader.unevaluated) * evaluating_s(load.entries)
            reader.evaluated()
            if not behind:
                break
            _, behind = reader.read_on(rules, NOW * 1000, behind=behind)
        logs.now = TABLE_POLL_S * ceil(logs.now / TABLE_POLL_S)
    return logs.slices / (logs.now - began), logs.missing / (logs.now - began)
