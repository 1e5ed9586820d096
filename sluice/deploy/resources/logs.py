"""CloudWatch log groups, and WAF's logs: from a web ACL to such a group, and on to the stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.waf import BUSY
from sluice.deploy.stage import Refusal

NOT_WRITABLE_YET = ("InvalidParameterException", "OperationAbortedException")
"""Error codes of CloudWatch Logs while its test record does not reach the stream, because the role is new."""


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


class LogSubscription(Resource):
    kind = "log subscription"

    @missing_ok("ResourceNotFoundException")
    def find(self, account: AwsAccount) -> Existing | None:
        group, key = self.stage.waf_log_group, "subscriptionFilters"
        for subscription in account.list_all("logs", "describe_subscription_filters", key, logGroupName=group):
            if subscription["filterName"] == self.stage.prefix:
                matches = self._desired().items() <= subscription.items()
                return Existing(ours=True, differences=[] if matches else ["stream, role or distribution"])
        return None

    def create(self, account: AwsAccount) -> None:
        put = account.client("logs").put_subscription_filter
        account.retry(put, NOT_WRITABLE_YET, **self._identity(), **self._desired())

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("logs").delete_subscription_filter(**self._identity())

    def _identity(self) -> Mapping[str, Any]:
        return {"logGroupName": self.stage.waf_log_group, "filterName": self.stage.prefix}

    def _desired(self) -> Mapping[str, Any]:
        return {
            "filterPattern": "",
            "destinationArn": self.stage.log_stream_arn,
            "roleArn": self.stage.delivery_role_arn,
            # The default, by log stream, sends all lines to one shard.
            "distribution": "Random",
        }


SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-amz-security-token", "x-api-key", "x-csrf-token")

REDACTED: tuple[dict[str, Any], ...] = (
    {"QueryString": {}},
    *({"SingleHeader": {"Name": name}} for name in SECRET_HEADERS),
)
"""Parts of a request that AWS WAF leaves out of its log: they hold secrets of visitors, and no rule examines them."""


@dataclass(frozen=True, slots=True)
class WebAclLogging(Resource):
    """The logging configuration of a web ACL, which holds at most one."""

    kind = "web ACL logging"

    web_acl: str
    """ARN."""

    @missing_ok("WAFNonexistentItemException")
    def find(self, account: AwsAccount) -> Existing | None:
        answer = account.client("wafv2").get_logging_configuration(ResourceArn=self.web_acl)
        destination = answer["LoggingConfiguration"]["LogDestinationConfigs"][0].removesuffix(":*")
        if destination != self._group_arn():
            raise Refusal(
                f"web ACL {self.name} logs to {destination} already, and WAF allows one destination. If that is a "
                "CloudWatch log group, subscribe the stream to it yourself (distribution Random) and run setup "
                "without --source waf; otherwise remove it first"
            )
        config = answer["LoggingConfiguration"]
        logged = [field for field in REDACTED if field not in config.get("RedactedFields", [])]
        differences = [f"{len(logged)} fields that hold secrets become redacted"] if logged else []
        return Existing(ours=True, differences=differences, facts={"config": config, "logged": logged})

    def create(self, account: AwsAccount) -> None:
        self._put(account, {"LogDestinationConfigs": [self._group_arn()], "RedactedFields": list(REDACTED)})

    def change(self, account: AwsAccount, existing: Existing) -> None:
        """Redacts what holds secrets, and leaves what operators have set: more redacted fields, and a filter."""
        config = existing.facts["config"]
        kept = {key: config[key] for key in ("LogDestinationConfigs", "LoggingFilter") if key in config}
        self._put(account, {**kept, "RedactedFields": [*config.get("RedactedFields", []), *existing.facts["logged"]]})

    def _put(self, account: AwsAccount, config: Mapping[str, Any]) -> None:
        put = account.client("wafv2").put_logging_configuration
        account.retry(put, BUSY, LoggingConfiguration={"ResourceArn": self.web_acl, **config})

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("wafv2").delete_logging_configuration(ResourceArn=self.web_acl)

    def _group_arn(self) -> str:
        return self.stage.location.arn("logs", f"log-group:{self.stage.waf_log_group}")
