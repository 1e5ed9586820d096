"""``RollUps`` in the tally table (docs/state-protocol.md).

Key: ``log`` (S) and ``offset`` (N), as of the logs. A roll-up is the item of ``#roll-ups`` at its number. Its packed
parts are the items of ``#roll-up/`` and their digest. So two writers of the same number never write over each other's
parts, unless they are the same.
"""

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from chalicelib.core.tally import VERSION
from chalicelib.edges.batch_get import batch_get
from chalicelib.edges.errors import translated
from chalicelib.edges.items import parse_items
from chalicelib.edges.tally_table import check_version, key_of, milliseconds, newest_first, seconds
from chalicelib.ports import Gone, RollUp

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ROLL_UPS = "#roll-ups"
PART = "#roll-up/"

DIGEST_BYTES = 16

FIRST_PAGE = 64
"""Roll-ups of the first page of a query: those of more than two days, if they are written each hour."""


def digest_of(bodies: Sequence[bytes]) -> str:
    """Returns a digest of packed parts, in hexadecimal."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for body in bodies:
        digest.update(len(body).to_bytes(4, "big") + body)
    return digest.hexdigest()


class RollUpTable:
    def __init__(self, client: "DynamoDBClient", table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        parse_items(client)
        self._client = client
        self._table = table
        self._sleep = sleep

    def add(self, roll_up: RollUp, bodies: Sequence[bytes]) -> None:
        digest = digest_of(bodies)
        expires_at = {"N": str(_expires_at(roll_up))}
        with translated(f"write roll-up {roll_up.number}"):
            for number, body in enumerate(bodies):
                key = key_of((PART + digest, number))
                self._client.put_item(
                    TableName=self._table, Item={**key, "body": {"B": body}, "expires_at": expires_at}
                )
            self._client.put_item(
                TableName=self._table,
                Item=attributes_of_roll_up(roll_up, digest, len(bodies)),
                ConditionExpression="attribute_not_exists(#offset)",
                ExpressionAttributeNames={"#offset": "offset"},
            )

    def latest(self, written_since_ms: int) -> Sequence[RollUp]:
        newest: list[RollUp] = []
        query = {**newest_first(self._table, ROLL_UPS), "Limit": FIRST_PAGE}
        while True:
            with translated("read the roll-ups"):
                answer = self._client.query(**query)
            for attributes in answer["Items"]:
                roll_up = roll_up_of(attributes)
                if newest and roll_up.written_ms < written_since_ms:
                    return newest
                newest.append(roll_up)
            if "LastEvaluatedKey" not in answer:
                return newest
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def bodies(self, roll_up: RollUp) -> Sequence[bytes]:
        keys = [key_of((PART + roll_up.digest, number)) for number in range(roll_up.bodies)]
        action = f"read roll-up {roll_up.number}"
        items = batch_get(self._client, self._table, keys, action, self._sleep)
        parts = {int(item["offset"]["N"]): item["body"]["B"] for item in items}
        if len(parts) < roll_up.bodies:
            raise Gone(f"{action}: {roll_up.bodies - len(parts)} of its {roll_up.bodies} parts are missing")
        return [bytes(parts[number]) for number in range(roll_up.bodies)]


def _expires_at(roll_up: RollUp) -> int:
    return roll_up.written_ms // 1000 + roll_up.kept_s


def attributes_of_roll_up(roll_up: RollUp, digest: str, bodies: int) -> dict[str, Any]:
    """Returns the item of a roll-up with a number of packed parts, and their digest."""
    return {
        **key_of((ROLL_UPS, roll_up.number)),
        "logs": {"M": {log: {"N": str(offset)} for log, offset in roll_up.position.items()}},
        "written_at": {"N": seconds(roll_up.written_ms)},
        "first_slot_at": {"N": seconds(roll_up.first_slot_ms)},
        "last_slot_at": {"N": seconds(roll_up.last_slot_ms)},
        "bodies": {"N": str(bodies)},
        "digest": {"S": digest},
        "expires_at": {"N": str(_expires_at(roll_up))},
        "v": {"N": str(VERSION)},
    }


def roll_up_of(attributes: dict[str, Any]) -> RollUp:
    """Returns the roll-up that an item holds. Raises Unavailable for one of another version."""
    check_version(attributes)
    written_ms = milliseconds(attributes["written_at"]["N"])
    return RollUp(
        number=int(attributes["offset"]["N"]),
        position={log: int(offset["N"]) for log, offset in attributes["logs"]["M"].items()},
        written_ms=written_ms,
        first_slot_ms=milliseconds(attributes["first_slot_at"]["N"]),
        last_slot_ms=milliseconds(attributes["last_slot_at"]["N"]),
        kept_s=int(attributes["expires_at"]["N"]) - written_ms // 1000,
        bodies=int(attributes["bodies"]["N"]),
        digest=attributes["digest"]["S"],
    )
