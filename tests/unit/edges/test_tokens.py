"""Both stores of tokens keep what was written, and nothing of the tokens themselves."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from chalicelib.core.tokens import Role, TokensError, check, issue
from chalicelib.edges.tokens import FileTokens, ParameterTokens
from chalicelib.ports import Unavailable

pytestmark = pytest.mark.slow  # moto is imported and started

TEXT, TOKEN = issue("alice", Role.OPERATOR, secret=bytes(32), now=5)
OTHER = issue("ci", Role.VIEWER, secret=bytes(range(32)), now=6, expires_at=60)[1]
REGION: dict[str, Any] = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}


@pytest.fixture
def ssm() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("ssm", **REGION)


@pytest.fixture(params=["file", "parameter"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileTokens | ParameterTokens:
    if request.param == "file":
        return FileTokens(tmp_path / "tokens.json")
    return ParameterTokens(request.getfixturevalue("ssm"), "/sluice/tokens")


def test_an_empty_store_holds_no_token(store: FileTokens | ParameterTokens) -> None:
    assert store.read() == ()


def test_written_tokens_are_read_again(store: FileTokens | ParameterTokens) -> None:
    store.write([TOKEN, OTHER])
    assert store.fresh() == (TOKEN, OTHER)
    assert check(TEXT, store.read(), 7) == TOKEN
    store.write([OTHER])
    assert store.fresh() == (OTHER,)


def test_only_its_owner_can_read_the_file_and_it_holds_no_token_text(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    FileTokens(path).write([TOKEN])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TEXT not in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["tokens.json"]


def test_a_broken_file_raises_and_admits_no_caller(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("{")
    with pytest.raises(TokensError):
        FileTokens(path).read()


def test_a_parameter_is_encrypted_and_read_again_only_after_a_while(ssm: Any) -> None:
    store = ParameterTokens(ssm, "/sluice/tokens")
    store.write([TOKEN])
    assert store.read() == (TOKEN,)
    assert ssm.describe_parameters()["Parameters"][0]["Type"] == "SecureString"
    store.write([OTHER])
    assert store.read() == (TOKEN,)
    assert store.fresh() == (OTHER,)
    assert store.read() == (OTHER,)


def test_more_tokens_than_fit_are_rejected(ssm: Any) -> None:
    with pytest.raises(TokensError, match="revoke some"):
        ParameterTokens(ssm, "/sluice/tokens").write([TOKEN] * 40)


def test_an_unreachable_parameter_is_unavailable() -> None:
    once = Config(retries={"mode": "standard", "max_attempts": 1})
    client = boto3.client("ssm", endpoint_url="http://127.0.0.1:9", config=once, **REGION)
    store = ParameterTokens(client, "/sluice/tokens")
    with pytest.raises(Unavailable, match="/sluice/tokens"):
        store.read()
    with pytest.raises(Unavailable, match="/sluice/tokens"):
        store.write([TOKEN])
