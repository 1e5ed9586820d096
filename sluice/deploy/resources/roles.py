"""The role that CloudFront and CloudWatch Logs assume to write to the log stream."""

import json
from typing import Any

from sluice.deploy.account import AwsAccount, as_list, as_mapping, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Stage

POLICY = "write-to-the-log-stream"


class DeliveryRole(Resource):
    kind = "IAM role"
    about = "lets the log sources write to the stream, and nothing else"

    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("iam")
        with missing_ok("NoSuchEntity"):
            role = client.get_role(RoleName=self.name)["Role"]
            tags = as_mapping(list(account.list_all("iam", "list_role_tags", "Tags", RoleName=self.name)))
            facts = {"trust": role["AssumeRolePolicyDocument"], "policy": None}
            with missing_ok("NoSuchEntity"):
                policy = client.get_role_policy(RoleName=self.name, PolicyName=POLICY)
                facts["policy"] = policy["PolicyDocument"]
            return Existing(self.tagged(tags), facts)
        return None

    def differences(self, existing: Existing) -> list[str]:
        wrong = []
        if existing.facts["trust"] != trust(self.stage):
            wrong.append("trust policy")
        if existing.facts["policy"] != permissions(self.stage):
            wrong.append("permissions")
        return wrong

    def create(self, account: AwsAccount) -> None:
        account.client("iam").create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(trust(self.stage)),
            Description="Writes access logs into Sluice's log stream.",
            Tags=as_list(self.stage.tags),
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("iam")
        if existing.facts["trust"] != trust(self.stage):
            client.update_assume_role_policy(RoleName=self.name, PolicyDocument=json.dumps(trust(self.stage)))
        client.put_role_policy(
            RoleName=self.name, PolicyName=POLICY, PolicyDocument=json.dumps(permissions(self.stage))
        )

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("iam")
        if existing.facts["policy"] is not None:
            client.delete_role_policy(RoleName=self.name, PolicyName=POLICY)
        client.delete_role(RoleName=self.name)


def trust(stage: Stage) -> dict[str, Any]:
    """Returns the trust policy. Only CloudWatch Logs names the source of a call, so only its role is restricted."""
    statements: dict[str, dict[str, Any]] = {
        "cloudfront": {"Principal": {"Service": "cloudfront.amazonaws.com"}},
        "waf": {
            "Principal": {"Service": "logs.amazonaws.com"},
            "Condition": {"StringLike": {"aws:SourceArn": stage.location.arn("logs", "*")}},
        },
    }
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", **statements[source]} for source in stage.choices.sources
        ],
    }


def permissions(stage: Stage) -> dict[str, Any]:
    """Returns the actions that CloudFront requires; CloudWatch Logs needs PutRecord and PutRecords of them."""
    actions = ["kinesis:DescribeStreamSummary", "kinesis:DescribeStream", "kinesis:PutRecord", "kinesis:PutRecords"]
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": stage.log_stream_arn}],
    }
