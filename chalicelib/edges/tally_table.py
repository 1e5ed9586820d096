"""The tally table: ``TallyLogs`` in DynamoDB (docs/state-protocol.md).

Key: ``log`` (S) and ``offset`` (N). Two more items, both at offset 0: ``#registry`` lists the logs of each shard in an
attribute per shard, so that shards never contend for it; ``#position`` holds the evaluator's position. The receipts of
an object's parts are items at the parts' first bytes. For roll-ups, see ``roll_up_table``.
"""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from chalicelib.core.logs.malformed_counts import pack_counts, unpack_counts
from chalicelib.core.tally import VERSION
from chalicelib.edges.batch_get import batch_get
from chalicelib.edges.errors import translated
from chalicelib.edges.items import parse_items
from chalicelib.ports import LogItem, LogKey, LogObject, PartReceipt, Position, Registry, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

REGISTRY = "#registry"
POSITION = "#position"
OBJECT = "#object"

RECEIPT_KEPT_S = 15 * 86400
"""Seconds that a receipt is kept: SQS delivers a message again for at most 14 days (SQS Developer Guide, "Message
retention period")."""


FIRST_PAGE = 64
"""Items of the first page of a query that reads a log backwards."""


class TallyTable:
    def __init__(self, client: "DynamoDBClient", table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        parse_items(client)
        self._client = client
        self._table = table
        self._sleep = sleep

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        free = "attribute_not_exists(#offset)"
        added = [_attributes(log, offset + step, item) for step, item in enumerate(items)]
        added += [_receipt_attributes(receipt)] if receipt else []
        puts: list[dict[str, Any]] = [
            {
                "TableName": self._table,
                "Item": attributes,
                "ConditionExpression": free,
                "ExpressionAttributeNames": {"#offset": "offset"},
            }
            for attributes in added
        ]
        with translated(f"append to {log} at {offset}"):
            if len(puts) == 1:
                self._client.put_item(**puts[0])
            else:
                self._client.transact_write_items(TransactItems=[{"Put": put} for put in puts])  # type: ignore[typeddict-item]

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        registry: Registry = {}
        items: dict[LogKey, LogItem] = {}
        item_keys = list(map(key_of, ((REGISTRY, 0), *set(keys))))
        for attributes in batch_get(self._client, self._table, item_keys, "read the tally logs", self._sleep):
            log = attributes["log"]["S"]
            if log == REGISTRY:
                registry = {
                    name: tuple(entry["S"] for entry in value["L"])
                    for name, value in attributes.items()
                    if "L" in value
                }
            else:
                items[log, int(attributes["offset"]["N"])] = _item(attributes)
        return registry, items

    def counted_up_to(self, object: LogObject) -> int:
        with translated(f"read how far {object} is counted"):
            receipts = self._client.query(**newest_first(self._table, _receipts_of(object)), Limit=1)["Items"]
        return int(receipts[0]["end"]["N"]) if receipts else 0

    def last(self, log: str) -> tuple[int, LogItem] | None:
        with translated(f"read the end of {log}"):
            items = self._client.query(**newest_first(self._table, log), Limit=1)["Items"]
        return _offset_and_item(items[0]) if items else None

    def first(self, log: str, offset: int) -> tuple[int, LogItem] | None:
        query = newest_first(self._table, log)
        query["KeyConditionExpression"] = "#log = :log AND #offset >= :offset"
        query["ExpressionAttributeValues"] = {":log": {"S": log}, ":offset": {"N": str(offset)}}
        with translated(f"read {log} from {offset} on"):
            items = self._client.query(**{**query, "ScanIndexForward": True, "Limit": 1})["Items"]
        return _offset_and_item(items[0]) if items else None

    def latest(
        self, log: str, written_since_ms: int, before: int, most: int = sys.maxsize
    ) -> Sequence[tuple[int, LogItem]]:
        newest: list[tuple[int, LogItem]] = []
        for page in self._pages(log, before, most):
            for attributes in page:
                offset, item = _offset_and_item(attributes)
                if newest and item.written_ms < written_since_ms:
                    return newest
                newest.append((offset, item))
        return newest

    def register(self, shard: str, seen: tuple[str, ...], logs: tuple[str, ...]) -> None:
        names = {"#shard": shard}
        values: dict[str, Any] = {}
        unchanged = "attribute_not_exists(#shard)"
        change = "REMOVE #shard"
        if seen:
            unchanged, values[":seen"] = "#shard = :seen", {"L": [{"S": log} for log in seen]}
        if logs:
            change, values[":logs"] = "SET #shard = :logs", {"L": [{"S": log} for log in logs]}
        with translated(f"register {shard}"):
            self._client.update_item(
                TableName=self._table,
                Key=key_of((REGISTRY, 0)),
                UpdateExpression=change,
                ConditionExpression=unchanged,
                ExpressionAttributeNames=names,
                **({"ExpressionAttributeValues": values} if values else {}),  # type: ignore[arg-type]
            )

    def position(self) -> Position | None:
        with translated("read the position"):
            answer = self._client.get_item(TableName=self._table, Key=key_of((POSITION, 0)), ConsistentRead=True)
        if "Item" not in answer:
            return None
        return {log: int(offset["N"]) for log, offset in answer["Item"]["logs"]["M"].items()}

    def store_position(self, position: Position) -> None:
        logs = {"M": {log: {"N": str(offset)} for log, offset in position.items()}}
        with translated("store the position"):
            self._client.put_item(TableName=self._table, Item={**key_of((POSITION, 0)), "logs": logs})

    def _pages(self, log: str, before: int, most: int) -> Iterable[list[dict[str, Any]]]:
        # Most readers need a few minutes of a log, so most of a page of 1 MB would be paid for in vain. Pages that
        # double read at most twice what is needed.
        query = {**newest_first(self._table, log, before), "Limit": min(FIRST_PAGE, most)}
        while True:
            with translated(f"read {log}"):
                answer = self._client.query(**query)
            yield answer["Items"]
            most -= len(answer["Items"])
            if not most or "LastEvaluatedKey" not in answer:
                return
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            query["Limit"] = min(2 * query["Limit"], most)


def newest_first(table: str, log: str, before: int = sys.maxsize) -> dict[str, Any]:
    """Returns a query for the items of a log before an offset, which is exclusive, the newest first."""
    return {
        "TableName": table,
        "KeyConditionExpression": "#log = :log AND #offset < :before",
        "ExpressionAttributeNames": {"#log": "log", "#offset": "offset"},
        "ExpressionAttributeValues": {":log": {"S": log}, ":before": {"N": str(before)}},
        "ScanIndexForward": False,
        "ConsistentRead": True,
    }


def key_of(key: LogKey) -> dict[str, Any]:
    """Returns a place in a log as the table's key."""
    return {"log": {"S": key[0]}, "offset": {"N": str(key[1])}}


def _attributes(log: str, offset: int, item: LogItem) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        **key_of((log, offset)),
        "last_seq": {"S": str(item.last_sequence)},
        "written_at": {"N": seconds(item.written_ms)},
        "first_slot_at": {"N": seconds(item.first_slot_ms)},
        "last_slot_at": {"N": seconds(item.last_slot_ms)},
        "requests": {"N": str(item.requests)},
        "arrived_at": {"N": seconds(item.arrived_ms)},
        "expires_at": {"N": str(item.written_ms // 1000 + item.kept_s)},
        "v": {"N": str(VERSION)},
    }
    if item.body is not None:
        attributes["body"] = {"B": item.body}
    if item.malformed:
        attributes["malformed"] = {"S": pack_counts(item.malformed)}
    if item.late:
        attributes["late"] = {"N": str(item.late)}
    if item.refused:
        attributes["refused"] = {"N": str(item.refused)}
    if item.portraits:
        attributes["portraits"] = {"B": item.portraits}
    if item.total:
        attributes["total"] = {"N": str(item.total)}
    if item.refused_total:
        attributes["refused_total"] = {"N": str(item.refused_total)}
    return attributes


def _receipts_of(object: LogObject) -> str:
    """Returns the partition of an object's receipts. Neither bucket nor etag can hold a slash, which ends each.

    S3 allows keys of 1,024 bytes, and DynamoDB partition keys of 2,048.
    """
    return f"{OBJECT}/{object.bucket}/{object.etag}/{object.key}"


def _receipt_attributes(receipt: PartReceipt) -> dict[str, Any]:
    return {
        **key_of((_receipts_of(receipt.object), receipt.start)),
        "end": {"N": str(receipt.end)},
        "written_at": {"N": seconds(receipt.written_ms)},
        "expires_at": {"N": str(receipt.written_ms // 1000 + RECEIPT_KEPT_S)},
    }


def _offset_and_item(attributes: Mapping[str, Any]) -> tuple[int, LogItem]:
    return int(attributes["offset"]["N"]), _item(attributes)


def check_version(attributes: Mapping[str, Any]) -> None:
    """Raises Unavailable for an item whose packed tallies have the form of another version."""
    version = attributes["v"]["N"]
    if version != str(VERSION):
        raise Unavailable(f"tally item of version {version}; only version {VERSION} can be read")


def _item(attributes: Mapping[str, Any]) -> LogItem:
    check_version(attributes)
    body = attributes.get("body")
    written_ms = milliseconds(attributes["written_at"]["N"])
    return LogItem(
        body=body["B"] if body else None,
        last_sequence=int(attributes["last_seq"]["S"]),
        written_ms=written_ms,
        first_slot_ms=milliseconds(attributes["first_slot_at"]["N"]),
        last_slot_ms=milliseconds(attributes["last_slot_at"]["N"]),
        requests=int(attributes["requests"]["N"]),
        # Items that version 0.2 of Sluice wrote do not have it.
        arrived_ms=milliseconds(attributes.get("arrived_at", attributes["written_at"])["N"]),
        kept_s=int(attributes["expires_at"]["N"]) - written_ms // 1000,
        malformed=unpack_counts(attributes["malformed"]["S"]) if "malformed" in attributes else (),
        late=int(attributes["late"]["N"]) if "late" in attributes else 0,
        refused=int(attributes["refused"]["N"]) if "refused" in attributes else 0,
        portraits=attributes["portraits"]["B"] if "portraits" in attributes else b"",
        total=int(attributes["total"]["N"]) if "total" in attributes else 0,
        refused_total=int(attributes["refused_total"]["N"]) if "refused_total" in attributes else 0,
    )


def seconds(milliseconds: int) -> str:
    """Returns decimal seconds, which DynamoDB stores exactly.

    >>> seconds(1760000000123)
    '1760000000.123'
    """
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def milliseconds(seconds: str) -> int:
    """Returns milliseconds; DynamoDB omits zeros at the end of a number.

    >>> milliseconds("1760000000.12"), milliseconds("1760000000")
    (1760000000120, 1760000000000)
    """
    whole, _, fraction = seconds.partition(".")
    return int(f"{whole}{fraction:0<3.3}") if whole.isdecimal() else int(Decimal(seconds) * 1000)
