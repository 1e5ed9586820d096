"""From an empty account to a blocked client and back: real commands, real package, emulated AWS."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import boto3
import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from chalicelib.config import read_config
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.detections import Detection
from chalicelib.edges.state_table import StateTable
from chalicelib.ports import LogObject
from sluice.cli import main
from sluice.deploy.runtime import runtime_of_chalice
from sluice.local.events import objects_event, tally_event
from tests.support.deploy.account import REGION, ROOT
from tests.support.deploy.events import kinesis_event, line, state_event
from tests.support.deploy.front import Front, run_no_functions
from tests.support.deploy.packaging import OFFLINE, clone

OFFENDER = "192.0.2.7"
BUCKET = "site-logs"
RULES = """
[[rule]]
name = "burst"
limit = 5
window = "5s"
block_for = "10m"
"""
IN_LAMBDAS_RUNTIME = ("boto3", "botocore", "s3transfer", "dateutil", "six", "urllib3", "jmespath")
COMPILED = ("msgspec",)
"""Packages whose wheels are for arm64; builds for this machine replace them when a function runs in this test."""
EVALUATOR_MB = 3028
"""Memory for 300,000 requests per second."""

FUNCTIONS = {
    "sluice-prod-ingest": "app.ingest",
    "sluice-prod-import_objects": "app.import_objects",
    "sluice-prod-evaluate": "app.evaluate",
    "sluice-prod-enforce": "app.enforce",
    "sluice-prod-publish": "app.publish",
    "sluice-prod-sweep": "app.sweep",
    "sluice-prod-authorize": "app.authorize",
    "sluice-prod": "app.app",
}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    yield url
    server.stop()


def sluice(*arguments: str) -> dict[str, Any]:
    """Returns the JSON answer of a command."""
    done = CliRunner().invoke(main, [*arguments, "--region", REGION, "--json"])
    assert done.exit_code == 0, done.output + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def deploy(project: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.support.deploy.chalice_deploy",
            "--project-dir",
            str(project),
            "deploy",
            "--stage",
            "prod",
        ],
        cwd=ROOT,
        env={**os.environ, **OFFLINE, "PYTHONPATH": str(ROOT), "AWS_DEFAULT_REGION": REGION},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def link(directory: Path, names: Iterable[str]) -> Path:
    """Returns a new directory with links to installed packages."""
    directory.mkdir()
    for name in names:
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        target = origin.parent if origin.name == "__init__.py" else origin
        (directory / target.name).symlink_to(target)
    return directory


class Functions:
    """The deployed functions, run from the uploaded package with the configuration that AWS has."""

    def __init__(self, directory: Path, package: Path) -> None:
        code = directory / "code"
        ZipFile(package).extractall(code)
        compiled, runtime = link(directory / "compiled", COMPILED), link(directory / "runtime", IN_LAMBDAS_RUNTIME)
        self.path = [str(compiled), str(code), str(runtime)]

    def invoke(self, name: str, event: dict[str, Any]) -> str:
        """Returns what the function wrote to standard output."""
        configuration = boto3.client("lambda").get_function_configuration(FunctionName=name)
        aws = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        task = {
            "environment": {**configuration["Environment"]["Variables"], **aws, "AWS_LAMBDA_FUNCTION_NAME": name},
            "path": self.path,
            "handler": configuration["Handler"],
            "event": event,
        }
        done = subprocess.run(
            [sys.executable, "-I", "-S", ROOT / "tests/support/deploy/lambda_runtime.py"],
            input=json.dumps(task),
            env={},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def api_request(method: str, path: str, authorizer: dict[str, Any]) -> dict[str, Any]:
    """Returns an event as API Gateway sends it."""
    return {
        "httpMethod": method,
        "path": path,
        "headers": {},
        "multiValueHeaders": {},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
        "requestContext": {
            "httpMethod": method,
            "resourcePath": path,
            "path": path,
            "requestId": "1",
            "identity": {"sourceIp": "198.51.100.1"},
            "authorizer": authorizer,
        },
    }


def everything() -> dict[str, Any]:
    """Returns everything in the account, by kind."""
    waf = boto3.client("wafv2")
    return {
        "functions": boto3.client("lambda").list_functions()["Functions"],
        "event sources": boto3.client("lambda").list_event_source_mappings()["EventSourceMappings"],
        "apis": boto3.client("apigateway").get_rest_apis()["items"],
        "schedules": boto3.client("events").list_rules()["Rules"],
        "queues": boto3.client("sqs").list_queues().get("QueueUrls", []),
        "notifications": boto3.client("s3")
        .get_bucket_notification_configuration(Bucket=BUCKET)
        .get("QueueConfigurations", []),
        "roles": boto3.client("iam").list_roles()["Roles"],
        "log groups": boto3.client("logs").describe_log_groups()["logGroups"],
        "streams": boto3.client("kinesis").list_streams()["StreamNames"],
        "tables": boto3.client("dynamodb").list_tables()["TableNames"],
        "parameters": boto3.client("ssm").describe_parameters()["Parameters"],
        "ip sets": waf.list_ip_sets(Scope="CLOUDFRONT")["IPSets"],
        "rule groups": waf.list_rule_groups(Scope="CLOUDFRONT")["RuleGroups"],
    }


def test_from_an_empty_account_to_a_blocked_client_and_back(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    project = clone(tmp_path / "project")
    committed = json.loads((project / ".chalice" / "config.json").read_text())
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    options = ("--stage", "prod", "--project", str(project), "--requests-per-second", "300000", "--bucket", BUCKET)
    with Front().installed() as front:
        planned = sluice("setup", *options, "--rules", str(rules), "--dry-run")
        assert {step["action"] for step in planned["steps"]} == {"create"}
        created = sluice("setup", *options, "--rules", str(rules), "--yes")
        assert created["token"].startswith("sluice_")
        deployed = sluice("deploy", *options[:4], "--yes")
        assert deployed["url"].endswith(".execute-api.us-east-1.amazonaws.com/api/")
        assert {step["action"] for step in deployed["steps"]} == {"create"}

        functions = boto3.client("lambda").list_functions()["Functions"]
        assert {function["FunctionName"]: function["Handler"] for function in functions} == FUNCTIONS
        (package,) = (project / ".chalice" / "deployments").glob("*.zip")
        digest = base64.b64encode(hashlib.sha256(package.read_bytes()).digest()).decode()
        written = json.loads((project / ".chalice" / "config.json").read_text())["stages"]["prod"]
        for function in functions:
            assert (function["Runtime"], function["Architectures"]) == (runtime_of_chalice(), ["arm64"])
            assert function["CodeSha256"] == digest
            assert function["Environment"]["Variables"] == written["environment_variables"]
        memory = {function["FunctionName"]: function["MemorySize"] for function in functions}
        assert memory["sluice-prod-evaluate"] == EVALUATOR_MB
        assert memory["sluice-prod-ingest"] == 1769
        config = read_config(written["environment_variables"])

        mappings = boto3.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        stream = boto3.client("kinesis").describe_stream_summary(StreamName=config.log_stream)
        arn = stream["StreamDescriptionSummary"]["StreamARN"]
        assert {(m["FunctionArn"].rpartition(":")[2], m["EventSourceArn"], m["BatchSize"]) for m in mappings} == {
            ("sluice-prod-ingest", arn, 10_000),
            ("sluice-prod-import_objects", f"arn:aws:sqs:{REGION}:123456789012:sluice-prod-objects", 1),
            ("sluice-prod-evaluate", config.tally_stream_arn, 10_000),
            ("sluice-prod-enforce", config.state_stream_arn, 10),
            ("sluice-prod-publish", config.state_stream_arn, 1000),
        }
        iam = boto3.client("iam")
        for name in ("ingest", "import_objects", "evaluate", "enforce", "publish", "sweep", "api_handler", "authorize"):
            role = f"sluice-prod-{name}"
            policy = iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]
            assert policy == json.loads((project / ".chalice" / f"policy-prod-{name}.json").read_text())

        run_no_functions(REGION)  # from here on the test invokes the functions itself
        now = time.time()
        functions = Functions(tmp_path, package)
        state = StateTable(boto3.client("dynamodb"), config.state_table)
        lines = [line(OFFENDER, now + number / 100) for number in range(3)]
        metrics = functions.invoke("sluice-prod-ingest", kinesis_event(lines, ts=now))
        assert '"service":"sluice-prod"' in metrics.replace(" ", "")
        more = b"\n".join(line(OFFENDER, now + number / 100) for number in range(3))
        etag = boto3.client("s3").put_object(Bucket=BUCKET, Key="one.log", Body=more)["ETag"].strip('"')
        new = objects_event([("one", LogObject(BUCKET, "one.log", etag), now)])
        imported = functions.invoke("sluice-prod-import_objects", new)
        assert json.loads(imported.splitlines()[-1]) == {"batchItemFailures": []}
        functions.invoke("sluice-prod-evaluate", tally_event([("any", 0)]))
        detections = list(state.query(Detection.kind))
        functions.invoke("sluice-prod-enforce", state_event(detections))
        blocks = list(state.query(Block.kind))
        functions.invoke("sluice-prod-publish", state_event(blocks))
        waf = boto3.client("wafv2")
        (v4,) = config.ip_sets_v4
        addresses = waf.get_ip_set(Name=v4.name, Scope="CLOUDFRONT", Id=v4.id)["IPSet"]["Addresses"]
        assert addresses == [f"{OFFENDER}/32"]

        method = f"arn:aws:execute-api:{REGION}:123456789012:api/api/GET/v1/me"
        bearer = {"type": "TOKEN", "authorizationToken": f"Bearer {created['token']}", "methodArn": method}
        admitted = json.loads(functions.invoke("sluice-prod-authorize", bearer).splitlines()[-1])
        assert [statement["Effect"] for statement in admitted["policyDocument"]["Statement"]] == ["Allow"]
        request = api_request("GET", "/v1/blocks", {**admitted["context"], "principalId": admitted["principalId"]})
        answer = json.loads(functions.invoke("sluice-prod", request).splitlines()[-1])
        assert answer["statusCode"] == 200
        assert OFFENDER in answer["body"]

        deploy(project)  # by Chalice itself. Nothing has changed: each event source keeps its position and settings
        mappings_after = boto3.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        assert {mapping["UUID"] for mapping in mappings_after} == {mapping["UUID"] for mapping in mappings}
        (enforce,) = (each for each in mappings_after if each["FunctionArn"].endswith("-enforce"))
        assert enforce["BisectBatchOnFunctionError"] is True

        again = sluice("setup", *options, "--rules", str(rules), "--yes")
        assert {step["action"] for step in again["steps"]} == {"exists"}
        sluice("teardown", *options[:4], "--yes")
        assert {kind: items for kind, items in everything().items() if items} == {}
        assert front.log_configs == {}
        assert json.loads((project / ".chalice" / "config.json").read_text()) == committed
