"""Rules: the values accepted and rejected, the wording of errors, and the meters that rules need."""

import re
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chalicelib
from chalicelib.core import rates
from chalicelib.core.durations import ACCEPTED
from chalicelib.core.responses import Response
from chalicelib.core.rules import (
    EXACT_MS,
    LARGEST_FOLD,
    QUOTA_SLOT_S,
    Action,
    Escalation,
    FeedTerms,
    Meter,
    NetworkTerms,
    Rule,
    RuleSet,
)
from chalicelib.core.rules_diff import rule_words
from chalicelib.core.rules_toml import MOST_FEEDS, MOST_OF_A_FEED, MOST_RULES, RESERVED_NAMES, RulesError, parse_rules
from chalicelib.core.scope import Scope
from chalicelib.core.state.blocks import MANUAL

KEYS = (
    "name, limit, window, measure, distinct, bucket, action, block_for, resolution, aggregate, scope, escalate, "
    "extend, respond, paused_until"
)
DEFAULTS = Path(chalicelib.__file__).parent / "rules.toml"


def rule(**lines: str) -> str:
    """Returns a valid rule in TOML with changed keys, whose values are TOML; None removes a key."""
    said = {"name": '"r"', "limit": "10", "window": '"10s"', **lines}
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in said.items() if value)


def problems(text: str) -> list[str]:
    with pytest.raises(RulesError) as caught:
        parse_rules(text)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_a_rule_with_every_key_is_parsed() -> None:
    text = """
        [[rule]]
        name = "login"
        limit = 0
        window = "1m"
        action = "count"
        block_for = "30m"
        resolution = 20
        aggregate = { ipv4 = 24, ipv6 = 48 }
        escalate = { factor = 4, max = "7d", memory = "14d" }
        extend = true
        respond = ["watch", "challenge", "challenge", "block"]

        [rule.scope]
        host = ["b.example", "*.a.example"]
        path = ["/x"]
        path_prefix = ["/login"]
        method = ["POST"]
        status = ["4xx", "401"]
        country = ["DE", "-"]
        waf_action = ["BLOCK"]
        waf_label = ["a:b"]
        user_agent = ["curl/"]
    """
    assert parse_rules(text, version="7") == RuleSet(
        rules=(
            Rule(
                name="login",
                limit=0,
                window_s=60,
                action=Action.COUNT,
                block_for_s=1800,
                resolution=20,
                ipv4_prefix=24,
                ipv6_prefix=48,
                scope=Scope(
                    host=("*.a.example", "b.example"),
                    path=("/x",),
                    path_prefix=("/login",),
                    method=("POST",),
                    status=("401", "4xx"),
                    country=("-", "DE"),
                    waf_action=("BLOCK",),
                    waf_label=("a:b",),
                    user_agent=("curl/",),
                ),
                escalate=Escalation(4, 7 * 86400, 14 * 86400),
                extend=True,
                respond=(Response.WATCH, Response.CHALLENGE, Response.CHALLENGE, Response.BLOCK),
            ),
        ),
        text=text,
        version="7",
    )


@pytest.mark.parametrize(
    ("bucket", "resolution", "memory_s", "slot_ms"),
    [
        ("rate = '2/s', burst = 50", "", 250, 200),  # 125 slots of the 25 s in which a full bucket empties
        ("rate = '2/s', burst = 50", "20", 250, 1000),
        ("rate = '2/s', burst = 50", '"exact"', 250, 1),
        ("rate = '2/s', burst = 50, memory = '1h'", "", 3600, 200),
        ("rate = '1/20s', burst = 30", "", 3600, 1000),  # ten times 600 s, but an hour at most
        ("rate = '1000/s', burst = 30", "", 1, 1),
    ],
)
def test_a_bucket_gets_a_memory_and_slots_that_fit_it(
    bucket: str, resolution: str, memory_s: int, slot_ms: int
) -> None:
    (parsed,) = parse_rules(rule(limit="", window="", bucket=f"{{ {bucket} }}", resolution=resolution)).rules
    assert (parsed.window_s, parsed.slot_ms) == (memory_s, slot_ms)
    assert parsed.resolution * parsed.slot_ms == memory_s * 1000
    words = rule_words(parsed).bucket
    assert words is not None
    spelled = f"{{ rate = '{words.rate}', burst = {words.burst}, memory = '{words.memory}' }}"
    assert parse_rules(rule(limit="", window="", resolution=resolution, bucket=spelled)).rules == (parsed,)


