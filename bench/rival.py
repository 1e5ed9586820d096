"""The rival design: one counter item per client, implemented as well as possible.

A batch is added up first, so each client costs one ``UpdateItem`` per batch and time bucket. Threads keep many calls in
flight. The response to an update contains the new count, so nothing is read. Its omissions favour it: it has no window
finer than its bucket, and it counts again what Kinesis delivers again.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from chalicelib.core.logs.requests import Requests

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

THREADS = 16
KEPT_S = 3600
"""Time to live of an item after its bucket."""


class CounterPerClient:
    def __init__(self, client: "DynamoDBClient", table: str, bucket_s: int) -> None:
        self._client = client
        self._table = table
        self._bucket_ms = bucket_s * 1000
        self._threads = ThreadPoolExecutor(THREADS)
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "client", "KeyType": "HASH"}, {"AttributeName": "bucket", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": "client", "AttributeType": "B"},
                {"AttributeName": "bucket", "AttributeType": "N"},
            ],
        )

    def count(self, requests: Requests) -> dict[tuple[bytes, int], int]:
        """Adds a batch. Returns the new counts by client and bucket."""
        size = self._bucket_ms
        added = Counter(zip(requests.clients, [time // size for time in requests.times], strict=True))
        return dict(self._threads.map(self._add, added.items()))

    def _add(self, entry: tuple[tuple[bytes, int], int]) -> tuple[tuple[bytes, int], int]:
        (client, bucket), requests = entry
        response = self._client.update_item(
            TableName=self._table,
            Key={"client": {"B": client}, "bucket": {"N": str(bucket)}},
            UpdateExpression="ADD requests :requests SET expires_at = :expires_at",
            ExpressionAttributeValues={
                ":requests": {"N": str(requests)},
                ":expires_at": {"N": str((bucket + 1) * self._bucket_ms // 1000 + KEPT_S)},
            },
            ReturnValues="UPDATED_NEW",
        )
        return (client, bucket), int(response["Attributes"]["requests"]["N"])

    def close(self) -> None:
        self._threads.shutdown()
