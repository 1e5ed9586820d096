"""Teardown of a stage with its functions: repeatable after any failure, and sure that nothing is left."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sluice.deploy.deployed import look_up
from sluice.deploy.plan import StepAction
from sluice.deploy.stage import Stage
from tests.support.deploy.account import REGION, THEIRS, Run, World
from tests.support.deploy.front import run_no_functions
from tests.support.deploy.functions import deploy_functions

BUCKET = "site-logs"
REFUSED = (403, "AccessDeniedException", "not authorized")


@pytest.fixture
def stage(deployable: World) -> Stage:
    """A stage with everything, set up and deployed."""
    deployable.account.client("s3").create_bucket(Bucket=BUCKET)
    stage = deployable.stage(
        sources=("cloudfront", "waf"),
        web_acls=(deployable.web_acl(rules=[THEIRS]),),
        distributions=(deployable.distribution(),),
        buckets=(f"{BUCKET}/",),
    )
    deployable.set_up(stage)
    deploy_functions(deployable, stage)
    return stage


def left(world: World) -> dict[str, Sequence[Any]]:
    """Returns what the account holds, by kind, besides what the tests themselves create."""
    client = world.account.client
    found: dict[str, Sequence[Any]] = {
        "functions": client("lambda").list_functions()["Functions"],
        "event sources": client("lambda").list_event_source_mappings()["EventSourceMappings"],
        "apis": client("apigateway").get_rest_apis()["items"],
        "schedules": client("events").list_rules()["Rules"],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "roles": client("iam").list_roles()["Roles"],
        "log groups": client("logs").describe_log_groups()["logGroups"],
        "streams": client("kinesis").list_streams()["StreamNames"],
        "tables": client("dynamodb").list_tables()["TableNames"],
        "parameters": client("ssm").describe_parameters()["Parameters"],
        "ip sets": client("wafv2").list_ip_sets(Scope="CLOUDFRONT")["IPSets"],
        "rule groups": client("wafv2").list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"],
        "log configurations": list(world.front.log_configs),
        "files": [path.name for path in (world.project.chalice / "deployed").glob("*")],
    }
    return {kind: items for kind, items in found.items() if items}


def test_everything_is_removed_whatever_chalice_has_recorded(deployable: World, stage: Stage, run: Run) -> None:
    (deployable.project.chalice / "deployed" / "prod.json").unlink()
    done = run("teardown", "--yes")
    assert done.exit_code == 0, done.output + done.stderr
    assert "Nothing of the stage is left in the account" in done.output
    assert left(deployable) == {}


def test_a_refused_deletion_is_an_error_that_names_it_and_keeps_the_choices(
    deployable: World, stage: Stage, run: Run
) -> None:
    deployable.front.refusals["lambda:DeleteFunction"] = [REFUSED]
    failed = run("teardown", "--yes")
    assert failed.exit_code == 1
    assert "DeleteFunction: AccessDeniedException" in failed.stderr
    assert "Run the same command again" in failed.stderr
    assert "is left in the account" not in failed.output
    assert run("teardown", "--yes").exit_code == 0
    assert left(deployable) == {}


def test_what_was_removed_by_hand_counts_as_removed(deployable: World, stage: Stage, run: Run) -> None:
    client = deployable.account.client
    deployed = look_up(stage, deployable.account)
    client("lambda").delete_function(FunctionName=deployed.functions["sweep"]["FunctionName"])
    client("apigateway").delete_rest_api(restApiId=deployed.apis[0])
    client("logs").delete_log_group(logGroupName=stage.waf_log_group)
    (arn,) = stage.choices.web_acls
    token = client("wafv2").get_web_acl(Name="edge", Scope="CLOUDFRONT", Id=arn.rpartition("/")[2])["LockToken"]
    client("wafv2").delete_web_acl(Name="edge", Scope="CLOUDFRONT", Id=arn.rpartition("/")[2], LockToken=token)
    done = run("teardown", "--yes")
    assert done.exit_code == 0, done.output + done.stderr
    assert left(deployable) == {}


def test_a_second_api_of_an_interrupted_deployment_is_removed_as_well(deployable: World, stage: Stage) -> None:
    client = deployable.account.client("apigateway")
    (first,) = look_up(stage, deployable.account).apis
    second = client.create_rest_api(name="sluice")["id"]
    (root,) = client.get_resources(restApiId=second)["items"]
    where = {"restApiId": second, "resourceId": root["id"], "httpMethod": "GET"}
    client.put_method(**where, authorizationType="NONE")
    function = f"arn:aws:lambda:{REGION}:123456789012:function:sluice-prod/invocations"
    uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function}"
    client.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    theirs = client.create_rest_api(name="sluice")["id"]
    assert look_up(stage, deployable.account).apis == [first, second]
    deployable.tear_down(stage)
    assert [api["id"] for api in client.get_rest_apis()["items"]] == [theirs]


def test_functions_of_another_owner_are_left_alone(deployable: World, stage: Stage) -> None:
    client = deployable.account.client("lambda")
    arn = look_up(stage, deployable.account).functions["ingest"]["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"sluice:stage": "other"})
    steps = {step.resource.kind: step.action for step in deployable.plan_teardown(stage)}
    assert steps["Chalice deployment"] is StepAction.LEAVE


def test_a_stage_whose_choices_are_lost_is_found_by_its_names(deployable: World, stage: Stage, run: Run) -> None:
    deployable.account.client("ssm").delete_parameter(Name=stage.choices_parameter)
    without = replace(stage, choices=replace(stage.choices, web_acls=(), distributions=(), buckets=()))
    for resource in (step.resource for step in deployable.plan(stage) if step.resource.kind.startswith("web ACL")):
        existing = resource.find(deployable.account)
        assert existing is not None
        resource.remove(deployable.account, existing)
    run_no_functions(REGION)
    assert look_up(without, deployable.account).anything
    done = run("teardown", "--yes")
    assert "is left in the account" not in done.output  # the distribution still logs
    assert "RealtimeLogConfigInUse" in done.stderr
    deployable.account.client("cloudfront")
    assert "functions" not in left(deployable)


def test_a_removal_that_aws_does_not_show_yet_is_waited_for(deployable: World, stage: Stage, run: Run) -> None:
    groups = deployable.account.client("logs").describe_log_groups()
    deployable.front.stale["logs:DescribeLogGroups"] = [groups] * 8
    done = run("teardown", "--yes")
    assert done.exit_code == 0, done.output + done.stderr
    assert deployable.front.stale["logs:DescribeLogGroups"] == []
    assert left(deployable) == {}
