"""``sluice token``: manages the admin API's tokens directly in the store of their hashes, not through the API."""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from chalicelib.core.durations import parse_duration
from chalicelib.core.tokens import SECRET_BYTES, Role, TokensError, issue
from chalicelib.edges.tokens import CACHED_S, FileTokens, ParameterTokens
from chalicelib.ports import Unavailable
from sluice.commands.shared.api import ask, yes_option
from sluice.commands.shared.options import NEW_FILE, json_output, together
from sluice.commands.shared.output import output, table
from sluice.commands.shared.times import DURATION, expiry, local

AUTHORIZED_S = 30
"""Seconds for which API Gateway caches the authorizer's answer."""


store_options = together(
    click.option("--file", type=NEW_FILE, envvar="TOKENS_FILE", help="File with the tokens of a local machine."),
    click.option(
        "--parameter",
        envvar="TOKENS_PARAMETER",
        default="/sluice/tokens",
        show_default=True,
        help="SSM parameter of a deployment, such as /sluice/prod/tokens, unless --file is given.",
    ),
)


@click.group()
def token() -> None:
    """Create, list and revoke tokens of the admin API.

    Only hashes of the tokens are stored.
    """


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default="viewer",
    show_default=True,
    help="An operator may make changes.",
)
@click.option("--for", "lives", type=DURATION, default="90d", show_default=True, help="Time until the token expires.")
@click.option("--forever", is_flag=True, help="Create a token that never expires.")
@store_options
@json_output("Print one JSON object.")
def create(name: str, role: str, lives: str, forever: bool, file: Path | None, parameter: str, as_json: bool) -> None:
    """Create a token and print it once. The audit shows NAME as its holder.

    \b
    sluice token create alice --role operator
    sluice token create wallboard --for 365d
    export SLUICE_TOKEN=$(sluice token create alice --role operator)
    """
    now = int(time.time())
    expires_at = None if forever else now + parse_duration(lives)
    try:
        text, issued = issue(name, Role(role), secret=secrets.token_bytes(SECRET_BYTES), now=now, expires_at=expires_at)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    with _opened(file, parameter) as store:
        store.write((*store.fresh(), issued))
    if as_json:
        click.echo(json.dumps({"id": issued.id, "name": name, "role": role, "expires_at": expires_at, "token": text}))
        return
    click.echo(text)
    expiry = "never expires" if expires_at is None else f"expires {local(expires_at)}"
    click.echo(f"Token {issued.id} of {name} ({role}) {expiry}. It is not shown again.", err=True)
    click.echo(f"Undo with:  sluice token revoke {issued.id}", err=True)


@token.command(name="list")
@store_options
@json_output("Print a JSON array.")
def list_tokens(file: Path | None, parameter: str, as_json: bool) -> None:
    """List the tokens: ids, holders, roles and expiry."""
    now = int(time.time())
    with _opened(file, parameter) as store:
        tokens = store.fresh()
    if as_json:
        fields = ("id", "name", "role", "created_at", "expires_at")
        click.echo(json.dumps([{field: getattr(t, field) for field in fields} for t in tokens]))
        return
    rows = [(t.id, t.name, t.role, local(t.created_at), expiry(t.expires_at, now)) for t in tokens]
    output().print(table(("id", "name", "role", "created", "expires"), rows))


@token.command()
@click.argument("which", metavar="ID|NAME")
@store_options
@yes_option
def revoke(which: str, file: Path | None, parameter: str, yes: bool) -> None:
    """Revoke one token by its id, or by its holder's name if that holder has only one.

    \b
    sluice token revoke 3f2a91c0
    """
    with _opened(file, parameter) as store:
        matches = [t for t in store.fresh() if which in (t.id, t.name)]
        if not matches:
            raise click.ClickException(f"there is no token {which!r}; list them with 'sluice token list'")
        if len(matches) > 1:
            ids = ", ".join(f"{t.id} of {local(t.created_at)}" for t in matches)
            raise click.ClickException(f"{which!r} has {len(matches)} tokens: {ids}. Choose one by its id.")
        revoked = matches[0]
        ask(f"Revoke token {revoked.id} of {revoked.name} ({revoked.role})?", yes=yes)
        store.write(tuple(t for t in store.fresh() if t.hash != revoked.hash))
    accepted_s = CACHED_S + AUTHORIZED_S
    click.echo(f"Revoked token {revoked.id} of {revoked.name}. It may be accepted for another {accepted_s} s.")
    click.echo(f"It cannot be restored. Create a new one:  sluice token create {revoked.name} --role {revoked.role}")


@contextmanager
def _opened(file: Path | None, parameter: str) -> Iterator[FileTokens | ParameterTokens]:
    """Yields the store. Raises ClickException if it cannot be read or written, also while it is being used."""
    try:
        yield FileTokens(file) if file is not None else _parameter_tokens(parameter)
    except (TokensError, Unavailable, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def _parameter_tokens(parameter: str) -> ParameterTokens:
    import boto3  # noqa: PLC0415 - slow to import, and needed only for a deployment
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    try:
        return ParameterTokens(boto3.client("ssm"), parameter)
    except BotoCoreError as exc:
        raise click.ClickException(f"{str(exc).rstrip('.')}. Use --file for the tokens of a local machine.") from exc
