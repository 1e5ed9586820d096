"""AWS WAF records, each beside the request it stands for."""

import json
from typing import Any

import pytest

from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import COLUMNS, Malformed, Reason, Requests, Source
from tests.support.records import rows, waf, waf_text

DEEP = 100_000


def decoded(*texts: bytes) -> tuple[Requests, list[Malformed]]:
    decoded = BatchDecoder().decode(texts)
    return (*decoded.requests, Requests(Source.WAF, [], [], lambda _: None))[0], list(decoded.malformed)


def only_row(text: bytes) -> dict[str, Any]:
    requests, malformed = decoded(text)
    assert not malformed
    (row,) = rows(requests)
    return row


def test_a_record() -> None:
    requests, malformed = decoded(waf_text(requestId="id-1==", responseCodeSent=429, action="BLOCK"))
    assert rows(requests) == [
        {
            "time": 1760000000123,
            "client": "203.0.113.9",
            "host": "www.example.com",
            "path": "/login",
            "method": "POST",
            "status": "429",
            "country": "US",
            "user_agent": "curl/8.5.0",
            "waf_action": "BLOCK",
            "waf_label": ("awswaf:clientip:geo:country:US",),
        }
    ]
    assert (requests.source, list(requests.ids), malformed) == (Source.WAF, ["id-1=="], [])


@pytest.mark.parametrize("column", sorted(COLUMNS))
@pytest.mark.parametrize("trusted", [None, NetworkSet([parse_network("192.0.2.0/24")])])
def test_a_column_has_the_same_values_when_only_it_is_decoded(column: str, trusted: NetworkSet | None) -> None:
    texts = [
        waf_text(clientIp="192.0.2.1", headers=[{"name": "X-Forwarded-For", "value": "203.0.113.9"}], action="BLOCK"),
        waf_text(host=..., country="-", responseCodeSent=429),
        waf_text(uri=7, responseCodeSent="403", labels=[7]),
    ]
    reader = BatchDecoder(trusted=trusted)
    (whole,), (narrow,) = reader.decode(texts).requests, reader.decode(texts, frozenset((column,))).requests
    assert rows(narrow, column) == rows(whole, column)
    assert len(narrow) == 3
    others = [name for name in COLUMNS if name != column]
    assert all(narrow.columns(name) is None for name in others), "nobody has asked for them"


def test_the_two_required_keys_are_enough() -> None:
    row = only_row(b'{"timestamp":1760000000123,"httpRequest":{"clientIp":"2001:DB8::1"}}')
    nothing = {"host": "", "path": "", "method": "", "status": "", "user_agent": "", "waf_action": "", "waf_label": ()}
    assert row == {"time": 1760000000123, "client": "2001:db8::1", "country": "-", **nothing}


def test_a_time_may_be_a_whole_number_of_any_spelling() -> None:
    assert only_row(waf_text(timestamp=1760000000123.0))["time"] == 1760000000123


