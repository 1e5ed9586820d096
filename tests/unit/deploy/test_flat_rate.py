"""On a flat-rate plan, the web ACL itself has the rules of the rule group, as many as the plan allows."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, UnknownServiceError

from chalicelib.core.responses import Response
from sluice.deploy.account import AwsAccount
from sluice.deploy.resources.web_acls import flat_rate_plan
from sluice.deploy.rule_group import Answers, rules_of
from tests.support.deploy.account import Run, World, owners_rule
from tests.support.rule_group import Arrival, refusing_rule

CLIENT, OTHER, PROXY = "203.0.113.9", "192.0.2.1", "198.51.100.7"


def rules(world: World, arn: str) -> list[dict[str, Any]]:
    answer = world.account.client("wafv2").get_web_acl(Name="edge", Scope="CLOUDFRONT", Id=arn.rpartition("/")[2])
    return sorted(answer["WebACL"]["Rules"], key=lambda each: each["Priority"])


def on_plan(world: World, tier: str, *others: dict[str, Any]) -> str:
    arn = world.web_acl(rules=others)
    world.front.plans = [{"planFamily": "CLOUDFRONT", "planTier": tier, "resourceArns": [arn]}]
    return arn


@pytest.mark.parametrize(
    "error",
    [
        UnknownServiceError(service_name="pricing-plan-manager", known_service_names="wafv2"),
        ClientError({"Error": {"Code": "500", "Message": "<html>Internal Server Error</html>"}}, "ListSubscriptions"),
        ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListSubscriptions"),
    ],
    ids=["an older boto3", "a server error", "no permission"],
)
def test_plans_that_cannot_be_read_are_no_obstacle(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(AwsAccount, "list_all", fails)
    assert flat_rate_plan(world.account, "arn:x") is None


def test_the_web_acl_gets_the_rules_themselves_and_loses_them_again(run: Run, world: World) -> None:
    arn = on_plan(world, "BUSINESS", owners_rule("theirs", 5))
    before = rules(world, arn)
    shown = run("setup", "--yes", "--web-acl", "edge", "--respond", "challenge")
    assert shown.exit_code == 0, shown.output
    assert "without a rule group, for the flat-rate plan CLOUDFRONT BUSINESS" in shown.output
    own = rules(world, arn)[:-1]
    sets = {
        each["Name"]: each["ARN"] for each in world.account.client("wafv2").list_ip_sets(Scope="CLOUDFRONT")["IPSets"]
    }
    stage = world.stage(responses=(Response.CHALLENGE,))
    arns = {group: [sets[name] for name in names] for group, names in stage.ip_sets.items()}
    expected = rules_of("sluice-prod", arns, Answers())
    assert [{**each, "Priority": 0} for each in own] == [{**each, "Priority": 0} for each in expected]
    assert [each["Priority"] for each in own] == [2, 3, 4]
    for _ in range(2):
        steps = json.loads(run("setup", "--dry-run", "--json").stdout)["steps"]
        assert {step["action"] for step in steps} == {"exists"}, "a second run changes nothing"

    assert run("setup", "--yes", "--no-respond", "challenge").exit_code == 0
    assert [each["Name"] for each in rules(world, arn)] == ["sluice-prod-ipv4", "sluice-prod-ipv6", "theirs"]
    assert run("teardown", "--yes").exit_code == 0
    assert rules(world, arn) == before


@pytest.mark.parametrize("arrival", [Arrival(CLIENT), Arrival(PROXY, CLIENT)], ids=["direct", "behind a proxy"])
def test_a_blocked_client_is_refused_on_a_plan_and_no_other(run: Run, world: World, arrival: Arrival) -> None:
    arn = on_plan(world, "PRO")
    assert run("setup", "--yes", "--web-acl", "edge", "--set", "TRUSTED_PROXIES=198.51.100.0/24").exit_code == 0
    sets = world.account.client("wafv2").list_ip_sets(Scope="CLOUDFRONT")["IPSets"]
    contents = {each["ARN"]: [f"{CLIENT}/32"] if "-v4-" in each["Name"] else [] for each in sets}
    assert refusing_rule(rules(world, arn), contents, arrival) == "sluice-prod-ipv4"
    for neighbour in (Arrival(OTHER), Arrival(PROXY, OTHER)):
        assert refusing_rule(rules(world, arn), contents, neighbour) == ""


def test_place_is_made_for_all_rules_of_a_plan_and_given_back(run: Run, world: World) -> None:
    arn = on_plan(world, "PRO", owners_rule("office", 0, "Allow"), owners_rule("bots", 1))
    before = rules(world, arn)
    (acl,) = json.loads(run("setup", "--dry-run", "--json", "--web-acl", "edge").stdout)["web_acls"]
    assert (acl["plan"], acl["place"], acl["rules"]) == ("CLOUDFRONT PRO", 3, 4)
    assert [each["name"] for each in acl["before"]] == ["office"]
    assert run("setup", "--yes", "--web-acl", "edge", "--renumber").exit_code == 0
    assert [each["Name"] for each in rules(world, arn)] == ["sluice-prod-ipv4", "sluice-prod-ipv6", "office", "bots"]
    assert run("detach", "--yes", "--web-acl", "edge").exit_code == 0
    assert rules(world, arn) == before


@pytest.mark.parametrize(
    ("tier", "others", "options", "message"),
    [
        ("PRO", 24, (), "which allows 25 rules: 24 are in use, and Sluice needs 2"),
        ("PRO", 0, ("--respond", "challenge"), "which has no Challenge: sluice-prod-challenge cannot work there"),
        ("FREE", 0, (), "which has no CustomResponse"),
    ],
)
def test_what_a_plan_does_not_allow_is_refused_with_the_reason(
    run: Run, world: World, tier: str, others: int, options: tuple[str, ...], message: str
) -> None:
    on_plan(world, tier, *(owners_rule(f"r{number}", number) for number in range(others)))
    refused = run("setup", "--yes", "--web-acl", "edge", *options)
    assert refused.exit_code == 1
    assert message in refused.stderr


def test_a_rule_of_another_owner_with_the_name_of_ours_is_left_alone(run: Run, world: World) -> None:
    arn = on_plan(world, "PRO", owners_rule("sluice-prod-ipv4", 3))
    refused = run("setup", "--yes", "--web-acl", "edge")
    assert refused.exit_code == 1
    assert "setup did not create it" in refused.stderr
    assert [each["Name"] for each in rules(world, arn)] == ["sluice-prod-ipv4"]
