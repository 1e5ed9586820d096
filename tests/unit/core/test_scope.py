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


# Columns that few logs have.

MORE_FIELDS = (*FIELDS, "asn", "sc-content-type", "cs-header-names", "cs-referer")
JA3, JA4 = "e7d705a3286e19ea42f587b344ee6865", "t13d1516h2_8daaf6152771_02713d6af862"


@pytest.mark.parametrize(
    ("toml", "field", "values", "rows"),
    [
        pytest.param("asn = [64496]", "asn", ["64496", "64497", "-"], [0], id="asn"),
        pytest.param(
            "content_type = ['text/html', 'image/*']",
            "sc_content_type",
            ["text/html", "Text/HTML;%20charset=utf-8", "image/png", "text/css", "-"],
            [0, 1, 2],
            id="content_type",
        ),
        pytest.param("content_type = ['-']", "sc_content_type", ["text/html", "-"], [1], id="no content type"),
        pytest.param(
            "header_names = ['X-Scan']",
            "cs_header_names",
            ["host%0Ax-scan%0A", "X-SCAN", "x-scanner%0A", "-"],
            [0, 1],
            id="header_names",
        ),
        pytest.param(
            "referer = ['Spam.example']",
            "cs_referer",
            ["https://spam.EXAMPLE/x", "https://example/", "-"],
            [0],
            id="referer",
        ),
        pytest.param("referer = ['-']", "cs_referer", ["https://a-b.example/", "-"], [1], id="no referer"),
        pytest.param(
            "referer = ['-', 'spam']",
            "cs_referer",
            ["https://spam.example/", "-", "https://a-b.example/"],
            [0, 1],
            id="no referer, or one of these",
        ),
    ],
)
def test_a_key_of_a_column_that_real_time_logs_may_have(
    toml: str, field: str, values: list[str], rows: list[int]
) -> None:
    lines = [cloudfront(MORE_FIELDS, **{field: value}) for value in values]
    requests, malformed = CloudFrontLines(MORE_FIELDS).decode(lines)
    assert not malformed
    assert matching(scope(toml), requests) == rows


def test_keys_of_columns_in_waf_logs() -> None:
    headers = [{"name": "Referer", "value": "https://spam.example/"}, {"name": "X-Scan", "value": "1"}]
    requests = waf_requests(
        {"clientAsn": 64496, "ja3Fingerprint": JA3, "headers": headers},
        {"ja4Fingerprint": JA4, "headers": []},
    )
    assert matching(scope("asn = [64496]"), requests) == [0]
    assert matching(scope(f"ja3 = ['{JA3}']"), requests) == [0]
    assert matching(scope(f"ja4 = ['{JA4}']"), requests) == [1]
    assert matching(scope("ja4 = ['-']"), requests) == [0], "which has none, as requests without TLS"
    assert (
        matching(scope("referer = ['spam']"), requests) == matching(scope("header_names = ['x-scan']"), requests) == [0]
    )
    assert matching(scope("content_type = ['-']"), requests) == [], "AWS WAF does not see the response"


# Paths.


@pytest.mark.parametrize(
    ("toml", "rows"),
    [
        pytest.param("path_suffix = ['.php']", [0, 4], id="suffix"),
        pytest.param("path_prefix = ['/up/'], path_suffix = ['.php']", [0], id="prefix and suffix"),
        pytest.param("path = ['/login'], path_prefix = ['/up/']", [0, 1, 2], id="path or prefix"),
        pytest.param("static = true", [1, 5], id="static files"),
        pytest.param("static = false", [0, 2, 3, 4, 6, 7], id="pages"),
        pytest.param("static = false, path_suffix = ['.css']", [], id="static and not"),
        pytest.param("path = ['/login'], normalise = true", [2, 3, 6], id="normal form"),
        pytest.param("path = ['/LogIn'], ignore_case = true", [2, 7], id="any case"),
        pytest.param("path = ['/login'], normalise = true, ignore_case = true", [2, 3, 6, 7], id="both"),
    ],
)
def test_paths_are_compared_as_the_scope_says(toml: str, rows: list[int]) -> None:
    paths = ["/up/x.php", "/up/x.png", "/login", "/%256Cogin", "/x.php", "/x.CSS", "//a/../login", "/Login"]
    assert matching(scope(toml), cloudfront_requests(*({"cs_uri_stem": path} for path in paths))) == rows


# Exceptions.


def test_what_matches_a_scope_in_not_does_not_count() -> None:
    requests = cloudfront_requests(
        {"c_country": "DE", "cs_uri_stem": "/"},
        {"c_country": "DE", "cs_uri_stem": "/health"},
        {"c_country": "FR", "cs_uri_stem": "/health"},
        {"c_country": "FR", "cs_uri_stem": "/", "cs_method": "POST"},
    )
    assert matching(scope("not = { country = ['DE'], path = ['/health'] }"), requests) == [0, 2, 3], "both must match"
    assert matching(scope("not = [{ country = ['DE'] }, { path = ['/health'] }]"), requests) == [3], "or one of several"
    assert matching(scope("country = ['DE'], not = { path = ['/health'] }"), requests) == [0]
    assert matching(scope("not = { method = ['GET', 'POST'] }"), requests) == []
    assert matching(scope("not = { country = ['XX'] }"), requests) == [0, 1, 2, 3]


