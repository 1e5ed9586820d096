"""Connections to an account: their clients outlast the throttles that AWS asks them to outlast."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError
from moto import mock_aws

from sluice.deploy.account import AwsAccount, connect
from tests.support.deploy.account import REGION

THROTTLED = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'


class Answer:
    """The body of a response, as urllib3 streams it."""

    def stream(self) -> Iterator[bytes]:
        yield THROTTLED


@contextmanager
def throttled(client: Any, operation: str, times: int) -> Iterator[list[str]]:
    """Throttles the next calls of an operation, and yields the list of those that were sent."""
    sent: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        sent.append(request.url)
        return AWSResponse(request.url, 400, HTTPHeaders(), Answer()) if len(sent) <= times else None

    client.meta.events.register_first(f"before-send.{operation}", answer)
    yield sent
    client.meta.events.unregister(f"before-send.{operation}", answer)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsAccount]:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    with mock_aws():
        yield connect(region=REGION, profile=None)


def test_a_throttled_call_is_repeated_five_times(account: AwsAccount) -> None:
    client = account.client("ssm")
    with throttled(client, "ssm.DescribeParameters", 5) as sent:
        assert client.describe_parameters()["Parameters"] == []
    assert len(sent) == 6
    with throttled(client, "ssm.DescribeParameters", 6), pytest.raises(ClientError, match="ThrottlingException"):
        client.describe_parameters()


def test_a_throttled_call_of_chalice_is_repeated_ten_times(account: AwsAccount) -> None:
    assert account.session is not None
    client: Any = account.session.create_client("logs")
    with throttled(client, "cloudwatch-logs.DescribeLogGroups", 10) as sent:
        assert client.describe_log_groups()["logGroups"] == []
    assert len(sent) == 11
    with throttled(client, "cloudwatch-logs.DescribeLogGroups", 11), pytest.raises(ClientError, match="Throttling"):
        client.describe_log_groups()
