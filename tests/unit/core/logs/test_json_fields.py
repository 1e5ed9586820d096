"""JSON access logs of any program, read by a mapping."""

import json
from typing import Any

import pytest

from chalicelib.config import ConfigError, read_config
from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.json_fields import parse_json_fields
from chalicelib.core.logs.requests import Decoded, Reason, Source
from tests.support.records import envelope, rows, waf_text
from tests.support.target import Target

CADDY = "time=ts,client=request.remote_ip,method=request.method,host=request.host,path=request.uri,status=status"
RECORD = {
    "level": "info",
    "ts": 1760000000.123,
    "request": {"remote_ip": "203.0.113.9", "method": "GET", "host": "WWW.Example.com:443", "uri": "/login?x=1"},
    "status": 404,
}


def decoded(*records: Any, fields: str = CADDY, **options: Any) -> Decoded:
    texts = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    return BatchDecoder(json_fields=parse_json_fields(fields), **options).decode(texts)


def test_a_record_of_nested_objects() -> None:
    (requests,) = decoded(RECORD).requests
    assert requests.source is Source.JSON
    (row,) = rows(requests)
    assert row == {
        "time": 1760000000123,
        "client": "203.0.113.9",
        "host": "www.example.com",
        "path": "/login",
        "method": "GET",
        "status": "404",
        **dict.fromkeys(("country", "user_agent", "waf_action", "waf_label")),
    }


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        (1760000000, 1760000000000),
        ("1760000000", 1760000000000),
        (1760000000123, 1760000000123),
        (1760000000.5, 1760000000500),
        ("2025-10-09T08:53:20.123456Z", 1760000000123),
        ("2025-10-09T10:53:20+02:00", 1760000000000),
        ("2025-10-09T08:53:20+0000", 1760000000000),
        ("2025-10-09 08:53:20,5", 1760000000500),
        ("09/Oct/2025:08:53:20 +0000", 1760000000000),
    ],
)
def test_usual_forms_of_times_are_read(time: object, ms: int) -> None:
    (requests,) = decoded({"t": time, "c": "203.0.113.9"}, fields="time=t,client=c").requests
    assert requests.times == [ms]


@pytest.mark.parametrize("client", ["203.0.113.9", "203.0.113.9:4711", "::ffff:203.0.113.9", "[::ffff:203.0.113.9]:80"])
def test_usual_forms_of_clients_are_read(client: str) -> None:
    (requests,) = decoded({"t": 1760000000, "c": client}, fields="time=t,client=c").requests
    assert [row["client"] for row in rows(requests)] == ["203.0.113.9"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"t": 1760000000}, Reason.FIELDS),
        ({"c": "203.0.113.9"}, Reason.FIELDS),
        ({}, Reason.FIELDS),
        ({"t": "soon", "c": "203.0.113.9"}, Reason.TIMESTAMP),
        ({"t": [1], "c": "203.0.113.9"}, Reason.TIMESTAMP),
        ({"t": 1760000000, "c": "host.example.com"}, Reason.ADDRESS),
        ({"t": 1760000000, "c": {"ip": 1}}, Reason.ADDRESS),
    ],
)
def test_an_object_without_a_time_or_a_client_is_malformed(record: dict[str, Any], reason: Reason) -> None:
    result = decoded(record, {"t": 1760000000, "c": "::1"}, fields="time=t,client=c")
    assert ([piece.reason for piece in result.malformed], len(result)) == ([reason], 1)


def test_values_that_cannot_be_read_count_as_absent() -> None:
    (requests,) = decoded({**RECORD, "status": ["404"], "request": {**RECORD["request"], "uri": None}}).requests  # type: ignore[dict-item]
    (row,) = rows(requests)
    assert (row["status"], row["path"], row["client"]) == ("", "", "203.0.113.9")


def test_the_client_behind_a_trusted_proxy_is_the_forwarded_one() -> None:
    trusted = NetworkSet([parse_network("10.0.0.0/8")])
    records = [{"t": 1760000000, "c": "10.0.0.1", "f": "198.51.100.1, 203.0.113.9"}, {"t": 1760000000, "c": "10.0.0.1"}]
    result = decoded(*records, fields="time=t,client=c,forwarded_for=f", trusted=trusted)
    assert [row["client"] for requests in result.requests for row in rows(requests)] == ["203.0.113.9"]
    assert [piece.reason for piece in result.malformed] == [Reason.FORWARDED]


def test_known_formats_stay_what_they_are() -> None:
    result = decoded(waf_text(), {**RECORD, "httpRequest": None}, RECORD)
    assert {str(requests.source): len(requests) for requests in result.requests} == {"waf": 1, "json": 1}


def test_without_a_mapping_no_other_json_is_read() -> None:
    assert len(BatchDecoder().decode([json.dumps(RECORD).encode()])) == 0


def test_an_application_is_limited_by_its_log_in_cloudwatch() -> None:
    target = Target(settings={"JSON_FIELDS": CADDY})
    records = [json.dumps({**RECORD, "ts": target.now - 3 + 0.05 * n}).encode() for n in range(60)]
    target.ingest([envelope(*records)])
    assert target.blocked() == {"203.0.113.9/32"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("time=t", "'time' and 'client' are needed"),
        ("time=t,client=", "'client' lacks its key"),
        ("time=t,client", "'client' lacks its key"),
        ("time=t,client=c,colour=x", "unknown column 'colour'"),
        ("time=t,client=c,time=u", "a column is named twice"),
    ],
)
def test_a_wrong_mapping_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_config({"JSON_FIELDS": text})
