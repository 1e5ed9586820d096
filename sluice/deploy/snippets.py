"""Additions to the template of a site, in the forms of CloudFormation, the CDK and Terraform.

Sources: CloudFormation template reference, "AWS::WAFv2::WebACL", "AWS::CloudFront::Distribution" and
"AWS::WAFv2::LoggingConfiguration"; AWS CDK Developer Guide, "Customize constructs from the AWS Construct Library";
Terraform's AWS provider, "aws_wafv2_web_acl_rule_group_association" and "aws_wafv2_web_acl_logging_configuration".
"""

import json
import re
from typing import Any

from sluice.deploy.monitoring import Properties
from sluice.deploy.resources.logs import REDACTED
from sluice.deploy.resources.web_acls import web_acl_name
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


def terraform_site_of(stage: Stage, rule_group_arn: str) -> dict[str, Any]:
    """Returns the same for Terraform, in its JSON syntax: resources for each web ACL, and an output for distributions.

    Raises Refusal without a web ACL, because Terraform's resources name it.
    """
    added = cloudformation_of(stage, rule_group_arn)
    if not stage.choices.web_acls:
        raise Refusal("--print terraform-site: the resources name the web ACL. Add --web-acl NAME")
    (rule,) = added["AWS::WAFv2::WebACL"]["Rules"]
    logged = added.get("AWS::WAFv2::LoggingConfiguration")
    association = {
        "rule_name": rule["Name"],
        "priority": rule["Priority"],
        "rule_group_reference": {"arn": rule["Statement"]["RuleGroupReferenceStatement"]["Arn"]},
        "visibility_config": {_snake(key): value for key, value in rule["VisibilityConfig"].items()},
    }
    by_web_acl = {f"{stage.rule_group}-{web_acl_name(arn)}": arn for arn in stage.choices.web_acls}
    resources: dict[str, Any] = {
        "aws_wafv2_web_acl_rule_group_association": {
            name: {"web_acl_arn": arn, **association} for name, arn in by_web_acl.items()
        }
    }
    if logged is not None:
        resources["aws_wafv2_web_acl_logging_configuration"] = {
            name: {"resource_arn": arn, **_as_arguments(logged)} for name, arn in by_web_acl.items()
        }
    document: dict[str, Any] = {"resource": resources}
    if "AWS::CloudFront::Distribution" in added:
        document["output"] = {f"{stage.log_config}-realtime-log-config": {"value": log_config_arn(stage)}}
    return document


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


def _as_arguments(part: Any) -> Any:
    """Returns CloudFormation's properties with the names that Terraform's provider gives them.

    >>> _as_arguments({"RedactedFields": [{"SingleHeader": {"Name": "cookie"}}]})
    {'redacted_fields': [{'single_header': {'name': 'cookie'}}]}
    """
    if isinstance(part, dict):
        return {_snake(key): _as_arguments(inner) for key, inner in part.items()}
    return list(map(_as_arguments, part)) if isinstance(part, list) else part


def _snake(name: str) -> str:
    """Returns a name in snake case.

    >>> _snake("CloudWatchMetricsEnabled"), _snake("LogDestinationConfigs")
    ('cloudwatch_metrics_enabled', 'log_destination_configs')
    """
    return re.sub(r"(?<=.)([A-Z])", r"_\1", name.replace("CloudWatch", "Cloudwatch")).lower()


def _literal(part: Any) -> str:
    """Returns JSON, which is an expression in TypeScript as well."""
    return json.dumps(part)
