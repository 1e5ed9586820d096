"""Shared by the operator's commands: connecting to the API, printing answers and refusals, asking before changes."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from typing import IO, Any, TypeVar

import click
from rich.progress import track
from rich.table import Table
from rich.text import Text

from chalicelib.admin.changes import ChangeAnswer
from chalicelib.core.addresses import parse_network
from chalicelib.core.printable import printable
from chalicelib.core.wording import plural
from sluice.api_client import Answer, ApiClient, ApiError, Unreachable, bearer, signature
from sluice.commands.shared.options import auth_option, json_output, without_comments
from sluice.commands.shared.output import output, plain, table
from sluice.undo import commands

MOST_FAULTS = 10
"""Most lines of a list that an error names."""

T = TypeVar("T")
Printable = Table | Text | str


class RefusedCommand(click.ClickException):
    """A refused call, printed as field, value and accepted form; with ``--json``, as the API's problem document."""

    def __init__(self, error: ApiError, *, as_json: bool) -> None:
        super().__init__(str(error))
        self.error, self.as_json = error, as_json

    def show(self, file: IO[Any] | None = None) -> None:
        if self.as_json:
            click.echo(json.dumps(self.error.document), err=True)
            return
        problem = self.error.problem
        console = output(file or sys.stderr)
        detail = problem.detail
        for place in {fault.place for fault in problem.errors}:  # operators gave options, not bodies and queries
            detail = detail.removeprefix(f"{place}: ").replace(f"; {place}: ", "; ")
        console.print(Text.assemble(("Error: ", "bold red"), plain(detail)))
        faults = [each for each in problem.errors if each.accepted not in detail or each.value not in detail]
        if faults:
            rows = [(fault.field, fault.value, fault.accepted) for fault in faults]
            console.print(table(("field", "value", "accepted"), rows))
        if self.error.needs_force:
            console.print("The refused call changed nothing. Use --force to make it anyway.")


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a command: the API it calls, and the form of its output."""

    client: ApiClient
    as_json: bool

    def show(self, answer: Answer[T], view: Callable[[T], Iterable[Printable]]) -> None:
        """Prints an answer: its JSON with ``--json``, otherwise the parts that ``view`` makes of it."""
        if self.as_json:
            click.echo(json.dumps(answer.document))
        else:
            self.print(*view(answer.value))

    def print(self, *parts: Printable) -> None:
        """Prints parts for people; nothing with ``--json``."""
        if not self.as_json:
            console = output()
            for part in parts:
                console.print(plain(part) if isinstance(part, str) else part)

    def change(self, method: str, path: str, **call: Any) -> None:
        """Makes a call that changes something, and prints the outcome and the command that undoes it."""
        answer = self.client.call(method, path, ChangeAnswer, **call)
        self.show(answer, lambda change: [as_sentence(change.detail)])
        if not self.as_json and (undo := answer.value.undo):
            for command in commands(undo):
                click.echo(f"Undo with:  {printable(command)}")


def api_command(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options ``--url``, ``--auth`` and ``--json`` and passes a Session as the first argument."""

    @click.option("--url", envvar="SLUICE_URL", metavar="URL", show_envvar=True, help="Address of the admin API.")
    @auth_option(
        "Send the token in SLUICE_TOKEN, or sign with AWS credentials; must match the API's ADMIN_AUTH.",
        envvar="SLUICE_AUTH",
    )
    @json_output("Print the API's answer as JSON.")
    @wraps(command)
    def run(url: str | None, auth: str, as_json: bool, **arguments: Any) -> None:
        try:
            command(Session(client_of(url, auth), as_json), **arguments)
        except ApiError as exc:
            raise RefusedCommand(exc, as_json=as_json) from exc
        except Unreachable as exc:
            raise click.ClickException(str(exc)) from exc

    return run


def client_of(url: str | None, auth: str, *, patient: bool = True) -> ApiClient:
    """Returns a client of the admin API at ``url``. Raises UsageError if address, token or credentials are missing.

    ``patient``: as ApiClient has it.
    """
    token = os.environ.get("SLUICE_TOKEN", "").strip()
    if not url:
        raise click.UsageError("The address of the admin API is missing. Set SLUICE_URL, or give --url.")
    if auth == "token" and not token:
        raise click.UsageError("SLUICE_TOKEN is not set. 'sluice token create' creates a token.")
    try:
        return ApiClient(url, signature() if auth == "iam" else bearer(token), patient=patient)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


def ask(question: str, *, yes: bool) -> None:
    """Asks for confirmation, and aborts without it. Without a terminal, ``--yes`` is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to answer on: give --yes.")
    click.confirm(question, abort=True, err=True)


networks_argument = click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")


def confirmed(arguments: Sequence[str], question: str, noun: str = "network", *, yes: bool) -> list[str]:
    """Returns the networks given as arguments, each once, after asking ``question`` if there are several.

    ``-`` reads standard input, one network per line; '#' starts a comment. ``{}`` in the question is replaced with the
    number of networks, followed by ``noun``. Raises UsageError that names the lines which do not begin with a network,
    so that of a long list nothing is changed.
    """
    lists = (_listed(list(sys.stdin)) if argument == "-" else [argument] for argument in arguments)
    networks = list(dict.fromkeys(chain.from_iterable(lists)))
    if not networks:
        raise click.UsageError("no network is given")
    if len(networks) > 1:
        ask(question.format(plural(len(networks), noun)), yes=yes)
    return networks


def _listed(lines: Sequence[str]) -> list[str]:
    """Returns the lines without comments. Raises UsageError if one does not begin with a network."""
    faults = []
    for number, line in enumerate(lines, 1):
        for text in without_comments([line]):
            try:
                parse_network(text.split()[0])
            except ValueError as exc:
                faults.append(f"line {number}: {exc}")
    if faults:
        more = [f"and {plural(len(faults) - MOST_FAULTS, 'further line')}"] if len(faults) > MOST_FAULTS else []
        raise click.UsageError("\n".join(["Nothing was changed.", *faults[:MOST_FAULTS], *more]))
    return without_comments(lines)


def portions(networks: Sequence[str], size: int, session: Session) -> Iterable[Sequence[str]]:
    """Returns up to ``size`` networks at a time, with a progress bar if there are several portions."""
    parts = [networks[start : start + size] for start in range(0, len(networks), size)]
    quiet = len(parts) == 1 or session.as_json
    return track(parts, "", console=output(sys.stderr), disable=quiet, transient=True)


def as_sentence(text: str) -> str:
    """Makes the first letter a capital and adds a full stop if there is none.

    >>> as_sentence("paused: rules block no new client")
    'Paused: rules block no new client.'
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
