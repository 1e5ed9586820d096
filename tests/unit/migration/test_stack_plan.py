"""Every setting of an old stack is migrated or named; the rules name every client that the old stack blocks."""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.core.rules import Action, RuleSet
from chalicelib.core.rules_toml import parse_rules
from sluice.logs.files import Chunk
from sluice.migration.old_stack import OldStackError, old_stack
from sluice.migration.plan import Fate, Plan
from sluice.migration.stack_plan import stack_plan
from sluice.replay.engine import Options, replay
from tests.support.replay_logs import STANDARD_HEADER, Hit, busiest_span, chunk, standard, waf
from tests.support.security_automations import (
    APP_LOG_CONF,
    NAME,
    NOW,
    PARAMETERS,
    WAF_LOG_CONF,
    blocked_by_parser,
    documents,
    ip_sets,
    retention,
    stack,
)

ATHENA = {
    **PARAMETERS,
    "ActivateHttpFloodProtectionParam": "yes - Amazon Athena log parser",
    "ActivateScannersProbesProtectionParam": "yes - Amazon Athena log parser",
    "RequestThresholdByCountryParam": '{"TR":50,"ER":152}',
}
RATE_BASED = {
    **PARAMETERS,
    "ActivateHttpFloodProtectionParam": "yes - AWS WAF rate based rule",
    "ActivateScannersProbesProtectionParam": "no",
    "TimeWindowThresholdParam": "10",
    "WAFRuleKeysTypeParam": "IP+URI",
    "CustomHeaderNameParam": "",
}


def plan_of(parameters: Mapping[str, str] = PARAMETERS, changed: Mapping[str, Any] | None = None) -> Plan:
    return stack_plan(old_stack({**documents(parameters), **(changed or {})}), NOW)


def rules_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """Returns the rules as they are in force, by name."""
    rules = parse_rules(plan.rules_text()).rules
    assert {rule.action for rule in rules} == {Action.COUNT}
    return {
        rule.name: {
            "limit": rule.limit,
            "window_s": rule.window_s,
            "block_for_s": rule.block_for_s,
            "scope": rule.scope,
        }
        for rule in rules
    }


def scope_of(text: str) -> Any:
    return parse_rules(f'[[rule]]\nname = "r"\nlimit = 1\nwindow = "60s"\nscope = {{ {text} }}').rules[0].scope


def becomes(plan: Plan, setting: str) -> list[tuple[Fate, str]]:
    return [(row.fate, row.detail) for row in plan.rows if row.setting == setting]


def test_the_files_of_the_log_parser_become_rules_row_by_row() -> None:
    codes = '"400", "401", "403", "404", "405"'
    assert rules_of(plan_of()) == {
        "http-flood": {
            "limit": 99,
            "window_s": 60,
            "block_for_s": 240 * 60,
            "scope": scope_of('not = { path_suffix = [".css", ".js"] }'),
        },
        "http-flood-login": {
            "limit": 9,
            "window_s": 60,
            "block_for_s": 60 * 60,
            "scope": scope_of('path = ["/login"]'),
        },
        "scanners": {"limit": 49, "window_s": 60, "block_for_s": 120 * 60, "scope": scope_of(f"status = [{codes}]")},
        "scanners-wp-login-php": {
            "limit": 4,
            "window_s": 60,
            "block_for_s": 240 * 60,
            "scope": scope_of(f'status = [{codes}], path = ["/wp-login.php"]'),
        },
        "bad-bot": {
            "limit": 0,
            "window_s": 60,
            "block_for_s": 7 * 86400,
            "scope": scope_of('path_prefix = ["/ProdStage"]'),
        },
    }


def test_athena_counts_by_the_minute_and_by_country() -> None:
    rules = rules_of(plan_of(ATHENA))
    assert {name: rule["limit"] for name, rule in rules.items()} == {
        "http-flood-TR": 9,  # 50 / 5 = 10 requests a minute are blocked
        "http-flood-ER": 30,  # 152 / 5 = 30.4: 31 are
        "http-flood": 19,
        "scanners": 49,
        "bad-bot": 0,
    }
    assert rules["http-flood-TR"]["scope"] == scope_of('country = ["TR"]')
    assert rules["http-flood"]["scope"] == scope_of('not = { country = ["ER", "TR"] }')


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [("None", ()), ("Country", ("country",)), ("URI", ("path",)), ("Country and URI", ("country", "path"))],
)
def test_athena_groups_become_counts_of_their_own(group_by: str, expected: tuple[str, ...]) -> None:
    plan = plan_of({**ATHENA, "HTTPFloodAthenaQueryGroupByParam": group_by})
    assert becomes(plan, "HTTPFloodAthenaQueryGroupByParam")[0][0] is Fate.RULE
    rules = {rule.name: rule for rule in parse_rules(plan.rules_text()).rules}
    assert rules["http-flood"].by == rules["http-flood-TR"].by == expected
    assert rules["scanners"].by == ()


