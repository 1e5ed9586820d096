"""Lambda events, built as AWS builds them: Kinesis batches, the tables' streams, messages of a queue, the schedule."""

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

from chalicelib.edges.state_table import attributes_of, key_of
from chalicelib.ports import LogKey, LogObject
from sluice.local.kinesis import StreamRecord
from sluice.local.stores import StateChange

MOST_RECORDS = 10_000
"""Most records per Kinesis event (Lambda's limit on BatchSize)."""

MOST_BYTES = 6_000_000
"""Most bytes per event (Lambda's limit on an invocation payload is 6 MB)."""

RECORD_FRAME = 460
"""Bytes of a record in an event, besides its base64 data, approximately."""


def kinesis_event(stream: str, shard: str, records: Sequence[StreamRecord]) -> dict[str, Any]:
    """Returns the event that Lambda makes from ``records`` of one shard."""
    arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream}"
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "0",
                    "sequenceNumber": str(record.sequence),
                    "data": b64encode(record.data).decode(),
                    "approximateArrivalTimestamp": round(record.arrived, 3),
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{shard}:{record.sequence}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/sluice-ingest",
                "awsRegion": "us-east-1",
                "eventSourceARN": arn,
            }
            for record in records
        ]
    }


def objects_event(received: Sequence[tuple[str, LogObject, float]]) -> dict[str, Any]:
    """Returns the event that Lambda makes from messages of a queue that S3 notifies.

    ``received``: id of the message, object, and when it was created, in epoch seconds.
    """
    return {
        "Records": [
            {
                "messageId": id,
                "receiptHandle": id,
                "body": json.dumps({"Records": [_object_record(object, created)]}),
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:sluice-objects",
                "awsRegion": "us-east-1",
            }
            for id, object, created in received
        ]
    }


def _object_record(object: LogObject, created: float) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": object.bucket, "arn": f"arn:aws:s3:::{object.bucket}"},
            "object": {"key": quote_plus(object.key, safe="/"), "eTag": object.etag, "sequencer": "0"},
        },
    }


def schedule_event() -> dict[str, Any]:
    """Returns the event of an EventBridge schedule."""
    event = dict.fromkeys(("version", "account", "region", "id", "time"), "0")
    return {**event, "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "resources": []}


def tally_event(added: Sequence[LogKey]) -> dict[str, Any]:
    """Returns the event that Lambda makes from new items in the tally table's stream, which holds keys only."""
    return {
        "Records": [
            {
                "eventName": "INSERT",
                "eventSource": "aws:dynamodb",
                "awsRegion": "us-east-1",
                "dynamodb": {
                    "Keys": {"log": {"S": log}, "offset": {"N": str(offset)}},
                    "StreamViewType": "KEYS_ONLY",
                },
            }
            for log, offset in added
        ]
    }


def state_event(changes: Sequence[StateChange]) -> dict[str, Any]:
    """Returns the event that Lambda makes from changes in the state table's stream."""
    return {"Records": list(map(_state_record, changes))}


def _state_record(change: StateChange) -> dict[str, Any]:
    item = change.new or change.old
    assert item is not None
    images = {"OldImage": change.old, "NewImage": change.new}
    name = "MODIFY" if change.old and change.new else "INSERT" if change.new else "REMOVE"
    return {
        "eventName": name,
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "Keys": key_of(item),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            **{name: attributes_of(image) for name, image in images.items() if image is not None},
        },
    }
