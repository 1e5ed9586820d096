"""The packaged template: translated as AWS does it, linted, and checked for its content."""

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner

from chalicelib.config import SETTINGS, read_config
from chalicelib.core.responses import Response
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.events import Events
from chalicelib.core.state.kinds import RECORDS
from chalicelib.core.state.operators import Audit
from chalicelib.core.state.publishing import GuiltyNetworks, Heartbeat
from chalicelib.core.state.records import Control
from chalicelib.pipeline.followed_blocks import REREAD_S
from sluice.cli import main
from sluice.deploy.account import connect
from sluice.deploy.api_policy import api_policy
from sluice.deploy.packaging import located, package
from sluice.deploy.policies import STACK, policies
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.event_sources import settings_of
from sluice.deploy.resources.objects import HIDDEN_S, MOST_RECEIVES
from sluice.deploy.resources.streams import trust
from sluice.deploy.runtime import runtime_of_chalice
from sluice.deploy.sizing import MOST_MB, VCPU_MB
from sluice.deploy.snippets import cloudformation_of
from sluice.deploy.stage import Choices, Location, Stage
from tests.support.deploy.account import LOCATION, REGION, ROOT
from tests.support.deploy.packaging import OFFLINE, chalice, clone
from tests.support.deploy.stack import Stack

LINT = ROOT / ".cache" / "lint" / "bin"
Template = dict[str, Any]
LARGEST_TEMPLATE = 1_000_000
"""Bytes of a template that CloudFormation reads from S3, where its console puts it (CloudFormation quotas)."""
FUNCTIONS = {"Ingest", "ImportObjects", "Evaluate", "Enforce", "Publish", "Sweep", "APIHandler", "Authorize"}


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Template:
    project = clone(tmp_path_factory.mktemp("package"))
    chalice(project, "package", "--merge-template", ".chalice/resources.yaml", "out")
    template: Template = yaml.safe_load((project / "out" / "sam.yaml").read_text())
    return template


@pytest.fixture(scope="module")
def lint_environment() -> Path:
    """Directory of the translator and the linter. Skips without them, or fails with SLUICE_REQUIRE_ALL=1."""
    if not (LINT / "cfn-lint").exists():
        missing = "cfn-lint is not installed in .cache/lint; 'make dev' installs it"
        if os.environ.get("SLUICE_REQUIRE_ALL") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return LINT


def translated(template: Template, environment: Path, *at: int) -> Template:
    done = subprocess.run(
        [environment / "python", ROOT / "tests/support/deploy/translate.py", *map(str, at)],
        input=json.dumps(template),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "AWS_DEFAULT_REGION": REGION},
    )
    assert done.returncode == 0, done.stderr
    answer: Template = json.loads(done.stdout)
    return answer