def test_omitted_keys_have_defaults() -> None:
    (only,) = parse_rules(rule()).rules
    assert only == Rule(name="r", limit=10, window_s=10)
    assert (only.action, only.block_for_s, only.ipv4_prefix, only.ipv6_prefix, only.slot_ms, only.extend) == (
        *(Action.BLOCK, 600, 32, 64, 100),
        False,
    )


def test_one_response_is_a_ladder_of_one() -> None:
    (only,) = parse_rules(rule(respond='"slow"')).rules
    assert (only.respond, Rule(name="r", limit=1, window_s=1).respond) == ((Response.SLOW,), (Response.BLOCK,))


def test_an_empty_text_is_a_rule_set_without_rules() -> None:
    assert (parse_rules("").rules, parse_rules("").longest_window_ms, parse_rules("").meters()) == ((), 0, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # The document.
        pytest.param("rule = 7", "rules: 'rule' must be an array of tables; write [[rule]]", id="rule = 7"),
        pytest.param("[rule]\nname = 'r'", "rules: 'rule' must be an array of tables; write [[rule]]", id="[rule]"),
        pytest.param("rules = []", "rules: unknown key 'rules' (did you mean 'rule'?)", id="rules"),
        pytest.param("x = 1", "rules: unknown key 'x'; known keys: rule, lists, networks, feeds", id="x"),
        pytest.param(
            rule() + rule(limit="20"), "rule 'r': name: used by two rules; names must be unique", id="two of a name"
        ),
        # Missing keys.
        pytest.param(rule(name=""), "rule number 1: name: missing", id="no name"),
        pytest.param(rule(limit=""), "rule 'r': limit: missing", id="no limit"),
        pytest.param(rule(window=""), "rule 'r': window: missing", id="no window"),
        # name
        *(
            pytest.param(
                rule(name=value),
                f"{title}: name: {shown} is not 1 to 64 letters, digits, '-' or '_', the first a letter or digit",
                id=f"name = {value[:20]}",
            )
            for value, title, shown in [
                ('""', "rule number 1", "''"),
                ("7", "rule number 1", "7"),
                ('"a b"', "rule 'a b'", "'a b'"),
                ('"-a"', "rule '-a'", "'-a'"),
                ('"ä"', "rule 'ä'", "'ä'"),
                (f'"{"a" * 65}"', f"rule '{'a' * 65}'", f"'{'a' * 65}'"),
            ]
        ),
        pytest.param(
            rule(name='"manual"'),
            "rule 'manual': name: 'manual' is reserved for blocks made by operators; choose another name",
            id="a reserved name",
        ),
        # limit
        *(
            pytest.param(
                rule(limit=value),
                f"rule 'r': limit: {shown} is not a whole number from 0 to 1000000000",
                id=f"limit = {value[:20]}",
            )
            for value, shown in [
                ("-1", "-1"),
                ("1.5", "1.5"),
                ('"10"', "'10'"),
                ("true", "True"),
                ("1000000001", "1000000001"),
                ("inf", "inf"),
                ("[]", "[]"),
                ("0x" + "f" * 5000, "a number with thousands of digits"),
                ('"' + "x" * 500 + '"', "'" + "x" * 99 + "..."),
            ]
        ),
        # window and block_for
        *(
            pytest.param(rule(**{key: value}), f"rule 'r': {key}: {said}", id=f"{key} = {value}")
            for key, value, said in [
                *(
                    (
                        "window",
                        value,
                        f"{shown} is not a duration; write {ACCEPTED}",
                    )
                    for value, shown in [
                        ('"10"', "'10'"),
                        ("10", "10"),
                        ('"10 s"', "'10 s'"),
                        ('"1.5s"', "'1.5s'"),
                        ('"-1s"', "'-1s'"),
                        ('"10S"', "'10S'"),
                        ('"1w"', "'1w'"),
                        ('"\u0661s"', "'\u0661s'"),
                    ]
                ),
                *(
                    ("window", f'"{text}"', f"'{text}' is outside 1s .. 1h; a quota has whole days, 1d .. 31d")
                    for text in ("0s", "61m", "36h", "32d")
                ),
                ("block_for", '"0s"', "'0s' is outside 1s .. 366d"),
                ("block_for", '"367d"', "'367d' is outside 1s .. 366d"),
            ]
        ),
        # quotas
        *(
            pytest.param(
                rule(window='"2d"', **{key: value}),
                f"rule 'r': {path}: a quota, whose window is a day or longer, {reason}; leave out {leave}",
                id=f"{key} of a quota",
            )
            for key, value, path, reason, leave in [
                ("distinct", '"path"', "distinct", "counts requests, bytes or time", "distinct"),
                ("resolution", "100", "resolution", "has slots of 15 minutes to 6 hours", "resolution"),
                ("aggregate", '{ by = ["path"] }', "aggregate.by", "counts all requests of a client together", "by"),
            ]
        ),
        # bucket
        *(
            pytest.param(rule(limit="", window="", bucket=value), f"rule 'r': bucket{said}", id=f"bucket = {value}")
            for value, said in [
                ("50", ": 50 is not a table such as { rate = ... }"),
                ("{ rate = '2/s' }", ".burst: missing"),
                ("{ burst = 5 }", ".rate: missing"),
                ("{ rate = '2/s', burst = 0 }", ".burst: 0 is not a whole number from 1 to 1000000000"),
                *(
                    (
                        f"{{ rate = {value}, burst = 5 }}",
                        f".rate: {shown} is not a rate; write {rates.ACCEPTED}",
                    )
                    for value, shown in [("2", "2"), ("'2'", "'2'"), ("'0/s'", "'0/s'"), ("'2/0s'", "'2/0s'")]
                ),
                (
                    "{ rate = '1/m', burst = 61 }",
                    (
                        ": the 61m in which a full bucket empties (burst / rate) are over 1h, the longest memory; "
                        "lower the burst or raise the rate"
                    ),
                ),
                (
                    "{ rate = '2/s', burst = 50, memory = '24s' }",
                    ".memory: 24s is shorter than the 25s in which a full bucket empties (burst / rate)",
                ),
                ("{ rate = '2/s', burst = 50, memory = '2h' }", ".memory: '2h' is outside 1s .. 1h"),
                ("{ rate = '2/s', burst = 50, size = 7 }", ": unknown key 'size'; known keys: rate, burst, memory"),
            ]
        ),
        pytest.param(
            rule(limit="", bucket="{ rate = '2/s', burst = 50 }"),
            "rule 'r': window: a bucket replaces limit and window: its burst is the limit",
            id="bucket and window",
        ),
        # The others.
        pytest.param(rule(action='"allow"'), "rule 'r': action: 'allow' is not 'block' or 'count'", id="action"),
        pytest.param(rule(action="[]"), "rule 'r': action: [] is not 'block' or 'count'", id="action = []"),
        pytest.param(
            rule(respond='"ban"'),
            "rule 'r': respond: 'ban' is not one of 'block', 'captcha', 'challenge', 'slow', 'watch'",
            id="respond",
        ),
        pytest.param(
            rule(respond='["challenge", 7]'),
            "rule 'r': respond: 7 is not one of 'block', 'captcha', 'challenge', 'slow', 'watch'",
            id="a rung",
        ),
        pytest.param(rule(respond="[]"), "rule 'r': respond: [] is not a response, or a list of 1 to 10", id="no rung"),
        pytest.param(
            rule(respond='["block", "challenge"]'),
            "rule 'r': respond: 'challenge' after 'block' is softer; a ladder only climbs: watch, slow, challenge, "
            "captcha, block",
            id="a ladder that descends",
        ),
        pytest.param(rule(extend='"yes"'), "rule 'r': extend: 'yes' is not true or false", id="extend"),
        pytest.param(
            rule(resolution="5"),
            "rule 'r': resolution: 5 is not a whole number from 10 to 1000 or 'exact'",
            id="resolution",
        ),
        pytest.param(
            rule(window='"1s"', resolution="30"),
            "rule 'r': resolution: 30 does not divide a window of 1s into whole milliseconds",
            id="resolution does not divide",
        ),
        pytest.param(
            rule(aggregate="24"), "rule 'r': aggregate: 24 is not a table such as { ipv4 = ... }", id="aggregate"
        ),
        pytest.param(
            rule(aggregate="{ ipv4 = 0 }"),
            "rule 'r': aggregate.ipv4: 0 is not a whole number from 8 to 32",
            id="aggregate.ipv4",
        ),
        pytest.param(
            rule(aggregate="{ ipv6 = 129 }"),
            "rule 'r': aggregate.ipv6: 129 is not a whole number from 16 to 128",
            id="aggregate.ipv6",
        ),
        pytest.param(
            rule(aggregate="{ ip4 = 24 }"),
            "rule 'r': aggregate: unknown key 'ip4' (did you mean 'ipv4'?)",
            id="aggregate.ip4",
        ),
        pytest.param(
            rule(escalate="{ factor = 2, max = '1h' }"), "rule 'r': escalate.memory: missing", id="escalate.memory"
        ),
        pytest.param(
            rule(escalate="{ factor = 0, max = '1h', memory = '1d' }"),
            "rule 'r': escalate.factor: 0 is not a whole number from 1 to 100",
            id="escalate.factor",
        ),
        pytest.param(
            rule(escalate="{ factor = 2, max = '5m', memory = '1d' }"),
            "rule 'r': escalate.max: shorter than block_for (10m)",
            id="escalate.max",
        ),
        pytest.param(
            rule(escalate="{ factor = 2, max = '1h', memory = 'week' }"),
            "rule 'r': escalate.memory: 'week' is not a duration; write a whole number and a unit, such as '10s', "
            "'5m', '1h' or '7d'",
            id="escalate.memory = week",
        ),
        pytest.param(rule(windw='"5s"'), "rule 'r': unknown key 'windw' (did you mean 'window'?)", id="windw"),
        *(
            pytest.param(
                rule(paused_until=value),
                f"rule 'r': paused_until: {shown} is not a time with its zone, such as 2026-12-24T18:00:00Z, "
                "from 1970 to 9999-12-31T23:59:59Z",
                id=f"paused_until = {value}",
            )
            for value, shown in {
                "'2h'": "'2h'",
                "2026-12-24T18:00:00": "2026-12-24T18:00:00",
                "9999-12-31T23:59:59-01:00": "9999-12-31T23:59:59-01:00",
            }.items()
        ),
        pytest.param(
            rule(xyz="1"),
            f"rule 'r': unknown key 'xyz'; known keys: {KEYS}",
            id="xyz",
        ),
        # scope
        *(
            pytest.param(rule(scope=f"{{ {inner} }}"), f"rule 'r': scope{said}", id=f"scope = {inner}")
            for inner, said in [
                ("pth = ['/']", ": unknown key 'pth' (did you mean 'path'?)"),
                (
                    "path = '/'",
                    ".path: '/' is not a list of at least one value, or a reference to a list such as '@eu'",
                ),
                ("path = []", ".path: [] is not a list of at least one value, or a reference to a list such as '@eu'"),
                ("path = ['a']", ".path: 'a' is not a path that starts with '/' and has no query"),
                ("path = ['/a?b']", ".path: '/a?b' is not a path that starts with '/' and has no query"),
                ("path_prefix = ['/a b']", ".path_prefix: '/a b' is not a path that starts with '/' and has no query"),
                ("path = [7]", ".path: 7 is not a path that starts with '/' and has no query"),
                ("status = [404]", ".status: 404 is not a status such as '404' or a class such as '4xx'"),
                ("status = ['4x']", ".status: '4x' is not a status such as '404' or a class such as '4xx'"),
                ("status = ['6xx']", ".status: '6xx' is not a status such as '404' or a class such as '4xx'"),
                ("method = ['post']", ".method: 'post' is not a method in capitals such as 'POST'"),
                ("country = ['de']", ".country: 'de' is not a two-letter country code in capitals such as 'DE'"),
                ("country = ['DEU']", ".country: 'DEU' is not a two-letter country code in capitals such as 'DE'"),
                ("waf_action = ['COUNT']", ".waf_action: 'COUNT' is not one of ALLOW, BLOCK, CAPTCHA, CHALLENGE"),
                (
                    "waf_label = ['a b']",
                    ".waf_label: 'a b' is not an AWS WAF label such as 'awswaf:managed:aws:bot-control:bot:verified'",
                ),
                ("static = 1", ".static: 1 is not true or false"),
                ("path_suffix = ['']", ".path_suffix: '' is not the end of a path, such as '.php', without query"),
                ("asn = ['AS64496']", ".asn: 'AS64496' is not a whole number from 1 to 4294967295"),
                ("asn = [0]", ".asn: 0 is not a whole number from 1 to 4294967295"),
                ("ja3 = ['x']", ".ja3: 'x' is not a JA3 fingerprint: 32 hexadecimal digits in lower case"),
                ("ja4 = ['x']", ".ja4: 'x' is not a JA4 fingerprint such as 't13d1516h2_8daaf6152771_02713d6af862'"),
                (
                    "content_type = ['html']",
                    ".content_type: 'html' is not a media type in lower case such as 'text/html' or 'image/*'",
                ),
                (
                    "header_names = ['a b']",
                    ".header_names: 'a b' is not the name of a header such as 'Accept-Language'",
                ),
                ("country = '@eu'", ".country: '@eu' refers to no list (below [lists] are none)"),
                ("not = { country = '@eu' }", ".not.country: '@eu' refers to no list (below [lists] are none)"),
                ("not = { method = ['post'] }", ".not.method: 'post' is not a method in capitals such as 'POST'"),
                ("not = {}", ".not: an empty table excludes every request; name at least one column"),
                ("not = [{ asn = [1] }, {}]", ".not: an empty table excludes every request; name at least one column"),
                ("not = []", ".not: [] is not a table such as { status = ... }"),
                ("normalise = true, path = ['//a']", ".path: '//a' is never the normal form of a path; write '/a'"),
                (
                    "normalise = true, not = { path_prefix = ['/%6C'] }",
                    ".not.path_prefix: '/%6C' is never the normal form of a path; write '/l'",
                ),
                ("user_agent = ['']", ".user_agent: '' is not 1 to 256 printable ASCII characters"),
                ("user_agent = ['é']", ".user_agent: 'é' is not 1 to 256 printable ASCII characters"),
                *(
                    (
                        f"host = ['{host}']",
                        f".host: '{host}' is not a host in lower case such as 'www.example.com' or '*.example.com'",
                    )
                    for host in (
                        "WWW.example.com",
                        "*",
                        "a.*.b",
                        "a..b",
                        "example.com.",
                        "example.com:443",
                        "https://a",
                    )
                ),
            ]
        ),
        pytest.param(rule(scope="[]"), "rule 'r': scope: [] is not a table such as { status = ... }", id="scope = []"),
    ],
)
def test_a_bad_rule_is_rejected_with_rule_key_value_and_accepted_form(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_all_problems_are_reported_at_once() -> None:
    text = rule(limit="-1", windw="1", scope="{ pth = ['/'], status = ['x'] }") + rule(name='"s"', window="") + "x = 1"
    assert problems(text) == [
        "rule 'r': limit: -1 is not a whole number from 0 to 1000000000",
        "rule 'r': unknown key 'windw' (did you mean 'window'?)",
        "rule 'r': scope: unknown key 'pth' (did you mean 'path'?)",
        "rule 'r': scope.status: 'x' is not a status such as '404' or a class such as '4xx'",
        f"rule 's': unknown key 'x'; known keys: {KEYS}",
        "rule 's': window: missing",
    ]


def test_the_number_of_rules_is_bounded() -> None:
    most = "".join(rule(name=f'"r{n}"') for n in range(MOST_RULES))
    assert len(parse_rules(most).rules) == MOST_RULES
    assert problems(most + rule(name='"more"')) == ["rules: 101 rules; at most 100 are accepted"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[[rule", id="cut"),
        pytest.param("a = 1\na = 2", id="a key twice"),
        pytest.param("a = " + "[" * 100_000, id="nested too deep"),
        pytest.param("a = " + "9" * 5_000, id="a number of thousands of digits"),
        pytest.param("a = 2026-13-01", id="no such month"),
        pytest.param("\0", id="NUL"),
    ],
)
def test_text_that_is_not_toml_is_rejected(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("not valid TOML: ")


@given(st.text(max_size=80) | st.text("[]{}=\"' \nrule.1a#", max_size=40))
def test_any_text_parses_or_raises_rules_error(text: str) -> None:
    with suppress(RulesError):
        assert parse_rules(text).text == text


def test_networks_have_defaults_and_are_absent_by_default() -> None:
    assert parse_rules("").networks is None
    assert parse_rules("[networks]").networks == NetworkTerms(members=8, innocents=2, ipv4=16, ipv6=48)
    assert parse_rules("[networks]\nmembers = 4\nipv4 = 24").networks == NetworkTerms(members=4, ipv4=24)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("networks = 3", "rules: networks: 3 is not a table such as { members = ... }"),
        ("[networks]\nmember = 8", "rules: networks: unknown key 'member' (did you mean 'members'?)"),
        ("[networks]\nmembers = 3", "rules: networks.members: 3 is not a whole number from 4 to 256"),
        ("[networks]\ninnocents = -1", "rules: networks.innocents: -1 is not a whole number from 0 to 1000"),
        ("[networks]\nipv4 = 25", "rules: networks.ipv4: 25 is not a whole number from 8 to 24"),
        ("[networks]\nipv6 = 64", "rules: networks.ipv6: 64 is not a whole number from 32 to 48"),
    ],
)
def test_bad_terms_of_networks_are_rejected(text: str, problem: str) -> None:
    with pytest.raises(RulesError) as raised:
        parse_rules(text)
    assert raised.value.problems == [problem]


def test_feeds_are_allowed_or_have_a_response_and_are_in_order_of_name() -> None:
    text = """
[feeds.drop]
url = "https://drop.example/v4.json?key=1"
respond = "challenge"
most = 5000
[feeds.bot]
url = "https://bots.example"
allow = true
"""
    assert parse_rules("").feeds == ()
    assert parse_rules(text).feeds == (
        FeedTerms(name="bot", url="https://bots.example"),
        FeedTerms(
            name="drop", url="https://drop.example/v4.json?key=1", respond=Response.CHALLENGE, most=MOST_OF_A_FEED
        ),
    )


URL = 'url = "https://a.example/"'
EITHER = "write either allow = true, for networks that are never blocked, or a response to their requests"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("feeds = 3", "rules: 'feeds' must hold a table per feed; write [feeds.bingbot], and below it url and allow"),
        (
            "[feeds]\na = 1",
            "rules: 'feeds' must hold a table per feed; write [feeds.bingbot], and below it url and allow",
        ),
        ("[feeds.a]\nallow = true", "feed 'a': url: missing"),
        (
            f"[feeds.a]\n{URL}",
            f"feed 'a': allow: {EITHER}",
        ),
        (
            f"[feeds.a]\n{URL}\nallow = true\nrespond = 'block'",
            f"feed 'a': respond: {EITHER}",
        ),
        (f"[feeds.a]\n{URL}\nallow = 1", "feed 'a': allow: 1 is not true or false"),
        (f"[feeds.a]\n{URL}\nallow = true\nmost = 0", "feed 'a': most: 0 is not a whole number from 1 to 5000"),
        (f"[feeds.a]\n{URL}\nallow = true\nmosts = 5", "feed 'a': unknown key 'mosts' (did you mean 'most'?)"),
        (
            f"[feeds.a]\n{URL}\nrespond = 'deny'",
            "feed 'a': respond: 'deny' is not one of 'block', 'captcha', 'challenge', 'slow', 'watch'",
        ),
        (
            f"[feeds.'a b']\n{URL}\nallow = true",
            "feed 'a b': 'a b' is not 1 to 64 letters, digits, '-' or '_', the first a letter or digit",
        ),
    ],
)
def test_bad_feeds_are_rejected(text: str, problem: str) -> None:
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    "url",
    ["http://a.example/", "https://u:p@a.example/", "https://a.example:8443/", "https://a.example/\\n", "ftp://a"],
)
def test_a_feed_has_an_https_address_without_user_and_port(url: str) -> None:
    (problem,) = problems(f'[feeds.a]\nurl = "{url}"\nallow = true')
    assert problem.endswith(" is not an https address without user and port")


