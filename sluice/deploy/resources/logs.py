"""CloudWatch log groups: WAF's, from a web ACL to the group and on to the stream, and those of other owners."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.waf import BUSY
from sluice.deploy.stage import Location, Refusal

NOT_WRITABLE_YET = ("InvalidParameterException", "OperationAbortedException")
"""Error codes of CloudWatch Logs while its test record does not reach the stream, because the role is new."""

WRITABLE_WITHIN_S = 300.0
"""Longest time, in seconds, until the test record reaches the stream: a new role sometimes takes minutes."""

MOST_SUBSCRIPTIONS = 2
"""Subscription filters of a log group (Amazon CloudWatch Logs User Guide, "CloudWatch Logs quotas")."""


@dataclass(frozen=True, slots=True)
class LogGroup(Resource):
    kind = "CloudWatch log group"

    kept_days: int

    def find(self, account: AwsAccount) -> Existing | None:
        group = _group(self.name, account)
        if group is None:
            return None
        arn = group["arn"].removesuffix(":*")
        tags = account.client("logs").list_tags_for_resource(resourceArn=arn)["tags"]
        kept = group.get("retentionInDays") == self.kept_days
        differences = [] if kept else [f"retention becomes {self.kept_days} days"]
        return Existing(self.stage.tags.items() <= tags.items(), differences)

    def create(self, account: AwsAccount) -> None:
        account.client("logs").create_log_group(logGroupName=self.name, tags=self.stage.tags)

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("logs").put_retention_policy(logGroupName=self.name, retentionInDays=self.kept_days)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("logs").delete_log_group(logGroupName=self.name)


def _group(name: str, account: AwsAccount) -> Mapping[str, Any] | None:
    """Returns CloudWatch Logs' description of a log group; None if there is no such group in the account's region."""
    groups = account.list_all("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=name)
    return next((group for group in groups if group["logGroupName"] == name), None)


def group_name(group: str, location: Location) -> str:
    """Returns the name of a log group, given its name or its ARN. Raises Refusal for a group that is elsewhere.

    >>> group_name("arn:aws:logs:us-east-1:1:log-group:/site/access:*", Location(account="1", region="us-east-1"))
    '/site/access'
    """
    if not group.startswith("arn:"):
        return group
    name = group.removesuffix(":*").rpartition(":")[2]
    if group.removesuffix(":*") != location.arn("logs", f"log-group:{name}"):
        raise Refusal(
            f"log group {group} is not in {location}, and a stream is subscribed only to groups of its own account and "
            "region. Set up a stage where the group is"
        )
    return name


@dataclass(frozen=True, slots=True)
class LogSubscription(Resource):
    """The subscription of the stream to a log group that setup creates."""

    kind = "log subscription"

    group: str
    """Name of the log group."""

    @missing_ok("ResourceNotFoundException")
    def find(self, account: AwsAccount) -> Existing | None:
        for subscription in _subscriptions(self.group, account):
            if subscription["filterName"] == self.stage.prefix:
                matches = self.desired().items() <= subscription.items()
                return Existing(ours=True, differences=[] if matches else ["stream, role, pattern or distribution"])
        return None

    def create(self, account: AwsAccount) -> None:
        put = account.client("logs").put_subscription_filter
        account.retry(put, NOT_WRITABLE_YET, WRITABLE_WITHIN_S, **self._identity(), **self.desired())

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        account.client("logs").delete_subscription_filter(**self._identity())

    def _identity(self) -> Mapping[str, Any]:
        return {"logGroupName": self.group, "filterName": self.stage.prefix}

    def desired(self) -> Mapping[str, Any]:
        return {
            "filterPattern": "",
            "destinationArn": self.stage.log_stream_arn,
            "roleArn": self.stage.delivery_role_arn,
            # The default, by log stream, sends all lines to one shard.
            "distribution": "Random",
        }


class AddedSubscription(LogSubscription):
    """The subscription of the stream to a log group of another owner, beside at most one other subscription."""

    def find(self, account: AwsAccount) -> Existing | None:
        existing = super().find(account)
        obstacle = "" if existing else self._obstacle(account)
        return Existing(ours=False, obstacle=obstacle) if obstacle else existing

    def _obstacle(self, account: AwsAccount) -> str:
        """Returns why the stream cannot be subscribed to the group; empty if it can."""
        group = _group(self.group, account)
        if group is None:
            region = account.region
            return (
                f"is not possible: log group {self.group} does not exist in {region}; list the groups with 'aws logs "
                f"describe-log-groups --region {region}'"
            )
        class_ = group.get("logGroupClass", "STANDARD")
        if class_ != "STANDARD":
            return (
                f"is not possible: log group {self.group} is of class {class_}, and CloudWatch Logs subscribes streams "
                "to groups of class STANDARD alone. The class cannot change: let the log go to another group"
            )
        others = [subscription["filterName"] for subscription in _subscriptions(self.group, account)]
        if len(others) >= MOST_SUBSCRIPTIONS:
            return (
                f"is not possible: log group {self.group} has the subscription filters {' and '.join(others)}, and "
                f"CloudWatch Logs allows {MOST_SUBSCRIPTIONS}. Remove one of them, or let the log go to another group"
            )
        return ""


def _subscriptions(group: str, account: AwsAccount) -> Iterator[Mapping[str, Any]]:
    return account.list_all("logs", "describe_subscription_filters", "subscriptionFilters", logGroupName=group)


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
                f"web ACL {self.name} logs to {destination} already, and WAF allows one destination. Leave out "
                "--source waf, and count that log: a CloudWatch log group with --log-group NAME, an S3 bucket with "
                "--bucket NAME. Otherwise remove it first"
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
