"""Recorded lines: their requests, and how a refused one is logged."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.requests import COLUMNS
from chalicelib.core.refusals import REFUSAL_COLUMNS, refusal_rows
from sluice.cli import main
from sluice.demo.latency import Latency
from sluice.demo.recording import RecordedEdge, lines_of, play, refused
from sluice.local.cloud import LocalCloud
from sluice.local.loop import SimulatedClock
from tests.support.records import cloudfront, waf_text
from tests.support.replay_logs import MILLISECOND_FORMATS, SECOND_FORMATS, Hit

DECODER = BatchDecoder()
WAF = waf_text(action="ALLOW")
HIT = Hit(1_760_000_200_200, "192.0.2.200", path="/200/200.html", status="200")
FORMATS = {
    name: line
    for name, (line, header) in {**MILLISECOND_FORMATS, **SECOND_FORMATS}.items()
    if name == "v1" or not header
}


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(cloudfront(DEFAULT_FIELDS) + b"\n", id="a CloudFront line"),
        pytest.param(cloudfront(DEFAULT_FIELDS), id="without a line end"),
        pytest.param(cloudfront(DEFAULT_FIELDS) + b"\r\n", id="with a carriage return"),
        pytest.param(WAF + b"\n", id="an AWS WAF record"),
        pytest.param(WAF.replace(b'"uri":"', b'"uri":"\xff'), id="not UTF-8"),
        *(pytest.param(line(HIT).encode() + b"\n", id=name) for name, line in FORMATS.items()),
    ],
)
def test_a_refused_request_is_logged_as_the_same_request_refused(record: bytes) -> None:
    answered, logged = (DECODER.decode([each]).requests[0] for each in (record, refused(record, DECODER)))
    assert (logged.times, logged.clients, logged.ids) == (answered.times, answered.clients, answered.ids)
    assert (len(refusal_rows(answered)), list(refusal_rows(logged))) == (0, [0])
    for name in COLUMNS - REFUSAL_COLUMNS:
        before, after = answered.columns(name), logged.columns(name)
        assert (before and list(before.texts())) == (after and list(after.texts()))


def test_a_line_without_a_status_remains_as_it_is() -> None:
    line = b"1760000000.123\t192.0.2.1\n"
    assert refused(line, BatchDecoder(("timestamp", "c-ip"))) == line


def test_the_last_column_keeps_its_line_end() -> None:
    line = b"1760000000.123\t192.0.2.1\t200\r\n"
    decoder = BatchDecoder(("timestamp", "c-ip", "sc-status"))
    assert refused(line, decoder) == b"1760000000.123\t192.0.2.1\t429\r\n"


def test_lines_have_the_time_and_client_of_their_request() -> None:
    records = [cloudfront(DEFAULT_FIELDS, timestamp="1760000000.250", c_ip="192.0.2.1"), b"no request\n", b"\n"]
    first, *others = lines_of([*records, waf_text(timestamp=1_760_000_001_500, clientIp="2001:db8::7")], DECODER)
    assert (first.at, first.client) == (1_760_000_000.25, b"\xc0\x00\x02\x01")
    assert [(line.at, line.client) for line in others[:2]] == [(None, b"")] * 2
    assert (others[2].at, others[2].client[:4]) == (1_760_000_001.5, b"\x20\x01\x0d\xb8")


RULES = """
[[rule]]
name = "burst"
limit = 10
window = "2s"
block_for = "30s"
"""


class Arrivals(Latency):
    """A measurement that also keeps the records."""

    def __init__(self, cloud: LocalCloud) -> None:
        super().__init__(DECODER, cloud.rules.rules)
        self.records: list[bytes] = []

    def arrived(self, moment: float, record: bytes) -> None:
        self.records.append(record)
        super().arrived(moment, record)


def test_the_stream_gets_the_lines_that_the_edge_logs() -> None:
    start = 1_700_000_000
    cloud = LocalCloud(SimulatedClock(start), rules=RULES)
    edge, arrivals = RecordedEdge(cloud, DECODER, 1.0), Arrivals(cloud)
    log = [
        cloudfront(DEFAULT_FIELDS, timestamp=f"{start + n / 10:.3f}", c_ip="192.0.2.7", x_edge_request_id=f"id-{n}")
        for n in range(100)
    ]
    play(cloud, lines_of([line + b"\n" for line in log], DECODER), arrivals, edge)
    statuses = [record.split(b"\t")[2] for record in arrivals.records]
    (client,) = edge.clients().items()
    assert client == ("192.0.2.7/32", {"requests": 100, "refused": statuses.count(b"429"), "asked": 0})
    assert statuses == sorted(statuses), "served at first, refused from then on"
    assert 50 < statuses.count(b"429") < 90


def test_the_client_behind_a_trusted_proxy_is_refused_with_the_chosen_status(tmp_path: Path) -> None:
    start, log = 1_700_000_000, tmp_path / "log"
    lines = [
        cloudfront(
            DEFAULT_FIELDS,
            timestamp=f"{start + n / 20:.3f}",
            c_ip="198.51.100.7",
            x_forwarded_for="192.0.2.7" if n % 2 else "203.0.113.9",
            x_edge_request_id=f"id-{n}",
        )
        for n in range(200)
        if n % 2 or n % 40 == 0
    ]
    log.write_bytes(b"".join(line + b"\n" for line in lines))
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    arguments = ["demo", "--speed", "max", "--json", "--traffic", str(log), "--edge", "1", "--rules", str(rules)]
    options = ["--trusted-proxy", "198.51.100.0/24", "--block-status", "503"]
    done = CliRunner().invoke(main, [*arguments, *options])
    assert done.exit_code == 0, done.output
    clients = json.loads(done.stdout)["clients"]
    assert clients.keys() == {"192.0.2.7/32", "203.0.113.9/32"}
    assert clients["192.0.2.7/32"]["refused"] > 30
    assert clients["203.0.113.9/32"]["refused"] == 0
    assert [block["client"] for block in json.loads(done.stdout)["blocks"]] == ["192.0.2.7/32"]
    wrong = CliRunner().invoke(main, ["demo", *options])
    assert "describe the --traffic" in wrong.output
