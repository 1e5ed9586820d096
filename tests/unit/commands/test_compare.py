"""``sluice compare``: differences between rule sets, and from AWS WAF's own rule as documented."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sluice.cli import main
from tests.support import replay_logs as logs
from tests.support.replay_logs import S0, every

Run = Callable[..., Result]
ATTACK, SLOW = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = [*every(0.02, 0, 120, ATTACK), *every(0.2, 0, 200, SLOW)]
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in made))
    (tmp_path / "fine.toml").write_text('[[rule]]\nname = "fine"\nlimit = 50\nwindow = "5s"\n')
    (tmp_path / "coarse.toml").write_text(
        '[[rule]]\nname = "coarse"\nlimit = 200\nwindow = "60s"\naggregate = { ipv4 = 24 }\n'
    )

    def compared(*args: str) -> Result:
        named = [str(tmp_path / arg) if arg.endswith(".toml") else arg for arg in args]
        return CliRunner().invoke(main, ["compare", str(tmp_path / "log"), *named])

    return compared


def test_two_rule_sets_are_compared(run: Run) -> None:
    result = run("--rules", "fine.toml", "--rules", "coarse.toml", "--json")
    (comparison,) = json.loads(result.stdout)["comparisons"]
    # The attacker's 51st request comes at 1.0 s. The network's 201st, including the slow client's, comes at 3.6 s.
    assert [(p["client"], p["a_at"] - S0, p["b_at"] - S0) for p in comparison["both"]] == [("192.0.2.1/32", 2, 4)]
    assert comparison["only_a"] == []
    assert comparison["only_b"] == []
    assert comparison["median_a_sooner_s"] == 2


def test_sluice_blocks_sooner_than_the_documented_rate_based_rule(run: Run) -> None:
    result = run("--rules", "fine.toml", "--aws-waf", "100/60s", "--json")
    soon, late = json.loads(result.stdout)["comparisons"]
    assert "modelled, not measured" in soon["b"]["name"]
    assert soon["b"]["modelled"] is True
    # At 300 requests per minute, a check at 20 s or later finds more than 100; the slow client is refused 30 s later.
    assert [(b["client"], b["blocked_at"] - S0) for b in soon["only_b"]] == [("192.0.2.2/32", 60)]
    assert [(p["client"], p["a_sooner_s"]) for p in soon["both"]] == [("192.0.2.1/32", 38)]
    assert [(p["client"], p["a_sooner_s"]) for p in late["both"]] == [("192.0.2.1/32", 58)]


def test_the_tables_mark_what_is_modelled(run: Run) -> None:
    result = run("--rules", "fine.toml", "--aws-waf", "100/60s")
    assert result.exit_code == 0
    assert "modelled, not measured" in " ".join(result.stdout.split())
    assert "A blocks 1 sooner; median 38 s" in result.stdout


def test_a_single_side_is_compared_from_the_rules_that_setup_installs(run: Run) -> None:
    assert run().exit_code == 2
    for side in (("--rules", "fine.toml"), ("--aws-waf", "100/60s")):
        result = run(*side)
        assert result.exit_code == 0
        assert "rules.toml" in " ".join(result.stdout.split())


@pytest.mark.parametrize("text", ["9/60s", "100/30s", "100/90s", "100", "many/60s", "100/60"])
def test_a_rule_that_aws_waf_does_not_accept_is_a_usage_error(text: str, run: Run) -> None:
    result = run("--rules", "fine.toml", "--aws-waf", text)
    assert result.exit_code == 2
    assert "100/60s" in " ".join(result.stderr.split())


def test_a_guilty_network_is_blocked_by_the_side_whose_rules_block_networks(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in [*logs.since_days(S0), *logs.fleet(S0)]))
    rule = '[[rule]]\nname = "burst"\nlimit = 10\nwindow = "5s"\n'
    for name, text in (("alone.toml", rule), ("networks.toml", f"[networks]\n{rule}")):
        (tmp_path / name).write_text(text)
    rules = ("--rules", str(tmp_path / "networks.toml"), "--rules", str(tmp_path / "alone.toml"))
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "log"), *rules, "--json"])
    (comparison,) = json.loads(result.stdout)["comparisons"]
    assert comparison["only_a"] == [
        {"client": "192.0.2.0/24", "blocked_at": S0 + 40, "refused": 0, "rules": ["[networks]"]}
    ]
    assert (len(comparison["both"]), comparison["only_b"]) == (8, [])
