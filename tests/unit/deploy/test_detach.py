"""Detaching: the stage's additions are taken back, and later setups do not make them again."""

import json

import pytest

from sluice.deploy.detaching import Detached
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.stage import Choices, Refusal, Stage
from tests.support.deploy.account import THEIRS, Run, World


@pytest.fixture
def stage(world: World) -> Stage:
    for bucket in ("one-logs", "two-logs"):
        world.account.client("s3").create_bucket(Bucket=bucket)
    world.account.client("logs").create_log_group(logGroupName="/site/access")
    stage = world.stage(
        web_acls=(world.web_acl("edge", rules=[THEIRS]), world.web_acl("other", rules=[THEIRS])),
        distributions=(world.distribution(),),
        log_groups=("/site/access",),
        buckets=("one-logs/a/", "two-logs/"),
    )
    world.set_up(stage)
    return stage


def choices(world: World) -> Choices:
    found = remembered(world.account, "prod")
    assert found is not None
    return found


def rules(world: World, name: str) -> list[str]:
    (summary,) = (
        acl for acl in world.account.client("wafv2").list_web_acls(Scope="CLOUDFRONT")["WebACLs"] if acl["Name"] == name
    )
    acl = world.account.client("wafv2").get_web_acl(Name=name, Scope="CLOUDFRONT", Id=summary["Id"])["WebACL"]
    return sorted(rule["Name"] for rule in acl["Rules"])


def test_one_web_acl_is_detached_and_the_others_stay(run: Run, world: World, stage: Stage) -> None:
    done = run("detach", "--web-acl", "edge", "--yes")
    assert done.exit_code == 0, done.output + done.stderr
    assert (rules(world, "edge"), rules(world, "other")) == (["theirs"], ["sluice-prod", "theirs"])
    assert choices(world).web_acls == stage.choices.web_acls[1:]
    assert f"Undo:  {stage.command('setup')} --web-acl edge" in done.output
    again = json.loads(run("setup", "--dry-run", "--json").stdout)
    assert {step["action"] for step in again["steps"]} == {"exists"}
    assert run("setup", "--web-acl", "edge", "--yes").exit_code == 0
    assert rules(world, "edge") == ["sluice-prod", "theirs"]


def test_a_distribution_stops_logging(run: Run, world: World, stage: Stage) -> None:
    (id_,) = stage.choices.distributions
    assert run("detach", "--distribution", id_, "--yes").exit_code == 0
    config = world.account.client("cloudfront").get_distribution_config(Id=id_)["DistributionConfig"]
    assert not config["DefaultCacheBehavior"].get("RealtimeLogConfigArn")
    assert choices(world).distributions == ()


def test_a_log_group_and_a_bucket_are_forgotten(run: Run, world: World, stage: Stage) -> None:
    done = run("detach", "--log-group", "/site/access", "--bucket", "one-logs", "--yes")
    assert done.exit_code == 0, done.output + done.stderr
    filters = world.account.client("logs").describe_subscription_filters(logGroupName="/site/access")
    assert filters["subscriptionFilters"] == []
    client = world.account.client("s3")
    configured = {
        bucket: "QueueConfigurations" in client.get_bucket_notification_configuration(Bucket=bucket)
        for bucket in ("one-logs", "two-logs")
    }
    assert configured == {"one-logs": False, "two-logs": True}
    assert (choices(world).log_groups, choices(world).buckets) == ((), ("two-logs/",))
    assert f"Then:  {stage.command('setup')} and then {stage.command('deploy')}" in done.output
    assert "--bucket one-logs --prefix a/" in done.output


def test_the_last_bucket_leaves_nothing_that_teardown_forgets(run: Run, world: World, stage: Stage) -> None:
    assert (
        run("detach", "--bucket", "one-logs", "--bucket", "two-logs", "--log-group", "/site/access", "--yes").exit_code
        == 0
    )
    assert run("teardown", "--yes").exit_code == 0
    assert world.account.client("sqs").list_queues().get("QueueUrls", []) == []
    assert world.account.client("iam").list_roles()["Roles"] == []


def test_what_is_gone_is_forgotten(run: Run, world: World, stage: Stage) -> None:
    world.account.client("logs").delete_log_group(logGroupName="/site/access")
    assert run("detach", "--log-group", "/site/access", "--yes").exit_code == 0
    assert choices(world).log_groups == ()


def test_a_dry_run_changes_nothing(run: Run, world: World, stage: Stage) -> None:
    planned = json.loads(run("detach", "--web-acl", "edge", "--dry-run", "--json").stdout)
    assert [(step["action"], step["kind"]) for step in planned["steps"]] == [
        ("remove", "web ACL rule"),
        ("change", "SSM parameter"),
    ]
    assert not planned["applied"]
    assert rules(world, "edge") == ["sluice-prod", "theirs"]


def test_what_is_not_attached_is_refused_with_what_is(run: Run, world: World, stage: Stage) -> None:
    done = run("detach", "--web-acl", "nope")
    assert done.exit_code == 1
    assert "--web-acl nope is not attached to the stage; attached: edge, other" in done.stderr
    assert run("detach").exit_code == 2
    with pytest.raises(Refusal, match="attached: none"):
        Detached.of(Choices(), distributions=["E1"])
