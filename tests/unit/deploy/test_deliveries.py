"""Deliveries of access logs to the stage's log group: CloudFront's standard log and load balancers' logs."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from chalicelib.core.logs.cloudfront_standard import FIELDS
from sluice.deploy.doctor.deployment import drift
from sluice.deploy.doctor.inspection import Inspection
from sluice.deploy.plan import Step, StepAction
from sluice.deploy.resources.deliveries import DISTRIBUTION_FIELDS, LOAD_BALANCER_FIELDS
from sluice.deploy.stage import Choices, Refusal, Stage
from tests.support.deploy.account import NOW, Run, World

BALANCER = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/site/50dc6c495c0c9188"
GROUP = "sluice-prod-access-logs"
GROUP_ARN = f"arn:aws:logs:us-east-1:123456789012:log-group:{GROUP}"


def standard(world: World) -> Stage:
    return world.stage(sources=("cloudfront-standard",), distributions=(world.distribution(),))


def balanced(world: World) -> Stage:
    return world.stage(scope="REGIONAL", sources=(), load_balancers=(BALANCER,))


def left(world: World) -> list[Any]:
    """Returns all sources, destinations and deliveries of the account, and its log groups."""
    logs = world.account.client("logs")
    return [
        *logs.describe_delivery_sources()["deliverySources"],
        *logs.describe_delivery_destinations()["deliveryDestinations"],
        *logs.describe_deliveries()["deliveries"],
        *logs.describe_log_groups()["logGroups"],
    ]


def step_of(steps: Sequence[Step]) -> Step:
    (step,) = [step for step in steps if step.resource.kind.endswith("log delivery")]
    return step


@pytest.mark.parametrize(
    ("make", "log_type", "fields"),
    [(standard, "ACCESS_LOGS", DISTRIBUTION_FIELDS), (balanced, "ALB_ACCESS_LOGS", LOAD_BALANCER_FIELDS)],
)
def test_a_log_is_delivered_as_json_and_sent_to_the_stream(
    world: World, make: Any, log_type: str, fields: Sequence[str]
) -> None:
    stage = make(world)
    world.set_up(stage)
    logs = world.account.client("logs")
    (source,) = logs.describe_delivery_sources()["deliverySources"]
    (destination,) = logs.describe_delivery_destinations()["deliveryDestinations"]
    (delivery,) = logs.describe_deliveries()["deliveries"]
    (resource,) = source["resourceArns"]
    assert (source["logType"], resource in (BALANCER, *map(stage.distribution_arn, stage.choices.distributions))) == (
        log_type,
        True,
    )
    assert destination["outputFormat"] == "json"
    assert destination["deliveryDestinationConfiguration"] == {"destinationResourceArn": GROUP_ARN}
    assert (delivery["deliverySourceName"], delivery["deliveryDestinationArn"]) == (source["name"], destination["arn"])
    assert delivery["recordFields"] == list(fields)
    (subscription,) = logs.describe_subscription_filters(logGroupName=GROUP)["subscriptionFilters"]
    assert subscription["destinationArn"] == stage.log_stream_arn
    role = world.account.client("iam").get_role(RoleName=stage.delivery_role)["Role"]
    trusted = [each["Principal"]["Service"] for each in role["AssumeRolePolicyDocument"]["Statement"]]
    assert trusted == ["logs.amazonaws.com"]
    assert {step.action for step in world.plan(stage)} == {StepAction.KEEP}
    world.tear_down(stage)
    assert left(world) == []


def test_the_delivered_fields_are_those_that_the_decoder_reads() -> None:
    preferred = {names[0] for names in FIELDS.values()}
    assert set(DISTRIBUTION_FIELDS) == preferred | {"timestamp(ms)", "c-ip", "x-edge-request-id"}
    assert (len(LOAD_BALANCER_FIELDS), len(set(LOAD_BALANCER_FIELDS))) == (34, 34)


@pytest.mark.parametrize("make", [standard, balanced])
def test_edited_fields_are_repaired(world: World, make: Any) -> None:
    stage = make(world)
    world.set_up(stage)
    logs = world.account.client("logs")
    (before,) = logs.describe_deliveries()["deliveries"]
    logs.update_delivery_configuration(id=before["id"], recordFields=["c-ip"])
    step = step_of(world.set_up(stage))
    assert (step.action, step.detail) == (StepAction.CHANGE, "fields")
    assert logs.describe_deliveries()["deliveries"] == [before]


def test_the_source_of_another_owner_serves_both_and_stays(world: World) -> None:
    stage, logs = standard(world), world.account.client("logs")
    (id_,) = stage.choices.distributions
    logs.put_delivery_source(name="theirs", resourceArn=stage.distribution_arn(id_), logType="ACCESS_LOGS")
    bucket = {"destinationResourceArn": "arn:aws:s3:::site-logs"}
    theirs = logs.put_delivery_destination(name="theirs", deliveryDestinationConfiguration=bucket)
    logs.create_delivery(
        deliverySourceName="theirs", deliveryDestinationArn=theirs["deliveryDestination"]["arn"], recordFields=["c-ip"]
    )
    before = left(world)
    world.set_up(stage)
    assert len(logs.describe_delivery_sources()["deliverySources"]) == 1
    assert len(logs.describe_deliveries()["deliveries"]) == 2
    world.tear_down(stage)
    assert left(world) == before


def test_the_source_of_another_distribution_is_left_alone(world: World) -> None:
    stage, logs = standard(world), world.account.client("logs")
    logs.put_delivery_source(name="theirs", resourceArn=stage.distribution_arn("E2OTHER"), logType="ACCESS_LOGS")
    world.set_up(stage)
    (id_,) = stage.choices.distributions
    (delivery,) = logs.describe_deliveries()["deliveries"]
    assert delivery["deliverySourceName"] == f"sluice-prod-{id_}"
    world.tear_down(stage)
    assert [each["name"] for each in left(world)] == ["theirs"]


def test_a_log_that_goes_to_another_log_group_is_refused(world: World) -> None:
    stage, logs = standard(world), world.account.client("logs")
    (id_,) = stage.choices.distributions
    logs.put_delivery_source(name="theirs", resourceArn=stage.distribution_arn(id_), logType="ACCESS_LOGS")
    group = {"destinationResourceArn": GROUP_ARN.replace(GROUP, "theirs")}
    theirs = logs.put_delivery_destination(name="theirs", deliveryDestinationConfiguration=group)
    arn = theirs["deliveryDestination"]["arn"]
    logs.create_delivery(deliverySourceName="theirs", deliveryDestinationArn=arn, recordFields=["c-ip"])
    before = left(world)
    step = step_of(world.plan(stage))
    assert step.action is StepAction.REFUSE
    assert f"the log goes to {arn} already" in step.detail
    assert "count that log group with --log-group" in step.detail
    world.tear_down(stage)
    assert left(world) == before


def test_a_destination_of_another_owner_is_refused_and_stays(world: World) -> None:
    stage, logs = balanced(world), world.account.client("logs")
    bucket = {"destinationResourceArn": "arn:aws:s3:::site-logs"}
    logs.put_delivery_destination(name="sluice-prod", deliveryDestinationConfiguration=bucket)
    (step,) = [step for step in world.plan(stage) if step.resource.kind == "log delivery destination"]
    assert step.action is StepAction.REFUSE
    world.tear_down(stage)
    assert len(logs.describe_delivery_destinations()["deliveryDestinations"]) == 1


def test_a_distribution_that_does_not_exist_is_refused(world: World) -> None:
    stage = world.stage(sources=("cloudfront-standard",), distributions=("E2NOSUCH",))
    with pytest.raises(Refusal, match="distribution E2NOSUCH does not exist"):
        world.plan(stage)
    world.tear_down(stage)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"scope": "REGIONAL", "sources": ("cloudfront-standard",)}, "a regional web ACL sees CloudFront's addresses"),
        ({"sources": (), "load_balancers": (BALANCER,)}, "its log has CloudFront's addresses, not the clients'"),
        (
            {"scope": "REGIONAL", "sources": (), "load_balancers": (BALANCER.replace("us-east-1", "eu-west-1"),)},
            "is not in account 123456789012, us-east-1",
        ),
        ({"log_groups": (GROUP,)}, "belongs to stage prod itself"),
    ],
)
def test_what_cannot_be_counted_is_refused(world: World, choices: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        world.stage(**choices)


@pytest.mark.parametrize("name", ["site", BALANCER.replace("/app/", "/net/"), f"{BALANCER}/x"])
def test_only_the_arn_of_an_application_load_balancer_is_accepted(name: str) -> None:
    with pytest.raises(Refusal, match="use the ARN of an Application Load Balancer"):
        Choices(scope="REGIONAL", sources=(), load_balancers=(name,))


def test_the_doctor_misses_a_delivery_that_was_removed(world: World) -> None:
    stage, logs = standard(world), world.account.client("logs")
    world.set_up(stage)
    inspection = Inspection(stage, world.account, world.project, NOW)
    assert list(drift(inspection)) == []
    logs.delete_delivery(id=logs.describe_deliveries()["deliveries"][0]["id"])
    (finding,) = drift(inspection)
    (id_,) = stage.choices.distributions
    assert finding.what == f"CloudFront standard log delivery {id_}: is missing"


def planned(run: Run, *options: str) -> Any:
    done = run("setup", "--dry-run", "--json", *options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_load_balancer_is_counted_detached_and_attached_again(run: Run, world: World) -> None:
    plan = planned(run, "--scope", "REGIONAL", "--load-balancer", BALANCER)
    kinds = [step["kind"] for step in plan["steps"]]
    assert [kind for kind in kinds if "deliver" in kind] == ["log delivery destination", "load balancer log delivery"]
    assert "web ACL logging" not in kinds
    assert plan["cost"]["items"][0]["item"] == "CloudWatch Logs, log lines"
    assert run("setup", "--yes", "--scope", "REGIONAL", "--load-balancer", BALANCER).exit_code == 0
    assert {step["action"] for step in planned(run)["steps"]} == {"exists"}
    done = run("detach", "--yes", "--load-balancer", BALANCER)
    assert done.exit_code == 0, done.output
    assert f"--load-balancer {BALANCER}" in done.output.replace("\n", "")
    logs = world.account.client("logs")
    assert (logs.describe_deliveries()["deliveries"], logs.describe_delivery_sources()["deliverySources"]) == ([], [])
    assert run("teardown", "--yes", "--stage", "prod").exit_code == 0
    assert left(world) == []


def test_a_distribution_without_a_log_of_cloudfront_is_refused(run: Run, world: World) -> None:
    done = run("setup", "--yes", "--source", "waf", "--distribution", world.distribution())
    assert done.exit_code == 1
    assert "no log of CloudFront is counted" in " ".join(done.stderr.split())
