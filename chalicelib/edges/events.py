"""Conversion of Lambda events."""

from collections.abc import Mapping
from typing import Any

import msgspec

from chalicelib.edges.state_table import item_of
from chalicelib.pipeline.ingest import Batch
from chalicelib.pipeline.tally_logs import TimeLeft, unlimited
from chalicelib.ports import StreamChange


class _KinesisRecord(msgspec.Struct, rename="camel", gc=False):
    sequence_number: str
    data: bytes
    """Decoded from base64 by msgspec, all records in one call: two to three times as fast as one by one."""
    approximate_arrival_timestamp: float


class _EventRecord(msgspec.Struct, gc=False):
    kinesis: _KinesisRecord


def kinesis_batch(event: Mapping[str, Any]) -> Batch:
    """Returns the batch of a Kinesis event, all of whose records come from one shard."""
    first = event["Records"][0]
    records = [record.kinesis for record in msgspec.convert(event["Records"], list[_EventRecord])]
    return Batch(
        shard=f"{first['eventSourceARN'].rpartition('/')[2]}/{first['eventID'].partition(':')[0]}",
        sequences=[record.sequence_number for record in records],
        data=[record.data for record in records],
        arrived=[record.approximate_arrival_timestamp for record in records],
    )


def time_left_s(context: Any) -> TimeLeft:
    """Returns a function that returns the seconds until the invocation is ended; ``context`` is None outside Lambda."""
    return unlimited if context is None else lambda: context.get_remaining_time_in_millis() / 1000


def adds_items(event: Mapping[str, Any]) -> bool:
    """Returns whether an event of the tally table's stream has new items, not only changed or removed ones."""
    return any(record["eventName"] == "INSERT" for record in event["Records"])


def state_changes(event: Mapping[str, Any]) -> list[StreamChange]:
    """Returns the changes of a DynamoDB stream event, without DynamoDB's own removals of expired items."""
    changes = []
    for record in event["Records"]:
        if record.get("userIdentity", {}).get("principalId") == "dynamodb.amazonaws.com":
            continue
        image = record["dynamodb"].get("NewImage")
        keys = record["dynamodb"]["Keys"]
        body = item_of(image).body if image else None
        changes.append(StreamChange(keys["kind"]["S"], keys["id"]["S"], body, "OldImage" in record["dynamodb"]))
    return changes
