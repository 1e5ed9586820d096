"""The parsing of DynamoDB's items, compared with boto3's own."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError

from chalicelib.edges.items import parse_items
from tests.support.tables import dynamodb_client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

B64 = base64.b64encode(bytes(range(256))).decode()
ITEM = {
    "log": {"S": "logs/shardId-0@1"},
    "offset": {"N": "7"},
    "body": {"B": B64},
    "parts": {"BS": [B64, ""]},
    "names": {"SS": ["a", "B"]},
    "numbers": {"NS": ["1", "2.5"]},
    "map": {"M": {"S": {"S": "x"}, "deep": {"L": [{"B": B64}, {"M": {}}, {"N": "1"}]}}},
    "none": {"NULL": True},
    "yes": {"BOOL": True},
}
QUERY = {"TableName": "t", "KeyConditionExpression": "a = :a"}
GET = {"TableName": "t", "Key": {"log": {"S": "a"}}}
BATCH = {"RequestItems": {"t": {"Keys": [{"log": {"S": "a"}}]}}}


class Wire:
    """The bytes of an HTTP answer."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


@pytest.fixture
def clients() -> "Iterator[tuple[DynamoDBClient, DynamoDBClient]]":
    """Yields one client that parses as boto3 does, and one that parses items by itself."""
    with closing(dynamodb_client()) as plain, closing(dynamodb_client()) as fast:
        parse_items(fast)
        parse_items(fast)
        yield plain, fast


def answered(
    client: "DynamoDBClient", operation: str, arguments: dict[str, Any], body: bytes, status: int = 200
) -> Any:
    """Returns what ``client`` makes of ``body``."""

    def send(**_: object) -> Any:
        return AWSResponse("https://aws", status, HTTPHeaders(), Wire(body))

    client.meta.events.register("before-send.dynamodb", send, unique_id="wire")
    answer = getattr(client, operation)(**arguments)
    del answer["ResponseMetadata"]
    return answer


@pytest.mark.parametrize(
    ("operation", "arguments", "answer"),
    [
        ("get_item", GET, {"Item": ITEM}),
        ("get_item", GET, {}),
        ("query", QUERY, {"Items": [ITEM, {}], "Count": 2, "LastEvaluatedKey": {"log": {"S": "a"}}}),
        ("query", QUERY, {"Items": [], "ConsumedCapacity": {"TableName": "t", "CapacityUnits": 0.5}}),
        (
            "batch_get_item",
            BATCH,
            {"Responses": {"t": [ITEM], "u": []}, "UnprocessedKeys": {"t": {"Keys": [{"log": {"S": "a"}}]}}},
        ),
        ("batch_get_item", BATCH, {"UnprocessedKeys": {}}),
        ("query", QUERY, {"Items": None}),
    ],
)
def test_items_are_those_that_boto3_parses(
    clients: "tuple[DynamoDBClient, DynamoDBClient]", operation: str, arguments: dict[str, Any], answer: dict[str, Any]
) -> None:
    plain, fast = (answered(client, operation, arguments, json.dumps(answer).encode()) for client in clients)
    assert fast == plain


def test_items_do_not_pass_through_boto3s_parser(clients: "tuple[DynamoDBClient, DynamoDBClient]") -> None:
    # An attribute of a type that boto3 does not know: it would drop it.
    answer = json.dumps({"Items": [{"a": {"N": "1", "new": "x"}}]}).encode()
    assert answered(clients[1], "query", QUERY, answer) == {"Items": [{"a": {"N": "1", "new": "x"}}]}


def test_an_error_is_boto3s(clients: "tuple[DynamoDBClient, DynamoDBClient]") -> None:
    body = b'{"__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "message": "no table"}'
    with pytest.raises(ClientError, match="no table"):
        answered(clients[1], "query", QUERY, body, 400)