def test_a_set_has_at_most_twenty_feeds() -> None:
    text = "".join(f"[feeds.f{number}]\n{URL}\nallow = true\n" for number in range(MOST_FEEDS + 1))
    assert problems(text) == ["rules: 21 feeds; at most 20 are accepted"]


def test_no_rule_may_be_named_like_a_manual_block() -> None:
    assert frozenset((MANUAL,)) == RESERVED_NAMES


def test_the_version_follows_the_text_unless_one_is_given() -> None:
    assert parse_rules(rule()).version == parse_rules(rule()).version != parse_rules(rule() + "\n").version
    assert parse_rules(rule(), version="v").version == "v"


# Lists.


def test_a_scope_refers_to_lists_by_name() -> None:
    lists = "[lists]\neu = ['DE', 'FR']\nhosters = [64496, 64497]\n"
    scope = "{ country = '@eu', not = [{ asn = '@hosters' }, { country = '@eu', method = ['HEAD'] }] }"
    (only,) = parse_rules(lists + rule(scope=scope)).rules
    spelled = (
        "{ country = ['DE', 'FR'], not = [{ asn = [64496, 64497] }, { country = ['DE', 'FR'], method = ['HEAD'] }] }"
    )
    assert only == parse_rules(rule(scope=spelled)).rules[0]


