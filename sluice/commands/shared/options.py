"""Options and rules files that commands of several kinds share."""

import shlex
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from chalicelib.core.addresses import parse_network
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import RulesError, parse_rules

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., None])


class Parsed(click.ParamType[T]):
    """A value that ``parse`` reads from text. The message of its ValueError becomes a usage error."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if not isinstance(value, str):
            return cast("T", value)
        try:
            return self._parse(value)
        except ValueError as exc:
            return self.fail(str(exc), param, ctx)


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


NAME_VALUE = Parsed("NAME=VALUE", _name_and_value)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NETWORK = Parsed("NETWORK", parse_network)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

NEW_FILE = click.Path(dir_okay=False, path_type=Path)


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Returns a decorator that adds all ``options``, in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def json_output(help: str) -> Callable[[Command], Command]:
    """Returns the option ``--json``, which the command receives as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def number_option(
    *names: str, least: int = 1, most: int | None = None, default: int, help: str
) -> Callable[[Command], Command]:
    """Returns an option that takes a whole number from ``least`` to ``most``, both inclusive, and shows its default."""
    return click.option(*names, type=click.IntRange(least, most), default=default, show_default=True, help=help)


def auth_option(help: str, envvar: str | None = None) -> Callable[[Command], Command]:
    """Returns the option ``--auth``, the way in which callers of the API authenticate."""
    choice = click.Choice(("token", "iam"))
    return click.option("--auth", envvar=envvar, type=choice, default="token", show_default=True, help=help)


def without_comments(lines: Iterable[str]) -> list[str]:
    """Returns the lines that are not empty once comments, which begin with '#', are removed."""
    return [text for line in lines if (text := line.partition("#")[0].strip())]


def _read_command(text: str) -> tuple[str, ...]:
    """Returns the words of a command. Raises ValueError."""
    kind, colon, command = text.partition(":")
    words = shlex.split(command) if kind == "exec" and colon else []
    if not words:
        raise ValueError(f"{text!r} is not of the form exec:COMMAND, such as exec:'jq .title'")
    if shutil.which(words[0]) is None:
        raise ValueError(f"exec:COMMAND: there is no command {words[0]!r}")
    return tuple(words)


notify_option = click.option(
    "--notify",
    type=Parsed("exec:COMMAND", _read_command),
    help="Command that is run for each announcement, with its JSON on standard input, as 'sluice setup --notify' would "
    "send it.",
)


seed_option = click.option("--seed", type=int, default=1, show_default=True, help="Seed of all random choices.")


def read_text(path: Path) -> str:
    """Returns the text of a file, without a byte order mark. Raises ClickException if it cannot be read as UTF-8."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as exc:
        raise click.ClickException(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        line = 1 + exc.object.count(b"\n", 0, exc.start)
        raise click.ClickException(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from exc


def read_rules(path: Path) -> tuple[str, RuleSet]:
    """Returns the text of a rules file, and its rules. Raises ClickException with every problem in the file."""
    text = read_text(path)
    try:
        return text, parse_rules(text)
    except RulesError as exc:
        raise click.ClickException("\n".join(f"{path}: {problem}" for problem in exc.problems)) from exc


def nonempty_rules(path: Path) -> RuleSet:
    """Returns the rules in a file. Raises ClickException with every problem in it, or if it contains no rules."""
    _, rules = read_rules(path)
    if not rules.rules:
        raise click.ClickException(f"{path}: contains no rules; add [[rule]] with name, limit and window")
    return rules
