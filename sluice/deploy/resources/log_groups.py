"""CloudWatch log groups that have to exist before a service writes to them."""

from sluice.deploy.account import AwsAccount
from sluice.deploy.resource import Existing, Resource


class LogGroup(Resource):
    kind = "CloudWatch log group"
    kept_days: int

    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("logs")
        for group in account.list_all("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=self.name):
            if group["logGroupName"] == self.name:
                arn = group["arn"].removesuffix(":*")
                tags = client.list_tags_for_resource(resourceArn=arn)["tags"]
                return Existing(self.tagged(tags), {"arn": arn, "kept_days": group.get("retentionInDays")})
        return None

    def differences(self, existing: Existing) -> list[str]:
        return [] if existing.facts["kept_days"] == self.kept_days else [f"retention becomes {self.kept_days} days"]

    def create(self, account: AwsAccount) -> None:
        account.client("logs").create_log_group(logGroupName=self.name, tags=self.stage.tags)

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("logs").put_retention_policy(logGroupName=self.name, retentionInDays=self.kept_days)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("logs").delete_log_group(logGroupName=self.name)


class WafLogGroup(LogGroup):
    about = "receives WAF's logs and forwards them; kept for a day"
    kept_days = 1


class ApiLogGroup(LogGroup):
    """The API's log group. Chalice creates those of all functions, but this one under a name that is never used."""

    about = "logs of the admin API; kept for 30 days"
    kept_days = 30
