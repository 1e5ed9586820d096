"""Lambda's events, as the functions get them."""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from chalicelib.edges.state_table import attributes_of
from chalicelib.ports import Item


def line(client: str, ts: float, path: str = "/") -> bytes:
    """A CloudFront real-time line of the default fields."""
    return f"{ts:.3f}\t{client}\t200\tGET\twww.example.com\t{path}\t{client}-{ts}\tcurl\t-\n".encode()


def kinesis_event(lines: Iterable[bytes], *, ts: float, first: int = 1, shard: int = 0) -> dict[str, Any]:
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
    """Items that have just been inserted into the state table."""
    records = []
    for item in items:
        image = attributes_of(item)
        keys = {"kind": image["kind"], "id": image["id"]}
        records.append({"eventName": "INSERT", "dynamodb": {"Keys": keys, "NewImage": image}})
    return {"Records": records}