def test_a_text_that_begins_like_a_reference_is_itself_within_a_list() -> None:
    assert parse_rules(rule(scope="{ user_agent = ['@eu'] }")).rules[0].scope == Scope(user_agent=("@eu",))


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ("lists = 7", 'rules: \'lists\' must be a table; write [lists], and below it eu = ["DE", "FR"]'),
        ("[lists]\neu = []", "list 'eu': [] is not a list of at least one text or whole number"),
        ("[lists]\neu = 'DE'", "list 'eu': 'DE' is not a list of at least one text or whole number"),
        ("[lists]\neu = [true]", "list 'eu': [True] is not a list of at least one text or whole number"),
        (
            "[lists]\n'e u' = ['DE']",
            "list 'e u': 'e u' is not 1 to 64 letters, digits, '-' or '_', the first a letter or digit",
        ),
    ],
)
def test_a_bad_list_is_rejected(lists: str, problem: str) -> None:
    assert problems(lists) == [problem]


def test_a_misspelled_reference_is_answered_with_the_nearest_list() -> None:
    text = "[lists]\neurope = ['DE']\n" + rule(scope="{ country = '@europ' }")
    assert problems(text) == ["rule 'r': scope.country: '@europ' refers to no list (did you mean '@europe'?)"]


def test_what_a_list_holds_is_checked_as_if_it_stood_in_the_rule() -> None:
    text = "[lists]\neu = ['DE', 'France']\n" + rule(scope="{ country = '@eu' }")
    assert problems(text) == [
        "rule 'r': scope.country: 'France' is not a two-letter country code in capitals such as 'DE'"
    ]


