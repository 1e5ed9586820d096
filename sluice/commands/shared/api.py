"""The operator's commands: the connection to the API, printing answers and refusals, and asking before changes."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import IO, Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.admin.changes import ChangeAnswer
from sluice.api_client import Answer, ApiClient, ApiError, Bearer, Signature, Unreachable
from sluice.undo import commands

T = TypeVar("T")
C = TypeVar("C", bound=ChangeAnswer)
Part = Table | Text | str

PIPE_WIDTH = 200
"""Columns of the output where there is no terminal."""


class RefusedCommand(click.ClickException):
    """A refused call, printed as field, value and accepted form; with ``--json`` as it came."""

    def __init__(self, error: ApiError, *, as_json: bool) -> None:
        super().__init__(str(error))
        self.error, self.as_json = error, as_json

    def show(self, file: IO[Any] | None = None) -> None:
        if self.as_json:
            click.echo(json.dumps(self.error.document), err=True)
            return
        problem = self.error.problem
        console = output(file or sys.stderr)
        console.print(Text.assemble(("Error: ", "bold red"), plain(problem.detail)))
        if problem.errors:
            rows = [(fault.field, fault.value, fault.accepted) for fault in problem.errors]
            console.print(table(("field", "value", "accepted"), rows))
        if self.error.needs_force:
            console.print("Nothing was changed. Use --force to do it anyway.")


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a command: the API it calls, and the form of its output."""

    client: ApiClient
    as_json: bool

    def show(self, answer: Answer[T], view: Callable[[T], Iterable[Part]]) -> None:
        """Prints an answer: its JSON with ``--json``, otherwise the parts that ``view`` makes of it."""
        if self.as_json:
            click.echo(json.dumps(answer.document))
        else:
            self.print(*view(answer.value))

    def print(self, *parts: Part) -> None:
        """Prints parts for people; nothing with ``--json``."""
        if not self.as_json:
            console = output()
            for part in parts:
                console.print(plain(part) if isinstance(part, str) else part)

    def show_change(self, answer: Answer[C]) -> None:
        """Prints the outcome of a change and the command that undoes it."""
        self.show(answer, lambda change: [as_sentence(change.detail)])
        if not self.as_json:
            undo = answer.value.undo
            for command in commands(undo) if undo else ():
                click.echo(f"Undo with:  {printable(command)}")

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Turns errors of the API into messages of the command."""
        try:
            yield
        except ApiError as exc:
            raise RefusedCommand(exc, as_json=self.as_json) from exc
        except Unreachable as exc:
            raise click.ClickException(str(exc)) from exc


def api_command(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options ``--url``, ``--auth`` and ``--json`` and passes a Session as the first argument."""

    @click.option("--url", envvar="SLUICE_URL", metavar="URL", show_envvar=True, help="Address of the admin API.")
    @click.option(
        "--auth",
        envvar="SLUICE_AUTH",
        type=click.Choice(("token", "iam")),
        default="token",
        show_default=True,
        help="Send the token in SLUICE_TOKEN, or sign with AWS credentials; must match the API's ADMIN_AUTH.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the API's answer as JSON.")
    @wraps(command)
    def run(url: str | None, auth: str, as_json: bool, **kwargs: Any) -> None:
        session = Session(_client(url, auth), as_json)
        with session.refusals():
            command(session, **kwargs)

    return run


def _client(url: str | None, auth: str) -> ApiClient:
    token = os.environ.get("SLUICE_TOKEN", "").strip()
    if not url:
        raise click.UsageError("The address of the admin API is missing. Set SLUICE_URL, or give --url.")
    if auth == "token" and not token:
        raise click.UsageError("SLUICE_TOKEN is not set. 'sluice token create' creates a token.")
    try:
        return ApiClient(url, Signature() if auth == "iam" else Bearer(token))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


def ask(question: str, *, yes: bool) -> None:
    """Returns if the operator agrees and aborts otherwise. Without a terminal, ``--yes`` is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to answer on: give --yes.")
    click.confirm(question, abort=True, err=True)


def read_networks(arguments: Sequence[str]) -> list[str]:
    """Returns the networks given as arguments, each once.

    ``-`` reads standard input, one network per line; '#' starts a comment.
    """
    networks: list[str] = []
    for argument in arguments:
        if argument != "-":
            networks.append(argument)
            continue
        lines = (line.partition("#")[0].strip() for line in sys.stdin)
        networks += [line for line in lines if line]
    if not networks:
        raise click.UsageError("no network is given")
    return list(dict.fromkeys(networks))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """Returns a table; the columns named in ``right`` are right-aligned."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else plain(str(cell)) for cell in row))
    return result


def output(file: IO[Any] | None = None) -> Console:
    """Returns a console that, without a terminal, is wide enough not to wrap lines."""
    console = Console(file=file, highlight=False)
    return console if console.is_terminal else Console(file=file, highlight=False, width=PIPE_WIDTH)


def printable(text: str) -> str:
    """Replaces what could control the terminal: clients and other operators wrote parts of this text."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def plain(text: str) -> Text:
    return Text("\n".join(printable(line) for line in text.split("\n")))


def as_sentence(text: str) -> str:
    """Adds a capital and a full stop.

    >>> as_sentence("paused: nothing new is blocked")
    'Paused: nothing new is blocked.'
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
