"""The commands in the tuning guide run as printed."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.replay import duckdb_queries
from chalicelib.core.rules_toml import parse_rules
from sluice.cli import main
from tests.support import replay_logs as logs
from tests.support.replay_logs import MACHINES, Hit, every, site

GUIDE = Path(__file__).parents[2] / "docs" / "tuning.md"


def commands() -> list[str]:
    examples = re.findall(r"```sh\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return [line for text in examples for line in text.splitlines()]


def run(line: str) -> str:
    """Runs a command, follows its redirection if any, and returns its output."""
    words = shlex.split(line)
    if words[0] != "sluice":
        subprocess.run(line, shell=True, check=True)
        return ""
    arguments, target = (words[1:-2], words[-1]) if words[-2] == ">" else (words[1:], None)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, f"{line}: {result.output}"
    if target:
        Path(target).write_text(result.stdout)
    return result.stdout


@pytest.mark.slow
def test_the_six_steps_lead_from_logs_to_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    monitor = every(0.1, 0, 60, "203.0.113.200")
    (tmp_path / "logs" / "day.log").write_text("".join(logs.v2_json(hit) + "\n" for hit in [*site(), *monitor]))
    monkeypatch.chdir(tmp_path)
    outputs = {line: run(line) for line in commands()}
    assert {rule.action for rule in parse_rules(Path("tuned.toml").read_text()).rules} == {"count"}
    assert {rule.action for rule in parse_rules(Path("enforced.toml").read_text()).rules} == {"block"}
    assert Path("report.html").stat().st_size > 10_000
    (enforced,) = (text for line, text in outputs.items() if line.startswith("sluice replay") and "enforced" in line)
    assert all(f"192.0.2.{number}/32" in enforced for number in range(MACHINES))
    assert "198.51." not in enforced
    (history,) = (text for line, text in outputs.items() if line.startswith("sluice explain"))
    assert "would be blocked for 10m" in " ".join(history.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "header", "line"),
    [
        pytest.param(duckdb_queries()[0], logs.STANDARD_HEADER, logs.standard, id="CloudFront standard"),
        pytest.param(duckdb_queries()[1], "", logs.waf, id="AWS WAF"),
    ],
)
def test_the_queries_list_the_clients_that_replay_names(
    query: str, header: str, line: Callable[[Hit], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "day.log").write_text(header + "".join(line(hit) + "\n" for hit in site()))
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "burst"\nlimit = 100\nwindow = "5s"\n')
    monkeypatch.chdir(tmp_path)
    listed = sorted(f"{client}/32" for (client,) in duckdb.sql(query).fetchall())
    assert listed == [f"192.0.2.{number}/32" for number in range(MACHINES)]
    replayed = json.loads(run("sluice replay logs/ --rules rules.toml --json"))
    assert listed == sorted(offender["client"] for offender in replayed["offenders"])


def test_the_queries_have_six_lines() -> None:
    assert [len(query.splitlines()) for query in duckdb_queries()] == [6, 6]


def test_the_guide_has_six_steps() -> None:
    assert re.findall(r"^## (\d)\.", GUIDE.read_text("utf-8"), re.MULTILINE) == list("123456")
