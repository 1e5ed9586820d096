"""``sluice decode``: what it shows is what ingest would count, and each other line with its reason."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chalicelib.core.logs.batch_decoder import BatchDecoder
from sluice.cli import main
from sluice.commands.decode import MOST_ROWS
from tests.support import replay_logs as logs
from tests.support.records import cloudfront, envelope, waf_text
from tests.support.replay_logs import T0, TEXTS, Hit


def run(*args: str, stdin: bytes | None = None, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["decode", *args], input=stdin)
    assert result.exit_code == exit_code, result.output
    return result


def decoded(*args: str, stdin: bytes | None = None) -> Any:
    answer = json.loads(run(*args, "--json", stdin=stdin).stdout)
    assert answer.keys() == {"requests", "malformed", "repeats"}
    return answer


def event(*records: bytes) -> bytes:
    return json.dumps(
        {"Records": [{"kinesis": {"data": base64.b64encode(data).decode()}} for data in records]}
    ).encode()


REQUEST = {
    "time_ms": T0,
    "client": "192.0.2.1",
    "method": "GET",
    "host": "www.example.com",
    "path": "/a b",
    "status": "404",
    "source": "cloudfront",
    "id": "id==",
}
LINE = logs.realtime(Hit(T0, "192.0.2.1", path="/a%20b", status="404")).encode()


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_shows_each_request_as_rules_see_it(packed: bool, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(gzip.compress(LINE) if packed else LINE)
    assert decoded(str(tmp_path / "log")) == {"requests": [REQUEST], "malformed": {}, "repeats": 0}
    assert decoded("-", stdin=LINE)["requests"] == [REQUEST]


def test_a_request_that_a_file_tells_twice_is_a_repeat() -> None:
    assert decoded("-", stdin=LINE + b"\n" + LINE + b"\n") == {"requests": [REQUEST], "malformed": {}, "repeats": 1}


@pytest.mark.parametrize("name", TEXTS)
def test_every_format_is_decoded(name: str) -> None:
    answer = decoded("-", stdin=TEXTS[name].encode())
    assert {request["client"] for request in answer["requests"]} == {"192.0.2.1"}
    assert (len(answer["requests"]) + answer["repeats"], answer["malformed"]) == (3, {})


def test_a_recorded_event_is_decoded_as_ingest_does(tmp_path: Path) -> None:
    records = [LINE, LINE, envelope(waf_text(), waf_text()[:-1]), b"no line", b"", cloudfront(c_ip="x")]
    (tmp_path / "event.json").write_bytes(event(*records))
    answer = decoded("--kinesis-event", str(tmp_path / "event.json"))
    expected = BatchDecoder().decode(records)
    assert answer["requests"][0] == REQUEST
    assert len(answer["requests"]) == len(expected)
    assert answer["repeats"] == expected.repeats == 1
    assert answer["malformed"] == {"json": 1, "fields": 1, "empty": 1, "address": 1}
    assert decoded("--kinesis-event", "-", stdin=event(*records)) == answer


def test_a_text_that_the_log_does_not_have_is_null() -> None:
    (request,) = decoded("-", "--fields", "timestamp,c-ip, cs-method", stdin=b"1760000000.5\t192.0.2.1\t-\n")[
        "requests"
    ]
    assert request == dict.fromkeys(REQUEST) | {
        "time_ms": 1_760_000_000_500,
        "client": "192.0.2.1",
        "method": "",
        "source": "cloudfront",
    }


def test_behind_a_trusted_proxy_the_client_is_the_forwarded_one() -> None:
    line = cloudfront(c_ip="198.51.100.9", x_forwarded_for="203.0.113.7")
    assert decoded("-", stdin=line)["requests"][0]["client"] == "198.51.100.9"
    for form, stdin in (((), line), (("--kinesis-event",), event(line))):
        (request,) = decoded("-", *form, "--trusted-proxy", "198.51.100.0/24", stdin=stdin)["requests"]
        assert request["client"] == "203.0.113.7"


def test_people_see_what_is_wrong_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(LINE + b"\n" + b"1760000000.1\t192.0.2.1\n" * 2000)
    shown = run(str(tmp_path / "log")).stdout
    assert "2025-10-09 08:53:20.000  192.0.2.1  GET     www.example.com  /a b  404     cloudfront  id==" in shown
    assert "1 request (1 cloudfront), 0 repeats" in shown
    assert f"2,000 lines have 2 fields where --fields names 9, such as {tmp_path / 'log'}, line 2: 1760" in shown
    assert "name their fields with --fields." in shown
    shown = run("-", "--kinesis-event", stdin=event(LINE, b"no line")).stdout
    assert "1 line has none of the known formats, such as -, record 2: no line" in shown


def test_the_table_is_bounded(tmp_path: Path) -> None:
    text = "".join(f"1760000000.{n:03d}\t192.0.2.1\t-\n" for n in range(200))
    (tmp_path / "log").write_text(text + (logs.v2_json(Hit(T0, "192.0.2.1")) + "\n") * 100)
    lines = run(str(tmp_path / "log"), "--fields", "timestamp,c-ip,x-edge-request-id").stdout.splitlines()
    assert sum("192.0.2.1" in line for line in lines) == MOST_ROWS
    assert f"and {300 - MOST_ROWS} more requests; --json prints all" in lines


@pytest.mark.parametrize(
    ("args", "stdin", "message"),
    [
        (["--kinesis-event"], b"no json", "-: not a Kinesis event"),
        (["--kinesis-event"], b"{}", "missing required field `Records`"),
        (["--kinesis-event"], b'{"Records": [{"kinesis": {"data": "?"}}]}', "$.Records[0].kinesis.data"),
        (["--kinesis-event", "--fields", "c-ip"], event(), "lack 'timestamp'"),
        (["--fields", "c-ip"], b"", "lack 'timestamp'"),
        (["no-such-file"], b"", "'no-such-file' is neither a file nor a folder"),
        (["no-such-file", "--kinesis-event"], b"", "no-such-file: No such file or directory"),
    ],
)
def test_input_that_cannot_be_read_is_an_error(args: list[str], stdin: bytes, message: str) -> None:
    files = [] if args[0].startswith("no-") else ["-"]
    assert message in run(*args, *files, stdin=stdin, exit_code=1).stderr
