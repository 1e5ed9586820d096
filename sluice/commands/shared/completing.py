"""Completion in the shell: names of rules, blocked networks, and those on the allowlist.

What cannot be reached completes nothing: a shell that waits for its TAB key shows no errors.
"""

import os
from collections.abc import Callable, Iterable

import click

from chalicelib.admin.allowlist import AllowPage
from chalicelib.admin.blocks import BlockPage
from chalicelib.admin.rule_sets import RuleSetView
from sluice.api_client import ApiClient, ApiError, Unreachable
from sluice.commands.shared.api import client_of

MOST = 50
"""Most names that are offered."""

Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def _of_api(names: Callable[[ApiClient, str], Iterable[str]]) -> Completion:
    """Returns a completion by the names that the admin API has, which begin with what was typed."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
        url = ctx.params.get("url") or os.environ.get("SLUICE_URL")
        try:
            client = client_of(url, ctx.params.get("auth") or os.environ.get("SLUICE_AUTH", "token"))
            return [name for name in names(client, incomplete) if name.startswith(incomplete)][:MOST]
        except (ApiError, Unreachable, click.UsageError):
            return []

    return complete


def _blocked(client: ApiClient, typed: str) -> Iterable[str]:
    page = client.get("/v1/blocks", BlockPage, text=typed or None, limit=MOST).value
    return (block.network for block in page.blocks)


def _allowed(client: ApiClient, typed: str) -> Iterable[str]:  # noqa: ARG001
    return (entry.network for entry in client.get("/v1/allowlist", AllowPage).value.entries)


def _rules(client: ApiClient, typed: str) -> Iterable[str]:  # noqa: ARG001
    return (rule.name for rule in client.get("/v1/rules", RuleSetView).value.rules)


complete_blocked, complete_allowed, complete_rule = map(_of_api, (_blocked, _allowed, _rules))