def findings_of(template: Template, environment: Path, directory: Path) -> list[tuple[str, str]]:
    """Returns the rule and the resource of each finding of cfn-lint."""
    file = directory / "template.json"
    file.write_text(json.dumps(template, indent=1))
    done = subprocess.run(
        [environment / "cfn-lint", "--regions", REGION, "--format", "json", "-t", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 2, 4, 6, 8), done.stderr
    findings = json.loads(done.stdout or "[]")
    return [(each["Rule"]["Id"], "/".join(map(str, each["Location"]["Path"][1:2]))) for each in findings]


def test_the_template_passes_the_translator_and_the_linter(
    sam: Template, lint_environment: Path, tmp_path: Path
) -> None:
    assert findings_of(translated(sam, lint_environment), lint_environment, tmp_path) == []


def test_what_setup_prints_for_a_site_passes_the_linter(lint_environment: Path, tmp_path: Path) -> None:
    choices = Choices(
        sources=("cloudfront", "waf", "cloudfront-standard"),
        distributions=("E2EXAMPLE1234",),
        log_groups=("/site/access",),
        buckets=("site-logs/AWSLogs/", "site-logs/cdn/", "other-logs/"),
    )
    for each in (choices, replace(choices, notification=False, event_rules=True)):
        stage = Stage(name="prod", location=LOCATION, choices=each)
        group = f"arn:aws:wafv2:us-east-1:{LOCATION.account}:global/rulegroup/sluice-prod/a1b2c3d4"
        printed = cloudformation_of(stage, group, {})
        buckets = printed.get("AWS::S3::Bucket", {})
        assert list(buckets) == ([] if each.event_rules else ["site-logs", "other-logs"])
        site = {f"Bucket{at}": bucket for at, bucket in enumerate(buckets.values())}
        resources = {name: {"Type": "AWS::S3::Bucket", "Properties": bucket} for name, bucket in site.items()}
        resources |= printed["Resources"]
        visible = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "edge"}
        web_acl = {"Scope": "CLOUDFRONT", "DefaultAction": {"Allow": {}}, "VisibilityConfig": visible}
        acl = {"Type": "AWS::WAFv2::WebACL", "Properties": web_acl | printed["AWS::WAFv2::WebACL"]}
        logging = printed["AWS::WAFv2::LoggingConfiguration"] | {"ResourceArn": {"Fn::GetAtt": ["Acl", "Arn"]}}
        resources |= {"Acl": acl, "Log": {"Type": "AWS::WAFv2::LoggingConfiguration", "Properties": logging}}
        template = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}
        assert findings_of(template, lint_environment, tmp_path) == []


def source(template: Template, function: str) -> dict[str, Any]:
    (event,) = template["Resources"][function]["Properties"]["Events"].values()
    properties: dict[str, Any] = event["Properties"]
    return properties


def test_wrong_event_sources_are_detected(sam: Template, lint_environment: Path, tmp_path: Path) -> None:
    """The linter ignores the event sources of a SAM template, so that only the translator's mappings show them."""
    wrong = deepcopy(sam)
    source(wrong, "Ingest")["Stream"]["Fn::GetAtt"] = ["LogStream", "Arn"]  # merged into Chalice's Fn::Sub
    source(wrong, "Evaluate")["FilterCriteria"] = {"Filters": [{"Patterns": "{}"}]}
    source(wrong, "Enforce")["ParallelizationFactor"] = 50
    source(wrong, "Publish")["BatchSize"] = 20_000
    findings = findings_of(translated(wrong, lint_environment), lint_environment, tmp_path)
    mapping = {name.split("DynamodbEvent")[0].split("KinesisEvent")[0] for _, name in findings}
    assert mapping == {"IngestIngest", "EvaluateEvaluate", "EnforceEnforce", "PublishPublish"}


@pytest.mark.parametrize(
    ("resource", "damage"),
    [
        pytest.param("IpSetV4", lambda p: p.update(IPAddressVersion="IPv4"), id="the family's spelling"),
        pytest.param("StateTable", lambda p: p.update(BillingMode="ON_DEMAND"), id="the billing mode"),
    ],
)
def test_a_misspelled_value_is_detected(
    sam: Template, lint_environment: Path, tmp_path: Path, resource: str, damage: Callable[[dict[str, Any]], None]
) -> None:
    damaged = deepcopy(sam)
    damage(damaged["Resources"][resource]["Properties"])
    # Without the other resources the linter is quicker.
    small = {"AWSTemplateFormatVersion": "2010-09-09", "Parameters": sam["Parameters"], "Resources": {}}
    small["Resources"][resource] = damaged["Resources"][resource]
    findings = findings_of(small, lint_environment, tmp_path)
    assert {name for rule, name in findings if rule.startswith("E")} == {resource}


