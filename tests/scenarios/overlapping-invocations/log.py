"""60 requests in one batch, which two containers process at the same time."""

from collections.abc import Iterator, Sequence

import app
from chalicelib.bootstrap import running_in
from chalicelib.ports import LogItem, PartReceipt
from sluice.local.cloud import LocalCloud
from sluice.local.events import kinesis_event
from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(60):
        yield request(number / 10, "203.0.113.9", shard=0, arrives=6)


def happen(cloud: LocalCloud) -> None:
    append = cloud.tally_logs.append

    def slow(log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        cloud.tally_logs.append = append
        (shard,) = cloud.stream.shards.values()
        event = kinesis_event(cloud.stream.name, shard.id, list(shard.records))
        with running_in(cloud.container()):
            app.ingest(event, None)
        append(log, offset, items, receipt)

    cloud.tally_logs.append = slow
