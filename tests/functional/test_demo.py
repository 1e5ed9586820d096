"""The demonstration on a simulated clock: the whole pipeline in a few seconds."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sluice.cli import main
from sluice.commands.demo import DEMO_RULES
from sluice.demo.actors import ALLOWED
from sluice.demo.demonstration import Demonstration
from sluice.local.loop import SimulatedClock
from tests.support.records import waf_text

LINE = "{time:.3f}\t{address}\t200\tGET\twww.example.com\t/\tid-{number}\tcurl\t-\n"
RULES = """
[[rule]]
name = "burst"
limit = 10
window = "2s"
block_for = "30s"
"""


def run(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["demo", "--speed", "max", "--json", *arguments])
    assert result.exit_code == code, result.output
    summary: dict[str, Any] = json.loads(result.output)
    return summary


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return run()


def test_every_attacker_is_blocked_and_no_bystander_is(summary: dict[str, Any]) -> None:
    assert summary["attackers"]["blocked"] == summary["attackers"]["total"] > 300
    assert summary["bystanders"]["blocked"] == 0
    assert summary["bystanders"]["total"] > 150


def test_the_readme_shows_what_the_demonstration_measures(summary: dict[str, Any]) -> None:
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
    times = re.search(r"median ([\d.]+) s, 99th percentile ([\d.]+) s (\d+) blocks, (\d+) lifted", readme)
    assert times is not None
    p50, p99, blocks, lifted = map(float, times.groups())
    # Not to the digit: the phases of the polls decide about tenths of a second.
    assert summary["time_to_block_s"] == pytest.approx({"p50": p50, "p99": p99}, abs=0.2)
    assert len(summary["blocks"]) == pytest.approx(blocks, rel=0.03)
    assert summary["released"] == pytest.approx(lifted, rel=0.03)


def test_blocks_that_ended_are_lifted(summary: dict[str, Any]) -> None:
    assert summary["released"] > 300
    assert summary["ok"]


def test_no_client_is_blocked_below_the_limit(summary: dict[str, Any]) -> None:
    assert all(block["count"] > block["limit"] for block in summary["blocks"])


def test_the_allowlisted_offender_is_never_published(summary: dict[str, Any]) -> None:
    ((allowed, _),) = ALLOWED
    assert allowed not in {block["client"] for block in summary["blocks"]}


def test_malformed_records_are_counted_by_reason_and_stop_nothing(summary: dict[str, Any]) -> None:
    assert summary["malformed"].keys() == {"address", "encoding", "fields", "gzip", "timestamp"}
    assert summary["failures"] == []


def test_the_same_seed_repeats_the_run() -> None:
    def played(seed: int) -> dict[str, Any]:
        clock = SimulatedClock(START)
        text = DEMO_RULES.read_text()
        demonstration = Demonstration(clock, rules=text, seed=seed, seconds=20, shards=4, containers=2)
        demonstration.run()
        return demonstration.summary()

    once = played(3)
    assert len(once["blocks"]) > 5
    assert played(3) == once
    assert played(4)["blocks"] != once["blocks"]


def lines(path: Path, times: list[tuple[float, str]]) -> Path:
    path.write_text("".join(LINE.format(time=t, address=a, number=n) for n, (t, a) in enumerate(times)))
    return path


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return str(path)


def test_lines_from_a_file_run_by_their_own_times(tmp_path: Path, rules: str) -> None:
    quiet = [(1_700_000_000 + n * 0.5, "192.0.2.1") for n in range(40)]
    loud = [(1_700_000_005 + n * 0.1, "2001:db8::7") for n in range(11)]
    summary = run("--traffic", str(lines(tmp_path / "log", sorted(quiet + loud))), "--rules", rules, "--shards", "3")
    (block,) = summary["blocks"]
    assert (block["client"], block["rule"], block["limit"], block["window_s"]) == ("2001:db8::/64", "burst", 10, 2)
    assert block["count"] == 11
    assert block["until"] == 1_700_000_007 + 30
    assert summary["requests"] == 51
    assert summary["ip_sets"] == {"v4": [], "v6": ["2001:db8::/64"]}
    assert "attackers" not in summary
    assert summary["ok"]


def test_a_line_with_a_far_future_time_does_not_move_the_clock(tmp_path: Path, rules: str) -> None:
    times = [(1_700_000_000 + n * 0.05, "192.0.2.1") for n in range(60)]
    times[20] = (4_000_000_000.0, "192.0.2.2")
    summary = run("--traffic", str(lines(tmp_path / "log", times)), "--rules", rules)
    assert summary["malformed"] == {"future": 1}
    assert summary["late"] == 0
    assert [block["client"] for block in summary["blocks"]] == ["192.0.2.1/32"]


def test_lines_days_apart_are_all_counted(tmp_path: Path, rules: str) -> None:
    days = [(1_700_000_000 + day * 86_400 + n * 0.1, "192.0.2.1") for day in range(3) for n in range(11)]
    summary = run("--traffic", str(lines(tmp_path / "log", days)), "--rules", rules)
    assert summary["requests"] == 33
    assert len(summary["blocks"]) == 3


def test_the_number_of_shards_does_not_change_the_blocks(tmp_path: Path, rules: str) -> None:
    times = sorted((1_700_000_000 + n * 0.13 % 9, f"192.0.2.{n % 7}") for n in range(700))
    path = str(lines(tmp_path / "log", times))
    clients = [
        {block["client"] for block in run("--traffic", path, "--rules", rules, "--shards", n, "--seed", n)["blocks"]}
        for n in ("1", "2", "7")
    ]
    assert clients[0] == clients[1] == clients[2]


START = 1_700_000_000


def attack(seconds: int, address: str) -> list[tuple[float, str]]:
    """Returns ten requests a second of ``address``."""
    return [(START + number * 0.1, address) for number in range(10 * seconds)]


def counts(summary: dict[str, Any], client: str) -> tuple[int, int]:
    of_client = summary["clients"][client]
    return of_client["requests"], of_client["refused"]


def test_the_edge_refuses_blocked_clients_late_and_releases_them_late(tmp_path: Path, rules: str) -> None:
    visits = [(START + number * 0.9, "192.0.2.1") for number in range(60)]
    path = str(lines(tmp_path / "log", sorted(attack(20, "2001:db8::7") + visits)))
    early, late = (run("--traffic", path, "--rules", rules, "--edge", seconds) for seconds in ("0", "10"))
    assert counts(early, "192.0.2.1/32") == counts(late, "192.0.2.1/32") == (60, 0)
    (requests, refused), (_, refused_late) = (counts(each, "2001:db8::/64") for each in (early, late))
    assert requests == 200
    # The limit is passed after a second, and the block is published two or three seconds later.
    assert 160 <= refused <= 180
    assert refused_late == refused - 100
    assert early["breaker"] == late["breaker"] == []


def test_a_client_that_an_earlier_rule_allows_is_blocked_and_not_refused(tmp_path: Path, rules: str) -> None:
    path = str(lines(tmp_path / "log", attack(5, "192.0.2.7")))
    summary = run("--traffic", path, "--rules", rules, "--edge", "0", "--allowed", "192.0.2.0/28")
    assert [block["client"] for block in summary["blocks"]] == ["192.0.2.7/32"]
    assert counts(summary, "192.0.2.7/32") == (50, 0)


def test_aws_waf_logs_play_by_their_own_times_and_are_refused(tmp_path: Path, rules: str) -> None:
    records = [
        waf_text(timestamp=int(time * 1000), clientIp=client, requestId=f"id-{number}")
        for number, (time, client) in enumerate([*attack(20, "192.0.2.7"), (START + 3600, "192.0.2.8")])
    ]
    path = tmp_path / "waf.log"
    path.write_bytes(b"\n".join(records))
    summary = run("--traffic", str(path), "--rules", rules, "--edge", "1")
    assert summary["requests"] == 201
    assert summary["late"] == 0
    requests, refused = counts(summary, "192.0.2.7/32")
    assert (requests, 150 <= refused <= 180) == (200, True)
    assert [block["client"] for block in summary["blocks"]] == ["192.0.2.7/32"]


def test_without_an_edge_nothing_is_refused(tmp_path: Path, rules: str) -> None:
    summary = run("--traffic", str(lines(tmp_path / "log", attack(5, "192.0.2.7"))), "--rules", rules)
    assert "clients" not in summary
    assert "breaker" not in summary


def test_an_edge_needs_recorded_traffic() -> None:
    result = CliRunner().invoke(main, ["demo", "--edge", "1"])
    assert result.exit_code == 2
    assert "--edge needs --traffic" in result.output
    for option in ("--solver", "--allowed"):
        result = CliRunner().invoke(main, ["demo", option, "192.0.2.7"])
        assert (result.exit_code, "need --edge" in result.output) == (2, True)


def test_a_packed_log_with_a_mark_at_its_start_is_read(tmp_path: Path, rules: str) -> None:
    path = lines(tmp_path / "log", attack(2, "192.0.2.7"))
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    summary = run("--traffic", str(path), "--rules", rules)
    assert (summary["requests"], summary["malformed"], summary["ok"]) == (20, {}, True)


def test_json_objects_may_stand_on_one_line_or_span_several(tmp_path: Path, rules: str) -> None:
    records = [waf_text(timestamp=START * 1000 + number, requestId="-") for number in range(9)]
    text = b"".join(records[:6]) + b"".join(record.replace(b",", b",\n  ") for record in records[6:])
    (tmp_path / "waf.log").write_bytes(text)
    summary = run("--traffic", str(tmp_path / "waf.log"), "--rules", rules)
    assert (summary["requests"], summary["late"], summary["malformed"]) == (9, 0, {})


def test_a_container_is_named(tmp_path: Path, rules: str) -> None:
    (tmp_path / "x").write_bytes(b"PAR1\x15\x04")
    result = CliRunner().invoke(main, ["demo", "--traffic", str(tmp_path / "x"), "--speed", "max", "--rules", rules])
    assert result.exit_code == 1
    assert "1 record has an unsupported format: Parquet" in result.stderr


def test_names_of_fields_may_have_blanks_around_them(tmp_path: Path, rules: str) -> None:
    (tmp_path / "log").write_text("1700000000.5\t192.0.2.7\n")
    summary = run("--traffic", str(tmp_path / "log"), "--rules", rules, "--fields", "timestamp, c-ip")
    assert (summary["requests"], summary["malformed"]) == (1, {})


def test_a_log_without_a_readable_line_is_an_error_that_says_what_it_is(tmp_path: Path, rules: str) -> None:
    path = tmp_path / "nginx.log"
    path.write_text('192.0.2.1 - - [09/Okt/2025:08:53:20 +0000] "GET / HTTP/1.1" 200 2\n' * 3)
    result = CliRunner().invoke(main, ["demo", "--traffic", str(path), "--speed", "max", "--rules", rules, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False
    assert "there are no requests in these files: none of their lines can be read" in result.stderr
    assert f"{path}, line 1: 192.0.2.1 - - [09/Okt" in result.stderr
    path.write_text("")
    result = CliRunner().invoke(main, ["demo", "--traffic", str(path), "--speed", "max", "--rules", rules])
    assert (result.exit_code, "no line is in" in result.stderr) == (1, True)


def test_malformed_lines_among_others_are_explained(tmp_path: Path, rules: str) -> None:
    path = lines(tmp_path / "log", attack(2, "192.0.2.7"))
    path.write_text(path.read_text() + "1700000000.5\t192.0.2.7\n")
    result = CliRunner().invoke(main, ["demo", "--traffic", str(path), "--speed", "max", "--rules", rules])
    assert result.exit_code == 0
    assert f"note: 1 line has 2 fields where --fields names 9, such as {path}, line 21: 1700000000.5" in result.stderr


def test_more_ip_sets_change_nothing_while_one_suffices(tmp_path: Path, rules: str) -> None:
    path = str(lines(tmp_path / "log", attack(5, "192.0.2.7")))
    one, three = (run("--traffic", path, "--rules", rules, "--ip-sets", number) for number in ("1", "3"))
    assert one["ip_sets"] == three["ip_sets"] == {"v4": ["192.0.2.7/32"], "v6": []}


def test_invalid_rules_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULES.replace("window", "windw"))
    result = CliRunner().invoke(main, ["demo", "--rules", str(path)])
    assert result.exit_code == 1
    assert "rule 'burst': unknown key 'windw' (did you mean 'window'?)" in result.output