def test_every_function_has_a_role_and_a_concurrency_limit(sam: Template) -> None:
    functions = {n: r["Properties"] for n, r in sam["Resources"].items() if r["Type"] == "AWS::Serverless::Function"}
    assert set(functions) == FUNCTIONS
    reserved: dict[str, Any] = {}
    assert "ScalingConfig" in source(sam, "ImportObjects")
    for name, properties in functions.items():
        assert properties["Role"]["Fn::GetAtt"][0] in sam["Resources"], name
        if name != "ImportObjects":  # its event source bounds it
            condition, reserved[name], otherwise = properties["ReservedConcurrentExecutions"]["Fn::If"]
            assert (condition, otherwise) == ("Reserved", {"Ref": "AWS::NoValue"}), name
    assert reserved.keys() == FUNCTIONS - {"ImportObjects"}
    assert (reserved["Publish"], reserved["Evaluate"]) == (1, 1)
    assert sam["Parameters"]["ReserveConcurrency"]["Default"] == "yes"


def test_the_api_has_no_stage_beside_the_guarded_one(sam: Template, lint_environment: Path) -> None:
    resources = translated(sam, lint_environment)["Resources"].values()
    stages = [each["Properties"]["StageName"] for each in resources if each["Type"] == "AWS::ApiGateway::Stage"]
    deployments = [each["Properties"] for each in resources if each["Type"] == "AWS::ApiGateway::Deployment"]
    assert stages == ["api"]
    assert [each.get("StageName") for each in deployments] == [None]


def test_every_update_deploys_the_api_again(sam: Template, lint_environment: Path) -> None:
    """SAM does not see in which networks ApiNetworks results: without a new deployment the former ones would stay."""

    def deployments(at: int) -> set[str]:
        names = ("ApiRestricted",)
        small = {
            **sam,
            "Resources": {"RestAPI": sam["Resources"]["RestAPI"]},
            "Conditions": {name: sam["Conditions"][name] for name in (*names, "Traced")},
        }
        resources = translated(small, lint_environment, at)["Resources"]
        return {name for name, each in resources.items() if each["Type"] == "AWS::ApiGateway::Deployment"}

    first, second = deployments(1_800_000_000), deployments(1_800_000_060)
    assert len(first) == len(second) == 1
    assert first != second


