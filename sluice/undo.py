"""Calls of the admin API as commands: what is printed after every change, and in the audit, to undo it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

Call = Mapping[str, Any]


def commands(call: Call) -> list[str]:
    """The ``sluice`` commands that make ``call``.

    >>> commands({"method": "DELETE", "path": "/v1/blocks", "query": {"network": ["192.0.2.7/32"]}})
    ['sluice unblock 192.0.2.7/32']
    """
    return [shlex.join(["sluice", *words]) for words in _words(call)]


def _words(call: Call) -> Iterator[Sequence[str]]:
    body, query = call.get("body") or {}, call.get("query") or {}
    match call["method"], call["path"]:
        case "DELETE", "/v1/blocks":
            yield ["unblock", *query["network"], *(["--forget"] if query.get("forget") == ["true"] else [])]
        case "POST", "/v1/blocks":
            yield from _blocks(body.get("blocks", [body]))
        case "DELETE", "/v1/allowlist":
            yield ["disallow", *query["network"]]
        case "PUT", "/v1/allowlist":
            until = ["--until", str(body["expires_at"])] if body.get("expires_at") else []
            yield ["allow", body["network"], *_comment(body), *until, *_force(body)]
        case "POST", "/v1/pause":
            yield ["pause", *(["--release"] if body.get("release") else [])]
        case "POST", "/v1/resume":
            yield ["resume"]
        case "POST", "/v1/breaker/reset":
            yield ["breaker", "reset", *(["--quiet-for", body["quiet_for"]] if "quiet_for" in body else [])]
        case "POST", "/v1/rules/rollback":
            yield ["rules", "rollback", str(body["version"]), *_version(call)]
        case "PUT", "/v1/rules" if body["text"] == "":
            yield ["rules", "apply", "/dev/null", *_version(call)]
        case method, path:
            raise ValueError(f"no command makes the call {method} {path}")


def _blocks(blocks: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """One command for blocks of the same length and comment."""

    def alike(block: Mapping[str, Any]) -> tuple[str, str, bool]:
        return block["block_for"], block.get("comment", ""), block.get("force", False)

    for _, group in groupby(sorted(blocks, key=alike), alike):
        same = list(group)
        networks = [block["network"] for block in same]
        yield ["block", *networks, "--for", same[0]["block_for"], *_comment(same[0]), *_force(same[0])]


def _comment(body: Mapping[str, Any]) -> list[str]:
    return ["--comment", body["comment"]] if body.get("comment") else []


def _force(body: Mapping[str, Any]) -> list[str]:
    return ["--force"] if body.get("force") else []


def _version(call: Call) -> list[str]:
    """Undoes this change and no later one."""
    match = (call.get("headers") or {}).get("If-Match")
    return ["--if-version", match.strip('"')] if match else []
