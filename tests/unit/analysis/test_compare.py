"""``sluice compare``: differences between rule sets, and against AWS WAF's own rule as documented."""

import json
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.analysis.aws_waf_model import CHECK_S, RateBasedRule, refusals
from sluice.analysis.compare import Blocked, Side, compare
from sluice.cli import main
from tests.support import replay_logs as logs
from tests.unit.replay.test_verdicts import S0, every

ATTACK, SLOW = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    made = [*every(0.02, 0, 120, ATTACK), *every(0.2, 0, 200, SLOW)]
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in made))
    (tmp_path / "fine.toml").write_text('[[rule]]\nname = "fine"\nlimit = 50\nwindow = "5s"\n')
    (tmp_path / "coarse.toml").write_text(
        '[[rule]]\nname = "coarse"\nlimit = 200\nwindow = "60s"\naggregate = { ipv4 = 24 }\n'
    )

    def compared(*args: str) -> Any:
        named = [str(tmp_path / arg) if arg.endswith(".toml") else arg for arg in args]
        return CliRunner().invoke(main, ["compare", str(tmp_path / "log"), *named])

    return compared


def test_two_rule_sets_are_held_against_each_other(run: Callable[..., Any]) -> None:
    result = run("--rules", "fine.toml", "--rules", "coarse.toml", "--json")
    (comparison,) = json.loads(result.stdout)["comparisons"]
    # The attacker's 51st request comes at 1.0 s; the network's 201st with the slow one's help at 3.6 s.
    assert [(p["client"], p["a_at"] - S0, p["b_at"] - S0) for p in comparison["both"]] == [("192.0.2.1/32", 2, 4)]
    assert comparison["only_a"] == []
    assert comparison["only_b"] == []
    assert comparison["median_a_sooner_s"] == 2


def test_sluice_blocks_sooner_than_the_documented_rate_based_rule(run: Callable[..., Any]) -> None:
    result = run("--rules", "fine.toml", "--aws-waf", "100/60s", "--json")
    soon, late = json.loads(result.stdout)["comparisons"]
    assert "modelled, not measured" in soon["b"]["name"]
    assert soon["b"]["modelled"] is True
    # 300 requests a minute are over 100 at the check at 20 s at the latest: 30 s later the slow client is refused.
    assert [(one["client"], one["blocked_at"] - S0) for one in soon["only_b"]] == [("192.0.2.2/32", 60)]
    assert [(p["client"], p["a_sooner_s"]) for p in soon["both"]] == [("192.0.2.1/32", 38)]
    assert [(p["client"], p["a_sooner_s"]) for p in late["both"]] == [("192.0.2.1/32", 58)]


def test_the_tables_say_what_is_modelled(run: Callable[..., Any]) -> None:
    result = run("--rules", "fine.toml", "--aws-waf", "100/60s")
    assert result.exit_code == 0
    assert "modelled, not measured" in " ".join(result.stdout.split())
    assert "A blocks 1 sooner; median 38 s" in result.stdout


def test_one_thing_cannot_be_compared(run: Callable[..., Any]) -> None:
    assert run("--rules", "fine.toml").exit_code == 2
    assert run("--aws-waf", "100/60s").exit_code == 2


@pytest.mark.parametrize("text", ["9/60s", "100/30s", "100/90s", "100", "many/60s", "100/60"])
def test_what_aws_waf_does_not_take_is_a_usage_error(text: str, run: Callable[..., Any]) -> None:
    result = run("--rules", "fine.toml", "--aws-waf", text)
    assert result.exit_code == 2
    assert "100/60s" in " ".join(result.stderr.split())


@given(
    st.dictionaries(st.integers(0, 300), st.integers(1, 6), min_size=1, max_size=40),
    st.integers(10, 30),
    st.sampled_from([30, 50]),
)
@settings(max_examples=150, deadline=None)
def test_the_model_is_its_description(seconds: dict[int, int], limit: int, lag_s: int) -> None:
    rule = RateBasedRule(limit, 60)
    found = refusals(seconds, rule, lag_s)
    for second in range(500):
        # In force now is what the last check saw that is ``lag_s`` ago.
        check = (second - lag_s) // CHECK_S * CHECK_S
        seen = sum(number for at, number in seconds.items() if check - 60 <= at < check)
        assert any(since <= second < until for since, until in found) == (seen > limit)


def blocked(network: str, at: int, refused: int = 0) -> Blocked:
    return Blocked(ip_network(network), at, refused, ("r",))


def side(*some: Blocked) -> Side:
    return Side("side", {one.network: one for one in some})


def test_an_address_matches_the_network_it_is_part_of() -> None:
    wide = side(blocked("192.0.2.0/24", 10), blocked("2001:db8::/64", 5))
    narrow = side(blocked("192.0.2.7/32", 4), blocked("192.0.2.8/32", 12), blocked("198.51.100.1/32", 1))
    found = compare(wide, narrow)
    assert [(str(pair.second.network), pair.sooner_s) for pair in found.both] == [
        ("192.0.2.8/32", 2),
        ("192.0.2.7/32", -6),
    ]
    assert [str(one.network) for one in found.only_first] == ["2001:db8::/64"]
    assert [str(one.network) for one in found.only_second] == ["198.51.100.1/32"]
    turned = compare(narrow, wide)
    assert sorted(pair.sooner_s for pair in turned.both) == [-2, 6]
    assert [str(one.network) for one in turned.only_second] == ["2001:db8::/64"]
