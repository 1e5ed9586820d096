"""``sluice stack``: ends in a working stack or in the state before, from wherever it was interrupted."""

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sluice.cli import main
from sluice.deploy.account import AwsError
from sluice.deploy.chalice_deployer import Messages
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.rule_group import visibility
from sluice.deploy.stage import STACK_CHOICES, STACK_SETTINGS
from tests.support.deploy.account import THEIRS, Run, World
from tests.support.deploy.cloud_formation import FakeStack
from tests.support.deploy.mishaps import Interrupted

FAILURES = {"interrupted": None, "refused": (403, "AccessDenied", "not authorized")}
BUCKET = "sluice-prod-123456789012-us-east-1"


@pytest.fixture
def deployed(deployable: World, run: Run) -> World:
    """An account with the stack of stage prod."""
    done = run("stack deploy", "--yes")
    assert done.exit_code == 0, done.output
    return deployable


def the_stack(world: World) -> FakeStack | None:
    return world.front.cloud_formation.stack("sluice-prod")


def parameters(world: World) -> dict[str, str]:
    stack = the_stack(world)
    assert stack is not None
    return stack.parameters


def everything(world: World) -> dict[str, Any]:
    """Returns what exists of the stack, its bucket and the two resources that moto knows."""
    client, stack = world.account.client, the_stack(world)
    buckets = [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]]
    return {
        "stack": stack and (stack.status.replace("UPDATE", "CREATE"), sorted(stack.existing), stack.parameters),
        "buckets": buckets,
        "objects": [len(client("s3").list_objects_v2(Bucket=bucket).get("Contents", ())) for bucket in buckets],
        "tables": client("dynamodb").list_tables()["TableNames"],
        "parameters": sorted(each["Name"] for each in client("ssm").describe_parameters()["Parameters"]),
    }


def test_one_command_creates_the_stack_and_a_second_one_has_nothing_to_do(deployable: World, run: Run) -> None:
    refused = run("stack deploy", typed="n\n")
    assert refused.exit_code == 1
    assert everything(deployable) == {"stack": None, "buckets": [], "objects": [], "tables": [], "parameters": []}
    done = run("stack deploy", "--yes", "--parameter", "AlarmEmail=ops@example.com")
    assert done.exit_code == 0, done.output
    assert "CREATE_COMPLETE RuleGroup" in done.output
    assert "Next:  sluice setup --stage prod --region us-east-1" in done.output
    assert "Undo:  sluice stack delete --stage prod --region us-east-1" in done.output
    assert parameters(deployable)["AlarmEmail"] == "ops@example.com"
    assert everything(deployable)["objects"] == [2]
    again = run("stack deploy")  # asks nothing
    assert again.exit_code == 0, again.output
    assert deployable.front.cloud_formation.executed == 1
    assert everything(deployable)["objects"] == [2]


def test_a_dry_run_says_what_would_change_and_changes_nothing(deployable: World, run: Run) -> None:
    planned = json.loads(run("stack deploy", "--dry-run", "--json").stdout)
    assert not planned["applied"]
    assert [(step["action"], step["kind"], step["name"]) for step in planned["steps"]] == [
        ("create", "S3 bucket", BUCKET),
        ("create", "CloudFormation stack", "sluice-prod"),
    ]
    assert planned["undo"] == "sluice stack delete --stage prod --region us-east-1"
    assert everything(deployable)["stack"] is None
    assert everything(deployable)["buckets"] == []


def test_an_update_keeps_the_other_parameters_and_names_its_undo(deployed: World, run: Run) -> None:
    assert run("stack deploy", "--yes", "--parameter", "RetryAfter=30").exit_code == 0
    done = json.loads(run("stack deploy", "--yes", "--json", "--parameter", "SlowLimit=20").stdout)
    assert parameters(deployed)["RetryAfter"] == "30"
    assert parameters(deployed)["SlowLimit"] == "20"
    assert [(step["action"], step["detail"]) for step in done["steps"]] == [
        ("exists", ""),
        ("change", "SlowLimit: 20 instead of 10"),
    ]
    assert done["outputs"] == {"EndpointURL": "https://api.example/api/"}
    assert done["undo"] == "sluice stack deploy --stage prod --region us-east-1 --parameter SlowLimit=10"


