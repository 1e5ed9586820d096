"""``sluice explain``: the timeline as text and as JSON."""

import json
from pathlib import Path

from click.testing import CliRunner

from sluice.cli import main
from tests.support import replay_logs as logs
from tests.support.replay_logs import ME, T0, Hit, every

RULE = 'name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"'


def test_the_history_shows_offence_block_and_release(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[rule]]\n" + RULE)
    made = [*every(0.1, -20, -19.5), *every(0.1, 0, 0.6), *every(1, 1, 20), *every(0.1, 0, 9, "198.51.100.1")]
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in made))
    args = ["explain", ME, str(tmp_path / "log"), "--rules", str(tmp_path / "rules.toml")]
    shown = CliRunner().invoke(main, args)
    assert shown.exit_code == 0, shown.output
    assert "192.0.2.1/32: 30 requests" in shown.stdout
    for text in ("near miss: 5 of 5", "over the limit of 5", "blocked for 10s, offence 1", "10 requests were refused"):
        assert text in " ".join(shown.stdout.split())
    answer = json.loads(CliRunner().invoke(main, [*args, "--json"]).stdout)
    assert [event["event"].split(":")[0] for event in answer["events"]] == [
        "near miss",
        "over the limit of 5",
        "blocked for 10s, offence 1",
        "lifted; 10 requests were refused",
    ]
    assert [moment["counts"]["r"] for moment in answer["timeline"][5:11]] == [1, 2, 3, 4, 5, 6]
    assert sum(moment["refused"] for moment in answer["timeline"]) == 10


def test_a_quota_is_shown_as_it_was_used_hour_by_hour(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "daily"\nlimit = 5\nwindow = "1d"')
    start = T0 // 86_400_000 * 86_400_000
    made = [Hit(start + round(hour * 3_600_000), ME) for hour in (0.1, 0.2, 7, 12.5, 12.6, 12.7, 24.15)]
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in made))
    args = ["explain", ME, str(tmp_path / "log"), "--rules", str(tmp_path / "rules.toml")]
    shown = CliRunner().invoke(main, args)
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.stdout.split())
    assert "How the quota of daily (5 in 1d) was used" in text
    assert "blocked for 1d, offence 1: 6 requests from 2025-10-09 00:00:00" in text
    (rule,) = json.loads(CliRunner().invoke(main, [*args, "--json"]).stdout)["rules"]
    hours = [(each["amount"], each["count"]) for each in rule["filled"]]
    assert hours == [(2, 2), (1, 3), (3, 6), (1, 5)], "the window of the last begins at a quarter past twelve"


def test_an_invalid_client_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["explain", "nobody", "-"], input=b"")
    assert result.exit_code == 2
    assert "'nobody' is not an IP address or network" in result.stderr


def test_a_client_without_requests_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(logs.waf(Hit(T0, "198.51.100.1")))
    result = CliRunner().invoke(main, ["explain", ME, str(tmp_path / "log")])
    assert result.exit_code == 0
    assert "made no requests in these logs" in result.stdout


def test_a_path_with_the_markup_of_tables_is_printed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(logs.waf(Hit(T0, ME, path="/[/red]\\x1b[31m")))
    result = CliRunner().invoke(main, ["explain", ME, str(tmp_path / "log")])
    assert result.exit_code == 0, result.output
    assert "/[/red]" in result.stdout
