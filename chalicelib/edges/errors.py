"""How AWS's errors become the ports'."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.ports import Conflict, Throttled, Unavailable

CONFLICTS = frozenset(
    (
        "ConditionalCheckFailedException",
        "TransactionConflictException",
        "WAFOptimisticLockException",
        *("ConditionalCheckFailed", "TransactionConflict"),  # why a transaction was cancelled
    )
)
THROTTLES = frozenset(
    (
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        *("ThrottlingError", "ProvisionedThroughputExceeded"),  # why a transaction was cancelled
    )
)


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Raises Conflict, Throttled or Unavailable for what boto3 raises; ``action`` says what was tried."""
    try:
        yield
    except ClientError as exc:
        code = exc.response["Error"]["Code"]
        codes = {code, *_reasons(exc)}
        if codes & CONFLICTS:
            raise Conflict(f"{action}: {code}") from exc
        refusal = Throttled if codes & THROTTLES else Unavailable
        raise refusal(f"{action}: {code}: {exc.response['Error'].get('Message', '')}") from exc
    except BotoCoreError as exc:
        raise Unavailable(f"{action}: {exc}") from exc


def _reasons(exc: ClientError) -> list[str]:
    """Why a transaction was cancelled: a code for each of its items that was refused."""
    reasons: Collection[dict[str, str]] = exc.response.get("CancellationReasons", ())  # type: ignore[assignment]
    return [reason.get("Code", "") for reason in reasons]
