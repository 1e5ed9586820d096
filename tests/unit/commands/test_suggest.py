"""``sluice suggest``: limits between people and machines, and doubts about logs that are too small."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chalicelib.core.rules_toml import parse_rules
from sluice.cli import main
from tests.support import replay_logs as logs
from tests.support.replay_logs import MACHINES, PEOPLE, T0, Hit, every, site


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site") / "log"
    crawler = [
        Hit(T0 + n * 100, "203.0.113.9", agent="Mozilla/5.0%20(compatible;%20Googlebot/2.1)") for n in range(500)
    ]
    monitor = every(0.02, 0, 60, "203.0.113.200")
    path.write_text("".join(logs.realtime(hit) + "\n" for hit in [*site(), *crawler, *monitor]))
    path.with_name("allow").write_text("203.0.113.128/25   # our monitoring\n\n# nothing else\n")
    return path


def suggested(*args: str) -> Any:
    result = CliRunner().invoke(main, ["suggest", *args, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_limit_lies_between_people_and_machines(log: Path) -> None:
    answer = suggested(str(log), "--window", "10s,60s", "--allowlist", str(log.with_name("allow")))
    assert answer["clients"] == PEOPLE + MACHINES
    ten, sixty = answer["windows"]
    assert 12 <= ten["gap"]["below"] < ten["suggested"] < ten["gap"]["above"] == 300
    assert sixty["gap"]["above"] == 600
    assert answer["doubts"] == []


def test_crawlers_and_allowlisted_clients_are_excluded(log: Path) -> None:
    answer = suggested(str(log), "--window", "10s", "--allowlist", str(log.with_name("allow")))
    assert answer["crawlers"] == [{"client": "203.0.113.9/32", "peaks": [100], "requests": 500}]
    assert answer["allowlisted"] == [{"client": "203.0.113.200/32", "peaks": [500], "requests": 3000}]


def test_with_published_lists_only_their_addresses_are_crawlers_and_the_others_are_measured(log: Path) -> None:
    allowlist = ("--window", "10s", "--allowlist", str(log.with_name("allow")))
    by_name = suggested(str(log), *allowlist)
    verified, another = log.with_name("bot.json"), log.with_name("another.txt")
    verified.write_text('{"prefixes": [{"ipv4Prefix": "203.0.113.0/28"}]}')
    another.write_text("198.51.100.0/32\n")
    googlebot = {"client": "203.0.113.9/32", "peaks": [100], "requests": 500}
    listed = suggested(str(log), *allowlist, "--crawlers", str(verified), "--crawlers", str(another))
    assert googlebot in listed["crawlers"]
    assert listed["impostors"] == []
    unlisted = suggested(str(log), *allowlist, "--crawlers", str(another))
    assert googlebot not in unlisted["crawlers"]
    assert unlisted["impostors"] == [googlebot]
    assert unlisted["clients"] == by_name["clients"] + 1 - len(unlisted["crawlers"])
    printed = CliRunner().invoke(main, ["suggest", str(log), *allowlist, "--crawlers", str(another)]).stdout
    assert "# Measured: clients that call themselves crawlers, and are in no list of --crawlers (1):" in printed


def test_the_rule_file_counts_and_names_only_the_machines(log: Path, tmp_path: Path) -> None:
    printed = CliRunner().invoke(main, ["suggest", str(log), "--allowlist", str(log.with_name("allow"))])
    rules = parse_rules(printed.stdout)
    assert {rule.action for rule in rules.rules} == {"count"}
    (tmp_path / "rules.toml").write_text(printed.stdout)
    tried = CliRunner().invoke(main, ["replay", str(log), "--rules", str(tmp_path / "rules.toml"), "--json"])
    named = {offender["client"] for offender in json.loads(tried.stdout)["offenders"]}
    assert {f"192.0.2.{number}/32" for number in range(MACHINES)} <= named
    assert not any(client.startswith("198.51.") for client in named)


def test_a_log_that_is_too_small_raises_doubts(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("".join(logs.combined(hit) + "\n" for hit in every(1, 0, 30)))
    (tmp_path / "edge").write_text("".join(logs.realtime(hit) + "\n" for hit in every(1, 0, 30)))
    doubts = suggested(str(tmp_path), "--window", "2s,60s", "--sample-rate", "5")["doubts"]
    assert [doubt.split(":")[0] for doubt in doubts] == [
        "the log is short",
        "2s",
        "2s",
        "1m",
        "few clients",
        "the log's times are whole seconds",
    ]


def test_nothing_is_suggested_for_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    result = CliRunner().invoke(main, ["suggest", str(tmp_path / "log")])
    assert result.exit_code == 1
    assert result.stdout == ""


@pytest.mark.parametrize("window", ["10", "0s", "2h", "10s;60s"])
def test_an_invalid_window_is_a_usage_error(window: str) -> None:
    assert CliRunner().invoke(main, ["suggest", "-", "--window", window], input=b"").exit_code == 2
