"""The traffic and the web ACLs that a cost estimate starts from, read from the account."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from sluice.deploy.account import AwsAccount
from sluice.deploy.placement import Placement
from sluice.deploy.plan import Step, StepAction
from sluice.deploy.resources.web_acls import WebAclRule, web_acl_name
from sluice.deploy.stage import Choices

OBSERVED = timedelta(days=7)
"""Time over which requests are averaged."""


def observed_requests_per_second(account: AwsAccount, choices: Choices, now: int) -> float | None:
    """Returns the average rate of the last week; None if CloudWatch has no figures, or may not be asked.

    ``now`` is epoch seconds. The distributions' requests are counted or, without distributions, those that the web ACLs
    inspected.
    """
    requests = 0.0
    with suppress(ClientError, BotoCoreError):
        if choices.distributions:
            for id_ in choices.distributions:
                dimensions = {"DistributionId": id_, "Region": "Global"}
                requests += _sum(account, "AWS/CloudFront", "Requests", dimensions, now)
        else:
            for arn in choices.web_acls:
                dimensions = {"WebACL": web_acl_name(arn), "Rule": "ALL"}
                if choices.scope == "REGIONAL":
                    dimensions["Region"] = account.region
                for name in ("AllowedRequests", "BlockedRequests"):
                    requests += _sum(account, "AWS/WAFV2", name, dimensions, now)
    return requests / OBSERVED.total_seconds() or None


def placements(account: AwsAccount, steps: Sequence[Step]) -> list[Placement]:
    """Returns the place of Sluice's rule in each web ACL of a plan. Raises Refusal."""
    resources = [step.resource for step in steps if step.action not in (StepAction.REFUSE, StepAction.LEAVE)]
    return [each.placement(account) for each in resources if isinstance(each, WebAclRule)]


def _sum(account: AwsAccount, namespace: str, name: str, dimensions: Mapping[str, str], now: int) -> float:
    end = datetime.fromtimestamp(now, UTC)
    answer = account.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=end - OBSERVED,
        EndTime=end,
        Period=int(timedelta(days=1).total_seconds()),
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in answer["Datapoints"]))
