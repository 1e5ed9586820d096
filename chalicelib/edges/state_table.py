"""The state table: ``StateStore`` in DynamoDB. Key: ``kind`` (S) and ``id`` (S); ``body`` is the record's JSON."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chalicelib.edges.batch_get import batch_get
from chalicelib.edges.errors import translated
from chalicelib.ports import Item, Put, Write

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LEAST_ID, GREATEST_ID = "\x00", "\U0010ffff"
"""Texts below and above every id, because DynamoDB accepts no empty key."""


class StateTable:
    def __init__(self, client: "DynamoDBClient", table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep

    def get(self, kind: str, id: str) -> Item | None:
        with translated(f"read {kind} {id}"):
            answer = self._client.get_item(TableName=self._table, Key=_key(kind, id), ConsistentRead=True)
        return item_of(answer["Item"]) if "Item" in answer else None

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
        keys = [_key(kind, id) for id in sorted(set(ids))]
        items = map(item_of, batch_get(self._client, self._table, keys, f"read {kind}", self._sleep))
        return {item.id: item for item in items}

    def query(
        self,
        kind: str,
        *,
        above: str = "",
        below: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Iterator[Item]:
        if below is not None and below <= above:
            return  # DynamoDB rejects a range that cannot contain anything.
        values = {":kind": kind, ":above": above or LEAST_ID, ":below": GREATEST_ID if below is None else below}
        query: dict[str, Any] = {
            "TableName": self._table,
            # A key can have one condition only. BETWEEN includes both ends, which are skipped below.
            "KeyConditionExpression": "#kind = :kind AND #id BETWEEN :above AND :below",
            "ExpressionAttributeNames": {"#kind": "kind", "#id": "id"},
            "ExpressionAttributeValues": {name: {"S": value} for name, value in values.items()},
            "ScanIndexForward": not descending,
            "ConsistentRead": True,
        }
        if limit is not None:
            query["Limit"] = limit + 2
        left = limit
        while left is None or left > 0:
            with translated(f"list {kind}"):
                answer = self._client.query(**query)
            for attributes in answer["Items"]:
                item = item_of(attributes)
                if item.id in (above, below) or left == 0:
                    continue
                left = None if left is None else left - 1
                yield item
            if "LastEvaluatedKey" not in answer:
                return
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def put_over(self, items: Sequence[Item]) -> None:
        for item in items:
            with translated(f"write {item.kind} {item.id}"):
                self._client.put_item(TableName=self._table, Item=_next(item))

    def write(self, writes: Sequence[Write]) -> None:
        actions = [_action(write, self._table) for write in writes]
        with translated(f"write {', '.join(sorted({write.item.kind for write in writes}))}"):
            if len(actions) == 1:
                (verb, request), *_ = actions[0].items()
                call = self._client.put_item if verb == "Put" else self._client.delete_item
                call(**request)
            else:
                self._client.transact_write_items(TransactItems=actions)  # type: ignore[arg-type]


def _next(item: Item) -> dict[str, Any]:
    """Returns the attributes of ``item`` after a write."""
    return attributes_of(replace(item, version=item.version + 1))


def _key(kind: str, id: str) -> dict[str, Any]:
    return {"kind": {"S": kind}, "id": {"S": id}}


def attributes_of(item: Item) -> dict[str, Any]:
    """Returns DynamoDB's attributes of a stored item."""
    attributes: dict[str, Any] = {
        **_key(item.kind, item.id),
        "body": {"S": item.body.decode()},
        "version": {"N": str(item.version)},
    }
    if item.expires_at is not None:
        attributes["expires_at"] = {"N": str(item.expires_at)}
    return attributes


def item_of(attributes: Mapping[str, Any]) -> Item:
    """Returns the item for DynamoDB's attributes, from a read or from an image in the stream.

    Attributes typed by hand may be missing or of another type: then the body is empty and the version 0.
    """
    return Item(
        kind=attributes["kind"]["S"],
        id=attributes["id"]["S"],
        body=attributes.get("body", {}).get("S", "").encode(),
        version=_whole(attributes, "version") or 0,
        expires_at=_whole(attributes, "expires_at"),
    )


def _whole(attributes: Mapping[str, Any], name: str) -> int | None:
    """Returns the value of an attribute; None if it is missing or is no whole number."""
    text = attributes.get(name, {}).get("N", "")
    return int(text) if text.isdecimal() else None


def _action(write: Write, table: str) -> dict[str, Any]:
    item = write.item
    condition: dict[str, Any] = {
        # An item typed by hand may have no version.
        "ConditionExpression": "attribute_not_exists(#version) OR NOT attribute_type(#version, :number)",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":number": {"S": "N"}},
    }
    if item.version:
        condition = {
            "ConditionExpression": "#version = :seen",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":seen": {"N": str(item.version)}},
        }
    if isinstance(write, Put):
        return {"Put": {"TableName": table, "Item": _next(item), **condition}}
    return {"Delete": {"TableName": table, "Key": _key(item.kind, item.id), **condition}}
