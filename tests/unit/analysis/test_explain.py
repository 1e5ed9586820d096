"""``sluice explain``: every number in the story is one that replay counts."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.addresses import parse_network
from sluice.analysis.explain import NearMiss, explain, near_misses
from sluice.analysis.summary import offenders
from sluice.cli import main
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, Hit
from tests.unit.replay.test_offenders import hits, one_rule
from tests.unit.replay.test_verdicts import ME, every, rules_of

RULE = 'name = "r"\nlimit = 5\nwindow = "1s"\nblock_for = "10s"'


def test_the_story_tells_offence_block_and_release(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[rule]]\n" + RULE)
    made = [*every(0.1, -20, -19.5), *every(0.1, 0, 0.6), *every(1, 1, 20), *every(0.1, 0, 9, "198.51.100.1")]
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in made))
    args = ["explain", ME, str(tmp_path / "log"), "--rules", str(tmp_path / "rules.toml")]
    shown = CliRunner().invoke(main, args)
    assert shown.exit_code == 0, shown.output
    assert "192.0.2.1/32: 30 requests" in shown.stdout
    for said in ("near miss: 5 of 5", "over the limit of 5", "blocked for 10s, offence 1", "10 requests were refused"):
        assert said in " ".join(shown.stdout.split())
    told = json.loads(CliRunner().invoke(main, [*args, "--json"]).stdout)
    assert [event["event"].split(":")[0] for event in told["events"]] == [
        "near miss",
        "over the limit of 5",
        "blocked for 10s, offence 1",
        "released; 10 requests were refused",
    ]
    assert [moment["counts"]["r"] for moment in told["timeline"][5:11]] == [1, 2, 3, 4, 5, 6]
    assert sum(moment["refused"] for moment in told["timeline"]) == 10


@given(hits, st.integers(0, 4), st.sampled_from(["192.0.2.1", "2001:db8::1", "192.0.2.0/24"]))
@settings(max_examples=80, deadline=None)
def test_explain_agrees_with_replay(made: list[Hit], limit: int, client: str) -> None:
    rules = one_rule(limit)
    block = logs.block(map(logs.realtime, made))
    (result,) = replay([block], [rules], Options())
    story = explain([block], rules, Options(), parse_network(client))
    (chapter,) = story.chapters
    mine = [o for o in offenders(result) if o.network.overlaps(chapter.network)]  # type: ignore[arg-type]
    assert (chapter.first_over_ms is not None) == bool(mine)
    if mine:
        assert chapter.peak == max(offender.peak for offender in mine)
        assert sorted(chapter.stays, key=repr) == sorted((s for o in mine for s in o.stays), key=repr)
    else:
        assert chapter.peak <= limit


def test_a_client_is_told_of_in_the_network_that_its_rule_counts() -> None:
    rules = rules_of(RULE + "\naggregate = { ipv6 = 48 }")
    made = [Hit(T0, "2001:db8:0:1::1"), Hit(T0, "2001:db8:0:2::1"), Hit(T0, "2001:db8:1::1")]
    story = explain([logs.block(map(logs.realtime, made))], rules, Options(), parse_network("2001:db8::1"))
    assert len(story.made) == 2
    assert str(story.chapters[0].network) == "2001:db8::/48"


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        pytest.param([(0, 3)], [], id="under four fifths"),
        pytest.param([(0, 4), (1, 5), (2, 4)], [(5, 1)], id="the highest of a stretch"),
        pytest.param([(0, 4), (1000, 4)], [(4, 0), (4, 1000)], id="a window apart"),
        pytest.param([(0, 4), (1, 6), (2, 4)], [], id="over the limit is no near miss"),
    ],
)
def test_near_misses(counts: list[tuple[int, int]], found: list[tuple[int, int]]) -> None:
    (rule,) = rules_of(RULE).rules
    assert list(near_misses(counts, rule)) == [NearMiss(*near) for near in found]


def test_a_client_that_is_no_address_is_an_error() -> None:
    result = CliRunner().invoke(main, ["explain", "nobody", "-"], input=b"")
    assert result.exit_code == 2
    assert "'nobody' is not an IP address or network" in result.stderr


def test_a_client_without_requests_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(logs.waf(Hit(T0, "198.51.100.1")))
    result = CliRunner().invoke(main, ["explain", ME, str(tmp_path / "log")])
    assert result.exit_code == 0
    assert "made no request in these logs" in result.stdout
