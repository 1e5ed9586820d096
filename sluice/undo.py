"""The commands that make a call of the admin API, printed after each change and in the audit to undo it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from chalicelib.core.state import Call


def commands(call: Call) -> list[str]:
    """Returns the ``sluice`` commands that make ``call``. Raises ValueError if there are none.

    >>> commands(Call(method="DELETE", path="/v1/blocks", query={"network": ["192.0.2.7/32"]}))
    ['sluice unblock 192.0.2.7/32']
    """
    return [shlex.join(["sluice", *words]) for words in _words(call)]


def _words(call: Call) -> Iterator[Sequence[str]]:
    body, query = call.body or {}, call.query
    match call.method, call.path:
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
    """Yields one command for all blocks with the same length, comment and force."""

    def options(block: Mapping[str, Any]) -> tuple[str, str, bool]:
        return block["block_for"], block.get("comment", ""), block.get("force", False)

    for (block_for, _, _), group in groupby(sorted(blocks, key=options), options):
        alike = list(group)
        networks = [block["network"] for block in alike]
        yield ["block", *networks, "--for", block_for, *_comment(alike[0]), *_force(alike[0])]


def _comment(body: Mapping[str, Any]) -> list[str]:
    return ["--comment", body["comment"]] if body.get("comment") else []


def _force(body: Mapping[str, Any]) -> list[str]:
    return ["--force"] if body.get("force") else []


def _version(call: Call) -> list[str]:
    """Returns the option that undoes this change and no later one."""
    match = call.headers.get("If-Match")
    return ["--if-version", match.strip('"')] if match else []
