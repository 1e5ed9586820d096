"""Scope-down, against both logs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS, CloudFrontLines
from chalicelib.core.logs.requests import Requests
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.scope import EVERYTHING, Scope
from tests.support.records import cloudfront, waf_text

FIELDS = (*DEFAULT_FIELDS, "c-country")
CLOUDFRONT_FIELD = {
    "host": "cs_host",
    "path": "cs_uri_stem",
    "method": "cs_method",
    "status": "sc_status",
    "country": "c_country",
    "user_agent": "cs_user_agent",
}


def cloudfront_requests(*cells: dict[str, str]) -> Requests:
    requests, malformed = CloudFrontLines(FIELDS).decode([cloudfront(FIELDS, **fields) for fields in cells])
    assert not malformed
    return requests


def waf_requests(*changes: dict[str, Any]) -> Requests:
    decoded = BatchDecoder().decode([waf_text(**fields) for fields in changes])
    assert not decoded.malformed
    (requests,) = decoded.requests
    return requests


def scope(toml: str) -> Scope:
    return parse_rules(f'[[rule]]\nname = "r"\nlimit = 1\nwindow = "1s"\nscope = {{ {toml} }}').rules[0].scope


def matching(scope: Scope, requests: Requests) -> list[int]:
    rows = scope.rows(requests)
    return list(range(len(requests))) if rows is None else list(rows)


@pytest.mark.parametrize(
    ("toml", "values", "rows"),
    [
        pytest.param("host = ['a.b']", ["a.b", "A.B", "a.b:80", "x.a.b", "a.b.c", "-"], [0, 1, 2], id="host"),
        pytest.param("host = ['*.a.b']", ["x.a.b", "y.x.a.b", "a.b", "xa.b", "x.a.b."], [0, 1, 4], id="wildcard"),
        pytest.param("host = ['*.a.b', 'a.b']", ["x.a.b", "a.b", "b"], [0, 1], id="both"),
        pytest.param("path = ['/a']", ["/a", "/a?q=/b", "/a/", "/A", "/b", "/b?x=/a"], [0, 1], id="path"),
        pytest.param("path_prefix = ['/a']", ["/a", "/a/b", "/ab", "/A", "/b/a"], [0, 1, 2], id="path_prefix"),
        pytest.param("path = ['/x'], path_prefix = ['/a/']", ["/x", "/a/b", "/a", "/xy"], [0, 1], id="either path"),
        pytest.param("method = ['POST', 'PUT']", ["POST", "GET", "PUT", "post"], [0, 2], id="method"),
        pytest.param("status = ['404']", ["404", "403", "200"], [0], id="status"),
        pytest.param("status = ['4xx']", ["404", "499", "200", "500", "000"], [0, 1], id="a class"),
        pytest.param("status = ['4xx', '200']", ["404", "200", "201"], [0, 1], id="a class and a status"),
        pytest.param("country = ['DE', '-']", ["DE", "FR", "-"], [0, 2], id="country"),
        pytest.param("user_agent = ['CURL', 'bot/']", ["curl/8", "Bot/1", "xcurLx", "-", "bot"], [0, 1, 2], id="agent"),
    ],
)
def test_each_key_matches_the_same_requests_in_both_logs(toml: str, values: list[str], rows: list[int]) -> None:
    key = toml.partition(" ")[0].removesuffix("_prefix")
    field = CLOUDFRONT_FIELD[key]
    assert matching(scope(toml), cloudfront_requests(*({field: value} for value in values))) == rows

    def change(value: str) -> dict[str, Any]:
        if key == "user_agent":
            return {"headers": [{"name": "User-Agent", "value": value}] if value != "-" else []}
        if key == "status":
            return {"responseCodeSent": int(value)}
        name = {"host": "host", "path": "uri", "method": "httpMethod", "country": "country"}[key]
        return {name: value.partition("?")[0]}  # WAF has the query apart

    assert matching(scope(toml), waf_requests(*map(change, values))) == rows


def test_waf_actions_and_labels_are_matched() -> None:
    requests = waf_requests(
        {"action": "BLOCK", "labels": [{"name": "a:b"}, {"name": "c:d"}]},
        {"action": "ALLOW", "labels": [{"name": "c:d"}]},
        {"action": "CAPTCHA", "labels": None},
    )
    assert matching(scope("waf_action = ['BLOCK', 'CAPTCHA']"), requests) == [0, 2]
    assert matching(scope("waf_label = ['c:d']"), requests) == [0, 1]
    assert matching(scope("waf_label = ['a:b', 'x:y']"), requests) == [0]
    assert matching(scope("waf_label = ['a']"), requests) == []
    assert matching(scope("waf_action = ['BLOCK'], waf_label = ['c:d'], method = ['POST']"), requests) == [0]


def test_every_named_column_has_to_match() -> None:
    requests = cloudfront_requests(
        {"cs_method": "POST", "sc_status": "401", "cs_uri_stem": "/login"},
        {"cs_method": "GET", "sc_status": "401", "cs_uri_stem": "/login"},
        {"cs_method": "POST", "sc_status": "200", "cs_uri_stem": "/login"},
        {"cs_method": "POST", "sc_status": "401", "cs_uri_stem": "/"},
    )
    assert matching(scope("method = ['POST'], status = ['4xx'], path_prefix = ['/login']"), requests) == [0]


def test_a_column_that_the_log_lacks_matches_nothing() -> None:
    requests, _ = CloudFrontLines(("timestamp", "c-ip", "cs-method")).decode([b"1760000000.123\t203.0.113.9\tGET"])
    for toml in (
        "host = ['a']",
        "country = ['-']",
        "waf_action = ['BLOCK']",
        "waf_label = ['a']",
        "user_agent = ['a']",
    ):
        assert matching(scope(toml), requests) == []
        assert matching(scope(f"method = ['GET'], {toml}"), requests) == []
    assert matching(scope("method = ['GET']"), requests) == [0]


def test_no_scope_and_an_empty_one_match_everything() -> None:
    assert scope("") == EVERYTHING
    assert EVERYTHING.rows(cloudfront_requests({}, {})) is None
    assert EVERYTHING.columns() == []


def test_a_scope_lists_the_columns_it_examines() -> None:
    assert set(scope("path = ['/a'], path_prefix = ['/b'], status = ['404']").columns()) == {"status", "path"}


@given(
    st.lists(st.tuples(st.sampled_from(["GET", "POST"]), st.sampled_from(["/", "/login", "/login/x"]), st.booleans())),
    st.sets(st.sampled_from(["GET", "POST"]), min_size=1),
    st.sampled_from(["/", "/login", "/x"]),
)
def test_rows_are_those_that_match_on_their_own(
    asked: list[tuple[str, str, bool]], methods: set[str], prefix: str
) -> None:
    requests = cloudfront_requests(
        *({"cs_method": method, "cs_uri_stem": path + "?q" * query} for method, path, query in asked)
    )
    expected = [n for n, (method, path, _) in enumerate(asked) if method in methods and path.startswith(prefix)]
    assert matching(Scope(method=tuple(sorted(methods)), path_prefix=(prefix,)), requests) == expected
