"""Additions to the template of a site, in the forms of CloudFormation, the CDK and Terraform.

Sources: CloudFormation template reference, "AWS::WAFv2::WebACL", "AWS::CloudFront::Distribution",
"AWS::WAFv2::LoggingConfiguration", "AWS::S3::Bucket QueueConfiguration", "AWS::Events::Rule", and of "AWS::Logs"
"DeliverySource", "Delivery" and "SubscriptionFilter"; AWS CDK Developer Guide, "Customize constructs from the AWS
Construct Library"; Terraform's AWS provider, the resources of the same purpose.
"""

import json
import re
from typing import Any

from sluice.deploy.monitoring import Properties
from sluice.deploy.resources import additions
from sluice.deploy.resources.deliveries import LogDelivery
from sluice.deploy.resources.event_rules import TARGET
from sluice.deploy.resources.logs import REDACTED, AddedSubscription
from sluice.deploy.resources.objects import CREATED, EventRule
from sluice.deploy.resources.web_acls import web_acl_name
from sluice.deploy.rule_group import visibility
from sluice.deploy.stage import Refusal, Stage, split_bucket

TERRAFORM = {
    "AWS::Logs::DeliverySource": "aws_cloudwatch_log_delivery_source",
    "AWS::Logs::Delivery": "aws_cloudwatch_log_delivery",
    "AWS::Logs::SubscriptionFilter": "aws_cloudwatch_log_subscription_filter",
}
"""Terraform's names of types whose arguments are CloudFormation's properties in snake case."""


def cloudformation_of(stage: Stage, rule_group_arn: str) -> Properties:
    """Returns the properties that the site's resources get, by type of resource, and under "Resources" those that are
    added beside them, each under a name of its own.

    Buckets are a list, each with its name. The rule stands before all others, unless another priority is chosen; a
    distribution gets the log setting in each of its cache behaviours. Raises Refusal if there is nothing that a
    template could add.
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
    if buckets := _notifying(stage):
        added["AWS::S3::Bucket"] = [
            {"BucketName": bucket, "NotificationConfiguration": notifications}
            for bucket, notifications in buckets.items()
        ]
    if resources := _beside(stage):
        added["Resources"] = resources
    return added


def _notifying(stage: Stage) -> dict[str, Properties]:
    """Returns the notifications of each bucket, by its name."""
    buckets: dict[str, Properties] = {}
    for entry in stage.choices.buckets:
        bucket, prefix = split_bucket(entry)
        if stage.choices.event_rules:
            buckets[bucket] = {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
        elif stage.choices.notification:
            rules = {"Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": prefix}]}}} if prefix else {}
            queue = {"Event": CREATED, "Queue": stage.queue_arn(stage.objects_queue), **rules}
            buckets.setdefault(bucket, {"QueueConfigurations": []})["QueueConfigurations"].append(queue)
    return buckets


def _beside(stage: Stage) -> dict[str, Properties]:
    """Returns the resources that are added beside those of the site, by their names in the template."""
    resources: dict[str, Properties] = {}
    for each in additions(stage):
        name = re.sub(r"[^A-Za-z0-9]", "", each.entry if isinstance(each, EventRule) else each.name)
        if isinstance(each, LogDelivery):
            source = {"Name": each.own_source, "ResourceArn": each.resource_arn, "LogType": each.log_type}
            resources[f"SluiceSource{name}"] = {"Type": "AWS::Logs::DeliverySource", "Properties": source}
            resources[f"SluiceDelivery{name}"] = {
                "Type": "AWS::Logs::Delivery",
                "DependsOn": f"SluiceSource{name}",
                "Properties": {
                    "DeliverySourceName": each.own_source,
                    "DeliveryDestinationArn": each.destination_arn,
                    "RecordFields": list(each.fields),
                },
            }
        elif isinstance(each, AddedSubscription):
            filtered = {_capitalised(key): value for key, value in each.desired().items()}
            identity = {"LogGroupName": each.group, "FilterName": stage.prefix}
            subscription = {"Type": "AWS::Logs::SubscriptionFilter", "Properties": {**identity, **filtered}}
            resources[f"SluiceSubscription{name}"] = subscription
        elif isinstance(each, EventRule):
            target = {"Id": TARGET, "Arn": stage.queue_arn(stage.objects_queue)}
            rule = {"Name": each.name, "EventPattern": each.pattern(), "Targets": [target], "Tags": stage.tag_list}
            resources[f"SluiceRule{name}"] = {"Type": "AWS::Events::Rule", "Properties": rule}
    return resources


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
    for bucket in added.get("AWS::S3::Bucket", ()):
        lines.append(f"// for the bucket {bucket['BucketName']}, with CfnBucket of 'aws-cdk-lib/aws-s3'")
        notifications = _literal(bucket["NotificationConfiguration"])
        override = f"addPropertyOverride('NotificationConfiguration', {notifications})"
        lines.append(f"(bucket.node.defaultChild as CfnBucket).{override};")
    for name, resource in added.get("Resources", {}).items():
        properties = _literal(resource["Properties"])
        created = f"new CfnResource(this, '{name}', {{type: '{resource['Type']}', properties: {properties}}})"
        lines.append(f"const {_lowered(name)} = {created};")
        if "DependsOn" in resource:
            lines.append(f"{_lowered(name)}.addDependency({_lowered(resource['DependsOn'])});")
    return "\n".join(lines)


def terraform_site_of(stage: Stage, rule_group_arn: str) -> dict[str, Any]:
    """Returns the same for Terraform, in its JSON syntax: resources for each web ACL, bucket and log, and an output for
    distributions.

    Raises Refusal without a web ACL or a log, because Terraform's resources name them.
    """
    added = cloudformation_of(stage, rule_group_arn)
    logs = _terraform_logs(stage, added)
    if not (stage.choices.web_acls or logs):
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
    document: dict[str, Any] = {"resource": resources}
    if "AWS::CloudFront::Distribution" in added:
        document["output"] = {f"{stage.log_config}-realtime-log-config": {"value": log_config_arn(stage)}}
    return document


def _terraform_logs(stage: Stage, added: Properties) -> dict[str, dict[str, Any]]:
    """Returns Terraform's resources for buckets, deliveries, subscriptions and rules, by type and name."""
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
    for bucket in added.get("AWS::S3::Bucket", ()):
        name, notifications = bucket["BucketName"], bucket["NotificationConfiguration"]
        queues = [
            {
                "id": f"{stage.prefix}/{prefix}",
                "queue_arn": stage.queue_arn(stage.objects_queue),
                "events": [CREATED],
                **({"filter_prefix": prefix} if prefix else {}),
            }
            for of, prefix in map(split_bucket, stage.choices.buckets)
            if of == name and "QueueConfigurations" in notifications
        ]
        sends = {"queue": queues} if queues else {"eventbridge": True}
        resources.setdefault("aws_s3_bucket_notification", {})[f"{stage.prefix}-{name}"] = {"bucket": name, **sends}
    return resources


def log_config_arn(stage: Stage) -> str:
    return stage.location.arn("cloudfront", f"realtime-log-config/{stage.log_config}", region=False)


def _capitalised(name: str) -> str:
    return name[0].upper() + name[1:]


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
