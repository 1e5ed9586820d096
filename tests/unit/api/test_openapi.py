"""The OpenAPI document is complete."""

from collections.abc import Iterator
from typing import Any

from jsonschema_rs import Draft202012Validator

import app
from chalicelib.api.openapi import document
from tests.support.admin_api import Desk

DOCUMENT = document("token")


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