def test_other_functions_are_an_update(deployed: World, run: Run) -> None:
    with zipfile.ZipFile(deployed.project.directory / "package.zip", "w") as archive:
        archive.writestr("app.py", "import chalice")
    done = json.loads(run("stack deploy", "--yes", "--json").stdout)
    assert done["steps"][1]["detail"] == "functions"
    assert json.loads(run("stack deploy", "--dry-run", "--json").stdout)["steps"][1]["action"] == "exists"


@pytest.mark.parametrize("resource", ["RuleGroup", "Budget", "UsagePlan"])
def test_a_creation_that_fails_names_the_resource_and_leaves_no_stack(
    deployable: World, run: Run, resource: str
) -> None:
    """With the usage plan, the last of these, the protected state table exists already, at which a rollback stops."""
    deployable.front.cloud_formation.reasons[resource] = "Rate exceeded"
    done = run("stack deploy", "--yes")
    assert done.exit_code == 1
    assert f"could not be created: {resource} (" in done.stderr
    assert "): Rate exceeded" in done.stderr
    assert "Dashboard (" not in done.stderr
    assert "Nothing is left of it" in done.stderr
    left = everything(deployable)
    assert (left["stack"], left["tables"], left["parameters"]) == (None, [], [])
    assert run("stack deploy", "--yes").exit_code == 0
    assert everything(deployable)["stack"] is not None


def test_an_update_that_fails_leaves_the_stack_as_it_was(deployed: World, run: Run) -> None:
    before = everything(deployed)
    deployed.front.cloud_formation.reasons["RuleGroup"] = "WAFUnavailableEntityException"
    done = run("stack deploy", "--yes", "--parameter", "RetryAfter=30")
    assert done.exit_code == 1
    assert "RuleGroup (AWS::WAFv2::RuleGroup): WAFUnavailableEntityException" in done.stderr
    assert "It is as it was before" in done.stderr
    after = everything(deployed)
    assert (after["tables"], after["parameters"]) == (before["tables"], before["parameters"])
    assert parameters(deployed)["RetryAfter"] == "60"
    assert run("stack deploy", "--yes", "--parameter", "RetryAfter=30").exit_code == 0
    assert parameters(deployed)["RetryAfter"] == "30"


def test_a_rollback_that_stopped_is_continued(deployed: World, run: Run) -> None:
    deployed.front.cloud_formation.reasons |= {"RuleGroup": "Internal failure", "rollback": "Internal failure"}
    failed = run("stack deploy", "--yes", "--parameter", "RetryAfter=30")
    assert "It is UPDATE_ROLLBACK_FAILED. Run the same command again" in failed.stderr
    done = run("stack deploy", "--yes", "--parameter", "RetryAfter=30")
    assert done.exit_code == 0, done.output
    assert parameters(deployed)["RetryAfter"] == "30"


def test_what_cannot_be_replaced_is_refused_and_nothing_changes(deployed: World, run: Run) -> None:
    before = everything(deployed)
    done = run("stack deploy", "--yes", "--parameter", "RuleGroupCapacity=62")
    assert done.exit_code == 1
    assert (
        "would replace resources in use, whose content would be lost: RuleGroup (AWS::WAFv2::RuleGroup)" in done.stderr
    )
    assert everything(deployed) == {**before, "objects": before["objects"]}
    assert deployed.front.cloud_formation.change_sets == {}


def test_a_template_that_cloudformation_rejects_leaves_no_stack(deployable: World, run: Run) -> None:
    deployable.front.cloud_formation.reasons["ValidationError"] = "Parameter MonthlyBudget failed to satisfy constraint"
    done = run("stack deploy", "--yes")
    assert "rejected the changes to stack sluice-prod: Parameter MonthlyBudget failed" in done.stderr
    assert the_stack(deployable) is None
    assert deployable.front.cloud_formation.change_sets == {}


