"""Harmful or nonsensical input is rejected with the name of the field, or stored where it does no harm."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import pytest

from tests.support.admin_api import Desk

WRITES = [("PUT", "/v1/allowlist"), ("POST", "/v1/blocks"), ("PUT", "/v1/rules"), ("POST", "/v1/pause")]


@pytest.mark.parametrize(
    "network",
    [
        *("192.0.2.7/24", "192.0.2.0/33", "2001:db8::1/64", "::/129", "300.1.1.1", "1.2.3", "0x7f.1", "127.1"),
        *("fe80::1%eth0", "fe80::1%<script>alert(1)</script>", "192.0.2.1\r\nX: y", "192.0.2.1\u0000", "\uff11.2.3.4"),
        *("", " ", "a", "192.0.2.1/", "/24", "192.0.2.0/-1", "192.0.2.0/24/24", "1" * 5000, "localhost", "*"),
    ],
)
def test_an_invalid_network_is_rejected_by_every_route_with_the_accepted_form(desk: Desk, network: str) -> None:
    replies = [
        desk.call("PUT", "/v1/allowlist", {"network": network}),
        desk.call("POST", "/v1/blocks", {"network": network, "block_for": "1h"}),
        desk.call("DELETE", "/v1/allowlist", network=network),
        desk.call("DELETE", "/v1/blocks", network=network),
    ]
    for reply in replies:
        assert reply.status == 422
        (error,) = reply.json["errors"]
        assert error["field"].startswith("network")
        assert "192.0.2.0/24" in error["accepted"] or "host bits" in error["accepted"]
        assert len(reply.text) < 2000
    assert desk.call("GET", "/v1/clients", address=network).status == 422
    assert desk.audit() == []


def test_host_bits_are_rejected_with_the_intended_network(desk: Desk) -> None:
    reply = desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.7/24"})
    assert "the network is 192.0.2.0/24" in reply.json["errors"][0]["accepted"]


def test_an_ipv4_mapped_address_is_the_ipv4_address(desk: Desk) -> None:
    reply = desk.call("PUT", "/v1/allowlist", {"network": "::ffff:192.0.2.1"})
    assert reply.json["entry"]["network"] == "192.0.2.1/32"


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b'{"network": "192.0.2.1", "network": "0.0.0.0/0"}', 400, id="a repeated key"),
        pytest.param(b'{"a": {"b": 1, "b": 2}}', 400, id="a repeated key, nested"),
        pytest.param(b"{", 400, id="truncated"),
        pytest.param(b"\xff\xfe", 400, id="not UTF-8"),
        pytest.param(b'{"comment": "\\ud800"}', 400, id="a lone surrogate"),
        pytest.param(b"[" * 100_000, 400, id="deeply nested"),
        pytest.param(b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400, id="deeply nested objects"),
        pytest.param(b'{"limit": NaN}', 400, id="NaN"),
        pytest.param(b'{"limit": ' + b"9" * 5000 + b"}", 400, id="a number of 5,000 digits"),
        pytest.param(b"{}" + b" " * 300_000, 413, id="huge"),
        pytest.param(b"[]", 422, id="a list"),
        pytest.param(b'"text"', 422, id="a text"),
        pytest.param(b"null", 422, id="null"),
        pytest.param(b"1e999", 422, id="infinity"),
        pytest.param(b'{"__proto__": {"force": true}}', 422, id="an unknown key"),
        pytest.param(b'{"a\\u001b]0;": 1}', 422, id="an unknown key with a terminal escape"),
    ],
)
def test_a_malformed_body_is_rejected(desk: Desk, method: str, path: str, raw: bytes, status: int) -> None:
    reply = desk.call(method, path, raw=raw, headers={"If-Match": '"1"'})
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert len(reply.text) < 3000
    assert desk.audit() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"network": 3221225985}, "network", id="a number for a network"),
        pytest.param({"network": ["192.0.2.1"]}, "network", id="a list for a network"),
        pytest.param({"network": "192.0.2.1", "force": "true"}, "force", id="a text for a flag"),
        pytest.param({"network": "192.0.2.1", "force": 1}, "force", id="a number for a flag"),
        pytest.param({"network": "192.0.2.1", "comment": None}, "comment", id="null for a comment"),
        pytest.param({"network": "192.0.2.1", "comment": "x" * 501}, "comment", id="a long comment"),
        pytest.param({"network": "192.0.2.1", "comment": "a\nb"}, "comment", id="two lines"),
        pytest.param({"network": "192.0.2.1", "comment": "a\n"}, "comment", id="a line feed at the end"),
        pytest.param({"network": "192.0.2.1", "comment": "\x1b[2J"}, "comment", id="a terminal's escape"),
        pytest.param({"network": "192.0.2.1", "comment": "\u202egnp.exe"}, "comment", id="reversed text"),
        pytest.param({"network": "192.0.2.1", "expires_at": "tomorrow"}, "expires_at", id="a text for a time"),
        pytest.param({"network": "192.0.2.1", "expires_at": 2.5}, "expires_at", id="half a second"),
        pytest.param({"network": "192.0.2.1", "expires_at": 10**30}, "expires_at", id="a time out of range"),
        pytest.param({"comment": "x"}, "network", id="no network"),
        pytest.param({"network": "192.0.2.1", "fource": True}, "fource", id="an unknown field"),
    ],
)
def test_an_invalid_field_is_named(desk: Desk, body: Any, field: str) -> None:
    reply = desk.call("PUT", "/v1/allowlist", body)
    assert (reply.status, reply.fields) == (422, [field])
    assert reply.json["errors"][0]["accepted"]


def test_markup_in_a_comment_is_returned_only_as_json(desk: Desk) -> None:
    comment = (
        "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u2028".replace("\u2028", "") + " \U0001f600 \u00fc"
    )
    desk.call("POST", "/v1/blocks", {"network": "203.0.113.9", "block_for": "1h", "comment": comment})
    for path in ("/v1/blocks", "/v1/audit", "/v1/clients?address=203.0.113.9"):
        reply = desk.call("GET", path)
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert desk.call("GET", "/v1/blocks").json["blocks"][0]["comment"] == comment


@pytest.mark.parametrize("key", ["", "a b", "a\r\nSet-Cookie: x=1", "x" * 129, "\u00e4", "a;b", "\x00"])
def test_an_invalid_idempotency_key_is_rejected_and_never_echoed_as_a_header(desk: Desk, key: str) -> None:
    reply = desk.call("POST", "/v1/pause", headers={"Idempotency-Key": key})
    assert (reply.status, reply.fields) == (422, ["Idempotency-Key"])
    assert all("\n" not in value and "\r" not in value for value in reply.headers.values())


@pytest.mark.parametrize("match", ["", "*", "1", 'W/"1"', '"1", "2"', '"-1"', '"1"\r\nX: y', '"' + "9" * 400 + '"'])
def test_an_invalid_version_is_rejected(desk: Desk, match: str) -> None:
    reply = desk.call("PUT", "/v1/rules", {"text": ""}, headers={"If-Match": match})
    assert (reply.status, reply.fields) == (422, ["If-Match"])


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        pytest.param("/v1/blocks", {"limit": 0}, 422, id="none"),
        pytest.param("/v1/blocks", {"limit": 1001}, 422, id="too many"),
        pytest.param("/v1/blocks", {"limit": "1e2"}, 422, id="a float"),
        pytest.param("/v1/blocks", {"limit": "\u0661"}, 422, id="an Arabic digit"),
        pytest.param("/v1/blocks", {"limit": "9" * 5000}, 422, id="many digits"),
        pytest.param("/v1/blocks", {"limit": [1, 2]}, 400, id="a repeated parameter"),
        pytest.param("/v1/blocks", {"sort": "evil"}, 422, id="an unknown order"),
        pytest.param("/v1/blocks", {"text": "x" * 101}, 422, id="a long text"),
        pytest.param("/v1/blocks", {"drop": "table"}, 400, id="an unknown parameter"),
        pytest.param("/v1/blocks", {"cursor": "\u00e4"}, 422, id="a cursor of another alphabet"),
        pytest.param("/v1/series", {"span": 10**6}, 422, id="a long span"),
        pytest.param("/v1/top", {"n": 101}, 422, id="too many clients"),
        pytest.param("/v1/rules", {"version": 0}, 422, id="version 0"),
        pytest.param("/v1/rules", {"version": 12}, 404, id="a version that does not exist"),
        pytest.param("/v1/status", {"x": ""}, 400, id="a parameter of a call that takes none"),
        pytest.param("/v1/audit", {"cursor": "WyIiXQ"}, 200, id="the empty cursor"),
    ],
)
def test_a_query_out_of_bounds_is_rejected(desk: Desk, path: str, query: Mapping[str, Any], status: int) -> None:
    assert desk.call("GET", path, **query).status == status


def test_a_flag_in_a_query_is_exactly_true_or_false(desk: Desk) -> None:
    for flag in ("1", "yes", "TRUE", "", "on"):
        assert desk.call("DELETE", "/v1/blocks", network="192.0.2.1", forget=flag).fields == ["forget"]


def test_rules_that_are_too_long_are_rejected(desk: Desk) -> None:
    reply = desk.call("POST", "/v1/rules/plan", {"text": "#" * 100_001})
    assert (reply.status, reply.fields) == (422, ["text"])


def test_another_content_type_is_rejected_with_a_problem_document(desk: Desk) -> None:
    reply = desk.call("PUT", "/v1/allowlist", {"network": "192.0.2.1"}, headers={"Content-Type": "text/plain"})
    assert (reply.status, reply.headers["Content-Type"]) == (415, "application/problem+json")


def test_an_internal_error_reveals_no_details(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(desk.cloud.state, "query", fail)
    reply = desk.call("GET", "/v1/blocks")
    assert reply.status == 500
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in reply.text


def test_every_file_of_the_page_has_a_strict_content_security_policy(desk: Desk) -> None:
    for path in ("/", "/page/page.js", "/page/page.css"):
        reply = desk.call("GET", path, by=None)
        policy = reply.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
    assert "<script>" not in desk.call("GET", "/", by=None).text


def test_the_largest_page_of_blocks_stays_below_a_megabyte(desk: Desk) -> None:
    for index in range(1200):
        desk.put_block(f"10.{index // 256}.{index % 256}.1/32")
    page = desk.call("GET", "/v1/blocks", limit=1000)
    assert len(page.json["blocks"]) == 1000
    assert page.json["total"] == 1200
    assert len(json.dumps(page.json)) < 1_000_000
