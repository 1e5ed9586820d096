"""Deployment of the functions: repeatable at any call, whatever the record says, without changing what exists."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from moto.awslambda.models import lambda_backends

from sluice.deploy.account import AwsError
from sluice.deploy.api_policy import api_policy
from sluice.deploy.apply import survey
from sluice.deploy.chalice_deployer import run_chalice
from sluice.deploy.chalice_record import record_file
from sluice.deploy.deployed import look_up
from sluice.deploy.plan import StepAction, to_set_up
from sluice.deploy.policies import deployed_functions
from sluice.deploy.resource import Existing
from sluice.deploy.resources.api_access import ApiAccess, own_policy
from sluice.deploy.resources.api_throttle import ApiThrottle
from sluice.deploy.resources.event_sources import configured_sources
from sluice.deploy.resources.leftovers import ChaliceDeployment
from sluice.deploy.stage import Stage
from tests.support.deploy.account import REGION, ROOT, World
from tests.support.deploy.front import run_no_functions
from tests.support.deploy.functions import deploy_functions

BUCKET = "site-logs"
FAILURES = {
    "interrupted": None,
    "refused": (403, "AccessDeniedException", "not authorized"),
    "throttled": (429, "TooManyRequestsException", "Rate exceeded"),
}


@pytest.fixture
def stage(deployable: World) -> Stage:
    """A stage with all functions, which is set up."""
    deployable.account.client("s3").create_bucket(Bucket=BUCKET)
    stage = deployable.stage(buckets=(f"{BUCKET}/",))
    deployable.set_up(stage)
    return stage


def everything(world: World) -> dict[str, Any]:
    """Returns what Chalice creates, as the account lists it, by kind."""
    client = world.account.client
    functions = client("lambda").list_functions()["Functions"]
    sources = client("lambda").list_event_source_mappings()["EventSourceMappings"]
    roles = {
        role["RoleName"]: client("iam").list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        for role in client("iam").list_roles()["Roles"]
    }
    concurrency = {
        each["FunctionName"]: client("lambda")
        .get_function_concurrency(FunctionName=each["FunctionName"])
        .get("ReservedConcurrentExecutions")
        for each in functions
    }
    return {
        "functions": {each["FunctionName"]: each["Handler"] for each in functions},
        "concurrency": concurrency,
        "event sources": sorted(
            (each["FunctionArn"].rpartition(":")[2], each["EventSourceArn"], each["BatchSize"]) for each in sources
        ),
        "roles": roles,
        "schedules": [rule["Name"] for rule in client("events").list_rules()["Rules"]],
        "apis": [api["name"] for api in client("apigateway").get_rest_apis()["items"]],
        "served": [
            each["stageName"]
            for api in client("apigateway").get_rest_apis()["items"]
            for each in client("apigateway").get_stages(restApiId=api["id"])["item"]
        ],
    }


def identities(world: World, stage: Stage) -> tuple[list[str], list[str]]:
    """Returns the ids of the event sources and APIs, which a second deployment must keep."""
    deployed = look_up(stage, world.account)
    return sorted(each["UUID"] for sources in deployed.event_sources.values() for each in sources), [*deployed.apis]


def actions(world: World, stage: Stage) -> set[StepAction]:
    return {step.action for step in to_set_up(survey(configured_sources(stage), world.account))}


def test_a_first_deployment_creates_everything_and_a_second_one_keeps_it(deployable: World, stage: Stage) -> None:
    assert not look_up(stage, deployable.account).anything
    deploy_functions(deployable, stage)
    first, ids = everything(deployable), identities(deployable, stage)
    assert len(first["functions"]) == len(deployed_functions(stage)) == 8
    assert len(first["event sources"]) == 5
    assert first["apis"] == ["sluice"]
    assert actions(deployable, stage) == {StepAction.KEEP}
    deploy_functions(deployable, stage)
    assert everything(deployable) == first
    assert identities(deployable, stage) == ids


@pytest.mark.parametrize("record", [None, "", "[]", '{"resources": [], "schema_version": "2.0", "backend": "api"}'])
def test_a_lost_or_empty_record_is_rebuilt_and_nothing_is_created_twice(
    deployable: World, stage: Stage, record: str | None
) -> None:
    deploy_functions(deployable, stage)
    file = record_file(deployable.project, stage.name)
    first, ids, written = everything(deployable), identities(deployable, stage), json.loads(file.read_text())
    file.unlink()
    if record is not None:
        file.write_text(record)
    deploy_functions(deployable, stage)
    assert everything(deployable) == first
    assert identities(deployable, stage) == ids
    assert json.loads(file.read_text()) == written


def test_the_record_is_what_chalice_itself_would_have_written(
    deployable: World, stage: Stage, monkeypatch: Any
) -> None:
    recorded: dict[str, Any] = {}
    monkeypatch.setattr(
        "chalice.deploy.deployer.NoopResultsRecorder.record_results",
        lambda self, results, name, directory: recorded.update(results),
    )
    deploy_functions(deployable, stage)
    written = json.loads(record_file(deployable.project, stage.name).read_text())

    def by_name(record: dict[str, Any]) -> dict[str, Any]:
        return {entry["name"]: entry for entry in record["resources"]}

    assert by_name(written) == by_name(recorded)
    assert {key: written[key] for key in ("schema_version", "backend")} == {
        key: recorded[key] for key in ("schema_version", "backend")
    }


def clear(world: World, stage: Stage) -> None:
    """Removes what Chalice has created, as teardown does, and keeps the rest."""
    resource = ChaliceDeployment(stage, stage.prefix, world.project)
    existing = resource.find(world.account)
    assert existing is not None
    resource.remove(world.account, existing)
    assert not look_up(stage, world.account).anything


def test_lambda_that_does_not_know_a_new_role_yet_is_asked_again(deployable: World, stage: Stage) -> None:
    late = "Cannot access stream arn:aws:kinesis:... Please ensure the role can perform the GetRecords, ... API calls"
    unknown = "The role defined for the function cannot be assumed by Lambda."
    queue = "The function execution role does not have permissions to call SendMessage on the queue"
    deployable.front.refusals = {
        "lambda:CreateEventSourceMapping": [(400, "InvalidParameterValueException", late)] * 3,
        "lambda:CreateFunction": [(400, "InvalidParameterValueException", unknown)] * 3,
        "lambda:UpdateEventSourceMapping": [(400, "InvalidParameterValueException", queue)] * 3,
    }
    deploy_functions(deployable, stage)
    assert not any(deployable.front.refusals.values())
    assert actions(deployable, stage) == {StepAction.KEEP}


def test_a_role_that_stays_unknown_fails_with_the_reason(deployable: World, stage: Stage) -> None:
    late = "Cannot access stream arn:aws:kinesis:..."
    deployable.front.refusals["lambda:CreateEventSourceMapping"] = [(400, "InvalidParameterValueException", late)] * 99
    with pytest.raises(AwsError, match=r"could not deploy the functions: .*Cannot access stream"):
        deploy_functions(deployable, stage)
    written = json.loads(record_file(deployable.project, stage.name).read_text())
    assert {entry["name"] for entry in written["resources"]} >= {"ingest", "ingest_role"}


def test_chalices_own_deployments_leave_the_settings_of_event_sources_alone(deployable: World, stage: Stage) -> None:
    deploy_functions(deployable, stage)
    run_chalice(deployable.account, deployable.project, stage.name, reserve=True, report=lambda line: None)
    run_no_functions(REGION)
    assert actions(deployable, stage) == {StepAction.KEEP}


def test_an_account_with_few_executions_reserves_none(deployable: World, stage: Stage) -> None:
    deploy_functions(deployable, stage)
    assert set(everything(deployable)["concurrency"].values()) > {20, 1}
    deploy_functions(deployable, stage, reserve=False)
    assert set(everything(deployable)["concurrency"].values()) == {None}


def test_the_event_source_of_a_former_table_is_removed(deployable: World, stage: Stage) -> None:
    deploy_functions(deployable, stage)
    client = deployable.account.client("lambda")
    (mapping,) = look_up(stage, deployable.account).event_sources["evaluate"]
    former = mapping["EventSourceArn"].rpartition("/")[0] + "/2020-01-01T00:00:00.000"
    lambda_backends["123456789012"][REGION]._event_source_mappings[mapping["UUID"]].event_source_arn = former
    deploy_functions(deployable, stage)
    (now,) = look_up(stage, deployable.account).event_sources["evaluate"]
    assert now["EventSourceArn"] == mapping["EventSourceArn"]
    assert now["UUID"] != mapping["UUID"]
    assert former not in str(client.list_event_source_mappings()["EventSourceMappings"])


def test_a_function_that_the_stage_needs_no_longer_is_removed(deployable: World, stage: Stage) -> None:
    deploy_functions(deployable, stage)
    without = replace(stage, choices=replace(stage.choices, buckets=()))
    deployable.set_up(without)
    deploy_functions(deployable, without)
    left = look_up(without, deployable.account)
    assert "import_objects" not in {*left.functions, *left.roles, *left.event_sources}


def test_the_api_of_another_stage_is_left_alone(deployable: World, stage: Stage) -> None:
    deploy_functions(deployable, stage)
    staging = replace(stage, name="staging", choices=replace(stage.choices, buckets=()))
    deployable.set_up(staging)
    deploy_functions(deployable, staging)
    both = identities(deployable, stage)[1] + identities(deployable, staging)[1]
    assert len(set(both)) == 2
    clear(deployable, staging)
    assert identities(deployable, stage)[1] == both[:1]


def test_a_failed_first_deployment_of_chalice_itself_is_adopted(deployable: World, stage: Stage) -> None:
    deployable.front.refusals["apigateway:CreateDeployment"] = [(403, "AccessDeniedException", "no")]
    with pytest.raises(AwsError, match="CreateDeployment"):
        run_chalice(deployable.account, deployable.project, stage.name, reserve=True, report=lambda line: None)
    run_no_functions(REGION)
    assert not record_file(deployable.project, stage.name).exists()
    ids = identities(deployable, stage)
    assert len(ids[1]) == 1
    deploy_functions(deployable, stage)
    assert identities(deployable, stage) == ids


def test_the_api_gets_the_throttle_that_a_stack_has_and_keeps_that_of_an_operator(
    deployable: World, stage: Stage
) -> None:
    def limits() -> tuple[float, int]:
        (api,) = look_up(stage, deployable.account).apis
        settings = client.get_stage(restApiId=api, stageName="api")["methodSettings"]["*/*"]
        return settings["throttlingRateLimit"], settings["throttlingBurstLimit"]

    client = deployable.account.client("apigateway")
    deploy_functions(deployable, stage)
    parameters = yaml.safe_load((ROOT / ".chalice" / "resources.yaml").read_text())["Parameters"]
    assert limits() == (parameters["ApiRequestsPerSecond"]["Default"], parameters["ApiBurst"]["Default"])
    (api,) = look_up(stage, deployable.account).apis
    higher = [{"op": "replace", "path": "/*/*/throttling/rateLimit", "value": "50"}]
    client.update_stage(restApiId=api, stageName="api", patchOperations=higher)
    existing = ApiThrottle(stage, "api").find(deployable.account)
    assert existing is not None
    assert existing.differences == []


def test_the_api_accepts_calls_from_the_chosen_networks_alone_and_from_everywhere_again(
    deployable: World, stage: Stage
) -> None:
    def policy() -> dict[str, Any] | None:
        (api,) = look_up(stage, deployable.account).apis
        found = client.get_rest_api(restApiId=api).get("policy")
        return json.loads(found) if found else None

    client = deployable.account.client("apigateway")
    deploy_functions(deployable, stage)
    assert policy() is None
    networks = ["8.8.8.0/24", "2001:4860::/32"]
    restricted = replace(stage, choices=replace(stage.choices, settings={"API_NETWORKS": ",".join(networks)}))
    deploy_functions(deployable, restricted)
    assert policy() == api_policy(networks)
    written = deployable.project.stage("prod") or {}
    # Chalice's own deployments set the same.
    assert json.loads((deployable.project.chalice / written["api_gateway_policy_file"]).read_text()) == policy()
    deploy_functions(deployable, stage)
    # With ADMIN_AUTH=iam, a statement that allows calls would open the API.
    assert policy() is None
    assert "api_gateway_policy_file" not in (deployable.project.stage("prod") or {})
    assert not (deployable.project.chalice / written["api_gateway_policy_file"]).exists()


OWN = {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}}


def policy_of_the_api(world: World, stage: Stage, new: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Returns the policy of the stage's API, after ``new`` has been set by hand; {} removes it."""
    client, (api,) = world.account.client("apigateway"), look_up(stage, world.account).apis
    if new is not None:
        operations = [{"op": "replace", "path": "/policy", "value": json.dumps(new) if new else ""}]
        client.update_rest_api(restApiId=api, patchOperations=operations)
    found = client.get_rest_api(restApiId=api).get("policy")
    return json.loads(found) if found else None


