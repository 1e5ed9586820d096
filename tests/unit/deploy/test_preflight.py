"""Checks before a deployment, as ``sluice deploy`` and ``sluice setup`` show them."""

import json

import pytest

from sluice.deploy.chalice_record import record_file
from sluice.deploy.deployed import look_up
from sluice.deploy.preflight import reservations
from tests.support.deploy.account import REGION, Run, World
from tests.support.deploy.front import run_no_functions
from tests.support.deploy.functions import deploy_functions

RESERVED = 37
"""Concurrent executions that the functions reserve by default."""


def test_a_stage_that_was_not_set_up_is_refused_with_the_next_step(run: Run, deployable: World) -> None:
    done = run("deploy")
    assert done.exit_code == 1
    assert "create it first: sluice setup --stage prod --region us-east-1" in done.stderr


def test_a_stage_with_a_missing_part_is_refused_before_anything_is_created(run: Run, deployable: World) -> None:
    run("setup", "--yes")
    deployable.account.client("dynamodb").update_table(TableName="sluice-prod-state", DeletionProtectionEnabled=False)
    deployable.account.client("sqs").delete_queue(
        QueueUrl=deployable.account.client("sqs").get_queue_url(QueueName="sluice-prod-dead-letters")["QueueUrl"]
    )
    done = run("deploy", "--yes")
    assert done.exit_code == 1
    assert "SQS queue sluice-prod-dead-letters" in done.stderr
    assert "First run: sluice setup --stage prod" in done.stderr
    assert not look_up(deployable.stage(), deployable.account).anything


@pytest.mark.parametrize(("runtime", "noted"), [("python3.11", True), ("python3.13", False)])
def test_the_first_deployment_names_an_old_runtime(
    run: Run, deployable: World, monkeypatch: pytest.MonkeyPatch, runtime: str, noted: bool
) -> None:
    monkeypatch.setattr("sluice.deploy.preflight.runtime_of_chalice", lambda: runtime)
    run("setup", "--yes")
    notes = json.loads(run("deploy", "--dry-run", "--json").stdout)["notes"]
    assert [note.startswith("the functions will run on python3.11") for note in notes] == [True] * noted


def test_a_function_of_another_owner_is_refused(run: Run, deployable: World) -> None:
    run("setup", "--yes")
    role = deployable.account.client("iam").create_role(RoleName="theirs", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    deployable.account.client("lambda").create_function(
        FunctionName="sluice-prod-ingest",
        Role=role,
        Handler="app.ingest",
        Runtime="python3.13",
        Code={"ZipFile": b"PK\x05\x06" + bytes(18)},
    )
    done = run("deploy", "--yes")
    assert done.exit_code == 1
    assert "function sluice-prod-ingest exists, and is not ingest of stage prod" in done.stderr


def test_a_dry_run_shows_the_parts_and_changes_nothing(run: Run, deployable: World) -> None:
    run("setup", "--yes")
    planned = json.loads(run("deploy", "--dry-run", "--json").stdout)
    assert {step["action"] for step in planned["steps"]} == {"create"}
    assert [step["kind"] for step in planned["steps"]].count("Lambda function") == 7
    assert (planned["applied"], planned["url"]) == (False, "")
    assert not look_up(deployable.stage(), deployable.account).anything


def test_the_command_deploys_after_a_question_and_shows_url_and_undo(run: Run, deployable: World) -> None:
    run("setup", "--yes")
    assert run("deploy", typed="n\n").exit_code == 1
    assert not look_up(deployable.stage(), deployable.account).anything
    done = run("deploy", typed="y\n")
    run_no_functions(REGION)
    assert done.exit_code == 0, done.output + done.stderr
    deployed = look_up(deployable.stage(), deployable.account)
    assert f"Admin API:  https://{deployed.apis[0]}.execute-api.us-east-1.amazonaws.com/api/" in done.output
    assert "Undo:  sluice teardown --stage prod --region us-east-1" in done.output
    again = run("deploy", "--dry-run").output
    assert "create" not in again
    assert "Note:" not in again


def test_what_disagrees_with_chalices_record_is_noted(run: Run, deployable: World) -> None:
    run("setup", "--yes")
    stage = deployable.stage()
    deploy_functions(deployable, stage)
    file = record_file(deployable.project, "prod")
    kept = file.read_text()
    file.unlink()
    notes = json.loads(run("deploy", "--dry-run", "--json").stdout)["notes"]
    assert [note.partition("exist that")[2] for note in notes] == [
        " Chalice's record does not name, such as api_handler: they are adopted"
    ]
    file.write_text(kept)
    (mapping,) = look_up(stage, deployable.account).event_sources["enforce"]
    deployable.account.client("lambda").delete_event_source_mapping(UUID=mapping["UUID"])
    (note,) = json.loads(run("deploy", "--dry-run", "--json").stdout)["notes"]
    assert "such as enforce-dynamodb-event-source: they are created" in note


@pytest.mark.parametrize(("executions", "fit"), [(10, False), (50, False), (135, False), (136, False), (137, True)])
def test_small_accounts_reserve_nothing_and_deploy(run: Run, deployable: World, executions: int, *, fit: bool) -> None:
    deployable.front.concurrency = executions
    planned = run("setup", "--dry-run").output
    assert ("nothing is reserved" in planned) is not fit
    run("setup", "--yes")
    stage = deployable.stage()
    found = reservations(stage, deployable.account, deployable.project)
    assert (found.needed, found.available, found.fit) == (RESERVED, executions, fit)
    done = run("deploy", "--yes")
    run_no_functions(REGION)
    assert done.exit_code == 0, done.output + done.stderr
    assert ("Note: the account has" in done.output) is not fit
    client = deployable.account.client("lambda")
    reserved = [
        client.get_function_concurrency(FunctionName=function["FunctionName"]).get("ReservedConcurrentExecutions", 0)
        for function in look_up(stage, deployable.account).functions.values()
    ]
    assert sum(reserved) == (RESERVED if fit else 0)


def test_what_the_functions_have_reserved_already_counts_as_available(deployable: World) -> None:
    stage = deployable.stage()
    deployable.set_up(stage)
    deploy_functions(deployable, stage)
    deployable.front.concurrency = 1000 - RESERVED
    assert reservations(stage, deployable.account, deployable.project).available == 1000
    # A stack gives the function of the API another name.
    client = deployable.account.client("lambda")
    former = client.get_function(FunctionName="sluice-prod")["Configuration"]
    client.delete_function(FunctionName="sluice-prod")
    kept = {key: former[key] for key in ("Role", "Handler", "Runtime", "Architectures")}
    client.create_function(FunctionName="sluice-prod-api_handler", Code={"ZipFile": b"PK\x05\x06" + bytes(18)}, **kept)
    assert reservations(stage, deployable.account, deployable.project).own == RESERVED - 5
    client.put_function_concurrency(FunctionName="sluice-prod-api_handler", ReservedConcurrentExecutions=5)
    assert reservations(stage, deployable.account, deployable.project).own == RESERVED
