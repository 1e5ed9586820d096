"""The OpenAPI document is complete, and no call causes a server error: over a real socket, for every role."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema_rs import Draft202012Validator
from schemathesis.checks import CHECKS, load_all_checks

import app
from chalicelib.api.openapi import document
from sluice.local.gateway import serve
from tests.support.admin_api import Desk

DOCUMENT = document("token")
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
API = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)

NOT_CHECKED: list[Any] = [
    CHECKS.get_one("unsupported_method"),  # API Gateway answers 403, not 405, to an unknown method
]


def test_the_document_describes_exactly_the_routes() -> None:
    documented = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert documented == {(method, path) for path, entries in app.app.routes.items() for method in entries}


def test_every_example_fits_its_schema() -> None:
    def examples(node: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(node, dict):
            if "schema" in node and "example" in node:
                yield node["schema"], node["example"]
            for example in node.get("examples", []) if "type" in node else []:
                yield {key: value for key, value in node.items() if key != "examples"}, example
            for inner in node.values():
                yield from examples(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from examples(inner)

    pairs = list(examples(DOCUMENT))
    assert len(pairs) > 40
    for schema, example in pairs:
        Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(example)


def test_the_document_of_a_deployment_names_its_authentication() -> None:
    assert list(document("token")["components"]["securitySchemes"]) == ["bearer"]
    assert list(document("iam")["components"]["securitySchemes"]) == ["sigv4"]
    assert document("iam")["paths"] == DOCUMENT["paths"]


def test_the_served_document_is_the_generated_one(desk: Desk) -> None:
    assert desk.call("GET", "/openapi.json", by=None).json == DOCUMENT


def test_every_field_of_the_answers_is_required_and_no_other_is_allowed() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    inputs = {name for name in schemas if "examples" in schemas[name]}
    for name, schema in schemas.items():
        if "properties" in schema and name not in inputs | {"Problem", "GatewayMessage"}:
            assert schema["required"] == list(schema["properties"]), name
            assert schema["additionalProperties"] is False, name


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


@pytest.mark.slow
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
