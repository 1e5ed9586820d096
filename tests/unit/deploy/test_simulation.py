"""AWS at its worst: every call fails once, or reads lag behind writes. Each command still ends as it would without."""

from typing import Any

import pytest
from click.testing import Result

from sluice.deploy.account import AwsError
from sluice.deploy.apply import survey
from sluice.deploy.deployed import lambda_name, look_up
from sluice.deploy.packaging import package
from sluice.deploy.plan import StepAction, to_set_up
from sluice.deploy.policies import deployed_functions
from sluice.deploy.resources.api_throttle import ApiThrottle
from sluice.deploy.resources.event_sources import configured_sources
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.stage import Stage
from tests.support.deploy.account import REGION, THEIRS, Run, World
from tests.support.deploy.contents import contents
from tests.support.deploy.front import run_no_functions
from tests.support.deploy.functions import deploy_functions
from tests.support.deploy.mishaps import REFUSED, Interrupted, outlasted

ALARMS = {"alarms": True, "alarm_emails": ("ops@example.com",)}


@pytest.fixture
def site(deployable: World) -> dict[str, Any]:
    """The choices of a stage with every kind of resource, and what they name in the account."""
    client = deployable.account.client
    client("s3").create_bucket(Bucket="site-logs")
    client("logs").create_log_group(logGroupName="/site/access")
    return {
        "sources": ("cloudfront", "waf", "cloudfront-standard"),
        "web_acls": (deployable.web_acl(rules=[THEIRS]),),
        "distributions": (deployable.distribution(),),
        "log_groups": ("/site/access",),
        "buckets": ("site-logs/",),
        "notices": ("email:ops@example.com",),
        "settings": {"EVENT_BUS": "default"},
        "own_web_acl": True,
    }


def raised(result: Result) -> None:
    """Raises what stopped a command. Its errors are messages: nothing else may reach an operator."""
    run_no_functions(REGION)
    if isinstance(result.exception, Interrupted):
        raise result.exception
    if result.exit_code != 0:
        assert isinstance(result.exception, SystemExit), result.exception
        raise AwsError(result.stderr)


def pending(world: World, stage: Stage) -> set[str]:
    """Returns the kinds of resources, of setup and of deploy, that are not yet as they should be."""
    of_deploy = survey([*configured_sources(stage), ApiThrottle(stage, stage.prefix)], world.account)
    steps = [*world.plan(stage), *to_set_up(of_deploy)]
    return {step.resource.kind for step in steps if step.action is not StepAction.KEEP}


def deployed(world: World, stage: Stage) -> dict[str, Any]:
    """Returns what Chalice creates, as the account lists it, by kind."""
    held, lambda_ = contents(world), world.account.client("lambda")
    names = sorted(each["FunctionName"] for each in held["functions"])
    return {
        "functions": {
            name: lambda_.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
            for name in names
        },
        "event sources": sorted(
            (each["FunctionArn"], each["EventSourceArn"].partition("/stream/")[0]) for each in held["event sources"]
        ),
        "roles": sorted(each["RoleName"] for each in held["roles"]),
        "schedules": [each["Name"] for each in held["schedules"]],
        "apis": [each["name"] for each in held["apis"]],
        "record": world.project.chalice.joinpath("deployed", f"{stage.name}.json").exists(),
    }


def test_setup_and_teardown_of_which_every_call_fails_once(deployable: World, site: dict[str, Any]) -> None:
    """Of the 21 alarms, which are written in one loop, eight fail."""
    world, before = deployable, contents(deployable)
    stage = world.stage(**site, **ALARMS)
    assert outlasted(world.front, lambda: world.set_up(stage), alike=8) > 80
    assert {step.action for step in world.plan(stage)} == {StepAction.KEEP}
    assert outlasted(world.front, lambda: world.tear_down(stage), alike=8) > 50
    assert contents(world) == before


def of_an_earlier_version(world: World, stage: Stage) -> None:
    """Makes a stage what version 0.2 left: no stream of tallies, so no evaluate, and nothing encrypted or protected."""
    client, evaluate = world.account.client, stage.function("evaluate")
    (mapping,) = look_up(stage, world.account).event_sources["evaluate"]
    client("lambda").delete_event_source_mapping(UUID=mapping["UUID"])
    client("lambda").delete_function(FunctionName=evaluate)
    client("iam").delete_role_policy(RoleName=evaluate, PolicyName=evaluate)
    client("iam").delete_role(RoleName=evaluate)
    world.replace_tally_table(stage)
    client("dynamodb").update_table(TableName=stage.state_table, DeletionProtectionEnabled=False)
    client("kinesis").stop_stream_encryption(
        StreamName=stage.log_stream, EncryptionType="KMS", KeyId="alias/aws/kinesis"
    )