def test_a_rate_based_rule_becomes_an_exact_window() -> None:
    plan = plan_of(RATE_BASED)
    (flood, bots) = rules_of(plan).values()
    assert (flood["limit"], flood["window_s"], flood["block_for_s"]) == (100, 600, 600)
    assert bots["limit"] == 0
    assert becomes(plan, "WAFRuleKeysTypeParam")[0] == (Fate.RULE, "http-flood counts per client and path")
    assert parse_rules(plan.rules_text()).rules[0].by == ("path",)
    by_header = plan_of({**RATE_BASED, "WAFRuleKeysTypeParam": "IP+Custom Header"})
    assert becomes(by_header, "WAFRuleKeysTypeParam")[0][0] is Fate.BY_HAND
    assert "IP+Custom Header" in by_header.rules_text()


@pytest.mark.parametrize("parameters", [PARAMETERS, ATHENA, RATE_BASED, {**PARAMETERS, "EndpointType": "ALB"}])
def test_every_parameter_and_every_ip_set_has_a_row(parameters: dict[str, str]) -> None:
    settings = {row.setting for row in plan_of(parameters).rows}
    for name in [*parameters, *(f"IP set {name}" for name in ip_sets())]:
        assert any(setting == name or setting.startswith(f"{name} ") for setting in settings), name


def test_every_line_of_a_rule_that_comes_from_a_setting_says_from_which() -> None:
    for rule in plan_of().rules:
        for line in rule.lines:
            assert line.comment or line.key == "window", (rule.name, line)
    text = plan_of().rules_text()
    assert "limit = 99                      # waf_log_conf general.requestThreshold = 100" in text
    assert "# app_log_conf uriList /wp-login.php blockPeriod = 240 minutes" in text


def test_lists_are_imported_with_their_ends() -> None:
    plan = plan_of()
    assert [(str(each.network), each.until) for each in plan.allowlist] == [
        ("198.51.100.0/24", None),
        ("2001:db8:1::/48", None),
    ]
    # The second was in the set before the stack gave ends to its entries.
    assert [(str(each.network), each.until) for each in plan.blocks] == [
        ("203.0.113.7/32", NOW + 1800),
        ("203.0.113.8/32", None),
    ]
    without = {name: document for name, document in documents().items() if name != "ends.json"}
    plan = stack_plan(old_stack(without), NOW)
    assert {each.until for each in plan.blocks} == {NOW + 3600}


def test_the_first_of_several_ends_of_an_address_counts() -> None:
    ip_set = f"{NAME}BlacklistSetIPV4"
    ends = [retention(ip_set, ["203.0.113.7/32"], NOW + end) for end in (900, 600, -60)]
    assert plan_of(changed={"ends.json": {"Items": ends}}).blocks[0].until == NOW + 600


def test_sources_and_managed_groups_are_named() -> None:
    plan, common = plan_of(), "--scope CLOUDFRONT --bucket"
    assert plan.setups == (
        f"{common} {NAME}-waflogbucket-1abc --prefix AWSLogs/ --no-notification --set LATENESS_S=900",
        f"{common} site-access-logs --prefix cf/ --no-notification --set RETENTION_S=93600 --set LATENESS_S=3600",
        " ".join(("--scope CLOUDFRONT --create-web-acl", *(f"--managed-group {name}" for name in plan.managed_groups))),
    )
    assert plan.managed_groups == (
        "AWSManagedRulesAmazonIpReputationList",
        "AWSManagedRulesCommonRuleSet",
        "AWSManagedRulesKnownBadInputsRuleSet",
        "AWSManagedRulesSQLiRuleSet",
    )
    acl = {
        "WebACL": {
            "Rules": [
                {
                    "Name": "bots",
                    "Statement": {
                        "ManagedRuleGroupStatement": {"VendorName": "AWS", "Name": "AWSManagedRulesBotControlRuleSet"}
                    },
                },
                {"Name": "geo", "Statement": {"GeoMatchStatement": {"CountryCodes": ["KP"]}}},
                {"Name": f"{NAME}WhitelistRule", "Statement": {}},
            ]
        }
    }
    plan = plan_of(changed={"acl.json": acl})
    assert plan.managed_groups[-1] == "AWSManagedRulesBotControlRuleSet"
    assert becomes(plan, "web ACL rule geo")[0][0] is Fate.BY_HAND
    assert not becomes(plan, f"web ACL rule {NAME}WhitelistRule")


