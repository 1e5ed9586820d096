"""Additions to a site of the CDK: statements in TypeScript.

Sources: AWS CDK Developer Guide, "Customize constructs from the AWS Construct Library"; AWS CDK API reference, "class
Bucket" and "aws_s3_notifications".
"""

import json
from collections.abc import Iterator
from typing import Any

from sluice.deploy.snippets import (
    Sources,
    cloudformation_of,
    log_config_arn,
    note_of_region,
    notified_prefixes,
    sending_buckets,
)
from sluice.deploy.stage import Stage


def cdk_of(stage: Stage, rule_group_arn: str, sources: Sources) -> str:
    """Returns statements in TypeScript that add the same to ``webAcl`` (a CfnWebACL), ``distribution`` and
    ``bucket``."""
    added = cloudformation_of(stage, rule_group_arn, sources)
    (rule,) = added["AWS::WAFv2::WebACL"]["Rules"]
    lines = [
        "// import { CfnResource } from 'aws-cdk-lib';",
        "// import { CfnDistribution } from 'aws-cdk-lib/aws-cloudfront';",
        "// import { CfnWebACL } from 'aws-cdk-lib/aws-wafv2';",
        f"webAcl.rules = [{_literal(_as_props(rule))}, ...(webAcl.rules as CfnWebACL.RuleProperty[] ?? [])];",
    ]
    if "AWS::CloudFront::Distribution" in added:
        path, arn = "DistributionConfig.DefaultCacheBehavior.RealtimeLogConfigArn", log_config_arn(stage)
        lines.append("// likewise DistributionConfig.CacheBehaviors.0, .1, ...")
        lines.append(f"(distribution.node.defaultChild as CfnDistribution).addPropertyOverride('{path}', '{arn}');")
    if "AWS::WAFv2::LoggingConfiguration" in added:
        kind = "AWS::WAFv2::LoggingConfiguration"
        properties = _literal(added[kind]).removeprefix("{")
        lines.append(f"new CfnResource(this, 'SluiceLog', {{type: '{kind}', properties: {{")
        lines.append(f"  ResourceArn: webAcl.attrArn, {properties}}});")
    lines += _cdk_buckets(stage)
    if "Resources" in added:
        lines.append(f"// {note_of_region(stage)}")
    for name, resource in added.get("Resources", {}).items():
        properties = _literal(resource["Properties"])
        created = f"new CfnResource(this, '{name}', {{type: '{resource['Type']}', properties: {properties}}})"
        lines.append(f"const {_lowered(name)} = {created};")
        if "DependsOn" in resource:
            lines.append(f"{_lowered(name)}.addDependency({_lowered(resource['DependsOn'])});")
    return "\n".join(lines)


def _cdk_buckets(stage: Stage) -> Iterator[str]:
    """Yields statements that add to the notifications of ``bucket``, which is each bucket in turn."""
    if notified := notified_prefixes(stage):
        yield "// import { EventType } from 'aws-cdk-lib/aws-s3';"
        yield "// import { SqsDestination } from 'aws-cdk-lib/aws-s3-notifications';"
        yield "// import { Queue } from 'aws-cdk-lib/aws-sqs';"
        arn = stage.queue_arn(stage.objects_queue)
        yield f"const sluiceObjects = new SqsDestination(Queue.fromQueueArn(this, 'SluiceObjects', '{arn}'));"
    for name, prefixes in notified.items():
        yield f"// for the bucket {name}"
        for prefix in prefixes:
            only = f", {_literal({'prefix': prefix})}" if prefix else ""
            yield f"bucket.addEventNotification(EventType.OBJECT_CREATED, sluiceObjects{only});"
    for name in sending_buckets(stage):
        yield f"// for the bucket {name}"
        yield "bucket.enableEventBridgeNotification();"


def _lowered(name: str) -> str:
    return name[0].lower() + name[1:]


def _as_props(part: Any) -> Any:
    """Returns CloudFormation's properties with the names that the CDK gives them.

    >>> _as_props({"Statement": {"RuleGroupReferenceStatement": {"Arn": "x"}}})
    {'statement': {'ruleGroupReferenceStatement': {'arn': 'x'}}}
    """
    if isinstance(part, dict):
        return {_lowered(key): _as_props(inner) for key, inner in part.items()}
    return part


def _literal(part: Any) -> str:
    """Returns JSON, which is an expression in TypeScript as well."""
    return json.dumps(part)
