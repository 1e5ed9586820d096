"""Every command in the operating guide exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

from sluice.cli import main

GUIDE = Path(__file__).parents[2] / "docs" / "operate" / "daily.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [line.strip() for block in BLOCKS for line in block.splitlines() if line.strip().startswith("sluice ")]


def test_the_guide_has_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_guide_is_accepted(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rules.toml").touch()
    _, *words = shlex.split(re.split(r" [<>] ", line)[0])
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        subcommand = command.get_command(context, words.pop(0))
        assert subcommand is not None, line
        command = subcommand
    with command.make_context(command.name, words):
        pass