# Meters.


def meters(*rules: Rule) -> list[tuple[int, Scope]]:
    return [(meter.slot_ms, meter.scope) for meter in RuleSet(rules).meters()]


LOGIN = Scope(path=("/login",))


@pytest.mark.parametrize("days", range(1, 32))
def test_a_quota_of_any_days_has_slots_of_about_a_hundredth_and_of_roll_ups(days: int) -> None:
    (quota,) = parse_rules(rule(window=f'"{days}d"')).rules
    assert quota.is_quota
    assert quota.slot_ms * quota.resolution == days * 86_400_000
    assert 96 <= quota.resolution <= 360
    assert quota.slot_ms % (QUOTA_SLOT_S * 1000) == 0


def test_a_quota_blocks_for_a_day_unless_it_says_otherwise() -> None:
    (default,) = parse_rules(rule(window='"7d"')).rules
    (short,) = parse_rules(rule(window='"7d"', block_for='"1h"')).rules
    assert (default.block_for_s, short.block_for_s) == (86400, 3600)


def test_a_quota_makes_the_tally_longer_only_if_no_other_rule_counts_the_same() -> None:
    text = rule(name='"burst"', window='"5s"') + rule(name='"day"', window='"1d"') + rule(name='"week"', window='"7d"')
    both = parse_rules(text)
    assert [meter.slot_ms for meter in both.meters()] == [50]
    assert [meter.slot_ms for meter in both.quotas().meters()] == [QUOTA_SLOT_S * 1000]
    assert [rule.name for rule in both.windows().rules] == ["burst"]
    assert both.windows().longest_window_ms == 5000, "tallies are read back no further than without quotas"


