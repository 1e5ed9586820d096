"""Access to one AWS account: clients, pagination, retries, and errors that name the failed action."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ContextDecorator, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from chalicelib.ports import Unavailable
from sluice.deploy.stage import Location

ClientFactory = Callable[[str], Any]
"""Returns the boto3 client of a service, by the service's name."""

RETRY_PAUSE_S = 3.0
RETRY_FOR_S = 30.0


class AwsError(Exception):
    """AWS rejected a call or did not answer. The message names the call and, if known, the remedy."""


HINTS = {
    "AccessDenied": "Your credentials lack this permission; docs/operate/permissions.md lists what setup needs",
    "ExpiredToken": "Sign in again",
    "WAFFeatureNotIncludedInPricingPlan": (
        "The distribution is on a flat-rate pricing plan, which lacks this; choose a larger plan, or pay-as-you-go "
        "pricing"
    ),
}
"""Remedies by error code, without the "Exception" that some services append."""


@dataclass(frozen=True)
class AwsAccount:
    """One account and region. ``sleep`` takes seconds; tests replace it."""

    client: ClientFactory
    region: str
    sleep: Callable[[float], None] = time.sleep
    partition: str = "aws"
    profile: str = ""
    session: Session | None = None
    """The session behind the clients, for Chalice; None where only clients are needed."""

    @cached_property
    def location(self) -> Location:
        """Account id and region. Raises AwsError."""
        with attempting("identify the account"):
            identity = self.client("sts").get_caller_identity()
        return Location(account=identity["Account"], region=self.region, partition=self.partition, profile=self.profile)

    def list_all(self, service: str, operation: str, key: str, /, **arguments: Any) -> Iterator[Any]:
        """Yields the elements under ``key`` from all pages of an answer.

        Covers AWS WAF as well, for which boto3 has no paginators.
        """
        client = self.client(service)
        if client.can_paginate(operation):
            for page in client.get_paginator(operation).paginate(**arguments):
                yield from page.get(key, ())
            return
        while True:
            page = getattr(client, operation)(**arguments)
            yield from page.get(key, ())
            if not page.get("NextMarker") or not page.get(key):
                return
            arguments["NextMarker"] = page["NextMarker"]

    def retry(
        self, call: Callable[..., Any], codes: Collection[str], for_s: float = RETRY_FOR_S, **arguments: Any
    ) -> Any:
        """Returns the result of ``call``, retried for about ``for_s`` seconds while AWS answers with one of ``codes``.

        AWS is eventually consistent: a new resource is unknown to some services for a moment, and a resource that was
        just detached still counts as in use.
        """
        for _ in range(int(for_s / RETRY_PAUSE_S)):
            try:
                return call(**arguments)
            except ClientError as exc:
                if code_of(exc) not in codes:
                    raise
            self.sleep(RETRY_PAUSE_S)
        return call(**arguments)


def connect(*, region: str | None, profile: str | None) -> AwsAccount:
    """Returns the account of the credentials that boto3 finds.

    Raises AwsError if there is no profile of that name, or no region.
    """
    core = Session(profile=profile)
    with attempting("find AWS credentials"):
        session = boto3.Session(botocore_session=core, region_name=region)
    if session.region_name is None:
        raise AwsError("no region is configured: use --region, or set AWS_DEFAULT_REGION")
    config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30)
    # API Gateway accepts one import or deployment every few seconds, and an upload takes longer than a call.
    core.set_default_client_config(Config(retries={"mode": "standard", "max_attempts": 10}, read_timeout=120))

    @cache
    def client(service: str) -> Any:
        return session.client(service, config=config)  # type: ignore[call-overload]

    partition = session.get_partition_for_region(session.region_name)
    return AwsAccount(
        client=client, region=session.region_name, partition=partition, profile=profile or "", session=core
    )


def code_of(exc: ClientError) -> str:
    return exc.response["Error"]["Code"]


def cause_of(exc: ClientError) -> str:
    """Returns the rejected call, the error's code and its message."""
    return f"{exc.operation_name}: {code_of(exc)}: {exc.response['Error'].get('Message', '')}"


@contextmanager
def attempting(action: str) -> Iterator[None]:
    """Converts the errors of boto3 and of the state table into AwsError, beginning with "could not ``action``"."""
    try:
        yield
    except ClientError as exc:
        hint = HINTS.get(code_of(exc).removesuffix("Exception"))
        raise AwsError(f"could not {action}: {cause_of(exc)}{f'. {hint}' if hint else ''}") from exc
    except (BotoCoreError, Unavailable) as exc:
        raise AwsError(f"could not {action}: {exc}") from exc


class missing_ok(ContextDecorator):  # noqa: N801 - named like contextlib's own context managers
    """Suppresses errors with these codes, which say that a resource does not exist.

    A decorated function then returns None.

    A class, because type checkers know only from ``__exit__`` that the statements after the block are reachable.
    """

    def __init__(self, *codes: str) -> None:
        self._codes = codes

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, exc: object, traceback: object) -> bool:
        return isinstance(exc, ClientError) and code_of(exc) in self._codes
