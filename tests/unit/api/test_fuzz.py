"""No call causes a server error, and every answer is as documented: over a real socket, for every role."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from chalicelib.api.openapi import document
from sluice.local.gateway import serve
from tests.support.admin_api import Desk

pytestmark = pytest.mark.slow

load_all_checks()

SEMANTIC = ["2xx", "401", "403", "404", "409", "412", "422"]
"""Statuses of calls that fit the schema, which may still name a network, version or rule that does not exist."""

CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            "positive_data_acceptance": {"expected-statuses": SEMANTIC},
            "negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "413", "415", "422", "428"]},
            "missing_required_header": {"expected-statuses": ["401", "403", "428"]},
        },
    }
)
API = schemathesis.openapi.from_dict(document("token"), config=CONFIG)

NOT_CHECKED: list[Any] = [
    CHECKS.get_one("unsupported_method"),  # API Gateway answers 403, not 405, to an unknown method
]


@pytest.fixture
def address(desk: Desk) -> Iterator[str]:
    desk.attack("203.0.113.9")
    desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.0/24"})
    server = serve(desk.gateway.answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


BOUNDED = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("holder", ["alice", "wallboard", None])
@API.parametrize()
@BOUNDED
def test_every_answer_is_as_documented(
    case: schemathesis.Case[Any], holder: str | None, desk: Desk, address: str, session: requests.Session
) -> None:
    headers = {"Authorization": f"Bearer {desk.secrets[holder]}"} if holder else {}
    before = len(desk.cloud.state.changes)
    response = case.call_and_validate(base_url=address, session=session, headers=headers, excluded_checks=NOT_CHECKED)
    if holder != "alice":
        assert len(desk.cloud.state.changes) == before
    if holder is None and case.path.startswith("/v1/"):
        assert response.status_code in (401, 403)
