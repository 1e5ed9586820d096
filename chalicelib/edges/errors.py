"""Translation of AWS's errors into those of the ports."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

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
        codes = {code, *_reasons(exc)}
        if codes & CONFLICTS:
            raise Conflict(f"{action}: {code}") from exc
        refusal = Throttled if codes & THROTTLES else Unavailable
        raise refusal(f"{action}: {code}: {exc.response['Error'].get('Message', '')}") from exc
    except BotoCoreError as exc:
        raise Unavailable(f"{action}: {exc}") from exc


def _reasons(exc: ClientError) -> list[str]:
    """Returns the codes of the items because of which a transaction was cancelled."""
    reasons: Collection[dict[str, str]] = exc.response.get("CancellationReasons", ())  # type: ignore[assignment]
    return [reason.get("Code", "") for reason in reasons]