def test_both_ways_let_cloudfront_deliver_for_this_account_alone(sam: Template) -> None:
    stage = Stage(
        name="prod", location=Location(account="1", region=REGION), choices=Choices(sources=("cloudfront", "waf"))
    )
    stacked = sam["Resources"]["LogDelivery"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    for statement in (trust(stage)["Statement"][0], stacked[0]):
        assert statement["Principal"] == {"Service": "cloudfront.amazonaws.com"}
        (account,) = statement["Condition"]["StringEquals"].values()
        assert account in ("1", {"Ref": "AWS::AccountId"})
        assert statement["Condition"]["StringEquals"].keys() == {"aws:SourceAccount"}


def test_the_template_needs_a_bucket_and_fits_into_it(sam: Template) -> None:
    """CloudFormation accepts 51,200 bytes of a template in a call, and 1 MB in S3."""
    assert 51_200 < len(json.dumps(sam)) < 1_000_000


def test_the_stack_gets_what_chalice_packages(sam: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**OFFLINE, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    built = package(connect(region=REGION, profile=None), Project(clone(tmp_path)), lambda line: None, {})
    assert located(built.template, "./deployment.zip") == sam
    with zipfile.ZipFile(BytesIO(built.code)) as archive:
        names = set(archive.namelist())
    assert {"app.py", "chalicelib/handlers.py", "msgspec/__init__.py"} <= names


def test_the_published_template_takes_the_code_from_any_bucket(
    tmp_path: Path, lint_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    project = clone(tmp_path)
    done = CliRunner().invoke(main, ["stack", "package", str(tmp_path / "dist"), "--project", str(project)])
    assert done.exit_code == 0, done.output
    template_file, code_file = sorted((tmp_path / "dist").iterdir(), key=lambda file: file.suffix)
    assert done.stdout.splitlines()[-2:] == [str(template_file), str(code_file)]
    published: Template = yaml.safe_load(template_file.read_text())
    assert published["Parameters"]["CodeKey"]["Default"] == code_file.name
    assert len(template_file.read_bytes()) < LARGEST_TEMPLATE
    with zipfile.ZipFile(code_file) as archive:
        assert "chalicelib/handlers.py" in archive.namelist()
    resources = translated(published, lint_environment)["Resources"]
    code = [each["Properties"]["Code"] for each in resources.values() if each["Type"] == "AWS::Lambda::Function"]
    assert len(code) == len(FUNCTIONS)
    assert all(each == {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}} for each in code)
    assert findings_of({**published, "Resources": resources}, lint_environment, tmp_path) == []


def test_functions_whose_wall_time_operators_wait_for_have_a_vcpu(sam: Template) -> None:
    for name in ("Ingest", "Enforce", "Publish"):
        assert sam["Resources"][name]["Properties"]["MemorySize"] == VCPU_MB, name
    assert sam["Resources"]["Evaluate"]["Properties"]["MemorySize"] == {"Ref": "EvaluateMemory"}
    memory = sam["Parameters"]["EvaluateMemory"]
    assert (memory["Default"], memory["MinValue"], memory["MaxValue"]) == (VCPU_MB, VCPU_MB, MOST_MB)


def test_functions_run_on_arm64_and_on_the_python_of_their_package(sam: Template) -> None:
    for name in FUNCTIONS:
        properties = sam["Resources"][name]["Properties"]
        assert properties["Architectures"] == ["arm64"], name
        assert properties["Runtime"] == runtime_of_chalice(), name


def test_every_function_has_its_own_policy(sam: Template) -> None:
    expected = policies(STACK)
    roles = {"ingest": "Ingest", "evaluate": "Evaluate", "publish": "Publish", "api_handler": "ApiHandler"}
    for name, role in roles.items():
        (policy,) = sam["Resources"][f"{role}Role"]["Properties"]["Policies"]
        assert policy["PolicyDocument"] == expected[name]


def test_ingest_retries_without_limit_and_the_others_use_the_queue(sam: Template) -> None:
    ingest = source(sam, "Ingest")
    assert ingest["MaximumRetryAttempts"] == ingest["MaximumRecordAgeInSeconds"] == -1
    assert ingest["ParallelizationFactor"] == 1
    assert not ingest["BisectBatchOnFunctionError"]
    assert "DestinationConfig" not in ingest
    assert ingest["Stream"] == {"Fn::Sub": "${LogStream.Arn}"}
    for name in ("Enforce", "Publish"):
        (destination,) = source(sam, name)["DestinationConfig"].values()
        assert destination["Destination"] == {"Fn::GetAtt": ["DeadLetters", "Arn"]}


def test_evaluate_is_invoked_for_new_items_alone_and_retries_without_limit(sam: Template) -> None:
    evaluate = source(sam, "Evaluate")
    assert evaluate["Stream"] == {"Fn::GetAtt": ["TallyTable", "StreamArn"]}
    assert sam["Resources"]["TallyTable"]["Properties"]["StreamSpecification"] == {"StreamViewType": "KEYS_ONLY"}
    assert evaluate["MaximumRetryAttempts"] == evaluate["MaximumRecordAgeInSeconds"] == -1
    assert not evaluate["BisectBatchOnFunctionError"]
    assert evaluate["MaximumBatchingWindowInSeconds"] == 0
    assert "DestinationConfig" not in evaluate
    (pattern,) = evaluate["FilterCriteria"]["Filters"]
    assert json.loads(pattern["Pattern"]) == {"eventName": ["INSERT"]}


def test_enforce_is_invoked_for_what_it_acts_on_and_what_fails_is_isolated(sam: Template) -> None:
    enforce = source(sam, "Enforce")
    assert enforce["BisectBatchOnFunctionError"] is True
    assert enforce["BatchSize"] == 10
    assert enforce["MaximumRecordAgeInSeconds"] == 3600
    patterns = [json.loads(each["Pattern"])["dynamodb"]["Keys"] for each in enforce["FilterCriteria"]["Filters"]]
    controls = {"kind": {"S": [Control.kind]}, "id": {"S": [Heartbeat.id, GuiltyNetworks.id]}}
    kinds = [Detection.kind, {"prefix": Events.kind}, Audit.kind]
    assert patterns == [{"kind": {"S": kinds}}, controls]
    assert [of.kind for of in RECORDS if of.kind.startswith(Events.kind)] == [Events.kind]


def test_event_sources_have_the_settings_that_deploy_gives_those_of_chalice(sam: Template) -> None:
    stage = Stage(name="prod", location=Location(account="1", region=REGION), choices=Choices())
    for name, settings in settings_of(stage).items():
        stacked = source(sam, name.capitalize())
        for key, value in settings.items():
            if key == "FilterCriteria":
                patterns = [[json.loads(each["Pattern"]) for each in of["Filters"]] for of in (value, stacked[key])]
                assert patterns[0] == patterns[1]
            elif key == "DestinationConfig":
                assert stacked[key]["OnFailure"]["Destination"] == {"Fn::GetAtt": ["DeadLetters", "Arn"]}
                assert value["OnFailure"]["Destination"].endswith(":sluice-prod-dead-letters")
            else:
                assert stacked[key] == value


def test_publish_is_invoked_for_every_change_that_it_follows_and_for_no_other(sam: Template) -> None:
    publish = source(sam, "Publish")
    assert publish["MaximumRecordAgeInSeconds"] <= REREAD_S
    (pattern,) = publish["FilterCriteria"]["Filters"]
    blocks, *others = json.loads(pattern["Pattern"])["dynamodb"]["Keys"]["kind"]["S"]
    assert blocks == {"prefix": Block.kind}
    assert others == [Allow.kind, Heartbeat.kind]
    passing = [of.kind for of in RECORDS if of.kind.startswith(Block.kind) or of.kind in others]
    assert passing == [Block.kind, Allow.kind]


def test_nothing_is_deployed_for_objects_without_a_bucket(sam: Template) -> None:
    names = {name for name, resource in sam["Resources"].items() if resource.get("Condition") == "Objects"}
    assert names == {
        *("ImportObjects", "ImportObjectsRole", "ImportObjectsLogGroup", "ObjectsFailed"),
        *("ObjectsQueue", "ObjectsDeadLetters", "ObjectsQueuePolicy"),
    }
    assert sam["Parameters"]["ObjectsBucket"]["Default"] == ""


def test_failed_notifications_are_reported_one_by_one_and_end_in_a_queue(sam: Template) -> None:
    function, queue = (sam["Resources"][name]["Properties"] for name in ("ImportObjects", "ObjectsQueue"))
    mapping = source(sam, "ImportObjects")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BatchSize"] == 10
    assert mapping["Queue"] == {"Fn::Sub": "${ObjectsQueue.Arn}"}
    assert function["Handler"] == "app.import_objects"
    assert queue["VisibilityTimeout"] == HIDDEN_S == 6 * function["Timeout"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == MOST_RECEIVES


def test_every_function_gets_valid_settings(sam: Template) -> None:
    variables = Stack(sam, {}).value(sam["Globals"]["Function"]["Environment"]["Variables"])
    assert set(variables) <= {setting.variable for setting in SETTINGS.values()}
    config = read_config({**variables, "TALLY_STREAM_ARN": "x", "STATE_STREAM_ARN": "x"})
    assert (config.cloudfront_fields, config.softer_ip_sets) == (Choices().fields, ())


def test_every_alarm_notifies_the_topic(sam: Template) -> None:
    alarms = {n: r["Properties"] for n, r in sam["Resources"].items() if r["Type"] == "AWS::CloudWatch::Alarm"}
    assert set(alarms) == {
        *("IngestBehind", "EvaluateLate", "LogLinesRefused", "IngestErrors", "EvaluateErrors", "EnforceErrors"),
        *("PublishErrors", "SweepErrors"),
        *("ApiErrors", "MalformedFlood", "IpSetsFillingV4", "IpSetsFillingV6", "PublishFailing", "BreakerOpen"),
        *("RulesInvalid", "PausedTooLong", "HeartbeatMissing", "DeadLettersWaiting", "ManyReplayed"),
        *("ObjectsFailed", "UnreadableRecords"),
    }
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [{"Ref": "Alarms"}], name
    assert alarms["HeartbeatMissing"]["TreatMissingData"] == "breaching"


def metrics(part: Any) -> set[str]:
    """Returns the names of Sluice's own metrics in an alarm."""
    if isinstance(part, list):
        return set().union(*map(metrics, part))
    if not isinstance(part, dict):
        return set()
    own = {part["MetricName"]} if part.get("Namespace") == "Sluice" else set()
    return own.union(*map(metrics, part.values())) if part else own


def test_alarms_and_dashboard_use_metrics_that_exist(sam: Template) -> None:
    emitted = (ROOT / "chalicelib" / "edges" / "telemetry.py").read_text()
    watched = set().union(*(metrics(r["Properties"]) for r in sam["Resources"].values() if "Alarm" in r["Type"]))
    assert len(watched) >= 10
    body = json.loads(sam["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    for widget in body["widgets"]:
        space = ""
        for row in widget["properties"]["metrics"]:
            space = row[0] if row[0] not in (".", "...") else space
            if space == "Sluice":
                watched.add(row[1])
    families = {name.split(".")[0] for name in watched}
    missing = {name for name in families if f'"{name}' not in emitted}
    assert missing == set()


def test_setup_can_read_the_choices_of_the_stack(sam: Template) -> None:
    parameters = {"StreamMode": "PROVISIONED", "SampleRate": "50", "CloudFrontFields": "timestamp,c-ip"}
    stack = Stack(sam, {**parameters, "TrustedProxies": "198.51.100.0/24", "RespondSlow": "yes", "EventBus": "ops"})
    read = Choices.from_json(stack.value(sam["Resources"]["Choices"]["Properties"]["Value"]))
    assert (read.fields, read.shards, read.sample_rate) == (("timestamp", "c-ip"), 2, 50)
    assert (read.responses, read.behind_proxies, read.stack) == ((Response.SLOW,), True, "AWS::StackName")
    assert read.settings["EVENT_BUS"] == "ops"


def test_a_parameter_restricts_the_callers_of_the_admin_api(sam: Template) -> None:
    policy = sam["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["x-amazon-apigateway-policy"]
    restricted = Stack(sam, {"ApiNetworks": "198.51.100.0/24,2001:db8::/48"})
    assert restricted.value(policy) == api_policy(["198.51.100.0/24", "2001:db8::/48"])
    # An update to no policy at all may leave the former one.
    assert Stack(sam, {}).value(policy) == api_policy([])
    choices = restricted.value(sam["Resources"]["Choices"]["Properties"]["Value"])
    assert Choices.from_json(choices).api_networks == ("198.51.100.0/24", "2001:db8::/48")


def test_a_slip_in_the_networks_of_callers_stops_no_function(sam: Template) -> None:
    variables = Stack(sam, {"ApiNetworks": "10.0.0.0/8"}).value(sam["Globals"]["Function"]["Environment"]["Variables"])
    read_config(variables)
    assert "ApiNetworks" not in json.dumps(
        [each for each in sam["Resources"].values() if each["Type"] == "AWS::Serverless::Function"]
    )
    form = re.compile(sam["Parameters"]["ApiNetworks"]["AllowedPattern"])
    assert all(map(form.fullmatch, ("", "198.51.100.7", "198.51.100.0/24,2001:db8::/48")))
    assert not any(map(form.fullmatch, (",", "198.51.100.0/24,", "198.51.100.0/24,,2001:db8::/48", "198.51.100.0/")))
