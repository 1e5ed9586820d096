"""Output of the commands: tables and text for people, JSON for programs."""

import json
from collections.abc import Container, Iterable, Sequence
from typing import IO, Any, Literal

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.core.printable import printable

PIPE_WIDTH = 200
"""Columns of the output if it is not a terminal."""


class PlainConsole(Console):
    """A console that prints ``str`` as it is: ``plain``, in tables as well, without markup. Styles need ``Text``."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_lines(text), **{**options, "markup": False, "emoji": False})


def output(file: IO[Any] | None = None, *, quiet: bool = False, width: int = PIPE_WIDTH) -> PlainConsole:
    """Returns a console, which is ``width`` columns wide without a terminal, so that few lines wrap."""
    console = PlainConsole(file=file, quiet=quiet, highlight=False)
    return console if console.is_terminal else PlainConsole(file=file, quiet=quiet, highlight=False, width=width)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    right: Container[str] = (),
    keep: Container[str] = (),
) -> Table:
    """Returns a table without borders, which fits more text on a narrow terminal.

    Cells other than Text are made ``printable``, so text that a client wrote never looks like another row.
    Columns named in ``right`` are right-aligned, those in ``keep`` are not wrapped, and each is at least as wide as its
    heading, or ten characters if that is less.
    """
    result = Table(title=title, title_justify="left", show_header=any(columns), box=None, pad_edge=False)
    for column in columns:
        width = min(10, max(map(len, column.split("\n"))))
        align: Literal["left", "right"] = "right" if column in right else "left"
        result.add_column(column, justify=align, no_wrap=column in keep, min_width=width, overflow="fold")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row))
    return result


def plain(text: str) -> Text:
    """Returns ``text`` with every line ``printable``: clients and other operators wrote parts of it."""
    return Text(_lines(text))


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def print_json(value: Any) -> None:
    """Prints a value as JSON, dataclasses as objects of their fields, and networks as text."""
    click.echo(json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2))
