"""The policy of an operator: what the commands that deploy, check and remove stages may call, as a file to attach.

``python -m sluice.deploy.operator_policy`` writes it. A test runs the commands and fails for a call outside it. It also
covers what AWS checks without a call of its own: tags that are given with a creation, roles that are passed on,
deliveries of logs that AWS sets up in the operator's name, and every rule group, IP set and pattern set that a web ACL
names (Service Authorization Reference, "Actions, resources, and condition keys for AWS WAF V2"; CloudWatch Logs User
Guide, "Enable logging from AWS services").
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sluice.deploy.policies import Policy, policy

FILE = Path("docs/operate/operator-policy.json")

LARGEST = 6144
"""Most characters of a managed policy, not counting white space (IAM User Guide, "IAM and AWS STS quotas")."""

ACTIONS: Mapping[str, Sequence[str]] = {
    "apigateway": ("DELETE", "GET", "PATCH", "POST", "PUT", "UpdateRestApiPolicy"),
    "budgets": ("ListTagsForResource", "ModifyBudget", "TagResource", "ViewBudget"),
    "cloudformation": (
        *("ContinueUpdateRollback", "CreateChangeSet", "DeleteChangeSet", "DeleteStack", "DescribeChangeSet"),
        *("DescribeStackEvents", "DescribeStacks", "ExecuteChangeSet", "GetTemplate", "ListStackResources"),
    ),
    "cloudwatch": (
        *("DeleteAlarms", "DeleteDashboards", "GetDashboard", "ListTagsForResource", "PutDashboard"),
        *("PutMetricAlarm", "TagResource"),
    ),
    "dynamodb": (
        *("CreateTable", "DeleteTable", "DescribeContinuousBackups", "DescribeTable", "DescribeTimeToLive", "GetItem"),
        *("ListTagsOfResource", "PutItem", "Query", "TagResource", "UpdateContinuousBackups", "UpdateTable"),
        "UpdateTimeToLive",
    ),
    "events": (
        *("DeleteRule", "DescribeRule", "ListTagsForResource", "ListTargetsByRule", "PutRule", "PutTargets"),
        *("RemoveTargets", "TagResource", "*ApiDestination", "*Connection"),
    ),
    "iam": (
        *("CreateRole", "DeleteRole", "DeleteRolePolicy", "GetRole", "GetRolePolicy", "ListRolePolicies"),
        *("ListRoleTags", "PassRole", "PutRolePolicy", "TagRole", "UpdateAssumeRolePolicy"),
    ),
    "kinesis": (
        *("AddTagsToStream", "CreateStream", "DeleteStream", "DescribeStream", "DescribeStreamSummary"),
        *("ListTagsForStream", "StartStreamEncryption", "StopStreamEncryption", "UpdateShardCount", "UpdateStreamMode"),
    ),
    "lambda": (
        *("AddPermission", "CreateFunction", "DeleteFunction", "DeleteFunctionConcurrency", "GetFunction"),
        *("GetFunctionConcurrency", "GetFunctionConfiguration", "GetPolicy", "ListTags", "PutFunctionConcurrency"),
        *("RemovePermission", "TagResource", "UntagResource", "UpdateFunctionCode", "UpdateFunctionConfiguration"),
    ),
    "s3": (
        *("CreateBucket", "DeleteBucket", "DeleteObject", "GetBucketTagging", "GetObject", "ListBucket"),
        *("PutBucketPublicAccessBlock", "PutBucketTagging", "PutObject"),
    ),
    "secretsmanager": ("CreateSecret", "DeleteSecret", "PutSecretValue", "UpdateSecret"),
    "sns": (
        *("CreateTopic", "DeleteTopic", "GetTopicAttributes", "ListTagsForResource", "SetTopicAttributes"),
        *("Subscribe", "TagResource", "Unsubscribe"),
    ),
    "sqs": (
        *("CreateQueue", "DeleteQueue", "GetQueueAttributes", "GetQueueUrl", "ListQueueTags", "SetQueueAttributes"),
        "TagQueue",
    ),
    "ssm": ("AddTagsToResource", "DeleteParameter", "GetParameter", "ListTagsForResource", "PutParameter"),
}
"""Actions on what belongs to stages."""

OWN: Mapping[str, Sequence[str]] = {
    "apigateway": ("arn:aws:apigateway:*::/restapis*", "arn:aws:apigateway:*::/tags/*"),
    "budgets": ("arn:aws:budgets::*:budget/sluice-*",),
    "cloudformation": (
        "arn:aws:cloudformation:*:*:stack/sluice*",
        "arn:aws:cloudformation:*:aws:transform/Serverless-2016-10-31",
    ),
    "cloudwatch": ("arn:aws:cloudwatch:*:*:alarm:sluice-*", "arn:aws:cloudwatch::*:dashboard/sluice-*"),
    "dynamodb": ("arn:aws:dynamodb:*:*:table/sluice-*",),
    "events": tuple(
        f"arn:aws:events:*:*:{name}/sluice-*" for name in ("rule", "rule/*", "connection", "api-destination")
    ),
    "iam": ("arn:aws:iam::*:role/sluice-*",),
    "kinesis": ("arn:aws:kinesis:*:*:stream/sluice-*",),
    "lambda": ("arn:aws:lambda:*:*:function:sluice-*", "arn:aws:lambda:*:*:event-source-mapping:*"),
    "s3": ("arn:aws:s3:::sluice-*",),
    # EventBridge keeps a connection by it.
    "secretsmanager": ("arn:aws:secretsmanager:*:*:secret:events!connection/sluice-*",),
    "sns": ("arn:aws:sns:*:*:sluice-*",),
    "sqs": ("arn:aws:sqs:*:*:sluice-*",),
    "ssm": ("arn:aws:ssm:*:*:parameter/sluice/*",),
}
"""Names of what belongs to stages, for any account, region and stage."""

ANYWHERE: Sequence[str] = (
    *(
        "cloudfront:*RealtimeLogConfig",
        "cloudfront:AllowVendedLogDeliveryForResource",
        "cloudfront:GetDistributionConfig",
    ),
    *("cloudfront:UpdateDistribution", "cloudwatch:DescribeAlarms", "cloudwatch:GetMetricStatistics"),
    "elasticloadbalancing:AllowVendedLogDeliveryForResource",
    *("iam:GetAccountSummary", "kinesis:DescribeLimits"),
    *("lambda:*EventSourceMapping*", "lambda:GetAccountSettings", "lambda:ListFunctions"),
    *(
        "logs:*Delivery*",
        "logs:CreateLogGroup",
        "logs:DeleteLogGroup",
        "logs:DescribeDeliver*",
        "logs:DescribeLogGroups",
    ),
    *("logs:DescribeResourcePolicies", "logs:ListTagsForResource", "logs:PutResourcePolicy", "logs:PutRetentionPolicy"),
    *("logs:*SubscriptionFilter*", "logs:TagResource"),
    "pricingplanmanager:ListSubscriptions",
    *("s3:GetBucketLocation", "s3:GetBucketNotification", "s3:PutBucketNotification"),
    *("sns:ListSubscriptionsByTopic", "ssm:DescribeParameters", "sts:GetCallerIdentity"),
    *("wafv2:*IPSet*", "wafv2:*RuleGroup*", "wafv2:*WebACL*", "wafv2:*LoggingConfiguration"),
    *("wafv2:ListTagsForResource", "wafv2:TagResource"),
)
"""Actions that AWS checks on what others own as well, or on everything."""


def operator_policy() -> Policy:
    """Returns the policy, for all stages of any account."""
    own = [
        {"Effect": "Allow", "Action": [f"{service}:{name}" for name in names], "Resource": list(OWN[service])}
        for service, names in ACTIONS.items()
    ]
    return policy([*own, {"Effect": "Allow", "Action": list(ANYWHERE), "Resource": "*"}])


def written(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(operator_policy()))
