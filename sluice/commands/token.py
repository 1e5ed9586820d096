"""``sluice token``: who may use the admin API. Works on the store of the tokens' hashes, not through the API."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import click

from chalicelib.admin.wording import roughly
from chalicelib.core.durations import parse_duration
from chalicelib.core.tokens import SECRET_BYTES, Role, Token, TokensError, issue
from chalicelib.edges.tokens import CACHED_S, FileTokens, ParameterTokens
from chalicelib.ports import Unavailable
from sluice.commands.shared.api import ask, output, table, yes_option
from sluice.commands.shared.times import Duration, local

AUTHORIZED_S = 30
Store = FileTokens | ParameterTokens


def stored(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that name the store."""
    file = click.option(
        "--file", type=click.Path(dir_okay=False, path_type=Path), envvar="TOKENS_FILE", help="A file of one machine."
    )
    parameter = click.option(
        "--parameter",
        envvar="TOKENS_PARAMETER",
        default="/sluice/tokens",
        show_default=True,
        help="The SSM parameter of a deployment; unless --file is given.",
    )
    return file(parameter(command))


@click.group()
def token() -> None:
    """Tokens of the admin API: only their hashes are kept."""


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default="viewer",
    show_default=True,
    help="operator may change.",
)
@click.option("--for", "lives", type=Duration(), default="90d", show_default=True, help="How long it is accepted.")
@click.option("--forever", is_flag=True, help="No expiry.")
@stored
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def create(name: str, role: str, lives: str, forever: bool, file: Path | None, parameter: str, as_json: bool) -> None:
    """Make a token, and print it: this once. NAME is who holds it, for the audit.

    \b
    sluice token create alice --role operator
    sluice token create wallboard --for 365d
    export SLUICE_TOKEN=$(sluice token create alice --role operator)
    """
    store = _store(file, parameter)
    now = int(time.time())
    expires_at = None if forever else now + parse_duration(lives)
    try:
        text, kept = issue(name, Role(role), secret=secrets.token_bytes(SECRET_BYTES), now=now, expires_at=expires_at)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    _edit(store, lambda tokens: (*tokens, kept))
    if as_json:
        click.echo(json.dumps({"id": kept.id, "name": name, "role": role, "expires_at": expires_at, "token": text}))
        return
    click.echo(text)
    expiry = "never expires" if expires_at is None else f"expires {local(expires_at)}"
    click.echo(f"Token {kept.id} of {name} ({role}) {expiry}. It is not shown again.", err=True)
    click.echo(f"Undo with:  sluice token revoke {kept.id}", err=True)


@token.command(name="list")
@stored
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_tokens(file: Path | None, parameter: str, as_json: bool) -> None:
    """Whose tokens there are."""
    tokens, now = _read(_store(file, parameter)), int(time.time())
    if as_json:
        found = [
            {"id": t.id, **{k: getattr(t, k) for k in ("name", "role", "created_at", "expires_at")}} for t in tokens
        ]
        click.echo(json.dumps(found))
        return
    rows = [(t.id, t.name, t.role, local(t.created_at), _expiry(t, now)) for t in tokens]
    output().print(table(("id", "name", "role", "created", "expires"), rows))


@token.command()
@click.argument("which", metavar="ID|NAME")
@stored
@yes_option
def revoke(which: str, file: Path | None, parameter: str, yes: bool) -> None:
    """Revoke one token, by its id or, if there is only one of that name, by name.

    \b
    sluice token revoke 3f2a91c0
    """
    store = _store(file, parameter)
    found = [t for t in _read(store) if which in (t.id, t.name)]
    if not found:
        raise click.ClickException(f"there is no token {which!r}; 'sluice token list' shows those there are")
    if len(found) > 1:
        ids = ", ".join(f"{t.id} of {local(t.created_at)}" for t in found)
        raise click.ClickException(f"{which!r} has {len(found)} tokens: {ids}. Say which, by its id.")
    gone = found[0]
    ask(f"Revoke token {gone.id} of {gone.name} ({gone.role})?", yes=yes)
    _edit(store, lambda tokens: tuple(t for t in tokens if t.hash != gone.hash))
    click.echo(f"Revoked token {gone.id} of {gone.name}. It may be accepted for another {CACHED_S + AUTHORIZED_S} s.")
    click.echo(f"It cannot come back; a new one:  sluice token create {gone.name} --role {gone.role}")


def _store(file: Path | None, parameter: str) -> Store:
    if file is not None:
        return FileTokens(file)
    import boto3  # noqa: PLC0415 - slow to import, and needed only for a deployment
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    try:
        return ParameterTokens(boto3.client("ssm"), parameter)
    except BotoCoreError as exc:
        raise click.ClickException(f"{exc} Or name a --file.") from exc


def _read(store: Store) -> tuple[Token, ...]:
    try:
        return store.fresh()
    except (TokensError, Unavailable, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def _edit(store: Store, change: Callable[[tuple[Token, ...]], tuple[Token, ...]]) -> None:
    tokens = change(_read(store))
    try:
        store.write(tokens)
    except (TokensError, Unavailable, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def _expiry(token: Token, now: int) -> str:
    if token.expires_at is None:
        return "never"
    return "expired" if token.expires_at <= now else f"in {roughly(token.expires_at - now)}"
