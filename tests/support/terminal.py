"""The operator's commands, run against a local cloud over HTTP."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sluice.cli import main
from tests.support.site import Site, open_site


class Terminal:
    """Runs ``sluice`` as an operator does."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.environment: dict[str, str | None] = {"SLUICE_URL": site.url, "SLUICE_TOKEN": site.operator}

    def run(self, *words: str, exit_code: int = 0, stdin: str = "") -> Result:
        result = CliRunner().invoke(main, words, input=stdin, env=self.environment)
        assert result.exit_code == exit_code, result.output
        return result

    def json(self, *words: str, **kwargs: Any) -> Any:
        return json.loads(self.run(*words, "--json", **kwargs).stdout)

    def status_that_begins_with(self, words: str) -> str:
        """Waits until what ``sluice status`` shows begins with ``words``, and returns it."""
        self.site.eventually(lambda: self.run("status").stdout.startswith(words))
        return self.run("status").stdout

    def undo(self, result: Result) -> Result:
        """Runs the undo command that a change printed."""
        lines = [line for line in result.stdout.splitlines() if line.startswith("Undo with:")]
        assert len(lines) == 1, result.stdout
        program, *words = shlex.split(lines[0].removeprefix("Undo with:"))
        assert program == "sluice"
        return self.run(*words, *(["--yes"] if words[0] in ("rules", "allow", "disallow") else []))

    def blocked(self) -> list[str]:
        return sorted(block["network"] for block in self.json("blocks", "--all")["blocks"])


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with open_site() as site:
        yield Terminal(site)