def test_an_account_with_few_executions_reserves_none(deployable: World, run: Run) -> None:
    deployable.front.concurrency = 50
    planned = run("stack deploy", "--dry-run")
    assert "the account has 50 concurrent executions left, too few to reserve 37" in planned.output
    assert run("stack deploy", "--yes").exit_code == 0
    assert parameters(deployable)["ReserveConcurrency"] == "no"
    deployable.front.concurrency = 1000
    assert run("stack deploy", "--yes", "--parameter", "ReserveConcurrency=yes").exit_code == 0
    assert parameters(deployable)["ReserveConcurrency"] == "yes"


def test_an_operation_that_is_under_way_is_followed(
    deployable: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = deployable.front

    def interrupted(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("sluice.deploy.stack.StackOperations._finish", interrupted)
        assert isinstance(run("stack deploy", "--yes").exception, Interrupted)
    stack = the_stack(deployable)
    assert stack is not None
    assert stack.status == "CREATE_IN_PROGRESS"
    front.cloud_formation.reasons["RuleGroup"] = "Rate exceeded"
    done = run("stack deploy", "--yes")
    assert "stack sluice-prod is CREATE_IN_PROGRESS: waiting" in done.output
    assert "CREATE_FAILED RuleGroup Rate exceeded" in done.output
    assert done.exit_code == 0, done.output
    assert front.cloud_formation.executed == 2


def test_a_stack_of_others_and_a_stage_without_a_stack_are_refused(deployable: World, run: Run) -> None:
    theirs = FakeStack("sluice-prod", "arn:theirs", "CREATE_COMPLETE", parameters={"Stage": "production"})
    deployable.front.cloud_formation.stacks.append(theirs)
    for command in ("stack deploy", "stack delete"):
        done = run(command, "--yes")
        assert done.exit_code == 1, done.output
    assert theirs.status == "CREATE_COMPLETE"
    assert "already exists" in run("stack deploy", "--yes").stderr
    deployable.front.cloud_formation.stacks.clear()
    deployable.set_up(deployable.stage())
    done = run("stack deploy", "--yes")
    assert "stage prod was created by 'sluice setup', without a stack: use 'sluice deploy'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parameter", "Shard=2"], "parameter Shard: the template has no parameter of this name; it has AlarmEmail"),
        (["--parameter", "Stage=x"], "--stage determines it"),
        (["--parameter", "WafScope=GLOBAL"], "parameter WafScope: 'GLOBAL' is neither CLOUDFRONT nor REGIONAL"),
        (
            ["--parameter", "ApiNetworks=10.0.0.0/8"],
            "parameter ApiNetworks: API_NETWORKS='10.0.0.0/8': expected",
        ),
        (["--parameter", "x"], "'x' is not of the form NAME=VALUE"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_written(
    deployable: World, run: Run, arguments: list[str], message: str
) -> None:
    done = run("stack deploy", "--yes", *arguments)
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert everything(deployable)["buckets"] == []


def test_settings_that_would_open_the_api_of_a_stack_are_refused(deployable: World, run: Run) -> None:
    config = deployable.project.config()
    for name, value, message in (
        ("ADMIN_AUTH", "iam", "setting ADMIN_AUTH=iam: the admin API of a stack authenticates by token"),
        ("API_NETWORKS", "8.8.8.0/24", "setting API_NETWORKS: the stack's parameter ApiNetworks determines it"),
    ):
        dev = {**config["stages"]["dev"], "environment_variables": {name: value}}
        stages = {**config["stages"], "dev": dev}
        deployable.project.config_file.write_text(json.dumps({**config, "stages": stages}))
        done = run("stack deploy", "--yes")
        assert done.exit_code == 1
        assert message in done.stderr
    assert everything(deployable)["buckets"] == []


def test_networks_that_the_console_has_accepted_by_mistake_can_be_replaced(deployed: World, run: Run) -> None:
    parameters(deployed)["ApiNetworks"] = "10.0.0.0/8"
    client, name = deployed.account.client("ssm"), "/sluice/prod/setup"
    choices = json.loads(client.get_parameter(Name=name)["Parameter"]["Value"])
    choices["settings"] = {"API_NETWORKS": "10.0.0.0/8"}
    client.put_parameter(Name=name, Value=json.dumps(choices), Overwrite=True, Type="String")
    assert "parameter ApiNetworks: API_NETWORKS='10.0.0.0/8'" in run("stack deploy", "--yes").stderr
    done = run("stack deploy", "--yes", "--parameter", "ApiNetworks=8.8.8.0/24")
    assert done.exit_code == 0, done.output
    assert parameters(deployed)["ApiNetworks"] == "8.8.8.0/24"


def test_the_scope_of_a_stage_never_changes(deployed: World, run: Run) -> None:
    done = run("stack deploy", "--yes", "--parameter", "WafScope=REGIONAL")
    assert "stage prod was deployed for scope CLOUDFRONT: IP sets cannot move" in done.stderr
    outside = run("stack deploy", "--yes", region="eu-west-1")
    assert "us-east-1 alone" in outside.stderr


def test_an_existing_bucket_is_used_and_kept(deployable: World, run: Run) -> None:
    deployable.account.client("s3").create_bucket(Bucket="ours")
    assert run("stack deploy", "--yes", "--bucket", "ours").exit_code == 0
    assert everything(deployable)["buckets"] == ["ours"]
    assert run("stack delete", "--yes").exit_code == 0
    assert everything(deployable)["buckets"] == ["ours"]


def test_the_bucket_is_private(deployed: World) -> None:
    answer = deployed.account.client("s3").get_public_access_block(Bucket=BUCKET)
    assert set(answer["PublicAccessBlockConfiguration"].values()) == {True}


def test_delete_removes_what_setup_has_added_first_and_names_what_is_in_use(deployed: World, run: Run) -> None:
    deployed.web_acl(rules=[THEIRS])
    visibility = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "sluice-prod"}
    deployed.account.client("wafv2").create_rule_group(
        Name="sluice-prod", Scope="CLOUDFRONT", Capacity=50, VisibilityConfig=visibility
    )
    added = run("setup", "--yes", "--web-acl", "edge")
    assert added.exit_code == 0, added.output
    planned = run("stack delete", "--dry-run").output
    assert planned.index("web ACL rule") < planned.index("CloudFormation stack") < planned.index("S3 bucket")
    deployed.front.cloud_formation.reasons["RuleGroup"] = "The rule group is in use by web ACL other"
    failed = run("stack delete", "--yes")
    assert failed.exit_code == 1
    assert "could not be deleted: RuleGroup (AWS::WAFv2::RuleGroup): The rule group is in use" in failed.stderr
    half = run("stack deploy", "--yes")
    assert "half deleted. First run: sluice stack delete --stage prod" in half.stderr
    done = run("stack delete", "--yes")
    assert done.exit_code == 0, done.output
    left = everything(deployed)
    assert (left["stack"], left["buckets"], left["tables"], left["parameters"]) == (None, [], [], [])
    assert "nothing to remove" in run("stack delete", "--yes").stderr


