"""What the operator's commands share: where the API is, how answers and refusals are shown, when to ask first."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import IO, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sluice.api_client import ApiClient, Bearer, Problem, Signature, Unreachable
from sluice.undo import commands

PIPE_WIDTH = 200
MOST_AT_ONCE = 40
"""Networks the API takes in one call."""


class Refused(click.ClickException):
    """A problem document, shown as field, value and accepted form; with ``--json``, as it came."""

    def __init__(self, problem: Problem, *, as_json: bool) -> None:
        super().__init__(str(problem))
        self.document, self.as_json = problem.document, as_json
        self.hint = "Nothing was changed. --force does it all the same." if problem.needs_force else ""

    def show(self, file: IO[Any] | None = None) -> None:
        if self.as_json:
            click.echo(json.dumps(self.document), err=True)
            return
        console = output(file or sys.stderr)
        console.print(Text.assemble(("Error: ", "bold red"), plain(self.document["detail"])))
        faults = self.document.get("errors", ())
        if faults:
            rows = [(fault["field"], fault["value"], fault["accepted"]) for fault in faults]
            console.print(table(("field", "value", "accepted"), rows))
        if self.hint:
            console.print(self.hint)


@dataclass(frozen=True, slots=True)
class Desk:
    """One command's run."""

    client: ApiClient
    as_json: bool

    def show(self, answer: Any, *parts: Table | Text | str) -> None:
        """``answer`` with ``--json``, else ``parts``."""
        if self.as_json:
            click.echo(json.dumps(answer))
            return
        console = output()
        for part in parts:
            console.print(plain(part) if isinstance(part, str) else part)

    def changed(self, answer: Any, *parts: Table | Text) -> None:
        """What came of a change, and the command that undoes it."""
        self.show(answer, sentence(answer["detail"]), *parts)
        if not self.as_json and answer["undo"] is not None:
            for command in commands(answer["undo"]):
                click.echo(f"Undo with:  {printable(command)}")

    @contextmanager
    def refusals(self) -> Iterator[None]:
        try:
            yield
        except Problem as exc:
            raise Refused(exc, as_json=self.as_json) from exc
        except Unreachable as exc:
            raise click.ClickException(str(exc)) from exc


def desk(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command its options ``--url``, ``--auth`` and ``--json``, and a Desk as its first argument."""

    @click.option("--url", envvar="SLUICE_URL", metavar="URL", show_envvar=True, help="Address of the admin API.")
    @click.option(
        "--auth",
        envvar="SLUICE_AUTH",
        type=click.Choice(("token", "iam")),
        default="token",
        show_default=True,
        help="Call with the token in SLUICE_TOKEN, or sign with AWS credentials: as ADMIN_AUTH says.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the API's answer, as JSON.")
    @wraps(command)
    def run(url: str | None, auth: str, as_json: bool, **kwargs: Any) -> None:
        here = Desk(_client(url, auth), as_json)
        with here.refusals():
            command(here, **kwargs)

    return run


def _client(url: str | None, auth: str) -> ApiClient:
    token = os.environ.get("SLUICE_TOKEN", "").strip()
    if not url:
        raise click.UsageError("Where is the admin API? Set SLUICE_URL, or give --url.")
    if auth == "token" and not token:
        raise click.UsageError("SLUICE_TOKEN is not set. 'sluice token create' makes one.")
    try:
        return ApiClient(url, Signature() if auth == "iam" else Bearer(token))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def ask(question: str, *, yes: bool) -> None:
    """Goes on if the operator agrees; aborts otherwise. Where nobody can be asked, ``--yes`` is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to answer: give --yes.")
    click.confirm(question, abort=True, err=True)


def listed(networks: Sequence[str]) -> list[str]:
    """The networks of the command line; ``-`` stands for those on standard input, one a line, '#' starts a comment."""
    found: list[str] = []
    for network in networks:
        if network != "-":
            found.append(network)
            continue
        lines = (line.partition("#")[0].strip() for line in sys.stdin)
        found += [line for line in lines if line]
    if not found:
        raise click.UsageError("no network is given")
    return list(dict.fromkeys(found))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else plain(str(cell)) for cell in row))
    return shown


def output(file: IO[Any] | None = None) -> Console:
    """A console; without a terminal, wide enough that a line stays a line."""
    console = Console(file=file, highlight=False)
    return console if console.is_terminal else Console(file=file, highlight=False, width=PIPE_WIDTH)


def printable(text: str) -> str:
    """Without anything that would move a terminal's cursor: some of what is shown, clients and colleagues wrote."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def plain(text: str) -> Text:
    return Text("\n".join(printable(line) for line in text.split("\n")))


def sentence(text: str) -> str:
    """Text as a sentence.

    >>> sentence("paused: nothing new is blocked")
    'Paused: nothing new is blocked.'
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
