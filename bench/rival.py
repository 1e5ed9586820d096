"""The rival: one counter item per client, written as well as that can be done.

A batch is added up first, so each client costs one ``UpdateItem`` a batch and bucket of time; threads keep many calls
in flight; the answer to an update brings the new count along, so nothing is read. What it leaves out is in its favour:
it keeps no window finer than its bucket, and counts again whatever Kinesis delivers again.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from chalicelib.core.logs.requests import Requests

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

THREADS = 16
KEPT_S = 3600


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
        """Adds a batch; the new counts by client and bucket."""
        size = self._bucket_ms
        added = Counter(zip(requests.clients, [time // size for time in requests.times], strict=True))
        return dict(self._threads.map(self._add, added.items()))

    def _add(self, entry: tuple[tuple[bytes, int], int]) -> tuple[tuple[bytes, int], int]:
        (client, bucket), more = entry
        answer = self._client.update_item(
            TableName=self._table,
            Key={"client": {"B": client}, "bucket": {"N": str(bucket)}},
            UpdateExpression="ADD requests :more SET expires_at = :expires_at",
            ExpressionAttributeValues={
                ":more": {"N": str(more)},
                ":expires_at": {"N": str((bucket + 1) * self._bucket_ms // 1000 + KEPT_S)},
            },
            ReturnValues="UPDATED_NEW",
        )
        return (client, bucket), int(answer["Attributes"]["requests"]["N"])

    def close(self) -> None:
        self._threads.shutdown()
