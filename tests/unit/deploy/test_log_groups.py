"""Log groups of other owners: the subscription beside those of others, and stages that have no other log."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sluice.deploy.account import AwsError
from sluice.deploy.doctor.deployment import drift
from sluice.deploy.doctor.flow import records
from sluice.deploy.doctor.inspection import Inspection
from sluice.deploy.plan import Step, StepAction
from sluice.deploy.resources.logs import WRITABLE_WITHIN_S, group_name
from sluice.deploy.stage import Choices, Refusal, Stage
from tests.support.deploy.account import LOCATION, NOW, Run, World

GROUP = "/site/access"
ARN = f"arn:aws:logs:us-east-1:123456789012:log-group:{GROUP}"


@pytest.fixture
def stage(world: World) -> Stage:
    world.account.client("logs").create_log_group(logGroupName=GROUP)
    return world.stage(sources=(), log_groups=(GROUP,))


@pytest.fixture
def others(world: World, stage: Stage) -> Callable[[int], list[dict[str, Any]]]:
    """Subscribes streams of other owners to the group, and returns its subscription filters."""
    world.set_up(world.stage())
    logs = world.account.client("logs")

    def subscribe(number: int) -> list[dict[str, Any]]:
        for name in range(number):
            logs.put_subscription_filter(
                logGroupName=GROUP,
                filterName=f"theirs-{name}",
                filterPattern="ERROR",
                destinationArn=stage.log_stream_arn,
                roleArn=stage.delivery_role_arn,
            )
        return filters(world)

    return subscribe


def filters(world: World) -> list[dict[str, Any]]:
    answer = world.account.client("logs").describe_subscription_filters(logGroupName=GROUP)
    return sorted(answer["subscriptionFilters"], key=lambda each: str(each["filterName"]))


def step_of(steps: Sequence[Step]) -> Step:
    (step,) = [step for step in steps if step.resource.kind == "log subscription"]
    return step


def trusted(world: World, stage: Stage) -> list[str]:
    role = world.account.client("iam").get_role(RoleName=stage.delivery_role)["Role"]
    return [statement["Principal"]["Service"] for statement in role["AssumeRolePolicyDocument"]["Statement"]]


def test_the_stream_is_subscribed_to_the_whole_log_over_all_shards(world: World, stage: Stage) -> None:
    planned = step_of(world.plan(stage))
    assert (planned.action, planned.resource.name) == (StepAction.CREATE, f"{GROUP}/sluice-prod")
    assert filters(world) == []
    world.set_up(stage)
    (made,) = filters(world)
    assert (made["filterName"], made["filterPattern"], made["distribution"]) == ("sluice-prod", "", "Random")
    assert (made["destinationArn"], made["roleArn"]) == (stage.log_stream_arn, stage.delivery_role_arn)
    assert {step.action for step in world.plan(stage)} == {StepAction.KEEP}


def test_the_role_trusts_cloudwatch_logs_of_this_account_and_region_alone(world: World, stage: Stage) -> None:
    world.set_up(world.stage())
    assert trusted(world, stage) == ["cloudfront.amazonaws.com"]
    both = world.stage(log_groups=(GROUP,))
    world.set_up(both)
    assert trusted(world, stage) == ["cloudfront.amazonaws.com", "logs.amazonaws.com"]
    role = world.account.client("iam").get_role(RoleName=stage.delivery_role)["Role"]
    cloudfronts, logs = (each["Condition"] for each in role["AssumeRolePolicyDocument"]["Statement"])
    assert cloudfronts == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert logs == {"StringLike": {"aws:SourceArn": "arn:aws:logs:us-east-1:123456789012:*"}}


def test_a_stage_with_both_kinds_of_log_group_trusts_cloudwatch_logs_once(world: World, stage: Stage) -> None:
    both = world.stage(sources=("waf",), log_groups=(GROUP,), web_acls=(world.web_acl(),))
    world.set_up(both)
    assert trusted(world, stage) == ["logs.amazonaws.com"]
    assert {step.action for step in world.plan(both)} == {StepAction.KEEP}
    world.tear_down(both)
    assert filters(world) == []


def test_teardown_leaves_the_group_and_the_filters_of_others(
    world: World, stage: Stage, others: Callable[[int], list[dict[str, Any]]]
) -> None:
    before = others(1)
    world.set_up(stage)
    assert [each["filterName"] for each in filters(world)] == ["sluice-prod", "theirs-0"]
    world.tear_down(stage)
    assert filters(world) == before


def test_an_edited_subscription_is_repaired(world: World, stage: Stage) -> None:
    world.set_up(stage)
    edited = {key: value for key, value in filters(world)[0].items() if key != "creationTime"}
    edited |= {"filterPattern": "ERROR", "distribution": "ByLogStream"}
    world.account.client("logs").put_subscription_filter(**edited)
    (step,) = [step for step in world.set_up(stage) if step.effective]
    assert step.detail == "stream, role, pattern or distribution"
    assert (filters(world)[0]["filterPattern"], filters(world)[0]["distribution"]) == ("", "Random")


def test_a_group_with_two_filters_of_others_is_refused(
    world: World, stage: Stage, others: Callable[[int], list[dict[str, Any]]]
) -> None:
    before = others(2)
    step = step_of(world.plan(stage))
    assert step.action is StepAction.REFUSE
    assert "has the subscription filters theirs-0 and theirs-1, and CloudWatch Logs allows 2" in step.detail
    world.tear_down(stage)
    assert filters(world) == before


def test_a_filter_of_the_stage_is_no_obstacle_to_itself(
    world: World, stage: Stage, others: Callable[[int], list[dict[str, Any]]]
) -> None:
    others(1)
    world.set_up(stage)
    assert len(filters(world)) == 2
    assert step_of(world.plan(stage)).action is StepAction.KEEP


@pytest.mark.parametrize("class_", ["INFREQUENT_ACCESS", "DELIVERY"])
def test_a_group_of_another_class_is_refused(world: World, stage: Stage, class_: str) -> None:
    world.front.classes[GROUP] = class_
    step = step_of(world.plan(stage))
    assert step.action is StepAction.REFUSE
    assert f"log group {GROUP} is of class {class_}, and" in step.detail


@pytest.mark.parametrize("name", ["/site", "/site/access-2"])
def test_a_group_that_does_not_exist_is_refused_by_setup_and_no_obstacle_to_teardown(
    world: World, stage: Stage, name: str
) -> None:
    wrong = replace(stage, choices=replace(stage.choices, log_groups=(name,)))
    step = step_of(world.plan(wrong))
    assert step.action is StepAction.REFUSE
    assert f"log group {name} does not exist in us-east-1" in step.detail
    assert not [step for step in world.plan_teardown(wrong) if step.resource.kind == "log subscription"]


def test_a_group_that_was_deleted_meanwhile_is_no_obstacle_to_teardown(world: World, stage: Stage) -> None:
    world.set_up(stage)
    world.account.client("logs").delete_log_group(logGroupName=GROUP)
    world.tear_down(stage)
    assert world.account.client("kinesis").list_streams()["StreamNames"] == []


@pytest.mark.parametrize(
    "arn",
    [
        ARN.replace("us-east-1", "eu-west-1"),
        ARN.replace("123456789012", "111122223333") + ":*",
        ARN.replace("arn:aws:", "arn:aws-cn:"),
        "arn:aws:s3:::logs",
    ],
)
def test_a_group_that_is_elsewhere_is_refused(arn: str) -> None:
    with pytest.raises(Refusal, match=r"is not in account 123456789012, us-east-1, and a stream is subscribed only"):
        group_name(arn, LOCATION)


def test_a_group_is_named_by_its_name_or_its_arn() -> None:
    assert {group_name(each, LOCATION) for each in (GROUP, ARN, f"{ARN}:*")} == {GROUP}


@pytest.mark.parametrize("name", ["", "a b", "group:*", "é", "x" * 513])
def test_a_name_that_is_no_log_group_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="use its name, such as /site/access, or its ARN"):
        Choices(log_groups=(name,))


@pytest.mark.parametrize(
    "name", ["aws-waf-logs-sluice-prod", "/aws/lambda/sluice-prod", "/aws/lambda/sluice-prod-ingest"]
)
def test_a_stage_does_not_count_its_own_logs(world: World, name: str) -> None:
    with pytest.raises(Refusal, match="belongs to stage prod itself"):
        world.stage(log_groups=(name,))
    world.stage(log_groups=("/aws/lambda/sluice-product",))


@pytest.mark.parametrize(("failures", "succeeds"), [(1, True), (60, True), (1000, False)])
def test_setup_waits_for_minutes_until_a_new_role_may_write(
    world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch, failures: int, succeeds: bool
) -> None:
    logs, waits, calls = world.account.client("logs"), [0.0], [0]
    put = logs.put_subscription_filter

    def refusing(**arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] <= failures:
            raise ClientError({"Error": {"Code": "InvalidParameterException"}}, "PutSubscriptionFilter")
        return put(**arguments)

    monkeypatch.setattr(logs, "put_subscription_filter", refusing)
    patient = replace(world, account=replace(world.account, sleep=waits.append))
    if succeeds:
        patient.set_up(stage)
        assert len(filters(world)) == 1
    else:
        with pytest.raises(AwsError, match="could not create log subscription /site/access/sluice-prod"):
            patient.set_up(stage)
        assert sum(waits) == pytest.approx(WRITABLE_WITHIN_S, abs=3)


def test_the_doctor_misses_a_subscription_that_was_removed(world: World, stage: Stage) -> None:
    world.set_up(stage)
    inspection = Inspection(stage, world.account, world.project, NOW)
    assert list(drift(inspection)) == []
    world.account.client("logs").delete_subscription_filter(logGroupName=GROUP, filterName="sluice-prod")
    (finding,) = drift(inspection)
    assert finding.what == f"log subscription {GROUP}/sluice-prod: is missing"
    world.account.client("logs").delete_log_group(logGroupName=GROUP)
    (finding,) = drift(inspection)
    assert "does not exist in us-east-1" in finding.what


def test_the_doctor_expects_records_only_if_a_log_comes_through_the_stream(world: World, stage: Stage) -> None:
    for choices, expected in (((GROUP,), 1), ((), 0)):
        inspected = world.stage(sources=(), log_groups=choices, buckets=("site-logs/",))
        assert len(list(records(Inspection(inspected, world.account, world.project, NOW)))) == expected


def test_a_complete_log_beside_a_sampled_one_needs_memory_for_all_its_lines() -> None:
    assert Choices(sample_rate=10, log_groups=(GROUP,), requests_per_second=1000).logged_per_second == 1000


def test_a_stage_without_a_live_log_has_no_delivery_role(world: World) -> None:
    world.account.client("s3").create_bucket(Bucket="site-logs")
    stage = world.stage(sources=(), buckets=("site-logs/",))
    world.set_up(stage)
    assert world.account.client("iam").list_roles()["Roles"] == []
    assert {step.action for step in world.plan(stage)} == {StepAction.KEEP}


def planned(run: Run, *options: str) -> Any:
    done = run("setup", "--dry-run", "--json", *options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def delivered(plan: Any) -> set[str]:
    """Returns the kinds of resources that a plan has for logs."""
    kinds = {"CloudFront real-time log configuration", "log subscription", "bucket notification", "web ACL logging"}
    return kinds & {step["kind"] for step in plan["steps"]}


@pytest.mark.usefixtures("stage")
def test_log_groups_are_remembered_and_add_up(run: Run, world: World) -> None:
    world.account.client("logs").create_log_group(logGroupName="/api/access")
    assert run("setup", "--yes", "--log-group", ARN).exit_code == 0
    again = planned(run)
    assert {step["action"] for step in again["steps"]} == {"exists"}
    more = planned(run, "--log-group", "/api/access", "--log-group", GROUP)
    names = [(step["action"], step["name"]) for step in more["steps"] if step["kind"] == "log subscription"]
    assert names == [("exists", f"{GROUP}/sluice-prod"), ("create", "/api/access/sluice-prod")]


@pytest.mark.usefixtures("stage")
def test_a_new_stage_gets_no_log_that_nobody_asked_for(run: Run, world: World) -> None:
    world.account.client("s3").create_bucket(Bucket="site-logs")
    id_ = world.distribution()
    world.web_acl()
    real_time = "CloudFront real-time log configuration"
    assert delivered(planned(run, "--log-group", GROUP, "--web-acl", "edge")) == {"log subscription"}
    assert delivered(planned(run, "--bucket", "site-logs")) == {"bucket notification"}
    assert delivered(planned(run, "--log-group", GROUP, "--distribution", id_)) == {"log subscription", real_time}
    assert delivered(planned(run)) == {real_time}
    chosen = planned(run, "--log-group", GROUP, "--web-acl", "edge", "--source", "waf")
    assert delivered(chosen) == {"log subscription", "web ACL logging"}


@pytest.mark.usefixtures("stage")
def test_the_log_of_a_distribution_is_added_later(run: Run, world: World) -> None:
    assert run("setup", "--yes", "--log-group", GROUP).exit_code == 0
    later = planned(run, "--distribution", world.distribution())
    assert delivered(later) == {"log subscription", "CloudFront real-time log configuration"}


@pytest.mark.usefixtures("stage")
def test_the_estimate_is_for_the_log_that_is_counted(run: Run, world: World) -> None:
    world.account.client("s3").create_bucket(Bucket="site-logs")

    def items(*options: str) -> list[str]:
        return [cost["item"] for cost in planned(run, *options)["cost"]["items"]]

    assert items("--log-group", GROUP)[0] == "CloudWatch Logs, log lines"
    in_s3 = items("--bucket", "site-logs")
    assert not [item for item in in_s3 if "lines" in item]
    assert "Logs in S3: queue, reads, computing, tallies" in in_s3


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        (ARN.replace("us-east-1", "eu-west-1"), "is not in account 123456789012, us-east-1"),
        ("/no/such", "log subscription /no/such/sluice-prod is not possible: log group /no/such does not exist"),
        ("no group", "use its name"),
    ],
)
def test_setup_says_why_it_refuses_a_group_and_changes_nothing(run: Run, world: World, group: str, reason: str) -> None:
    done = run("setup", "--yes", "--log-group", group)
    assert done.exit_code == 1
    assert reason in " ".join(done.stderr.split())
    assert world.account.client("kinesis").list_streams()["StreamNames"] == []


@pytest.mark.usefixtures("stage")
def test_setup_subscribes_the_stream_of_a_stack(run: Run, world: World) -> None:
    text = '{"scope":"CLOUDFRONT","sources":["cloudfront"],"shards":0,"stack":"edge-limits"}'
    world.account.client("ssm").put_parameter(
        Name="/sluice/prod/setup", Type="String", Value=text, Tags=[{"Key": "sluice:stage", "Value": "prod"}]
    )
    world.account.client("dynamodb").create_table(
        TableName="sluice-prod-state",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("kind", "id")],
        KeySchema=[{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "id", "KeyType": "RANGE"}],
    )
    kinds = [step["kind"] for step in planned(run, "--log-group", GROUP)["steps"]]
    assert kinds[-1] == "log subscription"
    assert "IAM role" not in kinds
