"""CloudWatch log groups that have to exist before a service writes to them."""

from dataclasses import dataclass

from sluice.deploy.account import AwsAccount
from sluice.deploy.resource import Existing, Resource


@dataclass(frozen=True, slots=True)
class LogGroup(Resource):
    kind = "CloudWatch log group"

    kept_days: int

    def find(self, account: AwsAccount) -> Existing | None:
        for group in account.list_all("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=self.name):
            if group["logGroupName"] == self.name:
                arn = group["arn"].removesuffix(":*")
                tags = account.client("logs").list_tags_for_resource(resourceArn=arn)["tags"]
                kept = group.get("retentionInDays") == self.kept_days
                differences = [] if kept else [f"retention becomes {self.kept_days} days"]
                return Existing(self.stage.tags.items() <= tags.items(), differences)
        return None

    def create(self, account: AwsAccount) -> None:
        account.client("logs").create_log_group(logGroupName=self.name, tags=self.stage.tags)

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("logs").put_retention_policy(logGroupName=self.name, retentionInDays=self.kept_days)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("logs").delete_log_group(logGroupName=self.name)
