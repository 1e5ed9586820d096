"""The guide to migration agrees with the code: its commands run, and its table names every old parameter."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from sluice.cli import main
from sluice.migration.stack_lists import MANAGED, REPLACED, RETENTION
from sluice.migration.stack_rules import USED_BY
from tests.support.replay_logs import T0, Hit, waf
from tests.support.security_automations import APP_LOG_CONF, PARAMETERS, WAF_LOG_CONF, documents, dumped

GUIDE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text("utf-8")
TABLE = re.search(r"\| old feature \|.*\n\|[-|]+\n((?:\|.*\n)+)", GUIDE)
assert TABLE is not None
ROWS = [[cell.strip() for cell in row.strip("|").split("|")] for row in TABLE[1].splitlines()]


def test_every_parameter_of_the_old_solution_is_in_the_table() -> None:
    named = set(re.findall(r"`(\w+)`", "".join(row[1] for row in ROWS)))
    assert named >= {*PARAMETERS, *MANAGED, *REPLACED, *RETENTION.values(), *USED_BY}
    conf: Any
    for conf in (WAF_LOG_CONF, APP_LOG_CONF):
        assert named >= {"uriList", *conf["general"]}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_row_names_a_command_that_shows_it(row: list[str]) -> None:
    program, *words = shlex.split(row[3].strip("`"))
    assert program == "sluice"
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_commands_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exported").mkdir()
    for name, text in dumped(documents()).items():
        (tmp_path / "exported" / name).write_text(text)
    (tmp_path / "logs").mkdir()
    hits = [Hit(T0 + 100 * number, "192.0.2.1") for number in range(150)]
    (tmp_path / "logs" / "waf.log").write_text("".join(waf(hit) + "\n" for hit in hits))
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^ *```sh\n(.*?)```", GUIDE, re.DOTALL | re.MULTILINE)
    outputs = {}
    for line in "".join(examples).splitlines():
        program, *words = shlex.split(line)
        assert program == "sluice"
        result = CliRunner().invoke(main, words, env={"SLUICE_URL": ""})
        assert result.exit_code == 0, (line, result.output)
        outputs[words[0]] = result.stdout
    assert set(outputs) == {"migrate", "replay", "compare"}
    assert "192.0.2.1/32" in outputs["replay"]
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    assert example in Path("rules.toml").read_text()


def test_the_keys_of_fail2ban_in_the_guide_are_those_that_are_read(tmp_path: Path) -> None:
    jails = "[DEFAULT]\nignoreip = 192.0.2.0/24\nenabled = true\n[nginx-http-auth]\nbantime = -1\n[sshd]\n"
    (tmp_path / "jail.conf").write_text(jails)
    result = CliRunner().invoke(main, ["migrate", "--from", "fail2ban", str(tmp_path / "jail.conf"), "--json"])
    answer = json.loads(result.stdout)
    assert 'block_for = "366d"' in answer["rules"]
    assert [each["network"] for each in answer["allowlist"]] == ["192.0.2.0/24"]
    assert {"setting": "[sshd]", "becomes": "by hand"}.items() <= next(
        row for row in answer["settings"] if row["setting"] == "[sshd]"
    ).items()
