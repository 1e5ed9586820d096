"""``sluice replay``: files of every kind, options, and errors."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sluice.cli import main
from tests.support import replay_logs as logs
from tests.support.replay_logs import S0, T0, TEXTS, THREE, Hit

Run = Callable[..., Result]
RULES = '[[rule]]\nname = "r"\nlimit = 2\nwindow = "10s"\n'


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "rules.toml").write_text(RULES)

    def invoke(*args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(
            main, ["replay", *args, "--rules", str(tmp_path / "rules.toml"), "--json"], input=stdin
        )

    return invoke


def answer_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def clients(result: Result) -> list[tuple[str, int]]:
    return [(offender["client"], offender["peak"]) for offender in answer_of(result)["offenders"]]


@pytest.mark.parametrize("form", ["plain", "gzip", "crlf", "bom", "stdin", "gzip in two members", "no last line end"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_format_is_detected_from_its_content(name: str, form: str, run: Run, tmp_path: Path) -> None:
    text = TEXTS[name].encode()
    half = len(text) // 2
    stored = {
        "gzip": gzip.compress(text),
        "crlf": text.replace(b"\n", b"\r\n"),
        "bom": b"\xef\xbb\xbf" + text,
        "gzip in two members": gzip.compress(text[:half]) + gzip.compress(text[half:]),
        "no last line end": text.rstrip(b"\n"),
    }.get(form, text)
    path = tmp_path / "a-log"
    path.write_bytes(stored)
    result = run("-", stdin=stored) if form == "stdin" else run(str(path))
    assert clients(result) == [("192.0.2.1/32", 3)]
    assert answer_of(result)["requests"] == 3
    assert answer_of(result)["malformed"] == {}
    assert answer_of(result)["first"] == T0 / 1000
    assert answer_of(result)["last"] == T0 / 1000 + 2


def test_a_folder_may_mix_formats_and_compression(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "deep"
    folder.mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / name).write_bytes(gzip.compress(text.encode()) if "v" in name else text.encode())
    result = run(str(tmp_path / "logs"))
    assert answer_of(result)["requests"] == 3 * len(TEXTS)
    assert answer_of(result)["malformed"] == {}


def test_the_readable_part_of_a_truncated_gzip_is_used(run: Run, tmp_path: Path) -> None:
    many = [Hit(T0 + n, f"192.0.2.{n % 250}", path=f"/{n * 7919 % 10007}") for n in range(5000)]
    whole = gzip.compress("".join(logs.realtime(hit) + "\n" for hit in many).encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    result = run(str(tmp_path / "cut.gz"))
    assert 1000 < answer_of(result)["requests"] < 5000
    assert "cut.gz: the compressed file is truncated; the readable part is used" in result.stderr


def test_the_part_before_the_damage_of_a_gzip_is_used(run: Run, tmp_path: Path) -> None:
    good = gzip.compress(TEXTS["waf"].encode())
    (tmp_path / "odd.gz").write_bytes(good + b"\x1f\x8bno gzip at all")
    result = run(str(tmp_path / "odd.gz"))
    assert clients(result) == [("192.0.2.1/32", 3)]
    assert "odd.gz" in result.stderr


def test_padding_after_a_gzip_is_ignored_and_other_data_is_not(run: Run, tmp_path: Path) -> None:
    (tmp_path / "padded.gz").write_bytes(gzip.compress(TEXTS["waf"].encode()) + bytes(512))
    assert "padded" not in run(str(tmp_path / "padded.gz")).stderr
    (tmp_path / "odd.gz").write_bytes(gzip.compress(TEXTS["waf"].encode()) + b"no gzip")
    result = run(str(tmp_path / "odd.gz"))
    assert clients(result) == [("192.0.2.1/32", 3)]
    assert "no gzip" in result.stderr


def test_lines_out_of_order_count_in_their_own_time(run: Run, tmp_path: Path) -> None:
    early, late = tmp_path / "1", tmp_path / "2"
    early.write_text(logs.realtime(THREE[2]) + "\n" + logs.realtime(THREE[0]) + "\n")
    late.write_text(logs.realtime(THREE[1]) + "\n")
    assert clients(run(str(late), str(early))) == [("192.0.2.1/32", 3)]


def test_a_file_named_twice_is_read_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    assert answer_of(run(str(tmp_path / "log"), str(tmp_path / "log")))["requests"] == 3


def test_real_time_lines_may_have_other_fields(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"{T0 // 1000}.{n:03d}\t192.0.2.1\tGET\n" for n in range(3)))
    assert clients(run(str(tmp_path / "log"), "--fields", "cs-method, c-ip, timestamp")) == [("192.0.2.1/32", 3)]
    wrong = run(str(tmp_path / "log"))
    assert wrong.exit_code == 1
    assert wrong.stdout == ""
    assert "3 lines have 3 fields where --fields names 9" in wrong.stderr
    assert f"{tmp_path / 'log'}, line 1: 1760000000.000\\t192.0.2.1\\tGET\n" in wrong.stderr
    assert "name their fields with --fields" in wrong.stderr


def test_only_requests_between_from_and_to_count(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    assert answer_of(run(str(tmp_path / "log"), "--from", "2025-10-09T08:53:21", "--to", "2025-10-09T08:53:22Z")) == {
        **answer_of(run(str(tmp_path / "log"), "--from", str(T0 / 1000 + 1), "--to", str(T0 / 1000 + 2))),
        "requests": 1,
    }


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b"#Version: 1.0\n", b"no log line\n", b"PAR1\x15\x04\x15\n", b"\x1f\x8b"]
)
def test_input_without_a_readable_line_is_an_error_that_names_the_file(text: bytes, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(text)
    result = run(str(tmp_path / "a.log"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "there are no requests in these files" in result.stderr
    assert "a.log" in result.stderr


def test_malformed_lines_among_others_are_explained_with_file_line_and_remedy(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "1.log").write_text(TEXTS["waf"])
    (folder / "2.log").write_text(logs.realtime(THREE[0]) + "\n" + "no log\n" * 3 + logs.realtime(THREE[0]) + "\t-\n")
    result = run(str(folder))
    assert answer_of(result)["requests"] == 4
    assert answer_of(result)["malformed"] == {"fields": 4}
    notes = result.stderr.splitlines()
    assert notes[0].startswith(
        f"note: 3 lines have none of the known formats, such as {folder / '2.log'}, line 2: no log"
    )
    assert notes[2].startswith(
        f"note: 1 line has 10 fields where --fields names 9, such as {folder / '2.log'}, line 5: 17"
    )
    assert all(remedy.startswith("  ") and remedy.endswith(".") for remedy in notes[1::2])


def test_times_that_leave_out_everything_are_an_error_that_tells_the_times_of_the_log(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    result = run(str(tmp_path / "log"), "--from", "2027-01-01")
    assert result.exit_code == 1
    assert "leave out all 3, which are from 2025-10-09 08:53:20 to 2025-10-09 08:53:22 UTC" in result.stderr
    for name, ms in (("1", T0 - 5000), ("2", T0 - 1000)):
        (tmp_path / name).write_text(logs.combined(Hit(ms, "192.0.2.1")))
    result = run(*(str(tmp_path / name) for name in ("1", "log", "2")), "--to", "2020-01-01")
    assert "leave out all 5, which are from 2025-10-09 08:53:15 to 2025-10-09 08:53:22 UTC" in result.stderr
    result = run(str(tmp_path / "log"), "--from", "2027-01-02", "--to", "2027-01-01")
    assert result.exit_code == 2
    assert "--from is not before --to" in result.stderr


def test_an_allowlist_that_is_not_utf_8_is_an_error_that_names_file_and_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    (tmp_path / "allow").write_bytes("192.0.2.0/24\n198.51.100.1 # B\u00fcro\n".encode("latin-1"))
    result = run(str(tmp_path / "log"), "--allowlist", str(tmp_path / "allow"))
    assert result.exit_code == 1
    assert f"{tmp_path / 'allow'}, line 2: not UTF-8" in result.stderr
    (tmp_path / "allow").write_bytes("192.0.2.0/24  # B\u00fcro\n".encode("utf-8-sig"))
    (offender,) = answer_of(run(str(tmp_path / "log"), "--allowlist", str(tmp_path / "allow")))["offenders"]
    assert offender["action"] == "allowlisted"


def test_an_entry_of_the_allowlist_with_names_of_rules_exempts_from_these(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    for line, action in (("192.0.2.0/24 other", "block"), ("192.0.2.0/24 other r # partner", "allowlisted")):
        (tmp_path / "allow").write_text(line)
        (offender,) = answer_of(run(str(tmp_path / "log"), "--allowlist", str(tmp_path / "allow")))["offenders"]
        assert offender["action"] == action
    (tmp_path / "allow").write_text("192.0.2.0/24 B\u00fcro")
    result = run(str(tmp_path / "log"), "--allowlist", str(tmp_path / "allow"))
    assert (result.exit_code, "'B\u00fcro' is not the name of a rule" in result.stderr) == (2, True)


def test_a_missing_file_is_an_error_that_names_it(run: Run) -> None:
    result = run("no-such-log")
    assert result.exit_code == 1
    assert "'no-such-log' is neither a file nor a folder" in result.stderr


def test_unknown_fields_are_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    result = run(str(tmp_path / "log"), "--fields", "timestamp,c-ip,colour")
    assert result.exit_code == 1
    assert "'colour'" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "yesterday"], "'yesterday' is not a time such as 2026-01-31T12:00"),
        (["--trusted-proxy", "192.0.2.1/24"], "has host bits set"),
        (["--sample-rate", "0"], "--sample-rate"),
    ],
)
def test_an_invalid_option_is_a_usage_error(args: list[str], message: str, run: Run) -> None:
    result = run("-", *args, stdin=b"")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no rules"),
        ('[[rule]]\nname = "r"\nlimit = -1\nwindow = "1s"\nwindw = 1\n', "did you mean 'window'?"),
    ],
)
def test_invalid_rules_are_an_error_that_names_the_file(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(text)
    result = CliRunner().invoke(main, ["replay", "-", "--rules", str(tmp_path / "rules.toml")], input=b"")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "rules.toml" in result.stderr


@pytest.mark.parametrize(("name", "noted"), [("real-time", True), ("waf", False)])
def test_a_limit_too_low_for_the_sample_rate_is_noted(name: str, noted: bool, run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS[name])
    result = run(str(tmp_path / "log"), "--sample-rate", "50")
    assert ("note: Rule r only counts in the CloudFront real-time log" in result.stderr) == noted


def test_the_networks_that_would_have_been_blocked_follow_the_rules(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(logs.waf(hit) + "\n" for hit in [*logs.since_days(S0), *logs.fleet(S0)]))
    (tmp_path / "rules.toml").write_text(f"[networks]\n{RULES}block_for = '10m'\n")
    args = ["replay", str(tmp_path / "log"), "--rules", str(tmp_path / "rules.toml")]
    shown = " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(main, args).stdout.split())
    assert "First 1 of 1 guilty network" in shown
    assert (
        "192.0.2.0/24 2025-10-09 08:54:00 9m 21s 8: 192.0.2.0/32, 192.0.2.30/32, 192.0.2.60/32 and 5 more - 0" in shown
    )
    (network,) = json.loads(CliRunner().invoke(main, [*args, "--json"]).stdout)["networks"]
    assert network["blocks"] == [{"from": S0 + 40, "until": S0 + 601, "response": "block"}]
    (tmp_path / "rules.toml").write_text(RULES)
    assert "guilty" not in CliRunner().invoke(main, args).stdout
