"""A web ACL of the stage's own: with the rule group first, the managed groups after it, and what operators add kept."""

from typing import Any

import pytest

from sluice.deploy.doctor.enforcement import attached
from sluice.deploy.doctor.inspection import Inspection
from sluice.deploy.plan import StepAction
from sluice.deploy.stage import Choices, Refusal, Stage
from tests.support.deploy.account import NOW, Run, World

CRS, IPR, SQL = (
    "AWSManagedRulesCommonRuleSet",
    "AWSManagedRulesAmazonIpReputationList",
    "AWSManagedRulesSQLiRuleSet",
)
NAME = "sluice-prod"


def web_acl(world: World) -> dict[str, Any] | None:
    client = world.account.client("wafv2")
    for each in client.list_web_acls(Scope="CLOUDFRONT")["WebACLs"]:
        if each["Name"] == NAME:
            acl: dict[str, Any] = client.get_web_acl(Name=NAME, Scope="CLOUDFRONT", Id=each["Id"])["WebACL"]
            return acl
    return None


def rules(world: World) -> dict[int, str]:
    acl = web_acl(world)
    assert acl is not None
    return {rule["Priority"]: rule["Name"] for rule in acl["Rules"]}


def stage_with(world: World, *groups: str) -> Stage:
    return world.stage(own_web_acl=True, managed_groups=groups)


def test_it_refers_to_the_rule_group_before_the_managed_groups(world: World) -> None:
    stage = stage_with(world, IPR, CRS)
    world.set_up(stage)
    assert rules(world) == {0: NAME, 100: IPR, 110: CRS}
    acl = web_acl(world)
    assert acl is not None
    assert acl["DefaultAction"] == {"Allow": {}}
    (first, *_) = acl["Rules"]
    assert f"/rulegroup/{NAME}/" in first["Statement"]["RuleGroupReferenceStatement"]["ARN"]
    assert not [step for step in world.plan(stage) if step.effective]


def test_a_further_managed_group_is_added_and_the_rules_of_operators_stay(world: World) -> None:
    world.set_up(stage_with(world, CRS))
    client, acl = world.account.client("wafv2"), web_acl(world)
    assert acl is not None
    own = {
        "Name": "geo",
        "Priority": 110,
        "Statement": {"GeoMatchStatement": {"CountryCodes": ["KP"]}},
        "Action": {"Block": {}},
        "VisibilityConfig": acl["VisibilityConfig"],
    }
    identity = {"Name": NAME, "Scope": "CLOUDFRONT", "Id": acl["Id"]}
    client.update_web_acl(
        **identity,
        DefaultAction={"Block": {}},
        VisibilityConfig=acl["VisibilityConfig"],
        Rules=[*acl["Rules"], own],
        LockToken=client.get_web_acl(**identity)["LockToken"],
    )
    stage = stage_with(world, CRS, SQL)
    (step,) = [step for step in world.plan(stage) if step.resource.kind == "WAF web ACL"]
    assert (step.action, step.detail) == (StepAction.CHANGE, f"{SQL} is added")
    world.set_up(stage)
    assert rules(world) == {0: NAME, 100: CRS, 110: "geo", 120: SQL}
    changed = web_acl(world)
    assert changed is not None
    assert changed["DefaultAction"] == {"Block": {}}


def test_the_rule_group_gets_the_chosen_priority_and_moves_to_another(world: World, run: Run) -> None:
    run("setup", "--create-web-acl", "--managed-group", CRS, "--managed-group", IPR, "--priority", "105", "--yes")
    assert rules(world) == {105: NAME, 100: CRS, 110: IPR}
    shown = run("setup", "--priority", "100", "--dry-run").stderr
    assert f"--priority 100: web ACL {NAME} has {CRS} there" in " ".join(shown.split())
    assert f"{NAME}: priority 105 becomes 7" in run("setup", "--priority", "7", "--yes").stdout
    assert rules(world) == {7: NAME, 100: CRS, 110: IPR}
    assert "becomes" not in run("setup", "--dry-run").stdout


def test_a_chosen_priority_is_free_of_the_managed_groups_of_a_new_web_acl(world: World) -> None:
    world.set_up(world.stage(own_web_acl=True, managed_groups=(CRS,), priority=100))
    assert rules(world) == {100: NAME, 110: CRS}


def test_a_web_acl_of_another_owner_is_refused(world: World) -> None:
    world.web_acl(NAME)
    (step,) = [step for step in world.plan(stage_with(world)) if step.resource.kind == "WAF web ACL"]
    assert step.action is StepAction.REFUSE


def test_teardown_removes_it_before_the_rule_group(world: World) -> None:
    stage = stage_with(world, CRS)
    world.set_up(stage)
    removed = [step.resource.kind for step in world.tear_down(stage)]
    assert removed.index("WAF web ACL") < removed.index("WAF rule group")
    assert web_acl(world) is None


def test_its_requests_are_logged_if_waf_is_a_source(world: World) -> None:
    stage = world.stage(own_web_acl=True, sources=("waf",))
    world.set_up(stage)
    acl = web_acl(world)
    assert acl is not None
    answer = world.account.client("wafv2").get_logging_configuration(ResourceArn=acl["ARN"])
    assert "aws-waf-logs-sluice-prod" in answer["LoggingConfiguration"]["LogDestinationConfigs"][0]
    assert not [step for step in world.plan(stage) if step.effective]
    world.tear_down(stage)
    assert web_acl(world) is None


def test_the_option_is_remembered_and_doctor_is_satisfied(world: World, run: Run) -> None:
    run("setup", "--create-web-acl", "--managed-group", CRS, "--yes")
    assert rules(world) == {0: NAME, 100: CRS}
    shown = run("setup", "--managed-group", SQL, "--dry-run").stdout
    assert f"{SQL} is added" in shown
    assert "Without --web-acl" not in shown
    inspection = Inspection(stage_with(world), world.account, world.project, NOW)
    assert not list(attached(inspection))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"own_web_acl": True, "managed_groups": ("CommonRuleSet",)}, "AWSManagedRulesCommonRuleSet"),
        ({"managed_groups": (CRS,)}, "--create-web-acl"),
    ],
)
def test_a_managed_group_of_another_form_or_without_a_web_acl_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        Choices(**choices)
