"""Notes on rules that name every visitor or none, and what needs consent."""

import pytest

from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.logs.formats import columns_of_logs
from chalicelib.core.logs.log_format import DecodeOptions
from chalicelib.core.logs.requests import LIVE_SOURCES, Source
from chalicelib.core.rule_notes import objections, rule_notes
from chalicelib.core.rules import Rule
from chalicelib.core.rules_toml import parse_rules
from sluice import DEFAULT_RULES

COLUMNS = columns_of_logs(DecodeOptions(DEFAULT_FIELDS))
WIDEST = {4: 16, 6: 32}


def rules(keys: str = "", *, limit: int = 100, action: str = "block") -> tuple[Rule, ...]:
    text = f'[[rule]]\nname = "r"\nlimit = {limit}\nwindow = "10s"\naction = "{action}"\n{keys}\n'
    return parse_rules(text).rules


def notes(keys: str = "", *sources: Source, limit: int = 100, action: str = "block") -> list[str]:
    return list(rule_notes(rules(keys, limit=limit, action=action), COLUMNS, sources))


def test_the_initial_rules_have_no_notes_in_the_default_log() -> None:
    initial = parse_rules(DEFAULT_RULES.read_text()).rules
    assert list(rule_notes(initial, COLUMNS, [Source.CLOUDFRONT])) == []
    assert list(objections(initial, WIDEST)) == []


@pytest.mark.parametrize(
    "keys",
    [
        "",
        "scope = { static = false }",
        "scope = { path_prefix = ['/'] }",
        "scope = { method = ['GET', 'POST'] }",
        "scope = { host = ['www.example.com'], status = ['2xx', '4xx'] }",
        "scope = { not = { path = ['/health'] } }",
    ],
)
def test_a_limit_of_0_on_ordinary_requests_needs_consent(keys: str) -> None:
    assert notes(keys, limit=0) == ["Rule r blocks every client that makes one request. Give it a scope, or a limit."]
    assert list(objections(rules(keys, limit=0), WIDEST)) == ["rule r blocks every client that makes one request"]
    assert list(objections(rules(keys, limit=1), WIDEST)) == []


@pytest.mark.parametrize(
    "scope",
    [
        "path = ['/.env']",
        "path_prefix = ['/trap/']",
        "method = ['POST']",
        "status = ['4xx']",
        "country = ['XX']",
        "user_agent = ['sqlmap']",
        "asn = [64496]",
    ],
)
def test_a_limit_of_0_on_what_no_visitor_requests_needs_none(scope: str) -> None:
    assert list(objections(rules(f"scope = {{ {scope} }}", limit=0), WIDEST)) == []


def test_a_rule_that_counts_needs_no_consent() -> None:
    assert list(objections(rules("aggregate = { ipv4 = 8 }", limit=0, action="count"), WIDEST)) == []
    assert notes(limit=0, action="count") == [
        "Rule r names every client that makes one request. Give it a scope, or a limit."
    ]


def test_a_wide_network_needs_consent() -> None:
    assert list(objections(rules("aggregate = { ipv4 = 8, ipv6 = 24 }"), WIDEST)) == [
        "rule r blocks a whole IPv4 /8, which is wider than /16",
        "rule r blocks a whole IPv6 /24, which is wider than /32",
    ]
    assert list(objections(rules("aggregate = { ipv4 = 16, ipv6 = 32 }"), WIDEST)) == []


def test_a_limit_that_one_page_exceeds_is_noted() -> None:
    (note,) = notes(limit=9)
    assert note == (
        "Rule r blocks clients after 9 requests of any kind: one page with its files may be more. Count pages with "
        "static = false, or raise the limit."
    )
    assert notes(limit=10) == notes("scope = { static = false }", limit=9) == []


def test_a_column_that_a_counted_log_lacks_is_noted() -> None:
    country = "scope = { country = ['DE'] }"
    assert notes(country, Source.CLOUDFRONT) == ["Rule r counts nothing: the cloudfront log lacks country."]
    assert notes(country, Source.WAF) == []
    assert notes(country, Source.CLOUDFRONT, Source.WAF) == [
        "Rule r counts nothing in the cloudfront log, which lacks country."
    ]
    assert notes("scope = { not = { waf_label = ['bot'] } }", Source.CLOUDFRONT) == [
        "Rule r counts nothing: the cloudfront log lacks waf_label."
    ]
    selected = columns_of_logs(DecodeOptions((*DEFAULT_FIELDS, "c-country")))
    assert list(rule_notes(rules(country), selected, [Source.CLOUDFRONT])) == []


def test_where_the_logs_are_unknown_only_what_none_of_them_has_is_noted() -> None:
    assert notes("scope = { waf_label = ['bot'] }") == []
    assert notes("scope = { waf_label = ['bot'], content_type = ['text/html'] }") == [
        "Rule r counts nothing: no log that Sluice reads has all of content_type, waf_label."
    ]


def test_the_status_in_a_waf_log_is_noted() -> None:
    (note,) = notes("scope = { status = ['4xx'] }", Source.WAF)
    assert note == (
        "Rule r: the waf log gives the status of the requests that AWS WAF answers itself, and of no others."
    )


def test_every_log_has_columns_unless_they_have_to_be_named() -> None:
    assert COLUMNS.keys() == set(LIVE_SOURCES)
    assert {source for source, names in COLUMNS.items() if not names} == {Source.JSON}
    named = (("time", "t"), ("client", "c"), ("status", "s"))
    assert columns_of_logs(DecodeOptions(DEFAULT_FIELDS, json_fields=named))[Source.JSON] == {"status"}


def test_a_measure_that_the_log_does_not_tell_is_noted() -> None:
    (note,) = notes('measure = "bytes"', Source.CLOUDFRONT)
    assert note == "Rule r counts nothing: the cloudfront log lacks bytes."
    assert notes('measure = "bytes"', Source.STANDARD) == []
    with_bytes = columns_of_logs(DecodeOptions((*DEFAULT_FIELDS, "sc-bytes")))
    assert list(rule_notes(rules('measure = "bytes"', limit=5), with_bytes, [Source.CLOUDFRONT])) == []