def test_deploy_upgrade_and_teardown_of_which_every_call_fails_once(deployable: World) -> None:
    """In an upgrade, one function is changed like another, so that two of each call fail."""
    world, before = deployable, contents(deployable)
    stage = world.stage()
    world.set_up(stage)
    assert outlasted(world.front, lambda: deploy_functions(world, stage)) > 70
    complete = deployed(world, stage)
    assert complete["functions"].keys() == {lambda_name(stage, name) for name in deployed_functions(stage)}
    assert [len(complete[kind]) for kind in ("roles", "event sources", "schedules", "apis")] == [8, 4, 1, 1]
    assert pending(world, stage) == set()
    of_an_earlier_version(world, stage)
    assert {"DynamoDB table", "Kinesis stream", "event source"} <= pending(world, stage)
    assert outlasted(world.front, lambda: world.set_up(stage), alike=2) > 20
    assert outlasted(world.front, lambda: deploy_functions(world, stage), alike=2) > 30
    assert pending(world, stage) == set()
    assert deployed(world, stage) == complete
    assert outlasted(world.front, lambda: world.tear_down(stage)) > 50
    assert contents(world) == before


def test_an_upgrade_waits_for_what_reads_do_not_show_yet(deployable: World) -> None:
    world = deployable
    stage = world.stage()
    world.set_up(stage)
    deploy_functions(world, stage)
    complete = deployed(world, stage)
    of_an_earlier_version(world, stage)
    with world.front.late_reads(3):
        world.set_up(stage)
        deploy_functions(world, stage)
    assert pending(world, stage) == set()
    assert deployed(world, stage) == complete


@pytest.mark.parametrize("late", [False, True], ids=["failing", "late"])
def test_a_detach_takes_everything_back_and_forgets_it_last(
    deployable: World, site: dict[str, Any], run: Run, late: bool
) -> None:
    world, before = deployable, contents(deployable)
    world.set_up(world.stage(**site))

    (distribution,) = site["distributions"]
    named = (
        "--web-acl",
        "edge",
        "--distribution",
        distribution,
        "--log-group",
        "/site/access",
        "--bucket",
        "site-logs",
    )

    def detach() -> None:
        result = run("detach", *named, "--yes")
        # A run that fails after its last write has forgotten them already.
        if "is not attached to the stage" not in result.stderr:
            raised(result)

    if late:
        with world.front.late_reads(3):
            detach()
    else:
        assert outlasted(world.front, detach) > 15
    after = contents(world)
    for kind in ("distributions", "notifications", "deliveries", "delivery sources"):
        assert after.get(kind) == before.get(kind)
    assert dict(after["web acls"])["edge"] == dict(before["web acls"])["edge"]
    assert "/site/access" not in {each["logGroupName"] for each in after["filters"]}
    left = remembered(world.account, "prod")
    assert left is not None
    assert (left.web_acls, left.distributions, left.log_groups, left.buckets) == ((), (), (), ())


CHANGED = ("--parameter", "RetryAfter=30")


@pytest.fixture
def _packaged(deployable: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds the package of the stack once, because that takes most of the time."""
    built = package(deployable.account, deployable.project, lambda line: None, {})
    monkeypatch.setattr("sluice.deploy.packaging.package", lambda *_: built)


@pytest.mark.usefixtures("_packaged")
@pytest.mark.parametrize("late", [False, True], ids=["failing", "late"])
def test_a_stack_is_created_updated_and_deleted(deployable: World, run: Run, late: bool) -> None:
    world, before = deployable, contents(deployable)
    formation = world.front.cloud_formation

    def repeated(*words: str) -> None:
        if late:
            with world.front.late_reads(3):
                raised(run(*words, "--yes"))
        else:
            assert outlasted(world.front, lambda: raised(run(*words, "--yes"))) > 5

    def delete() -> None:
        result = run("stack delete", "--yes")
        if "nothing to remove" not in result.stderr:
            raised(result)

    repeated("stack deploy")
    stack = formation.stack("sluice-prod")
    assert stack is not None
    assert (stack.status, stack.parameters["RetryAfter"]) == ("CREATE_COMPLETE", "60")
    repeated("stack deploy", *CHANGED)
    assert (stack.status, stack.parameters["RetryAfter"]) == ("UPDATE_COMPLETE", "30")
    assert formation.change_sets == {}
    if late:
        with world.front.late_reads(3):
            delete()
    else:
        assert outlasted(world.front, delete) > 5
    assert formation.stack("sluice-prod") is None
    assert contents(world) == before


@pytest.mark.usefixtures("_packaged")
def test_a_stack_of_which_only_a_change_set_exists_is_deleted(deployable: World, run: Run) -> None:
    world, before = deployable, contents(deployable)
    world.front.refusals["cloudformation:DescribeChangeSet"] = [REFUSED]
    assert run("stack deploy", "--yes").exit_code == 1
    raised(run("stack delete", "--yes"))
    assert world.front.cloud_formation.stack("sluice-prod") is None
    assert contents(world) == before
