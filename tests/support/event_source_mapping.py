"""Lambda's event source mappings over real streams: they read with boto3 and invoke the handlers of ``app.py``."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import app as deployed
from chalicelib.bootstrap import Services, running_in
from sluice.local.events import kinesis_event, schedule_event
from sluice.local.kinesis import StreamRecord
from tests.support.tables import StreamsClient, Tables, stream_event

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

LISTENERS = (deployed.enforce, deployed.publish)
"""Functions that read the state table's stream."""

SETTLE_WITHIN_S = 30


class Killed(BaseException):
    """Death of a container in the middle of a call."""


class Mappings:
    """One Kinesis stream and both tables' streams, mapped to the functions."""

    def __init__(
        self,
        kinesis: "KinesisClient",
        stream: str,
        streams: StreamsClient,
        tables: Tables,
        new: Callable[[], Services],
    ) -> None:
        """Starts with cold containers, made by ``new``."""
        self._kinesis = kinesis
        self._stream = stream
        self._streams = streams
        self._arns = {tables.tally_stream_arn: (deployed.evaluate,), tables.state_stream_arn: LISTENERS}
        self._new = new
        self._ingesters = [new(), new()]
        self._others = new()
        self._after: dict[str, str] = {}
        """Each shard's last sequence number that has been processed."""
        self._ended: set[str] = set()
        self._delivered: Counter[str] = Counter()
        """Changes of each table's stream."""
        self.read = 0
        """Records processed."""

    def replace_ingesters(self, *services: Services) -> None:
        self._ingesters = list(services)

    def ingest(self, most: int = 10_000) -> int:
        """Delivers the records of the shards, parents before children, and returns their number."""
        delivered = 0
        shards = {shard["ShardId"]: shard for shard in self._kinesis.list_shards(StreamName=self._stream)["Shards"]}
        for number, (id, shard) in enumerate(shards.items()):
            parents = {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")} & shards.keys()
            if id in self._ended or not parents <= self._ended:
                continue
            records, ended = self._records(id, most)
            if records:
                container = self._ingesters[number % len(self._ingesters)]
                _invoke(container, partial(deployed.ingest, kinesis_event(self._stream, id, records), None))
                self._after[id] = str(records[-1].sequence)
                delivered += len(records)
            elif ended:
                self._ended.add(id)
        self.read += delivered
        return delivered

    def listen(self) -> int:
        """Delivers the new changes of both tables, and returns their number."""
        delivered = 0
        for arn, functions in self._arns.items():
            records = stream_event(self._streams, arn)["Records"][self._delivered[arn] :]
            if records:
                for function in functions:
                    _invoke(self._others, partial(function, {"Records": records}, None))
            self._delivered[arn] += len(records)
            delivered += len(records)
        return delivered

    def sweep(self) -> None:
        _invoke(self._others, partial(deployed.sweep, schedule_event(), None))

    def settle(self, records: int) -> None:
        """Continues until ``records`` have been processed in all, and every change that followed from them."""
        give_up = time.monotonic() + SETTLE_WITHIN_S
        while self.ingest() + self.listen() or self.read < records:
            assert time.monotonic() < give_up, f"{self.read} of {records} records came within {SETTLE_WITHIN_S} s"

    def _records(self, shard: str, most: int) -> tuple[Sequence[StreamRecord], bool]:
        """Returns the next records of a shard, and whether the shard has ended."""
        after: Any = {"ShardIteratorType": "TRIM_HORIZON"}
        if shard in self._after:
            after = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": self._after[shard]}
        iterator = self._kinesis.get_shard_iterator(StreamName=self._stream, ShardId=shard, **after)["ShardIterator"]
        answer = self._kinesis.get_records(ShardIterator=iterator, Limit=most)
        records = [
            StreamRecord(int(r["SequenceNumber"]), r["Data"], r["ApproximateArrivalTimestamp"].timestamp())
            for r in answer["Records"]
        ]
        return records, "NextShardIterator" not in answer


def _invoke(container: Services, handler: Callable[[], object]) -> None:
    with running_in(container):
        handler()
