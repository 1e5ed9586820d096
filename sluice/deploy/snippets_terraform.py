"""Additions to a site in Terraform: resources and outputs in its JSON syntax.

Sources: Terraform's AWS provider, version 6, "Enhanced Region Support" and the resources of the same purpose as
CloudFormation's; Terraform, "JSON Configuration Syntax".
"""

import json
import re
from typing import Any

from sluice.deploy.monitoring import Properties
from sluice.deploy.resources.objects import CREATED
from sluice.deploy.resources.web_acls import web_acl_name
from sluice.deploy.snippets import Sources, cloudformation_of, identifier, log_config_arn, notified_prefixes
from sluice.deploy.stage import Refusal, Stage

TERRAFORM = {
    "AWS::Logs::DeliverySource": "aws_cloudwatch_log_delivery_source",
    "AWS::Logs::Delivery": "aws_cloudwatch_log_delivery",
    "AWS::Logs::SubscriptionFilter": "aws_cloudwatch_log_subscription_filter",
}
"""Terraform's names of types whose arguments are CloudFormation's properties in snake case."""


def terraform_site_of(stage: Stage, rule_group_arn: str, sources: Sources) -> dict[str, Any]:
    """Returns what the site gets: resources for each web ACL and log, in the stage's region, and outputs for
    distributions and buckets, whose own resources refer to them.

    Raises Refusal if only a distribution is to get anything, because Terraform's resources name the web ACL.
    """
    added = cloudformation_of(stage, rule_group_arn, sources)
    logs, notified = _terraform_logs(stage, added), notified_prefixes(stage)
    if not (stage.choices.web_acls or logs or notified):
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
    resources: dict[str, Any] = dict(logs)
    if by_web_acl:
        resources["aws_wafv2_web_acl_rule_group_association"] = {
            name: {"web_acl_arn": arn, **association} for name, arn in by_web_acl.items()
        }
    if by_web_acl and logged is not None:
        resources["aws_wafv2_web_acl_logging_configuration"] = {
            name: {"resource_arn": arn, **_as_arguments(logged)} for name, arn in by_web_acl.items()
        }
    for each in (argument for named in resources.values() for argument in named.values()):
        each["region"] = stage.location.region
    outputs = {
        f"{stage.prefix}-{identifier(bucket)}": {
            "description": f"queue blocks for the aws_s3_bucket_notification of bucket {bucket}; keep the others",
            "value": [_terraform_queue(stage, prefix) for prefix in prefixes],
        }
        for bucket, prefixes in notified.items()
    }
    if "AWS::CloudFront::Distribution" in added:
        outputs[f"{stage.log_config}-realtime-log-config"] = {"value": log_config_arn(stage)}
    return {
        **({"//": "; ".join(added["Notes"])} if "Notes" in added else {}),
        **({"resource": resources} if resources else {}),
        **({"output": outputs} if outputs else {}),
    }


def _terraform_queue(stage: Stage, prefix: str) -> dict[str, Any]:
    return {
        "id": f"{stage.prefix}/{prefix}",
        "queue_arn": stage.queue_arn(stage.objects_queue),
        "events": [CREATED],
        **({"filter_prefix": prefix} if prefix else {}),
    }


def _terraform_logs(stage: Stage, added: Properties) -> dict[str, dict[str, Any]]:
    """Returns Terraform's resources for deliveries, subscriptions and rules, by type and name."""
    resources: dict[str, dict[str, Any]] = {}
    for name, resource in added.get("Resources", {}).items():
        properties = dict(resource["Properties"])
        if resource["Type"] == "AWS::Events::Rule":
            (target,) = properties["Targets"]
            rule = {"name": properties["Name"], "event_pattern": json.dumps(properties["EventPattern"])}
            resources.setdefault("aws_cloudwatch_event_rule", {})[name] = {**rule, "tags": stage.tags}
            sent = {"rule": f"${{aws_cloudwatch_event_rule.{name}.name}}", "target_id": target["Id"]}
            resources.setdefault("aws_cloudwatch_event_target", {})[name] = {**sent, "arn": target["Arn"]}
            continue
        if "FilterName" in properties:
            properties["Name"] = properties.pop("FilterName")
        arguments = _as_arguments(properties)
        if "DependsOn" in resource:
            arguments["depends_on"] = [f"{TERRAFORM['AWS::Logs::DeliverySource']}.{resource['DependsOn']}"]
        resources.setdefault(TERRAFORM[resource["Type"]], {})[name] = arguments
    return resources


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