@pytest.mark.parametrize(
    ("changes", "column", "text"),
    [
        pytest.param({"host": ...}, "host", "www.example.com", id="an old record has the host in its headers"),
        pytest.param({"host": ..., "headers": []}, "host", "", id="no host at all"),
        pytest.param({"host": "WWW.Example.com:8443"}, "host", "www.example.com", id="host with a port"),
        pytest.param({"host": None, "headers": [{"name": "HOST", "value": "A.b."}]}, "host", "a.b", id="any case"),
        pytest.param({"headers": [{"name": "User-Agent"}]}, "user_agent", "", id="a header without value"),
        pytest.param({"headers": [{"value": "x"}]}, "user_agent", "", id="a value without header"),
        pytest.param(
            {"headers": [{"name": None, "value": "x"}, {"name": "user-agent", "value": "y"}]},
            "user_agent",
            "y",
            id="a null name spoils no other header",
        ),
        pytest.param({"headers": None}, "user_agent", "", id="null headers"),
        pytest.param({"headers": ...}, "user_agent", "", id="no headers"),
        pytest.param({"headers": "x"}, "user_agent", "", id="headers that are none"),
        pytest.param({"labels": None}, "waf_label", (), id="null labels"),
        pytest.param({"labels": ...}, "waf_label", (), id="no labels"),
        pytest.param({"labels": [{"name": "a:b"}, {}, {"name": None}]}, "waf_label", ("a:b",), id="odd labels"),
        pytest.param({"labels": [1]}, "waf_label", (), id="labels that are none"),
        pytest.param({"country": "-"}, "country", "-", id="country unknown"),
        pytest.param({"country": None}, "country", "-", id="country null"),
        pytest.param({"responseCodeSent": None}, "status", "", id="status is there only if WAF answered"),
        pytest.param({"uri": "/%41?"}, "path", "/%41?", id="the path is what the client sent"),
        pytest.param({"uri": "/ü\u2028"}, "path", "/ü\u2028", id="not ASCII"),
        pytest.param({"uri": None}, "path", "", id="null path"),
        pytest.param({"newKey": {"deep": [1, {"er": None}]}}, "path", "/login", id="an unknown key"),
    ],
)
def test_optional_keys_may_be_missing_null_or_of_another_type(
    changes: dict[str, Any], column: str, text: object
) -> None:
    assert only_row(waf_text(**changes))[column] == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(waf_text(responseCodeSent="403"), {"status": "", "path": "/login"}, id="a number as text"),
        pytest.param(waf_text(uri=["/login"]), {"path": "", "method": "POST"}, id="a list for a path"),
        pytest.param(waf_text(requestId={"x": 1}), {"path": "/login"}, id="an object for an id"),
        pytest.param(waf_text(action=7), {"waf_action": "", "path": "/login"}, id="a number for an action"),
        pytest.param(waf_text(uri="/@").replace(b"@", b"\xff"), {"path": "/�", "host": "www.example.com"}, id="bytes"),
        pytest.param(
            waf_text(uri="/@").replace(b"@", b"\\ud800"), {"path": "/?", "user_agent": "curl/8.5.0"}, id="surrogate"
        ),
        pytest.param(
            waf_text(headers=[{"name": "User-Agent", "value": "@"}]).replace(b"@", b"\\udfff"),
            {"user_agent": "?", "path": "/login"},
            id="half a surrogate pair in a header",
        ),
        pytest.param(
            waf_text(headers=[{"name": "User-Agent", "value": "@"}]).replace(b"@", b"\xff"),
            {"user_agent": "", "path": "/login"},
            id="bytes in a header",
        ),
        pytest.param(waf_text(labels=[{"name": "@"}]).replace(b"@", b"\xff"), {"waf_label": ()}, id="bytes in a label"),
    ],
)
def test_unreadable_values_hide_no_request(text: bytes, read: dict[str, Any]) -> None:
    row = only_row(text)
    assert {"client": row["client"], **{name: row[name] for name in read}} == {"client": "203.0.113.9", **read}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(b"{", Reason.JSON, id="cut"),
        pytest.param(waf_text()[:-2], Reason.JSON, id="cut at the end"),
        pytest.param(b'{"timestamp":1 "x"}', Reason.JSON, id="no JSON"),
        pytest.param(b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}", Reason.JSON, id="nested too deep"),
        pytest.param(b"", Reason.EMPTY, id="empty"),
        pytest.param(b" \r", Reason.EMPTY, id="blank"),
        pytest.param(b"{}", Reason.FIELDS, id="an empty object"),
        pytest.param(b"[1]", Reason.FIELDS, id="an array"),
        pytest.param(b"null", Reason.FIELDS, id="null"),
        pytest.param(waf_text(timestamp=...), Reason.FIELDS, id="no time"),
        pytest.param(waf_text(clientIp=...), Reason.FIELDS, id="no client"),
        pytest.param(waf_text(httpRequest=...), Reason.FIELDS, id="no request"),
        pytest.param(waf_text(httpRequest=[]), Reason.FIELDS, id="a request that is none"),
        pytest.param(waf_text(timestamp="1760000000123"), Reason.TIMESTAMP, id="time as text"),
        pytest.param(waf_text(timestamp=1.5), Reason.TIMESTAMP, id="time as a fraction"),
        pytest.param(waf_text(timestamp=True), Reason.TIMESTAMP, id="true"),
        pytest.param(waf_text(timestamp=-1), Reason.TIMESTAMP, id="before the epoch"),
        pytest.param(waf_text(timestamp=0).replace(b":0,", b":" + b"9" * 9999 + b",", 1), Reason.JSON, id="huge"),
        pytest.param(waf_text(clientIp=7), Reason.ADDRESS, id="a number for an address"),
        pytest.param(waf_text(clientIp="REDACTED"), Reason.ADDRESS, id="redacted"),
        pytest.param(waf_text(clientIp="@").replace(b"@", b"\xff"), Reason.ADDRESS, id="bytes for an address"),
        pytest.param(waf_text(clientIp="@").replace(b"@", b"\\ud800"), Reason.ADDRESS, id="surrogate"),
    ],
)
def test_a_bad_record_is_malformed_with_a_reason_and_the_others_count(text: bytes, reason: Reason) -> None:
    requests, malformed = decoded(waf_text(), text, waf_text())
    assert [piece.reason for piece in malformed] == [reason]
    assert len(requests) == 2


def test_two_halves_of_a_record_are_not_one_request() -> None:
    text = waf_text(requestId="a b")
    cut = text.index(b"httpRequest") - 1
    requests, malformed = decoded(text[:cut], text[cut:])
    assert (len(requests), {piece.reason for piece in malformed}) == (0, {Reason.JSON, Reason.FIELDS})


def test_headers_nested_too_deep_are_absent() -> None:
    depth = 150
    for _ in range(12):
        row = only_row(waf_text(headers="@").replace(b'"@"', b'[{"x":' + b"[" * depth + b"]" * depth + b"}]"))
        assert row["user_agent"] == ""
        depth += 50


def test_the_sample_record_has_the_published_form() -> None:
    assert json.loads(waf_text()) == waf()