def test_rules_that_count_the_same_share_a_meter() -> None:
    every = Scope()
    ten, twenty = Rule(name="a", limit=1, window_s=10), Rule(name="b", limit=2, window_s=20)
    three = Rule(name="c", limit=3, window_s=3)
    login = Rule(name="d", limit=1, window_s=10, scope=LOGIN)
    wide = Rule(name="e", limit=1, window_s=10, ipv4_prefix=24)
    assert meters(ten, twenty) == [(100, every)], "slots of 100 ms serve those of 200 ms"
    assert meters(Rule(name="f", limit=1, window_s=201), ten) == [(100, every), (2010, every)], "which do not fit"
    assert meters(Rule(name="f", limit=1, window_s=210), ten) == [(100, every), (2100, every)], "21 are too many"
    assert meters(twenty, ten) == [(100, every)], "in any order"
    assert meters(ten, three, twenty) == [(30, every), (100, every)], "30 ms do not divide 100 ms"
    assert meters(ten, login, wide) == [(100, every), (100, LOGIN), (100, every)], "other requests, other clients"


def test_equal_scopes_share_a_meter_however_they_are_written() -> None:
    one = rule(name='"a"', scope="{ method = ['PUT', 'POST'], status = ['4xx'] }")
    other = rule(name='"b"', scope="{ status = ['4xx', '4xx'], method = ['POST', 'PUT'] }")
    assert len(parse_rules(one + other).meters()) == 1