@pytest.mark.parametrize(
    ("file", "change", "setting"),
    [
        ("waf", {"general": {"requestThreshold": "many"}}, "waf_log_conf general.requestThreshold"),
        ("waf", {"general": {"requestThreshold": True}}, "waf_log_conf general.requestThreshold"),
        ("waf", {"general": {"requestThreshold": 5, "blockPeriod": -1}}, "waf_log_conf general.blockPeriod"),
        (
            "waf",
            {"general": {"requestThreshold": 5, "ignoredSuffixes": [".css"]}},
            "waf_log_conf general.ignoredSuffixes",
        ),
        ("waf", {"general": {"requestThreshold": 5, "ignoredSufixes": [""]}}, "waf_log_conf general.ignoredSufixes"),
        ("waf", {"general": {"requestThreshold": 5, "ignoredSufixes": ".css"}}, "waf_log_conf general.ignoredSufixes"),
        ("waf", {"general": {"requestThreshold": 5}, "uriList": {"login": {}}}, "waf_log_conf uriList login"),
        ("waf", {"general": {"requestThreshold": 5}, "uriList": ["/"]}, "waf_log_conf uriList"),
        (
            "waf",
            {"general": {"requestThreshold": 5}, "uriList": {"/a": {"requestThreshold": -1}}},
            "waf_log_conf uriList /a requestThreshold",
        ),
        (
            "waf",
            {"general": {"requestThreshold": 5}, "uriList": {"/a": {"requestThreshold": 1, "method": "GET"}}},
            "waf_log_conf uriList /a method",
        ),
        ("waf", {"general": {"requestThreshold": 5}, "more": 1}, "waf_log_conf more"),
        ("waf", [], "document waf-prod-waf_log_conf.json"),
        ("app", {"general": {"errorThreshold": 5, "errorCodes": [404]}}, "app_log_conf general.errorCodes"),
        ("app", {"general": {"errorThreshold": 5, "errorCodes": "404"}}, "app_log_conf general.errorCodes"),
        ("app", {"general": {"errorThreshold": 5, "errorCodes": ["4o4"]}}, "app_log_conf general.errorCodes"),
    ],
)
def test_a_value_that_cannot_be_migrated_is_named(file: str, change: Any, setting: str) -> None:
    plan = plan_of(changed={f"{NAME}-{file}_log_conf.json": change})
    assert Fate.BY_HAND in [fate for fate, _ in becomes(plan, setting)]
    assert setting in plan.rules_text()
    rules_of(plan)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ActivateHttpFloodProtectionParam", "maybe"),
        ("ActivateScannersProbesProtectionParam", "maybe"),
        ("IPRetentionPeriodDeniedParam", "soon"),
        ("SNSEmailParam", "ops@example.com"),
        ("NewInVersion5Param", "x"),
    ],
)
def test_a_parameter_that_cannot_be_migrated_is_named(name: str, value: str) -> None:
    assert Fate.BY_HAND in [fate for fate, _ in becomes(plan_of({**PARAMETERS, name: value}), name)]


@pytest.mark.parametrize(
    ("parameters", "setting", "fate"),
    [
        ({**RATE_BASED, "RequestThreshold": "9"}, "RequestThreshold", Fate.BY_HAND),
        ({**RATE_BASED, "WAFRuleKeysTypeParam": "IP"}, "WAFRuleKeysTypeParam", Fate.RULE),
        ({**RATE_BASED, "CustomHeaderNameParam": "x-api-key"}, "CustomHeaderNameParam", Fate.BY_HAND),
        ({**PARAMETERS, "ActivateBadBotProtectionParam": "no"}, "ActivateBadBotProtectionParam", Fate.UNUSED),
        ({**RATE_BASED, "AppAccessLogBucketPrefixParam": ""}, "AppAccessLogBucket", Fate.UNUSED),
        ({**ATHENA, "ActivateHttpFloodProtectionParam": "no"}, "WAFBlockPeriod", Fate.RULE),
        ({**ATHENA, "HTTPFloodAthenaQueryGroupByParam": "Country"}, "HTTPFloodAthenaQueryGroupByParam", Fate.RULE),
        (ATHENA, "waf_log_conf", Fate.UNUSED),
        (PARAMETERS, "RequestThreshold", Fate.UNUSED),
    ],
)
def test_a_parameter_has_the_effect_that_the_others_leave_it(
    parameters: dict[str, str], setting: str, fate: Fate
) -> None:
    plan = plan_of(parameters)
    assert [each for each, _ in becomes(plan, setting)] == [fate]
    rules_of(plan)


