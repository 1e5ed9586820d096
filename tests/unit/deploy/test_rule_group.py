"""The rule group's rules: as AWS accepts them, in order of hardness, within its capacity."""

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from chalicelib.core.ipsets import GROUPS, SetGroup
from chalicelib.core.responses import SOFTER, Response
from sluice.deploy.rule_group import (
    BODY_KEY,
    CAPACITY,
    LARGEST_BODY,
    Answers,
    Body,
    WafRule,
    arns_in,
    read_body,
    rules_of,
    visibility,
    wcu,
)
from sluice.deploy.stage import MOST_IP_SETS, Refusal

ARN = "arn:aws:wafv2:us-east-1:111122223333:global/ipset/{}/0f0e0d0c-0000-0000-0000-000000000000"
ALL = {group: [ARN.format(f"sluice-prod-{group.response}-v{group.family}-1")] for group in GROUPS}


def problems(rules: list[WafRule], bodies: dict[str, Any]) -> str:
    """Returns what botocore finds wrong with a call that creates a rule group."""
    client = boto3.client("wafv2", region_name="us-east-1")
    shape = client.meta.service_model.operation_model("CreateRuleGroup").input_shape
    assert shape is not None
    call = {
        "Name": "sluice-prod",
        "Scope": "CLOUDFRONT",
        "Capacity": CAPACITY,
        "Rules": rules,
        "VisibilityConfig": visibility("sluice-prod"),
        "CustomResponseBodies": bodies,
    }
    return str(ParamValidator().validate(call, shape).generate_report())


def actions(rules: list[WafRule]) -> list[tuple[str, str]]:
    return [(rule["Name"].removeprefix("sluice-prod-"), next(iter(rule["Action"]))) for rule in rules]


def test_every_response_has_a_rule_and_harder_ones_stand_first() -> None:
    rules = rules_of("sluice-prod", ALL, Answers())
    assert actions(rules) == [
        ("ipv4", "Block"),
        ("ipv6", "Block"),
        ("captcha", "Captcha"),
        ("challenge", "Challenge"),
        ("slow", "Block"),
        ("watch", "Count"),
    ]
    assert [rule["Priority"] for rule in rules] == list(range(6))


@pytest.mark.parametrize("has_body", [False, True])
@pytest.mark.parametrize("behind_proxies", [False, True])
def test_aws_accepts_the_rules(has_body: bool, behind_proxies: bool) -> None:
    answers = Answers(status=503, retry_after_s=30, has_body=has_body, slow_limit=100)
    bodies = {BODY_KEY: {"ContentType": "TEXT_HTML", "Content": "<p>"}} if has_body else {}
    assert problems(rules_of("sluice-prod", ALL, answers, behind_proxies=behind_proxies), bodies) == ""


def test_each_rule_refers_to_the_ip_sets_of_its_response_alone() -> None:
    rules = rules_of("sluice-prod", ALL, Answers())
    for rule, response in zip(rules[2:], SOFTER, strict=True):
        assert arns_in(rule["Statement"]) == [*ALL[SetGroup(response, 4)], *ALL[SetGroup(response, 6)]]
    assert [arns_in(rule["Statement"]) for rule in rules[:2]] == [
        ALL[SetGroup(Response.BLOCK, 4)],
        ALL[SetGroup(Response.BLOCK, 6)],
    ]


def test_a_slowed_client_is_refused_above_its_rate_and_a_watched_one_is_shown_to_the_origin() -> None:
    *_, slow, watch = rules_of("sluice-prod", ALL, Answers(slow_limit=25))
    rate = slow["Statement"]["RateBasedStatement"]
    assert (rate["Limit"], rate["EvaluationWindowSec"], rate["AggregateKeyType"]) == (25, 60, "IP")
    assert slow["Action"]["Block"]["CustomResponse"]["ResponseCode"] == 429
    handling = watch["Action"]["Count"]["CustomRequestHandling"]
    assert handling == {"InsertHeaders": [{"Name": "sluice", "Value": "watch"}]}
    assert watch["RuleLabels"] == [{"Name": "sluice:watch"}]


def test_status_retry_after_and_body_of_refusals_can_be_chosen() -> None:
    block, *_ = rules_of("sluice-prod", ALL, Answers(status=503, retry_after_s=30, has_body=True))
    assert block["Action"]["Block"]["CustomResponse"] == {
        "ResponseCode": 503,
        "ResponseHeaders": [{"Name": "Retry-After", "Value": "30"}],
        "CustomResponseBodyKey": BODY_KEY,
    }


def test_the_capacity_holds_all_responses_and_the_most_ip_sets() -> None:
    many = {group: arns * (MOST_IP_SETS if group.response is Response.BLOCK else 1) for group, arns in ALL.items()}
    rules = rules_of("sluice-prod", many, Answers())
    assert wcu(rules) == 2 * MOST_IP_SETS + 2 * len(SOFTER) + 2 <= CAPACITY
    assert sum(len(arns_in(rule["Statement"])) for rule in rules) <= 50, "reference statements per rule group"


def test_forwarded_addresses_cost_five_units_more_for_each_ip_set() -> None:
    plain, proxied = (rules_of("sluice-prod", ALL, Answers(), behind_proxies=each) for each in (False, True))
    assert wcu(proxied) - wcu(plain) == 5 * len(ALL)


def test_a_slowed_client_cannot_choose_the_address_by_which_its_rate_is_counted() -> None:
    *_, slow, _ = rules_of("sluice-prod", ALL, Answers(), behind_proxies=True)
    assert slow["Statement"]["RateBasedStatement"]["AggregateKeyType"] == "IP"


def test_a_stage_without_other_responses_has_the_two_rules_that_it_always_had() -> None:
    blocking = {group: arns for group, arns in ALL.items() if group.response is Response.BLOCK}
    first, second = rules_of("sluice-prod", blocking, Answers())
    assert first == {
        "Name": "sluice-prod-ipv4",
        "Priority": 0,
        "Statement": {"IPSetReferenceStatement": {"ARN": ALL[SetGroup(Response.BLOCK, 4)][0]}},
        "Action": {
            "Block": {
                "CustomResponse": {
                    "ResponseCode": 429,
                    "ResponseHeaders": [{"Name": "Retry-After", "Value": "60"}],
                }
            }
        },
        "VisibilityConfig": visibility("sluice-prod-ipv4"),
    }
    assert second["Name"] == "sluice-prod-ipv6"


def test_a_body_is_a_small_file_of_json_html_or_text(tmp_path: Path) -> None:
    for name, content_type in (("a.json", "APPLICATION_JSON"), ("a.html", "TEXT_HTML"), ("a.txt", "TEXT_PLAIN")):
        (tmp_path / name).write_text("ß")
        assert read_body(tmp_path / name) == Body(content_type, "ß")
    for name, content, problem in (
        ("a.xml", b"", "does not end in .json, .html, .txt"),
        ("b.txt", b"\xff", "is not UTF-8"),
        ("c.txt", b"x" * (LARGEST_BODY + 1), "at most 4,096"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Refusal, match=problem):
            read_body(tmp_path / name)
