"""Every documented command of the AWS CLI, run by the real AWS CLI as it is printed, against moto's server.

Names that the text prints in capitals stand for the reader's own, and get the names of what exists here. moto checks no
permissions. Of the commands that doctor prints, only the CLI's own check of the arguments is tested: moto accepts
changes of event sources that do not exist, and cannot move messages.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sluice.deploy.doctor import deployment, enforcement, flow
from tests.support.deploy.account import REGION, ROOT, THEIRS

BIN = ROOT / ".cache" / "aws" / "bin"
DOCS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
USAGE_ERROR = 252
"""Status of the CLI for arguments that it does not accept (AWS CLI User Guide, "Return codes")."""

NOTHING = "00000000-0000-4000-8000-000000000000"
"""A name and a UUID of nothing that exists."""


def documented() -> list[str]:
    """Returns the commands in the order in which they are printed: whole lines of blocks, and code with options."""
    commands = []
    for path in DOCS:
        text = path.read_text(encoding="utf-8")
        for block, code in re.findall(r"^\s*(?:\$ )?(aws .+)$|`(aws [^`]+ --[^`]+)`", text, re.MULTILINE):
            commands.append(block or " ".join(code.split()))
    return commands


def printed() -> list[str]:
    """Returns the commands that doctor prints as remedies, with a name of nothing in place of each name."""
    text = "".join(Path(str(module.__file__)).read_text() for module in (deployment, enforcement, flow))
    commands = re.findall(r"(aws (?:apigateway|lambda|sqs) [a-z-]+(?: --[a-z-]+(?: (?:\{[^}]+\}|\d+))?)+)", text)
    return [re.sub(r"\{[^}]+\}", NOTHING, command) for command in commands]


@pytest.fixture(scope="module")
def aws() -> Path:
    """Directory of the AWS CLI. Skips without it, or fails with SLUICE_REQUIRE_ALL=1, as CI sets it."""
    if not (BIN / "aws").exists():
        missing = "the AWS CLI is not installed in .cache/aws; 'make dev' installs it"
        if os.environ.get("SLUICE_REQUIRE_ALL") == "1":
            pytest.fail(f"{missing}, and SLUICE_REQUIRE_ALL is set")
        pytest.skip(missing)
    return BIN


@pytest.fixture(scope="module")
def account() -> Iterator[dict[str, str]]:
    """The settings of an account with what the commands name: an old stack, buckets with logs and a role."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        settings = {
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_MAX_ATTEMPTS": "1",
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        yield settings
    server.stop()


@pytest.fixture(scope="module")
def named(account: dict[str, str]) -> dict[str, str]:
    """What stands in the commands' place of names in capitals."""
    s3, iam = boto3.client("s3"), boto3.client("iam")
    waf: Any = boto3.client("wafv2")
    for bucket, key in (
        ("waf-logs", "waf-prod-waf_log_conf.json"),
        ("app-logs", "waf-prod-app_log_conf.json"),
        ("my-logs", "cloudfront/E1EXAMPLE.2026-03-14-10.gz"),
    ):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}")
    s3.put_object(Bucket="my-logs", Key="cloudfront/E1EXAMPLE.2026-03-15-10.gz", Body=b"another day")
    resources = {"Topic": {"Type": "AWS::SNS::Topic"}}
    boto3.client("cloudformation").create_stack(StackName="waf-prod", TemplateBody=json.dumps({"Resources": resources}))
    visibility = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "m"}
    acl = waf.create_web_acl(
        Name="waf-prod", Scope="CLOUDFRONT", DefaultAction={"Allow": {}}, VisibilityConfig=visibility, Rules=[THEIRS]
    )["Summary"]["Id"]
    allowed = waf.create_ip_set(
        Name="waf-prodWhitelistSetIPV4", Scope="CLOUDFRONT", IPAddressVersion="IPV4", Addresses=["192.0.2.0/24"]
    )["Summary"]["Id"]
    iam.create_role(RoleName="ROLE", AssumeRolePolicyDocument="{}")
    return {"WAF-LOG-BUCKET": "waf-logs", "APP-LOG-BUCKET": "app-logs", "ip-set": allowed, "web-acl": acl}


def run(command: str, aws: Path, account: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **account, "PATH": f"{aws}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", command], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def with_names(command: str, named: dict[str, str]) -> str:
    """Returns a command with the reader's own names, of which the ID depends on what it identifies."""
    kind = "ip-set" if "get-ip-set" in command else "web-acl"
    own = {name: value for name, value in named.items() if name.isupper()} | {" --id ID": f" --id {named[kind]}"}
    for name, value in own.items():
        command = command.replace(name, value)
    return command


def test_every_documented_command_does_what_the_text_says(
    aws: Path, account: dict[str, str], named: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "exported").mkdir()
    commands = documented()
    assert len(commands) >= 10
    for command in commands:
        done = run(with_names(command, named), aws, account, tmp_path)
        assert done.returncode == 0, command + done.stdout + done.stderr
        if "attach-role-policy" in command:
            attached = boto3.client("iam").list_attached_role_policies(RoleName="ROLE")["AttachedPolicies"]
            assert [each["PolicyName"] for each in attached] == ["sluice-operator"]

    def exported(name: str) -> Any:
        return json.loads((tmp_path / "exported" / name).read_text())

    assert exported("stack.json")["Stacks"][0]["StackName"] == "waf-prod"
    assert exported("allowed.json")["IPSet"]["Addresses"] == ["192.0.2.0/24"]
    assert exported("web-acl.json")["WebACL"]["Rules"][0]["Name"] == "theirs"
    assert exported("waf-prod-waf_log_conf.json") == exported("waf-prod-app_log_conf.json") == {}
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["E1EXAMPLE.2026-03-14-10.gz"]
    assert boto3.client("cloudformation").describe_stacks()["Stacks"] == []
    assert boto3.client("iam").list_policies(Scope="Local")["Policies"] == []


def test_the_cli_accepts_every_command_that_doctor_prints(aws: Path, account: dict[str, str], tmp_path: Path) -> None:
    commands = printed()
    assert len(commands) >= 6
    for command in commands:
        done = run(command, aws, account, tmp_path)
        assert done.returncode != USAGE_ERROR, command + done.stderr
        assert "Parameter validation failed" not in done.stderr, command + done.stderr
