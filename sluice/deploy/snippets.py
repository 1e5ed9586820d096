"""Additions to the template of a site, in the forms of CloudFormation and of the CDK.

Sources: CloudFormation template reference, "AWS::WAFv2::WebACL", "AWS::CloudFront::Distribution" and
"AWS::WAFv2::LoggingConfiguration"; AWS CDK Developer Guide, "Customize constructs from the AWS Construct Library".
"""

import json
from typing import Any

from sluice.deploy.monitoring import Properties
from sluice.deploy.resources.logs import REDACTED
from sluice.deploy.rule_group import visibility
from sluice.deploy.stage import Refusal, Stage


def cloudformation_of(stage: Stage, rule_group_arn: str) -> Properties:
    """Returns the properties that the site's resources get, by type of resource.

    The rule stands before all others, unless another priority is chosen; a distribution gets the log setting in each of
    its cache behaviours. Raises Refusal if there is nothing that a template could add.
    """
    choices, name = stage.choices, stage.rule_group
    if not rule_group_arn:
        raise Refusal(f"rule group {name} does not exist: run {stage.command('setup')} first, without --web-acl")
    rule = {
        "Name": name,
        "Priority": choices.priority or 0,
        "OverrideAction": {"None": {}},
        "Statement": {"RuleGroupReferenceStatement": {"Arn": rule_group_arn}},
        "VisibilityConfig": visibility(name),
    }
    added: Properties = {"AWS::WAFv2::WebACL": {"Rules": [rule]}}
    if "cloudfront" in choices.sources:
        logged = {"RealtimeLogConfigArn": log_config_arn(stage)}
        behaviours = {"DefaultCacheBehavior": logged, "CacheBehaviors": [logged]}
        added["AWS::CloudFront::Distribution"] = {"DistributionConfig": behaviours}
    if "waf" in choices.sources:
        group = stage.location.arn("logs", f"log-group:{stage.waf_log_group}")
        logging = {"LogDestinationConfigs": [group], "RedactedFields": list(REDACTED)}
        added["AWS::WAFv2::LoggingConfiguration"] = logging
    return added


def cdk_of(stage: Stage, rule_group_arn: str) -> str:
    """Returns statements in TypeScript that add the same to ``webAcl`` (a CfnWebACL) and ``distribution``."""
    added = cloudformation_of(stage, rule_group_arn)
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
    return "\n".join(lines)


def log_config_arn(stage: Stage) -> str:
    return stage.location.arn("cloudfront", f"realtime-log-config/{stage.log_config}", region=False)


def _as_props(part: Any) -> Any:
    """Returns CloudFormation's properties with the names that the CDK gives them.

    >>> _as_props({"Statement": {"RuleGroupReferenceStatement": {"Arn": "x"}}})
    {'statement': {'ruleGroupReferenceStatement': {'arn': 'x'}}}
    """
    if isinstance(part, dict):
        return {key[0].lower() + key[1:]: _as_props(inner) for key, inner in part.items()}
    return part


def _literal(part: Any) -> str:
    """Returns JSON, which is an expression in TypeScript as well."""
    return json.dumps(part)
