"""WAF's logs: from a web ACL to a CloudWatch log group, and from there to the stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import Account, absent
from sluice.deploy.resource import Found, Resource
from sluice.deploy.resources.waf import BUSY
from sluice.deploy.stage import Refusal

KEPT_DAYS = 1
"""The group only passes the lines on."""

NOT_YET_KNOWN = ("InvalidParameterException", "OperationAbortedException")
"""What CloudWatch Logs answers while it cannot write to the stream yet; it tries with a test record."""


class LogGroup(Resource):
    kind = "CloudWatch log group"
    about = f"where WAF writes its logs; kept for {KEPT_DAYS} day"

    @property
    def name(self) -> str:
        return self.stage.waf_log_group

    def find(self, account: Account) -> Found | None:
        client = account.client("logs")
        for group in account.every("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=self.name):
            if group["logGroupName"] == self.name:
                arn = group["arn"].removesuffix(":*")
                tags = client.list_tags_for_resource(resourceArn=arn)["tags"]
                return Found(self.tagged(tags), {"arn": arn, "kept_days": group.get("retentionInDays")})
        return None

    def differences(self, found: Found) -> list[str]:
        return [] if found.facts["kept_days"] == KEPT_DAYS else [f"lines are kept for {KEPT_DAYS} day"]

    def create(self, account: Account) -> None:
        account.client("logs").create_log_group(logGroupName=self.name, tags=self.stage.tags)

    def change(self, account: Account, found: Found) -> None:  # noqa: ARG002
        account.client("logs").put_retention_policy(logGroupName=self.name, retentionInDays=KEPT_DAYS)

    def remove(self, account: Account, found: Found) -> None:  # noqa: ARG002
        account.client("logs").delete_log_group(logGroupName=self.name)


class Subscription(Resource):
    kind = "log subscription"
    about = "every line goes to the stream, spread over its shards"

    @property
    def name(self) -> str:
        return f"{self.stage.waf_log_group}/{self.stage.prefix}"

    def find(self, account: Account) -> Found | None:
        with absent("ResourceNotFoundException"):
            for one in account.every(
                "logs", "describe_subscription_filters", "subscriptionFilters", logGroupName=self.stage.waf_log_group
            ):
                if one["filterName"] == self.stage.prefix:
                    return Found(ours=True, facts=one)
        return None

    def differences(self, found: Found) -> list[str]:
        return (
            ["stream, role or distribution"] if any(found.facts.get(k) != v for k, v in self._wanted().items()) else []
        )

    def create(self, account: Account) -> None:
        account.patiently(
            lambda: account.client("logs").put_subscription_filter(
                logGroupName=self.stage.waf_log_group, filterName=self.stage.prefix, **self._wanted()
            ),
            NOT_YET_KNOWN,
        )

    def change(self, account: Account, found: Found) -> None:  # noqa: ARG002
        self.create(account)

    def remove(self, account: Account, found: Found) -> None:  # noqa: ARG002
        account.client("logs").delete_subscription_filter(
            logGroupName=self.stage.waf_log_group, filterName=self.stage.prefix
        )

    def _wanted(self) -> Mapping[str, Any]:
        return {
            "filterPattern": "",
            "destinationArn": self.stage.log_stream_arn,
            "roleArn": self.stage.delivery_role_arn,
            # By log stream, the default, all lines would meet in one shard.
            "distribution": "Random",
        }


@dataclass(frozen=True, slots=True)
class WebAclLogging(Resource):
    """A web ACL's logging configuration: it has at most one."""

    kind = "web ACL logging"

    web_acl: str
    """ARN."""

    @property
    def name(self) -> str:
        return self.web_acl.split("/")[-2]

    @property
    def about(self) -> str:
        return f"writes to {self.stage.waf_log_group}"

    def find(self, account: Account) -> Found | None:
        with absent("WAFNonexistentItemException"):
            answer = account.client("wafv2").get_logging_configuration(ResourceArn=self.web_acl)
            config = answer["LoggingConfiguration"]
            destination = config["LogDestinationConfigs"][0].removesuffix(":*")
            if destination != self._group_arn():
                raise Refusal(
                    f"web ACL {self.name} logs to {destination} already, and has room for one destination. If that is "
                    "a CloudWatch log group, subscribe the stream to it yourself (distribution Random) and run setup "
                    "without this --web-acl's logs; else take it off first"
                )
            return Found(ours=True, facts=config)
        return None

    def create(self, account: Account) -> None:
        account.patiently(
            lambda: account.client("wafv2").put_logging_configuration(
                LoggingConfiguration={"ResourceArn": self.web_acl, "LogDestinationConfigs": [self._group_arn()]}
            ),
            BUSY,
        )

    def remove(self, account: Account, found: Found) -> None:  # noqa: ARG002
        account.client("wafv2").delete_logging_configuration(ResourceArn=self.web_acl)

    def _group_arn(self) -> str:
        return self.stage.place.arn("logs", f"log-group:{self.stage.waf_log_group}")
