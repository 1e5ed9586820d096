"""Conversion of Lambda events, without an object per record."""

from binascii import a2b_base64
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from chalicelib.edges.state_table import item_of
from chalicelib.pipeline.ingest import Batch
from chalicelib.ports import StreamChange


def kinesis_batch(event: Mapping[str, Any]) -> Batch:
    """Returns the batch of a Kinesis event, all of whose records come from one shard."""
    records = event["Records"]
    pieces = [record["kinesis"] for record in records]
    stream = records[0]["eventSourceARN"].rpartition("/")[2]
    shard = records[0]["eventID"].partition(":")[0]
    return Batch(
        shard=f"{stream}/{shard}",
        sequences=list(map(itemgetter("sequenceNumber"), pieces)),
        data=list(map(a2b_base64, map(itemgetter("data"), pieces))),
        arrived=list(map(itemgetter("approximateArrivalTimestamp"), pieces)),
    )


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