def test_not_compares_paths_as_the_scope_around_it_does() -> None:
    requests = cloudfront_requests({"cs_uri_stem": "//health"}, {"cs_uri_stem": "/HEALTH"}, {"cs_uri_stem": "/"})
    assert matching(scope("not = { path = ['/health'] }"), requests) == [0, 1, 2]
    assert matching(scope("normalise = true, not = { path = ['/health'] }"), requests) == [1, 2]
    assert matching(scope("normalise = true, ignore_case = true, not = { path = ['/health'] }"), requests) == [2]
    assert matching(scope("not = { path = ['/health'], normalise = true }"), requests) == [1, 2]


@pytest.mark.parametrize("toml", ["not = { waf_label = ['bot'] }", "not = { method = ['PUT'], waf_label = ['bot'] }"])
def test_a_log_that_lacks_a_column_in_not_matches_nothing(toml: str) -> None:
    assert matching(scope(toml), cloudfront_requests({}, {})) == [], "nobody knows whether it is a bot"
    assert matching(scope(toml), waf_requests({}, {"labels": [{"name": "bot"}], "httpMethod": "PUT"})) == [0]


traits = {
    "method": ["GET", "POST"],
    "country": ["DE", "FR"],
    "path": ["/", "/login", "/a.css", "//login", "/LOGIN"],
    "status": ["200", "404"],
}
conditions = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sets(st.sampled_from(["GET", "PUT"]), min_size=1),
        "country": st.sets(st.sampled_from(["DE", "-"]), min_size=1),
        "status": st.sets(st.sampled_from(["4xx", "200"]), min_size=1),
        "path": st.sets(st.sampled_from(["/", "/login"]), min_size=1),
        "path_prefix": st.sets(st.sampled_from(["/l", "/A"]), min_size=1),
        "path_suffix": st.sets(st.sampled_from(["n", ".css"]), min_size=1),
        "static": st.booleans(),
        "normalise": st.booleans(),
        "ignore_case": st.booleans(),
    },
)


def is_in(said: dict[str, Any], request: dict[str, str], *, normalise: bool = False, ignore_case: bool = False) -> bool:
    """Tests one request, key by key, as the documentation words it."""

    def cased(text: str) -> str:
        return text.lower() if said.get("ignore_case") or ignore_case else text

    path = request["path"].replace("//", "/") if said.get("normalise") or normalise else request["path"]
    starts = [cased(path) == cased(p) for p in said.get("path", ())]
    starts += [cased(path).startswith(cased(p)) for p in said.get("path_prefix", ())]
    return (
        all(request[key] in said[key] for key in ("method", "country") if key in said)
        and ("status" not in said or any(s in (request["status"], request["status"][0] + "xx") for s in said["status"]))
        and (not starts or any(starts))
        and ("path_suffix" not in said or any(cased(path).endswith(cased(p)) for p in said["path_suffix"]))
        and ("static" not in said or said["static"] == path.endswith(".css"))
    )


def toml_of(said: dict[str, Any]) -> str:
    return ", ".join(f"{k} = {str(v).lower() if isinstance(v, bool) else sorted(v)}" for k, v in said.items())


@given(
    st.lists(st.fixed_dictionaries({key: st.sampled_from(values) for key, values in traits.items()}), max_size=8),
    conditions,
    st.lists(conditions.filter(lambda said: not said.keys() <= {"normalise", "ignore_case"}), max_size=3),
)
def test_a_request_counts_if_it_is_in_the_scope_and_in_none_of_those_in_not(
    asked: list[dict[str, str]], said: dict[str, Any], excluded: list[dict[str, Any]]
) -> None:
    names = {"method": "cs_method", "country": "c_country", "path": "cs_uri_stem", "status": "sc_status"}
    requests = cloudfront_requests(*({names[key]: value for key, value in request.items()} for request in asked))
    toml = toml_of(said)
    if excluded:
        toml += f"{toml and ', '}not = [{', '.join(f'{{ {toml_of(e)} }}' for e in excluded)}]"
    flags = {flag: said.get(flag, False) for flag in ("normalise", "ignore_case")}
    expected = [
        n
        for n, request in enumerate(asked)
        if is_in(said, request) and not any(is_in(e, request, **flags) for e in excluded)
    ]
    parsed = scope(toml)
    assert matching(parsed, requests) == expected
    assert set(parsed.columns()) <= set(traits)


def test_a_key_that_is_not_used_does_not_change_the_topic() -> None:
    old = "Scope(status=(), method=('POST',), waf_action=(), country=(), host=(), path=(), path_prefix=('/login',), "
    assert repr(scope("method = ['POST'], path_prefix = ['/login']")) == f"{old}waf_label=(), user_agent=())"
    assert repr(scope("method = ['POST'], path_prefix = ['/login'], static = false")) == (
        f"{old}waf_label=(), user_agent=(), static=False)"
    )
    assert repr(Scope(excluded=(Scope(asn=("1",)),))).endswith(
        "excluded=(Scope(status=(), method=(), waf_action=(), country=(), host=(), path=(), path_prefix=(), "
        "waf_label=(), user_agent=(), asn=('1',)),))"
    )


def test_scopes_that_differ_in_any_key_have_different_topics() -> None:
    scopes = [scope(toml) for toml in (
        "", "static = true", "static = false", "normalise = true", "ignore_case = true", "asn = [1]", "path = ['/a']",
        "path = ['/a'], normalise = true", "not = { path = ['/a'] }", "not = [{ path = ['/a'] }, { asn = [1] }]",
        "not = { path = ['/a'], asn = [1] }", "referer = ['a']", "user_agent = ['a']", "path_suffix = ['/a']",
    )]  # fmt: skip
    assert len({repr(each) for each in scopes}) == len(scopes)