def test_a_path_with_an_ignored_ending_has_no_rule_because_the_parser_never_counts_it() -> None:
    conf = {**WAF_LOG_CONF, "uriList": {"/a.css": {"requestThreshold": 1}}}
    plan = plan_of(changed={f"{NAME}-waf_log_conf.json": conf})
    assert [fate for fate, _ in becomes(plan, "waf_log_conf uriList /a.css")] == [Fate.UNUSED]
    assert set(rules_of(plan)) == {"http-flood", "scanners", "scanners-wp-login-php", "bad-bot"}


def test_buckets_and_the_honeypot_that_no_document_names_are_asked_for() -> None:
    described = stack({name: value for name, value in PARAMETERS.items() if name != "AppAccessLogBucket"})
    described["Stacks"][0]["Outputs"] = []
    plan = plan_of(changed={"stack.json": described})
    for setting in ("WafLogBucket", "AppAccessLogBucket", "ActivateBadBotProtectionParam"):
        assert [fate for fate, _ in becomes(plan, setting)] == [Fate.BY_HAND]
    assert plan.setups[0] == "--scope CLOUDFRONT"


def test_sets_of_other_owners_and_addresses_of_another_form_are_named() -> None:
    plan = plan_of(
        changed={
            "other.json": {"IPSet": {"Name": "partners", "Addresses": ["192.0.2.1/32"]}},
            "ip-set-2.json": {"IPSet": {"Name": f"{NAME}BlacklistSetIPV4", "Addresses": ["everybody"]}},
        }
    )
    assert becomes(plan, "IP set partners") == [(Fate.BY_HAND, "not a set of this solution")]
    assert becomes(plan, f"IP set {NAME}BlacklistSetIPV4")[0] == (Fate.BY_HAND, "not an address or a network")
    assert plan.blocks == ()


@pytest.mark.parametrize(
    "name", ["RequestThreshold", "WAFBlockPeriod", "AthenaQueryRunTimeScheduleParam", "ErrorThreshold"]
)
def test_a_number_of_athena_that_is_none_is_named(name: str) -> None:
    assert Fate.BY_HAND in [fate for fate, _ in becomes(plan_of({**ATHENA, name: "x"}), name)]


@pytest.mark.parametrize("text", ["TR=50", '{"turkey":50}', '{"TR":"x"}', "[1]"])
def test_thresholds_by_country_of_another_form_are_named(text: str) -> None:
    plan = plan_of({**ATHENA, "RequestThresholdByCountryParam": text})
    assert becomes(plan, "RequestThresholdByCountryParam") == [(Fate.BY_HAND, 'not of the form {"TR":50,"ER":150}')]
    assert "http-flood" in rules_of(plan)


def test_a_stack_whose_files_are_missing_is_a_plan_that_asks_for_them() -> None:
    plan = stack_plan(old_stack({"stack.json": stack()}), NOW)
    assert becomes(plan, "waf_log_conf")[0][0] is Fate.BY_HAND
    assert becomes(plan, "app_log_conf")[0][0] is Fate.BY_HAND


def test_files_alone_are_enough_for_rules() -> None:
    plan = stack_plan(old_stack({f"{NAME}-waf_log_conf.json": WAF_LOG_CONF, "x-app_log_conf.json": APP_LOG_CONF}), NOW)
    assert set(rules_of(plan)) == {"http-flood", "http-flood-login", "scanners", "scanners-wp-login-php"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither a stack"),
        ({"x.json": [1]}, "neither a stack"),
        ({"a": stack(), "b": {"Stacks": [{"StackName": "other"}]}}, "several stacks: other, waf-prod"),
        ({"stack": stack(), "a-waf_log_conf.json": WAF_LOG_CONF, "b-waf_log_conf.json": WAF_LOG_CONF}, "several files"),
    ],
)
def test_documents_of_no_stack_or_of_several_are_an_error(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OldStackError, match=message):
        old_stack(given)


