"""BatchGetItem to the end: more than 100 keys, and whatever one call leaves unprocessed."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from chalicelib.edges.errors import translated
from chalicelib.ports import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEYS_A_READ = 100
"""BatchGetItem's own bound."""

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
    """The attributes of those of ``keys`` (each named once) that exist, strongly consistent, in no order.

    One call gives at most 16 MB and leaves throttled keys out; the rest is asked for again, after a wait where nothing
    came at all. Raises Unavailable; ``action`` says what was tried.
    """
    for start in range(0, len(keys), KEYS_A_READ):
        wanted: dict[str, Any] = {table: {"ConsistentRead": True, "Keys": list(keys[start : start + KEYS_A_READ])}}
        wait = FIRST_WAIT_S
        for _ in range(READ_TRIES):
            with translated(action):
                answer = client.batch_get_item(RequestItems=wanted)
            found = answer["Responses"].get(table, [])
            yield from found
            wanted = answer.get("UnprocessedKeys") or {}
            if not wanted:
                break
            if not found:
                sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_S)
        else:
            raise Unavailable(f"{action}: keys were left unprocessed {READ_TRIES} times")
