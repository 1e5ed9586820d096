"""The operator's policy, compared with the calls that the commands make over moto."""

import json
import re
from fnmatch import fnmatchcase

import pytest
from botocore.session import Session

from sluice.deploy.doctor.checks import inspect
from sluice.deploy.doctor.inspection import Inspection
from sluice.deploy.operator_policy import ACTIONS, ANYWHERE, FILE, LARGEST, OWN, operator_policy, written
from sluice.deploy.stage import Stage
from tests.support.deploy.account import NOW, ROOT, THEIRS, Run, World
from tests.support.deploy.functions import deploy_functions

RENAMED = {
    "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "s3:PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "budgets:CreateBudget": "budgets:ModifyBudget",
    "budgets:DeleteBudget": "budgets:ModifyBudget",
    "budgets:DescribeBudget": "budgets:ViewBudget",
    "dynamodb:TransactWriteItems": "dynamodb:PutItem",
    "pricing-plan-manager:ListSubscriptions": "pricingplanmanager:ListSubscriptions",
}
"""Actions that are not named like the call. The commands' transactions only put items."""

WITHOUT_A_CALL = {
    *("iam:PassRole", "iam:TagRole", "sqs:TagQueue", "kinesis:AddTagsToStream", "ssm:AddTagsToResource"),
    *("cloudfront:AllowVendedLogDeliveryForResource", "elasticloadbalancing:AllowVendedLogDeliveryForResource"),
}
"""Actions that AWS checks, and that no operation of the service is named like, or that creations with tags need."""


def action_of(call: str) -> str:
    """Returns the action that IAM checks for a call. For API Gateway, it is the HTTP method."""
    service, operation = call.split(":")
    if service == "apigateway":
        model = Session().get_service_model(service).operation_model(operation)
        return f"apigateway:{model.http['method']}"
    return RENAMED.get(call, call)


def allowed(action: str) -> bool:
    patterns = [each for statement in operator_policy()["Statement"] for each in statement["Action"]]
    return any(fnmatchcase(action, pattern) for pattern in patterns)


def outside(world: World) -> list[str]:
    """Returns the actions behind the recorded calls that the policy does not allow."""
    return sorted(action for action in set(map(action_of, world.front.calls)) if not allowed(action))


@pytest.fixture
def stage(deployable: World) -> Stage:
    """A stage with every kind of resource and every addition."""
    client = deployable.account.client
    client("s3").create_bucket(Bucket="site-logs")
    client("logs").create_log_group(logGroupName="/site/access")
    stage = deployable.stage(
        sources=("cloudfront", "waf", "cloudfront-standard"),
        web_acls=(deployable.web_acl(rules=[THEIRS]),),
        distributions=(deployable.distribution(),),
        log_groups=("/site/access",),
        buckets=("site-logs/",),
        own_web_acl=True,
        notices=("email:ops@example.com", "chat"),
        alarms=True,
        alarm_emails=("ops@example.com",),
        settings={"EVENT_BUS": "default"},
    )
    deployable.front.calls.clear()
    return stage


def test_every_call_of_the_commands_is_allowed(deployable: World, stage: Stage) -> None:
    deployable.set_up(stage)
    deploy_functions(deployable, stage)
    inspect(Inspection(stage, deployable.account, deployable.project, NOW))
    deployable.tear_down(stage)
    assert len(set(deployable.front.calls)) > 80
    assert outside(deployable) == []


def test_every_call_of_the_commands_for_a_stack_is_allowed(deployable: World, run: Run) -> None:
    """Those that CloudFormation makes in the operator's name are not recorded."""
    for command in ("stack deploy", "stack delete"):
        done = run(command, "--yes")
        assert done.exit_code == 0, done.output
    assert "cloudformation:ExecuteChangeSet" in deployable.front.calls
    assert outside(deployable) == []


def test_every_action_exists() -> None:
    session, unknown = Session(), []
    for action in (*(f"{service}:{name}" for service, names in ACTIONS.items() for name in names), *ANYWHERE):
        service, name = action.split(":")
        if service in ("apigateway", "pricingplanmanager") or action in WITHOUT_A_CALL:
            continue
        operations = session.get_service_model(service).operation_names
        renamed = [new.split(":")[1] for old, new in RENAMED.items() if new.startswith(f"{service}:")]
        if not any(fnmatchcase(operation, name) for operation in (*operations, *renamed)):
            unknown.append(action)
    assert unknown == []


def test_what_is_allowed_on_everything_creates_and_deletes_nothing_of_others_but_logs_and_waf_resources() -> None:
    assert ACTIONS.keys() == OWN.keys()
    for resource in (each for names in OWN.values() for each in names):
        assert re.search(r"sluice|/restapis|/tags/|event-source-mapping|Serverless", resource), resource
    writes = {each for each in ANYWHERE if re.search(r":(Create|Delete|\*)", each)}
    assert {each.split(":")[0] for each in writes} == {"cloudfront", "lambda", "logs", "wafv2"}


def test_the_file_is_current_and_fits_into_a_managed_policy() -> None:
    document = operator_policy()
    assert (ROOT / FILE).read_text() == written(document)
    assert len(json.dumps(document, separators=(",", ":"))) <= LARGEST
