"""Generates the OpenAPI 3.1 document from the declared operations and the structs that they name.

Summaries and descriptions are docstrings: a function's, a struct's, and the one under a field. msgspec gives the JSON
schemas with their bounds. An answer always carries every field, and its integers are never negative.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from inspect import cleandoc, getdoc
from itertools import pairwise
from pathlib import Path
from sys import modules
from typing import Any

import msgspec

import chalicelib.api.routes  # noqa: F401 - importing the module declares the operations
from chalicelib.admin.schemas import Form
from chalicelib.api import problems
from chalicelib.api.examples import EXAMPLES
from chalicelib.api.operations import ETAG, IDEMPOTENCY_KEY, JSON, OPERATIONS, Operation
from chalicelib.api.problems import Problem, ProblemType

Json = dict[str, Any]

INFO = {
    "title": "Sluice admin API",
    "version": "1",
    "summary": "See why a client is blocked, undo it within seconds, protect your own addresses, change rules, pause.",
    "description": (
        "Times are epoch seconds, or epoch milliseconds if their name ends in _ms. Networks are sent in query strings "
        "and bodies, without host bits. A single address may omit its prefix, which answers always carry; an "
        "IPv4-mapped IPv6 address counts as the IPv4 address. Errors are problem documents (RFC 9457) of the types "
        'listed with each status; API Gateway itself sends {"message"}. Every change answers with the call '
        "that undoes it, which the audit keeps as well; only forgotten offences cannot be restored. "
        "x-role is the least role that a call requires."
    ),
}
SERVER = {
    "url": "/",
    "description": "The origin of this document. On API Gateway, paths begin with the gateway's stage, such as /api.",
}
SECURITY_SCHEMES: dict[str, Json] = {
    "token": {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token made by 'sluice token create'. This deployment's ADMIN_AUTH is token.",
        }
    },
    "iam": {
        "sigv4": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "x-amazon-apigateway-authtype": "awsSigv4",
            "description": "AWS Signature Version 4. This deployment's ADMIN_AUTH is iam.",
        }
    },
}
"""Security schemes, by value of the setting ADMIN_AUTH."""

GATEWAY_MESSAGE = {
    "type": "object",
    "properties": {"message": {"type": ["string", "null"]}, "Message": {"type": "string"}},
    "description": "An error that API Gateway itself returned.",
}
GATEWAY_ERRORS = {401: "Unauthorized", 403: "Missing Authentication Token", 429: "Too Many Requests"}
PARAMETERS: dict[str, Json] = {
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "required": True,
        "description": "The ETag of the rule set that the change is based on.",
        "schema": {"type": "string", "pattern": f"^{ETAG}$"},
        "example": '"3"',
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": (
            "Repeating a POST with the same key and body within a day changes nothing and returns the first answer "
            "again, with Idempotency-Replayed: true. The same key with another path or body is rejected (422)."
        ),
        "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY}$"},
    },
}
ETAG_HEADER = {"description": "The version, in double quotes.", "schema": {"type": "string"}}
REPLAYED_HEADER = {
    "description": "true if this is the answer to an earlier call with the same key; absent otherwise.",
    "schema": {"type": "string", "enum": ["true"]},
}


def document(admin_auth: str) -> Json:
    """Returns the document of a deployment whose ADMIN_AUTH is "token" or "iam"."""
    types = {kind for operation in OPERATIONS for kind in (*operation.bodies, *operation.answers)}
    responses: dict[str, Json] = {}
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, responses)
    described: Json = {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [SERVER],
        "security": [{name: []} for name in SECURITY_SCHEMES[admin_auth]],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY_SCHEMES[admin_auth],
            "schemas": _schemas([*types, Problem]) | {"GatewayMessage": GATEWAY_MESSAGE},
            "responses": responses,
            "parameters": PARAMETERS,
        },
    }
    # Examples are structs until here.
    return dict(msgspec.json.decode(msgspec.json.encode(described)))


def _operation(operation: Operation, responses: dict[str, Json]) -> Json:
    """Describes one operation; adds its error responses to ``responses``."""
    summary, _, description = (getdoc(operation.function) or "").partition("\n\n")
    first, *others = operation.function.__name__.split("_")
    access: Json = {"security": []} if operation.role is None else {"x-role": operation.role}
    entry: Json = {
        "operationId": first + "".join(map(str.capitalize, others)),
        "summary": summary.removesuffix("."),
        "tags": [operation.tag],
        **access,
    }
    if description:
        entry["description"] = _one_line(description)
    if parameters := list(_parameters(operation)):
        entry["parameters"] = parameters
    if operation.bodies:
        refs = [_ref("schemas", form.__name__) for form in operation.bodies]
        schema = refs[0] if len(refs) == 1 else {"oneOf": refs}
        entry["requestBody"] = {"required": operation.body_required, "content": {JSON: {"schema": schema}}}
    entry["responses"] = {str(operation.status): _success(operation)}
    by_status: dict[int, list[ProblemType]] = {}
    for kind in operation.problems:
        by_status.setdefault(kind.status, []).append(kind)
    for status in sorted({*by_status, 429}):
        kinds = by_status.get(status, [])
        name = "Or".join(kind.slug.title().replace("-", "") for kind in kinds) or "TooManyRequests"
        responses[name] = _failure(status, kinds)
        entry["responses"][str(status)] = _ref("responses", name)
    return entry


def _parameters(operation: Operation) -> Iterator[Json]:
    for name, values in operation.path_values.items():
        schema = {"type": "string", "enum": list(values)}
        yield {"name": name, "in": "path", "required": True, "description": f"The {name}.", "schema": schema}
    query = _schemas([operation.query])[operation.query.__name__]
    for name, field in query["properties"].items():
        options = [option for option in field.get("anyOf", ()) if option != {"type": "null"}]
        bare = {key: value for key, value in field.items() if key != "anyOf" and (key, value) != ("default", None)}
        bare = {**bare, **options[0]} if options else bare
        parameter: Json = {"name": name, "in": "query", "required": name in query["required"]}
        parameter |= {"description": bare.pop("description", ""), "schema": bare}
        yield parameter | ({"style": "form", "explode": True} if bare["type"] == "array" else {})
    if operation.based_on:
        yield _ref("parameters", "IfMatch")
    if operation.idempotent:
        yield _ref("parameters", "IdempotencyKey")


def _success(operation: Operation) -> Json:
    content: Json = {
        media_type: {"schema": {"type": "object" if media_type == JSON else "string"}}
        for media_type in operation.media_types
    }
    for answer in operation.answers:
        content[JSON] = {"schema": _ref("schemas", answer.__name__), "example": EXAMPLES[answer]}
    headers: Json = {"ETag": ETAG_HEADER} if operation.etag else {}
    if operation.idempotent:
        headers["Idempotency-Replayed"] = REPLAYED_HEADER
    return {"description": "The answer.", "content": content} | ({"headers": headers} if headers else {})


def _failure(status: int, kinds: Iterable[ProblemType]) -> Json:
    """Describes the answer for one status, with each type of problem that it may carry."""
    lines, content = [], {}
    for kind in kinds:
        lines.append(f"{problems.URN}{kind.slug}: {kind.occurs}")
        example: object = kind.document(kind.example, kind.faults)
        content[problems.MEDIA_TYPE] = {"schema": _ref("schemas", "Problem"), "example": example}
    if status in GATEWAY_ERRORS:
        lines.append(("Or " if lines else "") + "API Gateway rejected the call.")
        example = {"message": GATEWAY_ERRORS[status]}
        content[JSON] = {"schema": _ref("schemas", "GatewayMessage"), "example": example}
    return {"description": " ".join(lines), "content": content}


def _schemas(types: Iterable[Any]) -> dict[str, Json]:
    """Returns the schemas of all ``types`` and of every type that they contain, by name."""
    structs = {cls.__name__: cls for cls in _structs()}
    types = sorted(types, key=lambda kind: str(kind.__name__))
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for name, schema in schemas.items():
        cls = structs.get(name)
        is_form = cls is not None and issubclass(cls, Form)
        docs = _field_docs(cls) if cls else {}
        for field, inner in schema.get("properties", {}).items():
            if field in docs:
                inner["description"] = " ".join(filter(None, (docs[field], _sentence(inner.get("description")))))
        if is_form and cls in EXAMPLES:
            schema["examples"] = [EXAMPLES[cls]]
        if cls is not None and not is_form:
            schema["additionalProperties"] = False
            if not cls.__struct_config__.omit_defaults:
                schema["required"] = list(schema["properties"])
            for inner in schema["properties"].values():
                inner.pop("default", None)
        _tidy(schema, answer=not is_form)
    return dict(schemas)


def _tidy(node: Any, *, answer: bool) -> None:
    """Turns msgspec's terms of Python into those of JSON Schema, and states the bounds that hold for every answer."""
    if isinstance(node, list):
        for inner in node:
            _tidy(inner, answer=answer)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("title"), str):
        del node["title"]
    if "pattern" in node:
        node["pattern"] = re.sub(r"\\Z$", "$", node["pattern"])
    if "enum" in node and all(isinstance(value, str) for value in node["enum"]):
        node["type"] = "string"
    if answer and node.get("type") in ("integer", "number"):
        node.setdefault("minimum", 0)
    if isinstance(node.get("description"), str):
        node["description"] = _sentence(node["description"])
    for inner in node.values():
        _tidy(inner, answer=answer)


def _structs(base: type[msgspec.Struct] = msgspec.Struct) -> Iterator[type[msgspec.Struct]]:
    """Yields every struct of this package; no two have the same name."""
    for cls in base.__subclasses__():
        if cls.__module__.startswith("chalicelib."):
            yield cls
        yield from _structs(cls)


def _field_docs(cls: type) -> dict[str, str]:
    """Returns the docstring under each field of a class and of its bases."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("chalicelib."):
            docs |= _docs_of_module(base.__module__).get(base.__name__, {})
    return docs


@cache
def _docs_of_module(name: str) -> dict[str, dict[str, str]]:
    tree = ast.parse(Path(str(modules[name].__file__)).read_text(encoding="utf-8"))
    docs: dict[str, dict[str, str]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            for field, below in pairwise(statement.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=id)), ast.Expr(value=ast.Constant(value=str(text))):
                        docs.setdefault(statement.name, {})[id] = _one_line(text)
    return docs


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _one_line(text: str) -> str:
    return " ".join(cleandoc(text).split())


def _sentence(text: str | None) -> str | None:
    return text and text[:1].upper() + text[1:] + ("" if text.endswith((".", '"')) else ".")
