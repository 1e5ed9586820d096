"""DynamoDB Local for measurements: the units that a client's calls consume, as DynamoDB reports them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.prices import PRICES
from tests.support import dynamodb_local
from tests.support.tables import dynamodb_client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

WRITES = ("PutItem", "UpdateItem", "TransactWriteItems")
READS = ("BatchGetItem", "GetItem", "Query")


class Meter:
    """Counter of one client's calls and of the units they consume."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self.calls: Counter[str] = Counter()
        self.write_units = 0.0
        self.read_units = 0.0
        for name in (*WRITES, *READS):
            client.meta.events.register(f"provide-client-params.dynamodb.{name}", self._ask)
            client.meta.events.register(f"after-call.dynamodb.{name}", self._note)

    @property
    def dollars(self) -> float:
        return self.write_units * PRICES["dynamodb.write_unit"] + self.read_units * PRICES["dynamodb.read_unit"]

    def reset(self) -> None:
        self.calls.clear()
        self.write_units = self.read_units = 0.0

    def _ask(self, params: dict[str, Any], **_: object) -> None:
        params["ReturnConsumedCapacity"] = "TOTAL"

    def _note(self, model: Any, parsed: dict[str, Any], **_: object) -> None:
        self.calls[model.name] += 1
        consumed = parsed.get("ConsumedCapacity", [])
        units = sum(each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed]))
        if model.name in WRITES:
            self.write_units += units
        else:
            self.read_units += units


@contextmanager
def local() -> Iterator["DynamoDBClient"]:
    """Yields a client of a DynamoDB Local started for it."""
    with dynamodb_local.running() as endpoint:
        client = dynamodb_client(endpoint)
        yield client
        client.close()