def test_an_operators_own_policy_of_the_api_is_kept(deployable: World, stage: Stage) -> None:
    def access() -> tuple[ApiAccess, Existing]:
        resource = ApiAccess(stage, stage.prefix, own=own)
        existing = resource.find(deployable.account)
        assert existing is not None
        return resource, existing

    deploy_functions(deployable, stage)
    policy_of_the_api(deployable, stage, OWN)
    own = own_policy(stage, deployable.account)
    assert access()[1].differences == []
    # Chalice's import of the API removes the policy from it, which moto does not.
    policy_of_the_api(deployable, stage, {})
    resource, existing = access()
    assert existing.differences == ["by your own policy, as before"]
    resource.change(deployable.account, existing)
    assert policy_of_the_api(deployable, stage) == OWN
    # A policy in Chalice's configuration is kept whatever its form. Chalice sets it, except in moto.
    config, chosen = deployable.project.config(), api_policy(["8.8.8.0/24"])
    (deployable.project.chalice / "own.json").write_text(json.dumps(chosen))
    deployable.project.config_file.write_text(json.dumps({**config, "api_gateway_policy_file": "own.json"}))
    policy_of_the_api(deployable, stage, chosen)
    deploy_functions(deployable, stage)
    assert policy_of_the_api(deployable, stage) == chosen