def test_a_topic_is_the_same_in_every_process() -> None:
    assert Meter(LOGIN, 32, 64, 100).topic.hex() == Meter(LOGIN, 32, 64, 500).topic.hex() == "f49566d743dfff3b"
    assert Meter(LOGIN, 24, 64, 100).topic != Meter(LOGIN, 32, 64, 100).topic != Meter(Scope(), 32, 64, 100).topic


slots = st.sampled_from(
    [(1, 10), (1, 100), (5, 5000), (3, 100), (5, 100), (6, 20), (10, 100), (60, 20), (60, 100), (3600, 100)]
)


@given(st.lists(st.tuples(slots, st.sampled_from([Scope(), LOGIN]), st.sampled_from([24, 32])), max_size=8))
def test_meters_serve_every_rule_and_none_is_redundant(asked: list[tuple[tuple[int, int], Scope, int]]) -> None:
    rules = tuple(
        Rule(name=f"r{n}", limit=n, window_s=window, resolution=resolution, scope=scope, ipv4_prefix=ipv4)
        for n, ((window, resolution), scope, ipv4) in enumerate(asked)
    )
    chosen = RuleSet(rules).meters()

    def serves(meter: Meter, other: Meter) -> bool:
        fold, rest = divmod(other.slot_ms, meter.slot_ms)
        return meter.topic == other.topic and rest == 0 and (fold <= LARGEST_FOLD or meter.slot_ms == EXACT_MS)

    assert all(any(serves(meter, rule.meter) for meter in chosen) for rule in rules)
    assert not any(serves(one, other) for one in chosen for other in chosen if one is not other)


