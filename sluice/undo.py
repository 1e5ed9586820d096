"""The commands that make a call to the admin API, printed with each change and in the audit to undo the change."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from chalicelib.core.responses import Response
from chalicelib.core.state.operators import Call


def commands(call: Call) -> list[str]:
    """Returns the ``sluice`` commands that make ``call``. Raises ValueError if there are none.

    >>> commands(Call(method="DELETE", path="/v1/blocks", query={"network": ["192.0.2.7/32"]}))
    ['sluice unblock 192.0.2.7/32']
    """
    return [shlex.join(["sluice", *words]) for words in _words(call)]


def _words(call: Call) -> Iterator[Sequence[str]]:
    body, query = call.body or {}, call.query
    # The change is undone only while no later one is in force.
    if_version = _option("if-version", call.headers.get("If-Match", "").strip('"'))
    match call.method, call.path:
        case "DELETE", "/v1/blocks":
            yield ["unblock", *query["network"], *_option("forget", query.get("forget") == ["true"])]
        case "POST", "/v1/blocks":
            yield from _blocks(body.get("blocks", [body]))
        case "DELETE", "/v1/allowlist":
            yield ["disallow", *query["network"]]
        case "PUT", "/v1/allowlist":
            yield from _allowlist(body.get("entries", [body]), body.get("remove", ()))
        case "POST", "/v1/pause":
            also = [*_option("until", body.get("until")), *_option("comment", body.get("comment"))]
            yield ["pause", *_option("release", body.get("release")), *also]
        case "POST", "/v1/resume":
            yield ["resume"]
        case "POST", "/v1/breaker/reset":
            rule = [body["rule"]] if body.get("rule") else []
            yield ["breaker", "reset", *rule, *_option("quiet-for", body.get("quiet_for"))]
        case "POST", "/v1/rules/rollback":
            yield ["rules", "rollback", str(body["version"]), *if_version, *(["--force"] if body.get("force") else [])]
        case "PUT", "/v1/rules" if body["text"] == "":
            yield ["rules", "apply", "/dev/null", *if_version, *(["--force"] if body.get("force") else [])]
        case "DELETE", "/v1/unreadable":
            yield ["records", "remove", "--", *query["kind"], *query["id"]]
        case "PUT", "/v1/unreadable":
            expires_at = _option("expires-at", body.get("expires_at"))
            yield ["records", "restore", *expires_at, "--", body["kind"], body["id"], body["body"]]
        case method, path:
            raise ValueError(f"no command makes the call {method} {path}")


def _blocks(blocks: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Yields one command for all blocks with the same length, response, comment, rule and force."""

    def options(block: Mapping[str, Any]) -> tuple[str, str, str, str, bool]:
        softer = block.get("respond", Response.BLOCK)
        respond = "" if softer == Response.BLOCK else softer
        return block["block_for"], respond, block.get("comment", ""), block.get("rule", ""), block.get("force", False)

    for (block_for, respond, comment, rule, force), group in groupby(sorted(blocks, key=options), options):
        networks = [block["network"] for block in group]
        also = [*_option("respond", respond), *_option("comment", comment), *_option("rule", rule)]
        also += _option("force", force)
        yield ["block", *networks, "--for", block_for, *also]


def _allowlist(entries: Sequence[Mapping[str, Any]], removed: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields a command for ``removed``, and one for all entries with the same comment, end, rules and force."""

    def options(entry: Mapping[str, Any]) -> tuple[list[str], str, int, bool]:
        expires_at = entry.get("expires_at") or 0
        return list(entry.get("rules", [])), entry.get("comment", ""), expires_at, entry.get("force", False)

    if removed:
        yield ["disallow", *removed]
    for (rules, comment, expires_at, force), group in groupby(sorted(entries, key=options), options):
        networks = [entry["network"] for entry in group]
        named = [word for rule in rules for word in _option("rule", rule)]
        also = [*_option("comment", comment), *_option("until", expires_at), *named, *_option("force", force)]
        yield ["allow", *networks, *also]


def _option(name: str, value: object) -> list[str]:
    """Returns an option with its value, the option alone for True, or nothing for an absent or false value."""
    if not value:
        return []
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]
