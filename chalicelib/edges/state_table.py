"""The state table: ``StateStore`` in DynamoDB. Key: ``kind`` (S) and ``id`` (S); ``body`` is the record's JSON.

DynamoDB serves 1,000 write and 3,000 read units per second of one partition key. Kinds that may have very many records
are therefore spread: the partition key is the kind, ``#`` and a part of a digest of the id. Version 0.2 stored them
under the kind alone. What is still there is read and changed in its place, until it is moved (``unspread``).
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import merge
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from zlib import crc32

from chalicelib.edges.batch_get import batch_get
from chalicelib.edges.errors import translated
from chalicelib.edges.items import parse_items
from chalicelib.ports import Item, Put, Write

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SPREAD_KINDS = frozenset(("block", "event", "offence"))
PARTS = 16
"""Partition keys of a spread kind: 16,000 write units per second, four times those of a new on-demand table."""

LEAST_ID, GREATEST_ID = "\x00", "\U0010ffff"
"""Texts below and above every id, because DynamoDB accepts no empty key."""


class StateTable:
    def __init__(self, client: "DynamoDBClient", table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        parse_items(client)
        self._client = client
        self._table = table
        self._sleep = sleep
        self._moved: set[str] = set()
        """Kinds of which no item is left under the kind alone, as far as this container has seen."""

    def get(self, kind: str, id: str) -> Item | None:
        for key in self._places(kind, id):
            with translated(f"read {kind} {id}"):
                answer = self._client.get_item(TableName=self._table, Key=_key(key, id), ConsistentRead=True)
            if "Item" in answer:
                return item_of(answer["Item"])
        return None

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
        moved = self._has_moved(kind)
        keys = [_key(partition_key(kind, id), id) for id in sorted(set(ids))]
        keys += [] if moved else [_key(kind, id) for id in sorted(set(ids))]
        items = map(item_of, batch_get(self._client, self._table, keys, f"read {kind}", self._sleep))
        # Of an item in both places, the one in its own place counts.
        return {item.id: item for item in sorted(items, key=lambda item: item.key != kind)}

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
            return iter(())  # DynamoDB rejects a range that cannot contain anything.
        keys = [*(f"{kind}#{part:02}" for part in range(PARTS)), kind] if kind in SPREAD_KINDS else [kind]
        page = None if limit is None else limit // len(keys) + 2
        parts = [self._part(key, above, below, page, descending=descending) for key in keys]
        items = merge(*parts, key=attrgetter("id"), reverse=descending)
        # Of an item in both places, the one in its own place comes first, and counts.
        return islice((next(same) for _, same in groupby(items, key=attrgetter("id"))), limit)

    def unspread(self, kind: str, limit: int) -> Sequence[Item]:
        return list(islice(self._part(kind, "", None, limit, descending=False), limit))

    def _places(self, kind: str, id: str) -> list[str]:
        """Returns the partition keys under which an item may be."""
        key = partition_key(kind, id)
        return [key] if self._has_moved(kind) else [key, kind]

    def _has_moved(self, kind: str) -> bool:
        """Returns whether no item is left under the kind alone; always true of kinds that are not spread."""
        if kind in SPREAD_KINDS and kind not in self._moved:
            if self.unspread(kind, 1):
                return False
            self._moved.add(kind)
        return True

    def _part(self, key: str, above: str, below: str | None, page: int | None, *, descending: bool) -> Iterator[Item]:
        """Yields the items under one partition key, reading ``page`` at a time or, if None, as many as fit in a
        call."""
        values = {":kind": key, ":above": above or LEAST_ID, ":below": GREATEST_ID if below is None else below}
        query: dict[str, Any] = {
            "TableName": self._table,
            # A key can have one condition only. BETWEEN includes both ends, which are skipped below.
            "KeyConditionExpression": "#kind = :kind AND #id BETWEEN :above AND :below",
            "ExpressionAttributeNames": {"#kind": "kind", "#id": "id"},
            "ExpressionAttributeValues": {name: {"S": value} for name, value in values.items()},
            "ScanIndexForward": not descending,
            "ConsistentRead": True,
        }
        if page is not None:
            query["Limit"] = page
        while True:
            with translated(f"list {key}"):
                answer = self._client.query(**query)
            for attributes in answer["Items"]:
                item = item_of(attributes)
                if item.id not in (above, below):
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


def partition_key(kind: str, id: str) -> str:
    """Returns the partition key under which an item is stored.

    >>> partition_key("allow", "192.0.2.0/24"), partition_key("block", "192.0.2.7/32")
    ('allow', 'block#03')
    """
    return f"{kind}#{crc32(id.encode()) % PARTS:02}" if kind in SPREAD_KINDS else kind


def kind_of(key: str) -> str:
    """Returns the kind of the items under a partition key.

    >>> kind_of("block#07"), kind_of("allow")
    ('block', 'allow')
    """
    return key.partition("#")[0]


def _key(key: str, id: str) -> dict[str, Any]:
    return {"kind": {"S": key}, "id": {"S": id}}


def key_of(item: Item) -> dict[str, Any]:
    """Returns the key of an item in DynamoDB: where it was read, or where a new one belongs."""
    return _key(item.key or partition_key(item.kind, item.id), item.id)


def attributes_of(item: Item) -> dict[str, Any]:
    """Returns DynamoDB's attributes of a stored item."""
    attributes: dict[str, Any] = {
        **key_of(item),
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
    key = attributes["kind"]["S"]
    return Item(
        kind=kind_of(key),
        key=key,
        id=attributes["id"]["S"],
        body=attributes.get("body", {}).get("S", "").encode(),
        version=_whole(attributes, "version") or 0,
        expires_at=_whole(attributes, "expires_at"),
    )


def _whole(attributes: Mapping[str, Any], name: str) -> int | None:
    """Returns the value of an attribute; None if it is missing or not a whole number."""
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
    return {"Delete": {"TableName": table, "Key": key_of(item), **condition}}
