"""An AWS account to deploy into: moto behind ``Front``, and a copy of the checkout's configuration."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from sluice.cli import main
from sluice.deploy.account import AwsAccount, connect
from sluice.deploy.apply import apply, survey, survey_remains
from sluice.deploy.plan import Step, to_set_up, to_tear_down
from sluice.deploy.resources import remains_of, resources_of
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.stage import Choices, Location, Stage
from tests.support.deploy.front import Front

ROOT = Path(__file__).parents[3]
RULES = (ROOT / "chalicelib" / "rules.toml").read_text()
REGION = "us-east-1"
LOCATION = Location(account="123456789012", region=REGION)
NOW = 1_760_000_000


def owners_rule(name: str, priority: int, action: str = "Count") -> dict[str, Any]:
    """Returns a rule of a web ACL's owner."""
    return {
        "Name": name,
        "Priority": priority,
        "Statement": {"GeoMatchStatement": {"CountryCodes": ["AQ"]}},
        "Action": {action: {}},
        "VisibilityConfig": {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": name},
    }


THEIRS = owners_rule("theirs", 1)
"""A rule of a web ACL's owner. moto keeps the rules of a web ACL whose last one is removed."""


@dataclass
class World:
    """An account and a checkout, and setup and teardown in them."""

    front: Front
    account: AwsAccount
    project: Project
    tokens: list[str] = field(default_factory=list)
    now: int = NOW
    """Epoch seconds at which stages are set up."""

    def stage(self, **choices: Any) -> Stage:
        return Stage(name="prod", location=self.account.location, choices=Choices(**choices))

    def plan(self, stage: Stage) -> list[Step]:
        resources = resources_of(stage, rules=RULES, now=self.now, project=self.project, show_token=self.tokens.append)
        return to_set_up(survey(resources, self.account))

    def set_up(self, stage: Stage) -> list[Step]:
        steps = self.plan(stage)
        apply(steps, self.account, lambda step: None)
        return steps

    def plan_teardown(self, stage: Stage) -> list[Step]:
        return to_tear_down(survey_remains(remains_of(stage, now=self.now, project=self.project), self.account))

    def tear_down(self, stage: Stage) -> list[Step]:
        steps = self.plan_teardown(stage)
        apply(steps, self.account, lambda step: None)
        return steps

    def replace_tally_table(self, stage: Stage) -> None:
        """Replaces the tally table with an empty one as version 0.2 made it: without a stream."""
        client = self.account.client("dynamodb")
        client.delete_table(TableName=stage.tally_table)
        client.create_table(
            TableName=stage.tally_table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "log", "AttributeType": "S"},
                {"AttributeName": "offset", "AttributeType": "N"},
            ],
            KeySchema=[{"AttributeName": "log", "KeyType": "HASH"}, {"AttributeName": "offset", "KeyType": "RANGE"}],
            Tags=stage.tag_list,
        )

    def web_acl(self, name: str = "edge", scope: str = "CLOUDFRONT", rules: Sequence[dict[str, Any]] = ()) -> str:
        """Creates a web ACL and returns its ARN."""
        visibility = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": name}
        answer = self.account.client("wafv2").create_web_acl(
            Name=name, Scope=scope, DefaultAction={"Allow": {}}, VisibilityConfig=visibility, Rules=list(rules)
        )
        arn: str = answer["Summary"]["ARN"]
        return arn

    def distribution(self) -> str:
        """Creates a distribution and returns its id."""
        config = {
            "CallerReference": "1",
            "Comment": "",
            "Enabled": True,
            "Origins": {
                "Quantity": 1,
                "Items": [
                    {"Id": "o", "DomainName": "site.s3.amazonaws.com", "S3OriginConfig": {"OriginAccessIdentity": ""}}
                ],
            },
            "DefaultCacheBehavior": {
                "TargetOriginId": "o",
                "ViewerProtocolPolicy": "allow-all",
                "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
                "MinTTL": 0,
            },
        }
        answer = self.account.client("cloudfront").create_distribution(DistributionConfig=config)
        id_: str = answer["Distribution"]["Id"]
        return id_


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def as_committed(project: Project) -> Project:
    """Removes the stages that an operator of this checkout may have set up, and returns the project."""
    config = project.config()
    config["stages"] = {"dev": config["stages"]["dev"]}
    project.config_file.write_text(json.dumps(config))
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A copy of the checkout's ``.chalice``."""
    shutil.copytree(ROOT / ".chalice", tmp_path / ".chalice", ignore=shutil.ignore_patterns("deploy*", "policy-*-*"))
    return as_committed(Project(tmp_path))


SERVICES = (
    *(
        "budgets",
        "cloudformation",
        "cloudfront",
        "cloudwatch",
        "dynamodb",
        "iam",
        "kinesis",
        "lambda",
        "logs",
        "pricing-plan-manager",
        "ssm",
    ),
    *("s3", "sns", "sqs"),
)


@pytest.fixture(scope="session")
def _connected() -> tuple[Front, AwsAccount]:
    """Shared clients, because creating them is slow. Each test's own ``mock_aws`` begins with an empty account."""
    with pytest.MonkeyPatch.context() as patch, mock_aws(), Front().installed() as front:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        account = connect(region=REGION, profile=None)
        assert account.location.account == LOCATION.account
        for service in (*SERVICES, "wafv2"):
            account.client(service)
    return front, account


@pytest.fixture
def world(project: Project, _connected: tuple[Front, AwsAccount]) -> Iterator[World]:
    front, account = _connected
    with mock_aws():
        front.reset()
        yield World(front, account, project)


Run = Callable[..., Result]


@pytest.fixture
def run(world: World) -> Run:
    """Returns a function that runs a command as an operator types it."""

    def invoke(command: str, *arguments: str, region: str = REGION, typed: str = "") -> Result:
        where = [] if command in ("cost", "detach") else ["--project", str(world.project.directory)]
        account = replace(world.account, region=region)
        words = [*command.split(), *where, *arguments]
        return CliRunner().invoke(main, words, input=typed, obj=account, env={"COLUMNS": "110"})

    return invoke
