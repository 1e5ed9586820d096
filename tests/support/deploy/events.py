"""Builders of the events that Lambda sends to the functions."""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from chalicelib.edges.state_table import attributes_of
from chalicelib.ports import Item


def line(client: str, ts: float, path: str = "/") -> bytes:
    """Returns a CloudFront real-time line with the default fields."""
    return f"{ts:.3f}\t{client}\t200\tGET\twww.example.com\t{path}\t{client}-{ts}\tcurl\t-\n".encode()


def kinesis_event(lines: Iterable[bytes], *, ts: float, first: int = 1, shard: int = 0) -> dict[str, Any]:
    """Returns an event of lines that arrived at ``ts``, with sequence numbers from ``first``."""
    return {
        "Records": [
            {
                "eventID": f"shardId-{shard:012d}:{first + number}",
                "eventSource": "aws:kinesis",
                "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/sluice-prod-logs",
                "kinesis": {
                    "sequenceNumber": str(first + number),
                    "data": b64encode(data).decode(),
                    "partitionKey": "x",
                    "approximateArrivalTimestamp": ts,
                },
            }
            for number, data in enumerate(lines)
        ]
    }


def state_event(items: Iterable[Item]) -> dict[str, Any]:
    """Returns the stream event of items that were just inserted into the state table."""
    records = []
    for item in items:
        image = attributes_of(item)
        keys = {"kind": image["kind"], "id": image["id"]}
        records.append({"eventName": "INSERT", "dynamodb": {"Keys": keys, "NewImage": image}})
    return {"Records": records}
