"""Unusual but valid pieces of each format, as other people's logs hold them, and what is named but not read."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.framing import parts
from chalicelib.core.logs.requests import LIVE_SOURCES, Decoded, Reason, Source
from tests.support import replay_logs as logs
from tests.support.api_gateway import api
from tests.support.records import CELLS, cloudfront, envelope, rows, waf_text
from tests.support.replay_logs import T0, Hit

V1 = logs.standard(Hit(T0, "192.0.2.1", path="/a", status="404"))


def decoded(*records: str | bytes, **options: Any) -> Decoded:
    return BatchDecoder(**options).decode([r.encode() if isinstance(r, str) else r for r in records])


def row(*records: str | bytes, **options: Any) -> dict[str, Any]:
    """Returns the only request, with its source."""
    result = decoded(*records, **options)
    assert not result.malformed
    ((found, requests),) = [(found, requests) for requests in result.requests for found in rows(requests)]
    return {"source": str(requests.source), **found}


def subset(found: dict[str, Any], **expected: Any) -> bool:
    return {name: found[name] for name in expected} == expected


# CloudFront standard


def test_under_a_header_that_begins_with_timestamp_the_header_names_the_columns() -> None:
    header = "#Fields: timestamp c-ip cs-method sc-status x-host-header cs-uri-stem x-edge-request-id cs(User-Agent) "
    line = "1734528645\t192.0.2.44\tGET\t200\twww.example.com\t/index.html\tr1\tcurl\t-"
    found = row(f"{header}x-forwarded-for\n{line}")
    assert subset(found, source="cloudfront-standard", method="GET", status="200", time=1734528645000)


@pytest.mark.parametrize("names", ["timestamp", "timestamp(ms)", "date time", "timestamp date time"])
def test_any_of_the_time_fields_is_enough(names: str) -> None:
    values = {"timestamp": "1760000000", "timestamp(ms)": "1760000000000", "date": "2025-10-09", "time": "08:53:20"}
    cells = {name: values[name] for name in names.split()} | {"c-ip": "192.0.2.1"}
    header = "#Fields: " + " ".join(cells)
    assert row(header + "\n" + "\t".join(cells.values()))["time"] == T0
    assert row(json.dumps(cells))["time"] == T0


@pytest.mark.parametrize(
    ("delimiter", "joint"),
    [(delimiter, joint) for delimiter in ("\t", " ", ",", ";", "|") for joint in (" ", "\t", delimiter)]
    + [("||", "||"), ("~", "~")],
)
def test_lines_may_have_any_delimiter_and_the_header_the_same_or_blanks(delimiter: str, joint: str) -> None:
    names = ("date", "time", "c-ip", "sc-status", "cs(Host)")
    cells = ("2025-10-09", "08:53:20", "192.0.2.1", "404", "h")
    header = "#Fields: " + joint.join(names)
    assert subset(row(f"{header}\n{delimiter.join(cells)}"), client="192.0.2.1", status="404", time=T0, host="h")


@pytest.mark.parametrize("agent", ["a,b", ",", ",,,", '"a, b"'])
def test_a_delimiter_that_a_client_writes_hides_no_request(agent: str) -> None:
    header = "#Fields: timestamp(ms),c-ip,cs-uri-stem,cs(User-Agent),sc-status"
    found = row(f"{header}\n1760000000000,192.0.2.1,/a,{agent},404")
    assert subset(found, client="192.0.2.1", status="404", time=T0)
    alone = row(f"{header.replace('cs-uri-stem,', '')}\n1760000000000,192.0.2.1,{agent},404")
    assert subset(alone, user_agent=agent, status="404")


@pytest.mark.parametrize("path", ["/a,b", ",,,", "/2025,12:00,1", "/192.0.2.1,192.0.2.1,"])
def test_the_time_and_the_client_may_stand_between_values_that_hold_delimiters(path: str) -> None:
    for names, time in (("timestamp(ms)", "1760000000000"), ("date,time", "2025-10-09,08:53:20")):
        for agent in ("curl", "Mozilla/5.0%20(KHTML,%20like%20Gecko)"):
            line = f"{path},{time},192.0.2.1,{agent}"
            assert subset(row(f"#Fields: cs-uri-stem,{names},c-ip,cs(User-Agent)\n{line}"), client="192.0.2.1", time=T0)


def test_an_address_that_a_client_writes_is_not_taken_for_the_client() -> None:
    result = decoded("#Fields: timestamp cs-uri-stem c-ip cs(User-Agent)\n1760000000,/,198.51.100.7,192.0.2.1,curl")
    assert (len(result), [piece.reason for piece in result.malformed]) == (0, [Reason.FIELDS])


@pytest.mark.parametrize("width", [9, 12, 18, 19, 24, 26, 33, 35, 40])
def test_version_1_without_a_header_may_have_any_number_of_columns(width: int) -> None:
    cells = (V1.split("\t") + ["-"] * 7)[:width]
    assert subset(row("\t".join(cells)), source="cloudfront-standard", status="404", path="/a", time=T0)
    assert len(decoded("\t".join(cells), V1, V1)) == 3


def test_plain_lines_of_version_2_are_in_the_order_of_version_1() -> None:
    for delimiter in (" ", ",", ";"):
        message = V1.replace("\t", delimiter).encode()
        assert subset(row(envelope(message)), source="cloudfront-standard", status="404", client="192.0.2.1")


def test_a_line_cut_within_the_client_is_no_request_of_another_client() -> None:
    at = V1.index("192.0.2.1") + len("192.0.2")
    assert len(decoded(V1[:at])) == 0


def test_realtime_lines_under_their_own_header_are_read_by_it() -> None:
    names = ("timestamp", "c-ip", "cs-host", "cs-user-agent", "sc-status")
    line = "\t".join(CELLS[name] for name in names)
    found = row(f"#Fields: {' '.join(names)}\n{line}")
    assert subset(found, source="cloudfront", host="www.example.com", user_agent="curl/8.5.0", status="200")


@pytest.mark.parametrize("stamp", [1734528645492, "1734528645492", 1734528645492.0])
def test_a_time_in_json_may_be_a_number_of_any_kind(stamp: object) -> None:
    assert row(json.dumps({"timestamp(ms)": stamp, "c-ip": "192.0.2.1"}))["time"] == 1734528645492


@pytest.mark.parametrize("value", [None, True, [], {"a": 1}, "-"])
def test_an_odd_value_in_json_spoils_nothing_else(value: object) -> None:
    known = {"timestamp": 1760000000, "c-ip": "192.0.2.1", "sc-status": 404}
    record = known | {"timestamp(ms)": value, "cs-method": value}
    assert subset(row(json.dumps(record)), time=T0, client="192.0.2.1", status="404", method="")


def test_a_country_that_the_log_does_not_hold_is_not_the_unknown_one() -> None:
    assert row(json.dumps({"timestamp": 1760000000, "c-ip": "192.0.2.1"}))["country"] == ""
    assert row(json.dumps({"timestamp": 1760000000, "c-ip": "192.0.2.1", "c-country": "-"}))["country"] == "-"


# Load balancers

BALANCED = logs.balancer(Hit(T0, "2001:db8::1", path="/a", status="403"))
VENDED = {
    **dict.fromkeys(("type", "target_port", "trace_id", "ip_address"), "-"),
    "time": "2025-10-09T08:53:20.000000Z",
    "elb": "app/lb/1",
    "client_port": "2001:db8::1:2817",
    "elb_status_code": "403",
    "user_agent": "curl/8.5.0",
    "actions_executed": "waf",
    "request_line": "GET https://www.example.com:443/a?b HTTP/1.1",
}


@pytest.mark.parametrize("quote", ["", '"'])
def test_the_json_of_a_load_balancer_has_what_its_lines_have(quote: str) -> None:
    record = {k: f"{quote}{v}{quote}" if k in ("request_line", "user_agent") else v for k, v in VENDED.items()}
    expected = {"source": "load-balancer", "client": "2001:db8::1"}
    expected |= {"path": "/a", "host": "www.example.com", "status": "403"}
    assert subset(row(envelope(json.dumps(record).encode())), **expected, waf_action="BLOCK", method="GET")
    assert subset(row(BALANCED), **expected, method="GET")


def test_further_columns_of_a_load_balancer_do_not_matter() -> None:
    assert row(BALANCED + ' "-" - "m.example.com" TransformSuccess')["client"] == "2001:db8::1"


def test_a_load_balancer_tells_what_aws_waf_did() -> None:
    rest = ' - - arn "Root=1-a" "-" "arn" 1 2025-10-09T08:53:20.000000Z "waf" "-" "-"'
    line = 'https 2025-10-09T08:53:20.000000Z app/lb/1 192.0.2.1:2 - 0 0 0 403 - 0 5 "GET https://h:443/ HTTP/1.1" "c"'
    assert row(line + rest)["waf_action"] == "BLOCK"
    assert row(line + rest.replace('"waf"', '"waf,forward"'))["waf_action"] == "ALLOW"


# Web servers

STAMP = '[09/Oct/2025:08:53:20 +0000] "GET /a?x=1 HTTP/1.1" 404 5 "-" "curl"'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"www.example.com:443 192.0.2.1 - - {STAMP}", {"host": "www.example.com"}),
        (f"WWW.example.com 192.0.2.1 - a user {STAMP}", {"host": "www.example.com"}),
        (f"203.0.113.7 192.0.2.1 - - {STAMP}", {"host": "203.0.113.7"}),
        (f"192.0.2.1:4711 - - {STAMP}", {"host": ""}),
        (f"[::ffff:192.0.2.1] - - {STAMP}", {}),
        (f"www.example.com [::ffff:192.0.2.1]:443 - - {STAMP}", {"host": "www.example.com"}),
        (f"192.0.2.1 - - {STAMP}".replace("/a?", "http://Shop.example.com:80/a?"), {"host": "shop.example.com"}),
        (f"192.0.2.1 - - {STAMP}".replace("/a?", "http://[::1/a?"), {"host": ""}),
        (f'192.0.2.1 - - {STAMP} "-" 0.003', {}),
    ],
)
def test_web_servers_write_hosts_ports_and_whole_urls(line: str, expected: dict[str, str]) -> None:
    found = row(line)
    assert subset(found, source="web-server", client="192.0.2.1", path="/a", status="404", time=T0, **expected)


@pytest.mark.parametrize("host", ["#", "#Fields:", "#fields", "{", "{\\x22a\\x22:", "{}", "}", "[", "PAR1", "-"])
def test_a_host_that_a_client_writes_hides_no_request(host: str) -> None:
    line, other = f"{host} 192.0.2.1 - - {STAMP}", f"www.example.com 192.0.2.2 - - {STAMP}"
    for record in (line, f"{line}\n{other}\n{line}", f"{other}\n{line}\n", f"{waf_text().decode()}\n{line}\n{other}"):
        for form in (record, gzip.compress(record.encode())):
            assert len(decoded(form)) == record.count("192.0.2.") + record.count("httpRequest")


@pytest.mark.parametrize(
    "host",
    [
        *(
            f"2025-10-09{mark}08:53:20{mark}X{mark}0{mark}198.51.100.7{mark}GET{mark}h{mark}/{mark}200{mark}a"
            for mark in ",;|"
        ),
        *(
            "1760000000.123",
            "1760000000",
            "https",
            "tls",
            "2025-10-09T08:53:20.000Z",
            "198.51.100.7",
            "198.51.100.7:80",
        ),
        *("[198.51.100.7]", "2025/10/09", "c-ip", "\xef\xbb\xbf2025-10-09,08:53:20,X,0,198.51.100.7,GET,h,/,200,a"),
    ],
)
def test_a_host_that_a_client_writes_puts_no_request_on_another_account(host: str) -> None:
    line, other = f"{host} 192.0.2.1 - - {STAMP}", f"www.example.com 192.0.2.2 - - {STAMP}"
    for record in (line, f"{line}\n{other}\n{line}", f"{other}\n{line}\n", f"{waf_text().decode()}\n{line}\n{other}"):
        result = decoded(record)
        clients = [
            found["client"] for requests in result.requests for found in rows(requests) if found["waf_action"] is None
        ]
        assert clients.count("192.0.2.1") == record.count("192.0.2.1")
        assert clients.count("192.0.2.2") == record.count("192.0.2.2")
        assert (set(clients) <= {"192.0.2.1", "192.0.2.2"}, result.malformed) == (True, ())


# Trusted proxies

PROXY = "198.51.100.9"
TRUSTED = NetworkSet([parse_network("198.51.100.0/24")])
FORWARDED: dict[str, Callable[[str], str | bytes]] = {
    "real-time": lambda f: cloudfront(c_ip=PROXY, x_forwarded_for=f or "-"),
    "standard": lambda f: f"#Fields: date time c-ip x-forwarded-for\n2025-10-09\t08:53:20\t{PROXY}\t{f or '-'}",
    "standard JSON": lambda f: json.dumps({"timestamp": 1760000000, "c-ip": PROXY, "x-forwarded-for": f or "-"}),
    "waf": lambda f: waf_text(clientIp=PROXY, headers=[{"name": "X-Forwarded-For", "value": f}] if f else []),
    "nginx": lambda f: f'{PROXY} - - {STAMP} "{f or "-"}"',
}


@pytest.mark.parametrize("form", FORWARDED)
def test_trusted_proxies_mean_the_same_in_every_format(form: str) -> None:
    for forwarded in ("203.0.113.7", "192.0.2.66, 203.0.113.7", "203.0.113.7,"):
        assert row(FORWARDED[form](forwarded), trusted=TRUSTED)["client"] == "203.0.113.7"
    unnamed = decoded(FORWARDED[form](""), trusted=TRUSTED)
    assert (len(unnamed), [piece.reason for piece in unnamed.malformed]) == (0, [Reason.FORWARDED])


@pytest.mark.parametrize(
    "record",
    [
        BALANCED.replace("[2001:db8::1]", PROXY),
        json.dumps(VENDED | {"client_port": f"{PROXY}:80"}),
        logs.combined(Hit(T0, PROXY)),
        f"#Fields: date time c-ip\n2025-10-09\t08:53:20\t{PROXY}",
    ],
)
def test_a_trusted_proxy_is_never_counted_where_the_log_names_nobody_behind_it(record: str) -> None:
    result = decoded(record, trusted=TRUSTED)
    assert (len(result), [piece.reason for piece in result.malformed]) == (0, [Reason.FORWARDED])


# What holds them, and what is not read


def test_what_cloudwatch_exports_to_s3_is_read() -> None:
    line = b"2025-05-25T21:31:58.574Z " + waf_text()
    assert row(line)["source"] == "waf"
    assert len(decoded(line + b"\n" + line + b"\n")) == 2


@pytest.mark.parametrize(
    ("message", "clients", "reasons"),
    [
        (waf_text() + b" more", ["203.0.113.9"], [Reason.FIELDS]),
        (gzip.decompress(envelope(waf_text())), [], [Reason.ENVELOPE]),
        (api(userAgent='x" ' + waf_text(clientIp="198.51.100.7").decode()), ["203.0.113.9"], []),
    ],
    ids=["text after an object", "an envelope", "an object in an unescaped header"],
)
@pytest.mark.parametrize("header", [b"", b"#Fields: date time c-ip\n"])
def test_an_exported_message_is_one_event(
    message: bytes, clients: list[str], reasons: list[Reason], header: bytes
) -> None:
    result = decoded(header + b"2025-05-25T21:31:58.574Z " + message + b"\n")
    assert [found["client"] for requests in result.requests for found in rows(requests)] == clients
    assert [piece.reason for piece in result.malformed] == reasons


def test_an_envelope_may_be_plain_pretty_and_in_any_order() -> None:
    body = {"owner": "1", "logEvents": [{"id": "1", "message": waf_text().decode()}], "messageType": "DATA_MESSAGE"}
    assert row(json.dumps(body))["source"] == row(json.dumps(body, indent=2))["source"] == "waf"


def test_a_mark_of_byte_order_costs_nothing() -> None:
    assert row(b"\xef\xbb\xbf" + cloudfront())["source"] == "cloudfront"
    assert row(b"\xef\xbb\xbf" + waf_text())["source"] == "waf"
    for piece in (cloudfront(), waf_text(), b"#Fields: c-ip timestamp\n192.0.2.1\t1760000000"):
        together = decoded(b"\n".join([b"\xef\xbb\xbf" + piece] * 3) + b"\n")
        assert (len(together) + together.repeats, together.malformed) == (3, ())


def test_every_part_of_a_text_with_a_mark_of_byte_order_is_under_its_header() -> None:
    lines = b"192.0.2.1\t1760000000\n" * 100
    for text in (
        b"\xef\xbb\xbf#Fields: c-ip timestamp\n" + lines,
        b"#Version\r\n\xef\xbb\xbf#Fields: c-ip timestamp\r\n" + lines,
    ):
        found = [BatchDecoder().decode_text(part.text, part.header) for part in parts([text], 500)]
        assert len(found) > 3
        assert (sum(map(len, found)), [part.malformed for part in found if part.malformed]) == (100, [])


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ("2 123456789010 eni-1235b8ca 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1 2 ACCEPT OK", "VPC flow log"),
        ("tls 2.0 2018-12-20T02:59:40 net/lb/c6e7 g3d4 72.21.218.154:51341", "access log of a Network Load Balancer"),
        ('2025/10/09 08:53:20 [error] 7#7: *1 open() "/x" failed, client: 192.0.2.1', "error log of nginx"),
        ("[Thu Oct 09 08:53:20.1 2025] [core:error] [pid 1] [client 192.0.2.1:1] x", "error log of Apache"),
        (b"PAR1\x15\x04" + bytes(range(128, 250)), "Parquet"),
        (b"PK\x03\x04" + bytes(range(128, 250)), "zip"),
        (b"BZh91AY&SY" + bytes(range(128, 250)), "bzip2"),
    ],
)
def test_other_logs_and_kinds_of_file_are_named(record: str | bytes, name: str) -> None:
    (piece,) = decoded(record).malformed
    assert (piece.reason, piece.name) == (Reason.UNSUPPORTED, name)


def test_every_source_is_read_by_lambda() -> None:
    assert set(LIVE_SOURCES) == set(Source)
