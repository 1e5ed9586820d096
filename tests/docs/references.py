"""The generated references in ``docs/reference``: ``python -m tests.docs.references`` writes them.

Each is a function without arguments that returns the page's text; ``PAGES`` names them all. Rule keys and metrics are
described by hand, and ``test_references.py`` holds those two pages complete.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from chalicelib.api import openapi
from chalicelib.config import SETTINGS
from sluice.cli import SECTIONS, main

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def cli() -> str:
    parts = [
        "# Commands\n",
        "`sluice --help` and `sluice COMMAND --help` print the same. This page is generated from the commands.\n",
    ]
    root = click.Context(main, info_name="sluice", **main.context_settings)
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in section:
            command = main.get_command(root, name)
            assert command is not None, name
            for context in contexts(click.Context(command, info_name=name, parent=root)):
                parts.extend(described(context))
    return "\n".join(parts)


def contexts(context: click.Context) -> Iterator[click.Context]:
    """Yields ``context`` and, if it is a group's, one per subcommand."""
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, name
            yield from contexts(click.Context(command, info_name=name, parent=context))


def described(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f"### {context.command_path}\n"
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        verbatim = paragraph.lstrip().startswith("\b")
        lines = [line.strip() for line in paragraph.strip("\b\n ").splitlines()]
        yield "```sh\n" + "\n".join(lines) + "\n```\n" if verbatim else escaped(" ".join(lines)) + "\n"
    records = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [(names, about) for names, about in filter(None, records) if not names.endswith("--help")]
    if rows:
        yield from table(
            ("option", "meaning"), [(code(names), escaped(" ".join(about.split()))) for names, about in rows]
        )


def settings() -> str:
    rows = []
    for setting in SETTINGS.values():
        default = f"`{setting.default.replace(',', ', ')}`" if setting.default else ""
        formerly = f". Formerly `{setting.formerly}`, which is used while this is not set" if setting.formerly else ""
        rows.append((f"`{setting.variable}`", default, setting.accepted, setting.about + formerly))
    return "\n".join([SETTINGS_INTRODUCTION, *table(("variable", "default", "accepted", "meaning"), rows)])


SETTINGS_INTRODUCTION = """\
# Settings

Environment variables of the functions. `sluice setup` writes those that a deployment needs into `.chalice/config.json`,
and `sluice setup --set NAME=VALUE` adds others, which the next deployment applies. A function with an invalid setting
does not start: its error names the variable, the value and the accepted form. This page is generated from
`chalicelib/config.py`.
"""


def api() -> str:
    document = openapi.document("token")
    parts = [
        "# Admin API\n",
        f"{document['info']['description']}\n",
        "The OpenAPI document is served at `/openapi.json`. This page is generated from it.\n",
    ]
    operations = [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    for tag in document["tags"]:
        parts.append(f"## Routes: {tag['name']}\n")
        for method, path, operation in operations:
            if tag["name"] in operation["tags"]:
                parts.extend(described_call(document, method, path, operation))
    parts.append("## Errors\n")
    errors = document["components"]["responses"]
    rows = [(name, ", ".join(content_types(error)), escaped(error["description"])) for name, error in errors.items()]
    parts.extend(table(("error", "answer", "meaning"), rows))
    parts.append("## Schemas\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.extend(described_schema(name, schema))
    return "\n".join(parts)


def described_call(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path}\n"
    role = f"Role: `{operation['x-role']}`." if "x-role" in operation else "Needs no token."
    yield f"{sentence(operation['summary'])} {role}\n"
    if "description" in operation:
        yield f"{escaped(operation['description'])}\n"
    parameters = [resolved(document, parameter) for parameter in operation.get("parameters", [])]
    if parameters:
        rows = [
            (
                f"`{parameter['name']}`" + (" (required)" if parameter.get("required") else ""),
                parameter["in"],
                type_of(parameter["schema"]),
                escaped(parameter.get("description", "")),
            )
            for parameter in parameters
        ]
        yield from table(("parameter", "in", "type", "meaning"), rows)
    if "requestBody" in operation:
        yield f"Body: {', '.join(content_types(operation['requestBody']))}.\n"
    answers, errors = [], []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            errors.append(f"{status} {answer['$ref'].rpartition('/')[2]}")
        else:
            answers.append((status, ", ".join(content_types(answer)), escaped(answer["description"])))
    yield from table(("status", "answer", "meaning"), answers)
    if errors:
        yield f"[Errors](#errors): {', '.join(errors)}.\n"


def content_types(body: dict[str, Any]) -> list[str]:
    return [type_of(content.get("schema", {})) for content in body.get("content", {}).values()]


def described_schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if "description" in schema:
        yield f"{escaped(schema['description'])}\n"
    properties = schema.get("properties")
    if not properties:
        yield f"{type_of(schema)}\n"
        return
    required = schema.get("required", ())
    rows = [
        (
            f"`{field}`" + ("" if field in required else " (optional)"),
            type_of(inner),
            escaped(inner.get("description", "")),
        )
        for field, inner in properties.items()
    ]
    yield from table(("field", "type", "meaning"), rows)


BOUNDS = {
    "minimum": "from",
    "maximum": "to",
    "minLength": "length from",
    "maxLength": "length to",
    "minItems": "items from",
    "maxItems": "items to",
    "default": "default",
}


def type_of(schema: dict[str, Any]) -> str:
    """Returns the type that a JSON schema describes, in words, with links to named schemas."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for combined in ("oneOf", "anyOf"):
        if combined in schema:
            return " or ".join(type_of(choice) for choice in schema[combined])
    if "allOf" in schema:
        return " with ".join(type_of(part) for part in schema["allOf"])
    if "enum" in schema:
        text = ", ".join(f"`{value}`" for value in schema["enum"])
    elif "const" in schema:
        text = f"`{schema['const']}`"
    else:
        kind = schema.get("type", "any")
        text = kind if isinstance(kind, str) else " or ".join(kind)
        if "items" in schema:
            text += f" of {type_of(schema['items'])}"
        if isinstance(schema.get("additionalProperties"), dict):
            text += f" of {type_of(schema['additionalProperties'])}"
    bounds = [f"{word} `{shown(schema[key])}`" for key, word in BOUNDS.items() if key in schema]
    return f"{text} ({', '.join(bounds)})" if bounds else text


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    target: Any = document
    for key in node["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return dict(target)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        cells = [cell.replace("\n", " ").replace("|", "&#124;") for cell in row]
        yield f"| {' | '.join(cells)} |"
    yield ""


def sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def escaped(text: str) -> str:
    """Returns ``text`` with the characters escaped that Markdown would take for markup."""
    return text.replace("*", "\\*").replace("<", "&lt;")


def code(text: str) -> str:
    """Returns ``text`` as code; a vertical bar within backticks would end a table's cell."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


PAGES = {"cli.md": cli, "settings.md": settings, "api.md": api}
"""Every generated page of ``docs/reference``, and the function that returns its text."""


if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