PATHS = ("/", "/login", "/site.css", "/a.js")
HITS = st.lists(
    st.builds(
        Hit,
        # Seven minutes, in which most requests are close to the turn of a minute.
        ms=st.builds(
            lambda minute, second: (NOW // 60 + minute) * 60_000 + second * 1000,
            st.integers(0, 6),
            st.sampled_from([0, 1, 2, 30, 57, 58, 59]),
        ),
        client=st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]),
        path=st.sampled_from(PATHS),
        status=st.sampled_from(["200", "404", "403", "500"]),
    ),
    max_size=60,
)
TURN = [Hit((NOW // 60) * 60_000 + second * 1000, "192.0.2.1") for second in (58, 59, 60, 61)]


def named(plan: Plan, lines: Chunk) -> dict[str, set[str]]:
    """Returns the clients that each rule of a plan names, without prefix lengths."""
    rules = parse_rules(plan.rules_text())
    (result,) = replay([lines], [rules], Options())
    clients: dict[str, set[str]] = {rule.name: set() for rule in rules.rules}
    for breach in result.breaches:
        clients[breach.rule.name].add(str(breach.network).partition("/")[0])
    return clients


def may_be_named(rules: RuleSet, hits: list[Hit], counted: Any) -> dict[str, set[str]]:
    """Returns the clients that reach each rule's threshold within some 60 seconds."""
    result = {}
    for rule in rules.rules:
        times: dict[str, list[int]] = {}
        for hit in hits:
            if counted(rule.name, hit):
                times.setdefault(_network(hit.client), []).append(hit.ms)
        result[rule.name] = {client for client, ms in times.items() if busiest_span(ms, 60_000) > rule.limit}
    return result


def _network(client: str) -> str:
    return client if "." in client else "2001:db8::"


@pytest.mark.slow
@given(
    hits=HITS,
    threshold=st.integers(1, 6),
    uri_threshold=st.integers(0, 4),
    cuts=st.lists(st.integers(0, 60), max_size=3),
)
@example(hits=TURN, threshold=4, uri_threshold=9, cuts=[])
def test_the_rules_name_everybody_the_log_parser_blocks_and_nobody_within_the_thresholds(
    hits: list[Hit], threshold: int, uri_threshold: int, cuts: list[int]
) -> None:
    conf = {
        "general": {"requestThreshold": threshold, "blockPeriod": 240, "ignoredSufixes": [".css", ".js"]},
        "uriList": {"/login": {"requestThreshold": uri_threshold, "blockPeriod": 60}},
    }
    plan = stack_plan(old_stack({"s-waf_log_conf.json": conf}), NOW)
    if not hits:
        return
    places = [0, *sorted(min(cut, len(hits)) for cut in cuts), len(hits)]
    objects = [hits[start:end] for start, end in pairwise(places)]
    by_rule = named(plan, chunk(map(waf, hits)))
    old = {_network(client) for client in blocked_by_parser(conf, objects, "requestThreshold")}
    assert old <= set().union(*by_rule.values())

    def counted(rule: str, hit: Hit) -> bool:
        return hit.path == "/login" if rule == "http-flood-login" else not hit.path.endswith((".css", ".js"))

    possible = may_be_named(parse_rules(plan.rules_text()), hits, counted)
    assert all(by_rule[rule] <= possible[rule] for rule in by_rule)


@pytest.mark.slow
@given(hits=HITS, threshold=st.integers(1, 6))
def test_scanners_are_named_alike_in_standard_logs(hits: list[Hit], threshold: int) -> None:
    conf = {"general": {"errorThreshold": threshold, "blockPeriod": 240, "errorCodes": ["404", "403"]}, "uriList": {}}
    plan = stack_plan(old_stack({"s-app_log_conf.json": conf}), NOW)
    if not hits:
        return
    by_rule = named(plan, chunk(map(standard, hits), STANDARD_HEADER))
    assert {_network(client) for client in blocked_by_parser(conf, [hits], "errorThreshold")} <= by_rule["scanners"]
    possible = may_be_named(parse_rules(plan.rules_text()), hits, lambda _, hit: hit.status in ("404", "403"))
    assert by_rule["scanners"] <= possible["scanners"]


def test_requests_around_the_turn_of_a_minute_are_named_by_sliding_windows_alone() -> None:
    conf = {"general": {"requestThreshold": 4, "blockPeriod": 240, "ignoredSufixes": []}, "uriList": {}}
    assert blocked_by_parser(conf, [TURN], "requestThreshold") == set()
    plan = stack_plan(old_stack({"s-waf_log_conf.json": conf}), NOW)
    assert named(plan, chunk(map(waf, TURN))) == {"http-flood": {"192.0.2.1"}}


def test_the_documents_are_what_json_holds() -> None:
    assert plan_of() == stack_plan(old_stack(json.loads(json.dumps(documents()))), NOW)
