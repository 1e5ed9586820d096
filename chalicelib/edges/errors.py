"""Translation of AWS's errors into those of the ports."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.ports import Conflict, Throttled, Unavailable

CONFLICTS = frozenset(
    (
        "ConditionalCheckFailedException",
        "TransactionConflictException",
        "WAFOptimisticLockException",
        *("ConditionalCheckFailed", "TransactionConflict"),  # reasons of a cancelled transaction
    )
)
THROTTLES = frozenset(
    (
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        *("ThrottlingError", "ProvisionedThroughputExceeded"),  # reasons of a cancelled transaction
    )
)


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Raises Conflict, Throttled or Unavailable in place of boto3's errors, with ``action`` in the message."""
    try:
        yield
    except ClientError as exc:
        code = exc.response["Error"]["Code"]
        reasons: Any = exc.response.get("CancellationReasons", ())  # of a transaction, one per item
        codes = {code, *(reason.get("Code", "") for reason in reasons)}
        if codes & CONFLICTS:
            raise Conflict(f"{action}: {code}") from exc
        refusal = Throttled if codes & THROTTLES else Unavailable
        raise refusal(f"{action}: {code}: {exc.response['Error'].get('Message', '')}") from exc
    except BotoCoreError as exc:
        raise Unavailable(f"{action}: {exc}") from exc
