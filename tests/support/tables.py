"""Both tables, created in any DynamoDB as in production, and the records of their streams."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

StreamsClient = Any
"""A client of boto3's ``dynamodbstreams``, for which no stubs are installed."""

REGION = "us-east-1"
CREDENTIALS: dict[str, Any] = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
CLIENT = Config(
    retries={"mode": "standard", "max_attempts": 1},
    max_pool_connections=32,
    account_id_endpoint_mode="disabled",  # moto intercepts no other endpoints
)


def dynamodb_client(endpoint: str | None = None) -> "DynamoDBClient":
    """Returns a client that does not retry; without ``endpoint``, for use inside moto's ``mock_aws``."""
    return boto3.client("dynamodb", endpoint_url=endpoint, config=CLIENT, **CREDENTIALS)


def streams_client(endpoint: str | None = None) -> StreamsClient:
    return boto3.client("dynamodbstreams", endpoint_url=endpoint, config=CLIENT, **CREDENTIALS)


@dataclass(frozen=True, slots=True)
class Tables:
    client: "DynamoDBClient"
    tally: str
    state: str
    tally_stream_arn: str
    state_stream_arn: str


def make_tables(client: "DynamoDBClient", prefix: str = "sluice") -> Tables:
    """Creates ``<prefix>-tally`` and ``<prefix>-state``.

    TTL stays disabled, because DynamoDB Local would remove items with past times, which most tests use, at any moment.
    """
    tally, state = f"{prefix}-tally", f"{prefix}-state"
    tables: tuple[dict[str, Any], ...] = (
        {
            "TableName": tally,
            "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
            **_keys(log="S", offset="N"),
        },
        {
            "TableName": state,
            "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
            **_keys(kind="S", id="S"),
        },
    )
    made = [client.create_table(BillingMode="PAY_PER_REQUEST", **table) for table in tables]
    return Tables(client, tally, state, *(each["TableDescription"]["LatestStreamArn"] for each in made))


def _keys(**types: str) -> dict[str, Any]:
    hash_key, range_key = types
    return {
        "KeySchema": [
            {"AttributeName": hash_key, "KeyType": "HASH"},
            {"AttributeName": range_key, "KeyType": "RANGE"},
        ],
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()],
    }


def stream_event(client: StreamsClient, stream_arn: str) -> dict[str, Any]:
    """Returns everything in a table's stream, as one event for Lambda."""
    records: list[Mapping[str, Any]] = []
    for shard in client.describe_stream(StreamArn=stream_arn)["StreamDescription"]["Shards"]:
        iterator: str | None = client.get_shard_iterator(
            StreamArn=stream_arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = client.get_records(ShardIterator=iterator)
            records += answer["Records"]
            iterator = answer.get("NextShardIterator") if answer["Records"] else None
    return {"Records": records}


Call = tuple[str, dict[str, Any]]
"""An operation and its parameters."""


@contextmanager
def calls_of(client: "DynamoDBClient") -> Iterator[list[Call]]:
    """Lists the calls that ``client`` makes within the context."""
    calls: list[Call] = []

    def note(params: dict[str, Any], model: Any, **_: object) -> None:
        calls.append((model.name, params))

    client.meta.events.register("provide-client-params.dynamodb.*", note)
    try:
        yield calls
    finally:
        client.meta.events.unregister("provide-client-params.dynamodb.*", note)


def item_bytes(attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """Returns the size that DynamoDB charges for an item of strings, binaries and numbers; numbers are rounded up.

    Source: DynamoDB Developer Guide, "DynamoDB item sizes and formats".
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in attributes.items())


def write_units(attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """Returns the write units of one standard write: one per KB begun."""
    return -(-item_bytes(attributes) // 1024)


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "N":
        return (len(content.replace(".", "")) + 1) // 2 + 1
    return len(content if kind == "B" else content.encode())