def test_an_exact_rule_counts_in_milliseconds_and_all_rules_of_its_scope_with_it() -> None:
    rules = parse_rules("""
        [[rule]]
        name = "burst"
        limit = 50
        window = "5s"
        resolution = "exact"

        [[rule]]
        name = "sustained"
        limit = 600
        window = "1m"

        [[rule]]
        name = "login"
        limit = 5
        window = "1m"
        scope = { path = ["/login"] }
    """)
    assert [(rule.slot_ms, rule.resolution) for rule in rules.rules] == [(1, 5000), (600, 100), (600, 100)]
    assert [(meter.slot_ms, meter.scope) for meter in rules.meters()] == [(1, Scope()), (600, rules.rules[2].scope)]


# The rules a site starts with.


def test_the_default_rules_are_valid_and_only_count() -> None:
    rules = parse_rules(DEFAULTS.read_text()).rules
    assert [rule.name for rule in rules] == ["burst", "sustained", "flood", "login", "scanner", "login-network"]
    assert {rule.action for rule in rules} == {Action.COUNT}


def test_every_key_of_the_default_rules_is_explained_at_its_first_use() -> None:
    text = DEFAULTS.read_text()
    first: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r"(\w+) = ", line):
            first.setdefault(match[1], line)
    used = {key for table in tomllib.loads(text)["rule"] for key in table}
    assert first.keys() == used
    assert [key for key, line in first.items() if "#" not in line] == []
    assert text.count("\n\n# ") >= len(tomllib.loads(text)["rule"]), "each rule says what it is for"
