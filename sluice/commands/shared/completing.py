"""Completion in the shell: names of rules, blocked networks, and those on the allowlist.

What cannot be reached soon completes nothing, because a shell waits for its TAB key, and shows no errors. Nor does an
API with IAM authorization: the credentials to sign with may have to be asked for elsewhere, which takes time.
"""

import os
from collections.abc import Callable, Iterable

import click

from chalicelib.admin.allowlist import AllowPage
from chalicelib.admin.blocks import BlockPage
from chalicelib.admin.rule_sets import RuleSetView
from sluice.api_client import PAGE, ApiClient, ApiError, Unreachable
from sluice.commands.shared.api import client_of

MOST = 50
"""Most names that are offered."""

Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def _of_api(names: Callable[[ApiClient, str], Iterable[str]]) -> Completion:
    """Returns a completion by the names that the admin API has, which begin with what was typed."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
        url = ctx.params.get("url") or os.environ.get("SLUICE_URL")
        auth = ctx.params.get("auth") or os.environ.get("SLUICE_AUTH", "token")
        if auth != "token":
            return []
        try:
            client = client_of(url, auth, patient=False)
            return [name for name in names(client, incomplete) if name.startswith(incomplete)][:MOST]
        except (ApiError, Unreachable, click.UsageError):
            return []

    return complete


def _blocked(client: ApiClient, typed: str) -> Iterable[str]:
    # The filter also finds blocks that have the text elsewhere, which must not take the places of those that begin so.
    page = client.get("/v1/blocks", BlockPage, text=typed or None, limit=PAGE if typed else MOST).value
    return (block.network for block in page.blocks)


def _allowed(client: ApiClient, typed: str) -> Iterable[str]:  # noqa: ARG001
    return (entry.network for entry in client.get("/v1/allowlist", AllowPage).value.entries)


def _rules(client: ApiClient, typed: str) -> Iterable[str]:  # noqa: ARG001
    return (rule.name for rule in client.get("/v1/rules", RuleSetView).value.rules)


complete_blocked, complete_allowed, complete_rule = map(_of_api, (_blocked, _allowed, _rules))
