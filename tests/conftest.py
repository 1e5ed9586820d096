"""DynamoDB for tests: ``moto_tables`` (in process, not atomic) and ``dynamodb_local`` (AWS's own, atomic)."""

import os
import sys
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from moto import mock_aws

import app  # noqa: F401 # first, because of what it does to sys
from tests.support import dynamodb_local as local
from tests.support.tables import Tables, dynamodb_client, make_tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# The app has Python keep no compiled modules, for the sake of its package. With them, the next run of the tests starts
# in half the time.
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))

pytest_plugins = [
    "tests.support.admin_api",
    "tests.support.deploy.account",
    "tests.support.deploy.functions",
    "tests.support.terminal",
]

collect_ignore = [f"support/deploy/{name}.py" for name in ("chalice_deploy", "lambda_runtime", "translate")]
"""Programs: tests run each in a separate interpreter, because importing one would start it."""

# No deadline, because CI shares its cores. A run repeats the examples of the last one, so that a failure is the
# change's own; `make hunt` draws new ones, and prints the blob that reproduces a failure.
settings.register_profile(
    "sluice", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fast", settings.get_profile("sluice"), max_examples=8)
settings.register_profile("hunt", settings.get_profile("sluice"), derandomize=False, print_blob=True, max_examples=1000)
settings.load_profile("sluice")

SLOW = {"chaos", "contracts", "functional", "hostile", "page", "peers", "properties", "unit/deploy"}
"""Folders whose tests start processes, or go through thousands of schedules or inputs."""

SLOW_FIXTURES = {"_connected", "_moto_client", "dynamodb_local"}
"""Fixtures that import and start moto, or a process."""

_numbers = count()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(config.rootpath).parent.as_posix().removeprefix("tests/")
        if folder in SLOW or not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """The endpoint of DynamoDB Local. Skips where it cannot run, or fails with SLUICE_REQUIRE_ALL=1, as CI sets it."""
    missing = local.missing()
    if missing and os.environ.get("SLUICE_REQUIRE_ALL") == "1":
        pytest.fail(f"DynamoDB Local cannot run, and SLUICE_REQUIRE_ALL is set: {missing}")
    if missing:
        pytest.skip(f"DynamoDB Local cannot run: {missing}")
    with local.running() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def dynamodb_local_client(dynamodb_local: str) -> Iterator["DynamoDBClient"]:
    client = dynamodb_client(dynamodb_local)
    yield client
    client.close()


@pytest.fixture
def local_tables(dynamodb_local_client: "DynamoDBClient") -> Tables:
    """Creates both tables in DynamoDB Local, for one test."""
    return make_tables(dynamodb_local_client, f"test-{next(_numbers)}")


@pytest.fixture(scope="session")
def _moto_client() -> Iterator["DynamoDBClient"]:
    with mock_aws():
        client = dynamodb_client()
    yield client
    client.close()


@pytest.fixture
def moto_tables(_moto_client: "DynamoDBClient") -> Iterator[Tables]:
    """Creates both tables in moto, for one test. Not for threads, because moto loses updates."""
    with mock_aws():
        yield make_tables(_moto_client)
