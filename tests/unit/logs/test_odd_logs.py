"""Real logs are odd: whatever can be read of them is counted, and the rest is counted by reason."""

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.requests import Source
from sluice.cli import main
from sluice.logs import files as reading
from sluice.logs.cloudfront_standard import VERSION_1
from sluice.logs.file_decoder import Chunk, LogDecoder
from sluice.replay.engine import Options, replay
from tests.support import replay_logs as logs
from tests.support.replay_logs import T0, Hit
from tests.unit.replay.test_offenders import one_rule

RULES = '[[rule]]\nname = "r"\nlimit = 2\nwindow = "10s"\n'
THREE = [Hit(T0 + 1000 * n, "192.0.2.1") for n in range(3)]
TEXTS = {
    "real-time": "\n".join(map(logs.realtime, THREE)) + "\n",
    "v1": logs.STANDARD_HEADER + "\n".join(map(logs.standard, THREE)) + "\n",
    "v1 without header": "\n".join(map(logs.standard, THREE)) + "\n",
    "v2 w3c": logs.V2_HEADER + "\n".join(map(logs.v2_w3c, THREE)) + "\n",
    "v2 json": "\n".join(map(logs.v2_json, THREE)) + "\n",
    "waf": "\n".join(map(logs.waf, THREE)) + "\n",
    "envelope": logs.envelope(THREE),
    "envelopes end to end": logs.envelope(THREE[:1]) + logs.envelope(THREE[1:]),
    "load balancer": "\n".join(map(logs.balancer, THREE)) + "\n",
    "combined": "\n".join(map(logs.combined, THREE)) + "\n",
}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    (tmp_path / "rules.toml").write_text(RULES)

    def invoke(*args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(
            main, ["replay", *args, "--rules", str(tmp_path / "rules.toml"), "--json"], input=stdin
        )

    return invoke


def found(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def clients(result: Result) -> list[tuple[str, int]]:
    offenders = found(result)["offenders"]
    assert isinstance(offenders, list)
    return [(offender["client"], offender["peak"]) for offender in offenders]


@pytest.mark.parametrize("form", ["plain", "gzip", "crlf", "bom", "stdin", "gzip in two members", "no last line end"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_format_is_told_by_its_content(name: str, form: str, run: Callable[..., Result], tmp_path: Path) -> None:
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
    assert found(result)["requests"] == 3
    assert found(result)["malformed"] == {}
    assert found(result)["first"] == T0 / 1000
    assert found(result)["last"] == T0 / 1000 + 2


def test_a_folder_may_mix_everything(run: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "deep"
    folder.mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / name).write_bytes(gzip.compress(text.encode()) if "v" in name else text.encode())
    result = run(str(tmp_path / "logs"))
    assert found(result)["requests"] == 3 * len(TEXTS)
    assert found(result)["malformed"] == {}


@given(st.permutations(sorted(TEXTS.keys() - {"v1 without header"})))
@settings(max_examples=25, deadline=None)
def test_one_stream_may_mix_everything(order: Sequence[str]) -> None:
    text = "".join(TEXTS[name].rstrip("\n") + "\n" for name in order)
    (result,) = replay([Chunk(text.encode())], [one_rule(2)], Options())
    assert result.seen.malformed.total() == 0
    assert result.seen.requests == 3 * len(order)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_blocks_may_be_cut_anywhere(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", size)
    for name, text in TEXTS.items():
        for stored in (text.encode(), gzip.compress(text.encode())):
            (tmp_path / "log").write_bytes(stored)
            blocks = reading.chunks([tmp_path / "log"], reading.Progress())
            (result,) = replay(blocks, [one_rule(2, "10s")], Options())
            assert (result.seen.requests, result.seen.malformed.total()) == (3, 0), name


def test_of_a_cut_gzip_the_readable_part_is_used(run: Callable[..., Result], tmp_path: Path) -> None:
    many = [Hit(T0 + n, f"192.0.2.{n % 250}", path=f"/{n * 7919 % 10007}") for n in range(5000)]
    whole = gzip.compress("".join(logs.realtime(hit) + "\n" for hit in many).encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    result = run(str(tmp_path / "cut.gz"))
    requests = found(result)["requests"]
    assert isinstance(requests, int)
    assert 1000 < requests < 5000
    assert "cut.gz: the compressed file is cut short; what was readable is used" in result.stderr


@pytest.mark.parametrize("cut", range(20, 330, 10))
def test_of_a_cut_gzip_every_readable_byte_is_used(cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Much comes out of little, so that output is left over when the input ends.
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    whole = gzip.compress(b"a" * 200_000 + b"\n" + b"b" * 100_000)[:cut]
    (tmp_path / "cut.gz").write_bytes(whole)
    blocks = list(reading.chunks([tmp_path / "cut.gz"], reading.Progress()))
    assert b"".join(block.text for block in blocks) == zlib.decompressobj(wbits=31).decompress(whole)


def test_of_a_damaged_gzip_the_part_before_is_used(run: Callable[..., Result], tmp_path: Path) -> None:
    good = gzip.compress(TEXTS["waf"].encode())
    (tmp_path / "odd.gz").write_bytes(good + b"\x1f\x8bno gzip at all")
    result = run(str(tmp_path / "odd.gz"))
    assert clients(result) == [("192.0.2.1/32", 3)]
    assert "odd.gz" in result.stderr


def test_lines_out_of_order_count_in_their_own_time(run: Callable[..., Result], tmp_path: Path) -> None:
    early, late = tmp_path / "1", tmp_path / "2"
    early.write_text(logs.realtime(THREE[2]) + "\n" + logs.realtime(THREE[0]) + "\n")
    late.write_text(logs.realtime(THREE[1]) + "\n")
    assert clients(run(str(late), str(early))) == [("192.0.2.1/32", 3)]


def test_a_file_named_twice_is_read_once(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    assert found(run(str(tmp_path / "log"), str(tmp_path / "log")))["requests"] == 3


@pytest.mark.parametrize("line", [logs.realtime, logs.standard, logs.combined, logs.balancer, logs.waf, logs.v2_json])
def test_lines_of_400_kb_are_requests(line: Callable[[Hit], str]) -> None:
    long = Hit(T0, "192.0.2.1", path="/" + "a" * 400_000)
    header = logs.STANDARD_HEADER if line is logs.standard else ""
    (result,) = replay([logs.block([line(long)] * 3, header)], [one_rule(2)], Options())
    assert [str(verdict.network) for verdict in result.verdicts] == ["192.0.2.1/32"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (logs.standard(Hit(T0, "x.x.x.x")), "address"),
        (logs.realtime(Hit(T0, "x.x.x.x")), "address"),
        (logs.combined(Hit(T0, "x.x.x.x")), "address"),
        (logs.balancer(Hit(T0, "x.x.x.x")), "address"),
        (logs.waf(Hit(T0, "x.x.x.x")), "address"),
        (logs.v2_json(Hit(T0, "x.x.x.x")), "address"),
        (logs.standard(Hit(T0, "192.0.2.1")).replace("2025-10-09", "2025-13-40"), "timestamp"),
        (logs.combined(Hit(T0, "192.0.2.1")).replace("Oct", "Okt"), "timestamp"),
        (logs.balancer(Hit(T0, "192.0.2.1")).replace("T08:", "T28:"), "timestamp"),
        (logs.standard(Hit(T0, "192.0.2.1")) + "\tmore", "fields"),
        (logs.waf(Hit(T0, "192.0.2.1"))[:-9], "json"),
        ('{"messageType":"SOMETHING"}', "envelope"),
        ("no log line of any kind", "fields"),
    ],
)
def test_a_line_that_is_no_request_is_counted_by_reason(line: str, reason: str) -> None:
    for lines in ([line], [*map(logs.combined, THREE), line], [line, *map(logs.waf, THREE)]):
        (result,) = replay([logs.block(lines)], [one_rule(2)], Options())
        assert dict(result.seen.malformed) == {reason: 1}
        assert result.seen.requests == len(lines) - 1


def test_statuses_users_and_zones_of_odd_forms_are_read() -> None:
    lines = [
        '192.0.2.1 - an odd user [09/Oct/2025:10:53:20 +0200] "GET /a\\"b HTTP/1.1" 404 - "-" "x \\"y\\" z"',
        '2001:DB8::1 - - [09/Oct/2025:08:53:20 +0000] "" 400 0',
        '192.0.2.1 - - [09/Oct/2025:08:53:20 +0000] "\\x16\\x03\\x01" 400 157 "-" "-"',
    ]
    decoded = LogDecoder(Options().fields, frozenset(), NetworkSet(())).decode(logs.block(lines))
    (requests,) = decoded.requests
    assert requests.source is Source.WEB_SERVER
    assert set(requests.times) == {T0}

    def cells(name: str) -> list[object]:
        column = requests.columns(name)
        assert column is not None
        return [column.text(cell) for cell in column.cells]

    assert cells("status") == ["404", "400", "400"]
    assert cells("method") == ["GET", "", "\\x16\\x03\\x01"]
    assert cells("path") == ['/a\\"b', "", ""]
    assert cells("user_agent") == ['x \\"y\\" z', "", ""]


def test_a_status_of_000_matches_000_alone() -> None:
    rules = one_rule(2, more='scope = { status = ["000"] }')
    made = [logs.standard(Hit(T0, "2001:DB8::AB", status="000"))] * 3 + [logs.standard(Hit(T0, "192.0.2.1"))] * 3
    (result,) = replay([logs.block(made)], [rules], Options())
    assert [str(verdict.network) for verdict in result.verdicts] == ["2001:db8::/64"]


@given(st.lists(st.binary(max_size=80), max_size=12), st.sampled_from(sorted(TEXTS)))
@settings(max_examples=150, deadline=None)
def test_no_bytes_stop_the_reading(junk: list[bytes], name: str) -> None:
    text = b"\n".join([*junk, TEXTS[name].encode(), *junk])
    (result,) = replay([Chunk(text)], [one_rule(2)], Options())
    assert result.seen.requests >= 3 or name == "v2 w3c" or any(b"#Fields:" in piece for piece in junk)


def test_what_is_not_there_is_an_error_that_names_it(run: Callable[..., Result]) -> None:
    result = run("no-such-log")
    assert result.exit_code == 1
    assert "'no-such-log' is neither a file nor a folder" in result.stderr


def test_fields_that_cannot_be_are_an_error(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    result = run(str(tmp_path / "log"), "--fields", "timestamp,c-ip,colour")
    assert result.exit_code == 1
    assert "'colour'" in result.stderr


def test_other_fields_of_real_time_lines_are_named(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"{T0 // 1000}.{n:03d}\t192.0.2.1\tGET\n" for n in range(3)))
    assert clients(run(str(tmp_path / "log"), "--fields", "cs-method, c-ip, timestamp")) == [("192.0.2.1/32", 3)]
    assert "name their fields with --fields" in run(str(tmp_path / "log")).stderr


def test_only_requests_between_from_and_to_count(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "log").write_text(TEXTS["waf"])
    assert found(run(str(tmp_path / "log"), "--from", "2025-10-09T08:53:21", "--to", "2025-10-09T08:53:22Z")) == {
        **found(run(str(tmp_path / "log"), "--from", str(T0 / 1000 + 1), "--to", str(T0 / 1000 + 2))),
        "requests": 1,
    }


def test_several_processes_find_what_one_finds(run: Callable[..., Result], tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"log{number}").write_text(TEXTS["waf"] + TEXTS["combined"])
    files = [str(tmp_path / f"log{number}") for number in range(3)]
    assert found(run(*files, "--jobs", "2")) == found(run(*files))


V2_DATED = ("date", "time", "c-ip", "cs(Host)", "x-forwarded-for")


@pytest.mark.parametrize("form", ["w3c", "json"])
def test_version_2_counts_by_date_and_time_where_it_has_no_milliseconds(form: str) -> None:
    cells = ("2025-10-09", "08:53:20", "2001:DB8::1", "d111111abcdef8.cloudfront.net", "-")
    lines = ["\t".join(cells)] if form == "w3c" else [json.dumps(dict(zip(V2_DATED, cells, strict=True)))]
    header = "#Fields: " + " ".join(V2_DATED) + "\n" if form == "w3c" else ""
    rules = one_rule(0, more='scope = { host = ["*.cloudfront.net"] }')
    (result,) = replay([logs.block(lines, header)], [rules], Options())
    assert [(str(v.network), v.first_ms) for v in result.verdicts] == [("2001:db8::/64", T0)]


@pytest.mark.parametrize("form", ["w3c", "json", "real-time"])
def test_behind_a_trusted_proxy_the_client_is_the_one_it_names(form: str) -> None:
    proxy = (ip_network("192.0.2.0/24"),)
    for forwarded, expected in (("9.9.9.9,%20198.51.100.7", ["198.51.100.7/32"]), ("-", [])):
        plain = forwarded.replace("%20", " ")
        cells = ("2025-10-09", "08:53:20", "192.0.2.1", "example.com", plain if form == "json" else forwarded)
        block = {
            "w3c": logs.block(["\t".join(cells)], "#Fields: " + " ".join(V2_DATED) + "\n"),
            "json": logs.block([json.dumps(dict(zip(V2_DATED, cells, strict=True)))]),
            "real-time": logs.block([logs.realtime(THREE[0]).removesuffix("-") + forwarded]),
        }[form]
        (result,) = replay([block], [one_rule(0)], Options(trusted=proxy))
        assert [str(verdict.network) for verdict in result.verdicts] == expected
        assert dict(result.seen.malformed) == ({} if expected else {"forwarded-for": 1})


def test_a_header_without_time_or_client_makes_no_requests() -> None:
    (result,) = replay(
        [logs.block(["GET\t/", "GET\t/a"], "#Fields: cs-method cs-uri-stem\n")], [one_rule(0)], Options()
    )
    assert dict(result.seen.malformed) == {"fields": 2}


@given(
    st.lists(st.sampled_from([*VERSION_1, *logs.V2_FIELDS, "c-ip", "date", "time", "nonsense"]), max_size=8),
    st.lists(st.sampled_from(["2025-10-09", "08:53:20", "192.0.2.1", "-", "", str(T0), "GET"]), max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_no_header_stops_the_reading(fields: list[str], cells: list[str]) -> None:
    rules = one_rule(0, more='scope = { host = ["*.example.com"], path = ["/"], status = ["200"] }')
    block = logs.block(["\t".join(cells), "2025-10-09\t08:53:20\tmore"], "#Fields: " + " ".join(fields) + "\n")
    (result,) = replay([block], [rules], Options())
    assert result.seen.requests + result.seen.malformed.total() == 1 + ("\t".join(cells) != "")


@pytest.mark.parametrize("time", [10**14, 2**63, 2**64, 10**30])
def test_a_time_that_nobody_can_have_is_no_time(time: int) -> None:
    lines = [logs.waf(hit) for hit in THREE] + [logs.waf(Hit(T0, "192.0.2.1")).replace(str(T0), str(time))]
    (result,) = replay([logs.block(lines)], [one_rule(2)], Options())
    assert (result.seen.requests, result.seen.malformed.total()) == (3, 1)


def test_fields_of_a_standard_log_come_in_any_order() -> None:
    block = logs.block(["192.0.2.1\t08:53:20\tGET\t2025-10-09"], "#Fields: c-ip time cs-method date\n")
    (result,) = replay([block], [one_rule(0)], Options())
    assert [(str(v.network), v.first_ms) for v in result.verdicts] == [("192.0.2.1/32", T0)]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--from", "yesterday"], "'yesterday' is not a time such as 2026-01-31T12:00"),
        (["--trusted-proxy", "192.0.2.1/24"], "has host bits set"),
        (["--sample-rate", "0"], "--sample-rate"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_an_option_that_cannot_be_is_a_usage_error(args: list[str], said: str, run: Callable[..., Result]) -> None:
    result = run("-", *args, stdin=b"")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rule"),
        ('[[rule]]\nname = "r"\nlimit = -1\nwindow = "1s"\nwindw = 1\n', "did you mean 'window'?"),
    ],
)
def test_rules_that_cannot_be_used_are_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(text)
    result = CliRunner().invoke(main, ["replay", "-", "--rules", str(tmp_path / "rules.toml")], input=b"")
    assert result.exit_code == 1
    assert said in result.stderr
    assert "rules.toml" in result.stderr


def test_an_empty_log_is_no_error(run: Callable[..., Result]) -> None:
    result = run("-", stdin=b"")
    assert found(result)["requests"] == 0
    assert found(result)["first"] is None
    assert "there is no request in these files" in result.stderr


def test_what_follows_a_gzip_and_is_none_is_left(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "padded.gz").write_bytes(gzip.compress(TEXTS["waf"].encode()) + bytes(512))
    assert "padded" not in run(str(tmp_path / "padded.gz")).stderr
    (tmp_path / "odd.gz").write_bytes(gzip.compress(TEXTS["waf"].encode()) + b"no gzip")
    result = run(str(tmp_path / "odd.gz"))
    assert clients(result) == [("192.0.2.1/32", 3)]
    assert "what follows its compressed part is no gzip" in result.stderr


def test_a_line_without_end_is_cut_and_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(reading, "LONGEST_LINE", 5000)
    (tmp_path / "log").write_bytes(b"x" * 50_000 + b"\n" + TEXTS["waf"].encode())
    blocks = list(reading.chunks([tmp_path / "log"], reading.Progress()))
    assert max(len(block.text) for block in blocks) < 7000
    (result,) = replay(blocks, [one_rule(2, "10s")], Options())
    assert result.seen.requests == 3
