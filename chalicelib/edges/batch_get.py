"""BatchGetItem for any number of keys, with retries of the keys that a call leaves unprocessed."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from chalicelib.edges.errors import translated
from chalicelib.ports import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEYS_PER_READ = 100
"""Most keys that BatchGetItem accepts."""

READ_TRIES = 10
FIRST_WAIT_S = 0.02
LONGEST_WAIT_S = 0.5


def batch_get(
    client: "DynamoDBClient",
    table: str,
    keys: Sequence[dict[str, Any]],
    action: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Yields the attributes of the items that exist, from strongly consistent reads,
    in no particular order. ``keys`` must be distinct.

    One call returns at most 16 MB and omits throttled keys. The rest is requested again, after a wait if a call
    returned nothing. Raises Unavailable, with ``action`` in its message.
    """
    for start in range(0, len(keys), KEYS_PER_READ):
        request: dict[str, Any] = {table: {"ConsistentRead": True, "Keys": list(keys[start : start + KEYS_PER_READ])}}
        wait = FIRST_WAIT_S
        for _ in range(READ_TRIES):
            with translated(action):
                answer = client.batch_get_item(RequestItems=request)
            items = answer["Responses"].get(table, [])
            yield from items
            request = answer.get("UnprocessedKeys") or {}
            if not request:
                break
            if not items:
                sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_S)
        else:
            raise Unavailable(f"{action}: keys were left unprocessed {READ_TRIES} times")