def test_teardown_and_deploy_name_the_command_for_a_stack(deployed: World, run: Run) -> None:
    assert "run 'sluice stack deploy'" in run("deploy", "--yes").stderr
    assert (
        "Now delete the stack:  sluice stack delete --stage prod --region us-east-1" in run("teardown", "--yes").output
    )
    parameters(deployed)["CodeBucket"] = "packages-of-ops"
    assert "Now delete the stack sluice-prod in the CloudFormation console" in run("teardown", "--yes").output
    assert run("stack delete", "--yes").exit_code == 0
    assert the_stack(deployed) is None


def test_a_rule_of_another_tool_is_removed_before_the_stack_and_after_a_teardown(deployed: World, run: Run) -> None:
    """Terraform removes both by itself, once setup's own part is gone."""
    arn = deployed.web_acl(rules=[])
    client = deployed.account.client("wafv2")
    created = client.create_rule_group(
        Name="sluice-prod", Scope="CLOUDFRONT", Capacity=50, Rules=[], VisibilityConfig=visibility("sluice-prod")
    )
    group = created["Summary"]["ARN"]
    identity = {"Name": "edge", "Scope": "CLOUDFRONT", "Id": arn.rsplit("/", 1)[1]}
    answer = client.get_web_acl(**identity)
    rule = {
        "Name": "sluice-prod",
        "Priority": 0,
        "Statement": {"RuleGroupReferenceStatement": {"ARN": group}},
        "OverrideAction": {"None": {}},
        "VisibilityConfig": visibility("sluice-prod"),
    }
    kept = {name: answer["WebACL"][name] for name in ("DefaultAction", "VisibilityConfig")}
    client.update_web_acl(**identity, **kept, Rules=[rule], LockToken=answer["LockToken"])
    assert run("setup", "--yes", "--web-acl", "edge", "--managed-elsewhere").exit_code == 0
    refused = run("stack delete", "--yes")
    assert "web ACL rule edge/sluice-prod refers to WAF rule group sluice-prod: AWS deletes nothing" in refused.stderr
    assert the_stack(deployed) is not None
    assert run("teardown", "--yes").exit_code == 0


