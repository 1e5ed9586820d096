"""The role that CloudFront and CloudWatch Logs assume to write to the log stream."""

import json
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.policies import allow, policy
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Stage

POLICY = "write-to-the-log-stream"

REQUIRED_BY_CLOUDFRONT = "DescribeStreamSummary DescribeStream PutRecord PutRecords"
"""Actions on the stream, of which CloudWatch Logs needs the last two."""


class DeliveryRole(Resource):
    kind = "IAM role"

    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("iam")
        with missing_ok("NoSuchEntity"):
            role = client.get_role(RoleName=self.name)["Role"]
            tags = list(account.list_all("iam", "list_role_tags", "Tags", RoleName=self.name))
            permissions = None
            with missing_ok("NoSuchEntity"):
                permissions = client.get_role_policy(RoleName=self.name, PolicyName=POLICY)["PolicyDocument"]
            wrong = [] if role["AssumeRolePolicyDocument"] == trust(self.stage) else ["trust policy"]
            wrong += [] if permissions == self._permissions() else ["permissions"]
            return Existing(self.tagged(tags), wrong, {"has_policy": permissions is not None})
        return None

    def create(self, account: AwsAccount) -> None:
        account.client("iam").create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(trust(self.stage)),
            Description="Writes access logs into Sluice's log stream.",
            Tags=self.stage.tag_list,
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("iam")
        if "trust policy" in existing.differences:
            client.update_assume_role_policy(RoleName=self.name, PolicyDocument=json.dumps(trust(self.stage)))
        document = json.dumps(self._permissions())
        client.put_role_policy(RoleName=self.name, PolicyName=POLICY, PolicyDocument=document)

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("iam")
        if existing.facts["has_policy"]:
            client.delete_role_policy(RoleName=self.name, PolicyName=POLICY)
        client.delete_role(RoleName=self.name)

    def _permissions(self) -> dict[str, Any]:
        return policy([allow("kinesis", REQUIRED_BY_CLOUDFRONT, self.stage.log_stream_arn)])


def trust(stage: Stage) -> dict[str, Any]:
    """Returns the trust policy. Only CloudWatch Logs names the source of a call, so only its role is restricted."""
    assume: dict[str, Any] = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    logs_only = {"StringLike": {"aws:SourceArn": stage.location.arn("logs", "*")}}
    statements: dict[str, dict[str, Any]] = {
        "cloudfront": {**assume, "Principal": {"Service": "cloudfront.amazonaws.com"}},
        "waf": {**assume, "Principal": {"Service": "logs.amazonaws.com"}, "Condition": logs_only},
    }
    return policy([statements[source] for source in stage.choices.sources])
