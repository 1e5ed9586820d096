"""``sluice token``: manages the admin API's tokens directly in the store of their hashes, not through the API."""

import json
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from chalicelib.core.durations import parse_duration
from chalicelib.core.tokens import SECRET_BYTES, Role, TokensError, issue
from chalicelib.edges.tokens import CACHED_S, FileTokens, ParameterTokens
from chalicelib.ports import Unavailable
from sluice.commands.shared.api import ask, yes_option
from sluice.commands.shared.deployment import stage_options
from sluice.commands.shared.options import NEW_FILE, json_output
from sluice.commands.shared.output import output, table
from sluice.commands.shared.times import DURATION, expiry, local
from sluice.deploy.account import AwsAccount, AwsError, attempting, connect, missing_ok

AUTHORIZED_S = 30
"""Seconds for which API Gateway caches the authorizer's answer."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place where the tokens of a stage, or of a local machine, are stored."""

    stage: str
    region: str | None
    profile: str | None
    parameter: str | None
    file: Path | None

    @property
    def options(self) -> str:
        """The options by which another command finds the same place, each after a space.

        >>> Place("test", "eu-west-1", None, None, None).options, Place("prod", None, None, None, None).options
        (' --stage test --region eu-west-1', '')
        """
        if self.file is not None:
            return f" --file {shlex.quote(str(self.file))}"
        named = {
            "stage": self.stage if self.stage != "prod" else None,
            "region": self.region,
            "profile": self.profile,
            "parameter": self.parameter,
        }
        return "".join(f" --{name} {shlex.quote(value)}" for name, value in named.items() if value)

    @contextmanager
    def opened(self) -> Iterator[FileTokens | ParameterTokens]:
        """Yields the store. Raises ClickException if it cannot be read or written, also while it is being used."""
        try:
            yield FileTokens(self.file) if self.file is not None else self._parameter()
        except (AwsError, TokensError, Unavailable, OSError) as exc:
            raise click.ClickException(str(exc)) from exc

    def _parameter(self) -> ParameterTokens:
        """Returns the store of a stage, which setup has created: functions read no other. Raises AwsError."""
        account = click.get_current_context().find_object(AwsAccount)
        account = account or connect(region=self.region, profile=self.profile)
        name, client = self.parameter or f"/sluice/{self.stage}/tokens", account.client("ssm")
        with attempting(f"read {name}"), missing_ok("ParameterNotFound"):
            client.get_parameter(Name=name)
            return ParameterTokens(client, name)
        raise AwsError(
            f"{name} does not exist in {account.region}: name a stage that was set up with --stage and --region, or "
            "use --file for the tokens of a local machine. If the parameter was lost, this creates it, with a first "
            f"token: sluice setup --stage {self.stage} --region {account.region}"
        )


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that name the store, which the command receives as ``place``."""

    @stage_options("Deployment whose tokens these are.")
    @click.option("--parameter", envvar="TOKENS_PARAMETER", help="SSM parameter, if it is not /sluice/STAGE/tokens.")
    @click.option("--file", type=NEW_FILE, envvar="TOKENS_FILE", help="File with the tokens of a local machine.")
    @wraps(command)
    def run(
        stage: str, region: str | None, profile: str | None, parameter: str | None, file: Path | None, **arguments: Any
    ) -> None:
        command(place=Place(stage, region, profile, parameter, file), **arguments)

    return run


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
def create(name: str, role: str, lives: str, forever: bool, place: Place, as_json: bool) -> None:
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
    with place.opened() as store:
        store.write((*store.fresh(), issued))
    if as_json:
        click.echo(json.dumps({"id": issued.id, "name": name, "role": role, "expires_at": expires_at, "token": text}))
        return
    click.echo(text)
    expiry = "never expires" if expires_at is None else f"expires {local(expires_at)}"
    click.echo(f"Token {issued.id} of {name} ({role}) {expiry}. It is not shown again.", err=True)
    click.echo(f"Undo with:  sluice token revoke {issued.id}{place.options}", err=True)


@token.command(name="list")
@store_options
@json_output("Print a JSON array.")
def list_tokens(place: Place, as_json: bool) -> None:
    """List the tokens: ids, holders, roles and expiry."""
    now = int(time.time())
    with place.opened() as store:
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
def revoke(which: str, place: Place, yes: bool) -> None:
    """Revoke one token by its id, or by its holder's name if that holder has only one.

    \b
    sluice token revoke 3f2a91c0
    """
    with place.opened() as store:
        matches = [t for t in store.fresh() if which in (t.id, t.name)]
        if not matches:
            raise click.ClickException(f"there is no token {which!r}; 'sluice token list' lists those that exist")
        if len(matches) > 1:
            ids = ", ".join(f"{t.id} of {local(t.created_at)}" for t in matches)
            raise click.ClickException(f"{which!r} has {len(matches)} tokens: {ids}. Choose one by its id.")
        revoked = matches[0]
        ask(f"Revoke token {revoked.id} of {revoked.name} ({revoked.role})?", yes=yes)
        store.write(tuple(t for t in store.fresh() if t.hash != revoked.hash))
    accepted_s = CACHED_S + AUTHORIZED_S
    click.echo(f"Revoked token {revoked.id} of {revoked.name}. It may be accepted for another {accepted_s} s.")
    create = f"sluice token create {shlex.quote(revoked.name)} --role {revoked.role}{place.options}"
    click.echo(f"It cannot be restored. Create a new one:  {create}")