def test_a_dependency_that_cannot_be_installed_stops_the_deployment() -> None:
    """Chalice itself only warns, and deploys functions that cannot import the package."""
    with pytest.raises(AwsError, match=r"could not package the functions: Could not install dependencies: msgspec"):
        Messages(lambda line: None).write("\nCould not install dependencies:\nmsgspec==1.0\nYou will have to build")


def test_an_update_of_the_stack_forgets_nothing_that_setup_has_added(deployed: World, run: Run) -> None:
    for name in ("edge", "other"):
        deployed.web_acl(name, rules=[THEIRS])
    visibility = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "sluice-prod"}
    deployed.account.client("wafv2").create_rule_group(
        Name="sluice-prod", Scope="CLOUDFRONT", Capacity=50, VisibilityConfig=visibility
    )

    def choices() -> tuple[list[str], int, dict[str, str]]:
        found = remembered(deployed.account, "prod")
        assert found is not None
        return [arn.split("/")[-2] for arn in found.web_acls], found.sample_rate, dict(found.settings)

    assert run("setup", "--yes", "--web-acl", "edge", "--web-acl", "other", "--set", "LATENESS_S=60").exit_code == 0
    changed = ("--parameter", "SampleRate=50", "--parameter", "TrustedProxies=198.51.100.0/24")
    assert run("stack deploy", "--yes", *changed).exit_code == 0
    assert choices() == (["edge", "other"], 50, {"LATENESS_S": "60", "TRUSTED_PROXIES": "198.51.100.0/24"})
    planned = json.loads(run("setup", "--dry-run", "--json").stdout)
    assert {step["action"] for step in planned["steps"] if step["kind"] == "SSM parameter"} == {"exists"}
    assert run("detach", "--yes", "--web-acl", "other").exit_code == 0
    assert run("stack deploy", "--yes", "--parameter", "TrustedProxies=").exit_code == 0
    assert choices() == (["edge"], 50, {"LATENESS_S": "60"})
    assert "stack sluice-prod owns this" in run("setup", "--shards", "2").stderr
    assert run("stack delete", "--yes").exit_code == 0
    assert everything(deployed)["parameters"] == []


def test_the_functions_of_a_stack_get_the_settings_that_setup_remembers(deployed: World, run: Run) -> None:
    def of_functions() -> list[tuple[str | None, str | None]]:
        stack = the_stack(deployed)
        assert stack is not None
        functions = [each for each in stack.template["Resources"].values() if "Function" in each["Type"]]
        assert len(functions) == 8
        variables = [each["Properties"]["Environment"]["Variables"] for each in functions]
        return sorted({(each.get("LATENESS_S"), each.get("CORS_ORIGIN")) for each in variables})

    done = run("setup", "--yes", "--set", "LATENESS_S=900", "--set", "CORS_ORIGIN=https://ops.example.com")
    assert "Next:  sluice stack deploy --stage prod --region us-east-1" in done.output
    assert of_functions() == [(None, None)]
    planned = run("stack deploy", "--dry-run")
    assert "functions and resources" in planned.output
    assert run("stack deploy", "--yes").exit_code == 0
    assert of_functions() == [("900", "https://ops.example.com")]
    assert run("setup", "--yes", "--set", "LATENESS_S=", "--set", "CORS_ORIGIN=").exit_code == 0
    assert run("stack deploy", "--yes").exit_code == 0
    assert of_functions() == [(None, None)]
    assert "Next:" not in run("setup", "--yes").output
    faster = run("setup", "--yes", "--requests-per-second", "300000").output
    (memory,) = re.findall(r"Next:  sluice stack deploy .* --parameter EvaluateMemory=(\d+)\n", faster)
    assert run("stack deploy", "--yes", "--parameter", f"EvaluateMemory={memory}").exit_code == 0
    assert 1769 < int(parameters(deployed)["EvaluateMemory"]) <= 10_240
    # As the template of a release does, which the console or another tool deploys.
    parameters(deployed)["CodeBucket"] = "packages-of-ops"
    elsewhere = run("setup", "--yes", "--requests-per-second", "300000", "--set", "LATENESS_S=130").output
    assert (
        "Next:  to give the functions their settings, add them to the environment_variables of stage dev" in elsewhere
    )
    assert re.search(
        r"Next:  update stack sluice-prod with EvaluateMemory=\d+, in the CloudFormation console", elsewhere
    )
    assert "sluice stack deploy" not in elsewhere


