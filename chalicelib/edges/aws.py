"""How AWS's errors become the ports'."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.ports import Conflict, Throttled, Unavailable

CONFLICTS = frozenset(("ConditionalCheckFailedException", "TransactionConflictException", "WAFOptimisticLockException"))
THROTTLES = frozenset(("ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"))


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Raises Conflict, Throttled or Unavailable for what boto3 raises; ``action`` says what was tried."""
    try:
        yield
    except ClientError as exc:
        code = exc.response["Error"]["Code"]
        if code in CONFLICTS or (code == "TransactionCanceledException" and _lost(exc)):
            raise Conflict(f"{action}: {code}") from exc
        refusal = Throttled if code in THROTTLES else Unavailable
        raise refusal(f"{action}: {code}: {exc.response['Error'].get('Message', '')}") from exc
    except BotoCoreError as exc:
        raise Unavailable(f"{action}: {exc}") from exc


def _lost(exc: ClientError) -> bool:
    """Whether a transaction was cancelled because of what others wrote."""
    reasons: Collection[dict[str, str]] = exc.response.get("CancellationReasons", ())  # type: ignore[assignment]
    return any(reason.get("Code") in ("ConditionalCheckFailed", "TransactionConflict") for reason in reasons)
