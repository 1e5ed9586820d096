"""Quotas of the account that the parts of a stage would exceed, found before anything is created.

Sources: Amazon Kinesis Data Streams API Reference, DescribeLimits; IAM API Reference, GetAccountSummary.
"""

from collections.abc import Iterable

from sluice.deploy.account import AwsAccount, attempting
from sluice.deploy.plan import Step, StepAction
from sluice.deploy.resources.roles import ServiceRole
from sluice.deploy.resources.streams import LogStream
from sluice.deploy.stage import Refusal


def check_plan(steps: Iterable[Step], account: AwsAccount) -> None:
    """Raises Refusal if the account has no room for a stream or the roles that a plan creates, and AwsError."""
    created = [step.resource for step in steps if step.action is StepAction.CREATE]
    for stream in created:
        if isinstance(stream, LogStream):
            _check_stream(stream.stage.choices.shards, account)
    check_roles(sum(isinstance(resource, ServiceRole) for resource in created), account)


def check_roles(number: int, account: AwsAccount) -> None:
    """Raises Refusal if the account has no room for so many more IAM roles, and AwsError."""
    if number:
        with attempting("read the account's quota of IAM roles"):
            summary = account.client("iam").get_account_summary()["SummaryMap"]
        _check("IAM roles", summary["Roles"], number, summary["RolesQuota"])


def _check_stream(shards: int, account: AwsAccount) -> None:
    """Raises Refusal if there is no room for a stream of ``shards`` shards; 0 is an on-demand stream."""
    with attempting("read the account's quotas of Kinesis"):
        limits = account.client("kinesis").describe_limits()
    if shards:
        _check("shards of Kinesis", limits["OpenShardCount"], shards, limits["ShardLimit"])
    else:
        _check("on-demand streams of Kinesis", limits["OnDemandStreamCount"], 1, limits["OnDemandStreamCountLimit"])


def _check(things: str, existing: int, needed: int, quota: int) -> None:
    if existing + needed > quota:
        raise Refusal(
            f"the account has {existing:,} of at most {quota:,} {things}, and the stage needs {needed:,} more: remove "
            "some that nothing uses, or ask AWS for a higher quota (Service Quotas in the console)"
        )