def test_a_checkout_without_the_stage_that_is_packaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".chalice").mkdir()
    (tmp_path / ".chalice/config.json").write_text('{"stages": {"prod": {}}}')
    done = CliRunner().invoke(main, ["stack", "package", str(tmp_path / "dist"), "--project", str(tmp_path)])
    assert done.exit_code == 1
    assert "config.json has no stage 'dev', from which the stack is packaged: restore it" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "waf"], "--source waf: stack sluice-prod owns this. Update the stack with its parameter WafLogs"),
        (["--set", "HISTORY_DAYS=ten"], "setting HISTORY_DAYS='ten': expected days, a whole number from 1 to 400"),
        (["--set", "BLOCK_STATUS=403"], "setting BLOCK_STATUS is determined by setup's other options"),
        (["--set", "STATE_TABLE=other"], "setting STATE_TABLE is determined by setup's other options"),
    ],
)
def test_setup_refuses_what_would_not_reach_the_functions_of_a_stack(
    deployed: World, run: Run, arguments: list[str], message: str
) -> None:
    before = remembered(deployed.account, "prod")
    refused = run("setup", "--yes", *arguments)
    assert refused.exit_code == 1
    assert message in refused.stderr
    assert remembered(deployed.account, "prod") == before


def test_a_setting_that_an_earlier_version_remembered_unchecked_is_not_packaged(deployed: World, run: Run) -> None:
    assert run("setup", "--yes", "--set", "LATENESS_S=60").exit_code == 0
    found = remembered(deployed.account, "prod")
    assert found is not None
    text = replace(found, settings={**found.settings, "HISTORY_DAYS": "ten"}).to_json()
    deployed.account.client("ssm").put_parameter(
        Name="/sluice/prod/attached", Type="String", Value=text, Overwrite=True
    )
    refused = run("stack deploy", "--yes")
    assert refused.exit_code == 1
    assert "setting HISTORY_DAYS='ten': expected days, a whole number from 1 to 400" in refused.stderr
    assert run("setup", "--yes", "--set", "HISTORY_DAYS=").exit_code == 0
    assert run("stack deploy", "--yes").exit_code == 0


def test_what_an_earlier_setup_has_written_into_the_stacks_parameter_is_kept_apart(deployed: World, run: Run) -> None:
    found = remembered(deployed.account, "prod")
    assert found is not None
    arns = [deployed.web_acl(name, rules=[THEIRS]) for name in ("edge", "other")]
    text = replace(found, web_acls=tuple(arns)).to_json()
    client = deployed.account.client("ssm")
    client.put_parameter(Name="/sluice/prod/setup", Type="String", Value=text, Overwrite=True)
    assert run("detach", "--yes", "--web-acl", "other").exit_code == 0
    after = remembered(deployed.account, "prod")
    assert after is not None
    assert after.web_acls == (arns[0],)
    assert client.get_parameter(Name="/sluice/prod/setup")["Parameter"]["Value"] == text


def test_the_choices_of_a_stack_are_those_that_its_template_writes(deployed: World) -> None:
    value = deployed.account.client("ssm").get_parameter(Name="/sluice/prod/setup")["Parameter"]["Value"]
    written = json.loads(value)
    assert set(written["settings"]) == set(STACK_SETTINGS)
    assert written.keys() - {"settings"} == set(STACK_CHOICES)
