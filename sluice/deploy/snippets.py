"""Additions to the template of a site, in CloudFormation's form, from which those of the CDK and Terraform are made.

Sources: CloudFormation template reference, "AWS::WAFv2::WebACL", "AWS::CloudFront::Distribution",
"AWS::WAFv2::LoggingConfiguration", "AWS::S3::Bucket QueueConfiguration", "AWS::Events::Rule", and of "AWS::Logs"
"DeliverySource", "Delivery" and "SubscriptionFilter".
"""

import re
from collections.abc import Iterator, Mapping
from zlib import crc32

from sluice.deploy.account import AwsAccount
from sluice.deploy.monitoring import Properties
from sluice.deploy.resources import additions
from sluice.deploy.resources.deliveries import LogDelivery
from sluice.deploy.resources.event_rules import TARGET
from sluice.deploy.resources.logs import REDACTED, AddedSubscription
from sluice.deploy.resources.objects import CREATED, EventRule
from sluice.deploy.rule_group import visibility
from sluice.deploy.stage import Refusal, Stage, split_bucket

Sources = Mapping[str, str]
"""Names of the delivery sources that exist, by the ARN of what logs: AWS allows one each for a kind of log."""


def delivery_sources(stage: Stage, account: AwsAccount) -> Sources:
    """Returns the delivery sources of what the stage counts. Raises ClientError."""
    deliveries = (each for each in additions(stage) if isinstance(each, LogDelivery))
    names = {each.resource_arn: each.source(account) for each in deliveries}
    return {arn: name for arn, name in names.items() if name is not None}


def cloudformation_of(stage: Stage, rule_group_arn: str, sources: Sources) -> Properties:
    """Returns the properties that the site's resources get, by type of resource, under "Resources" those that are
    added beside them, each under a name of its own, and under "Notes" what neither can say.

    Buckets have their properties under their names. The rule stands before all others, unless another priority is
    chosen; a distribution gets the log setting in each of its cache behaviours. Raises Refusal if there is nothing that
    a template could add.
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
    if "waf" in choices.sources and not choices.stack:  # a stack has its own
        group = stage.location.arn("logs", f"log-group:{stage.waf_log_group}")
        logging = {"LogDestinationConfigs": [group], "RedactedFields": list(REDACTED)}
        added["AWS::WAFv2::LoggingConfiguration"] = logging
    if notified := notified_prefixes(stage):
        queue = stage.queue_arn(stage.objects_queue)
        added["AWS::S3::Bucket"] = {
            bucket: {"NotificationConfiguration": {"QueueConfigurations": [_queue(queue, each) for each in prefixes]}}
            for bucket, prefixes in notified.items()
        }
    if resources := _beside(stage, sources):
        added["Resources"] = resources
    if notes := list(_notes(stage, resources)):
        added["Notes"] = notes
    return added


def notified_prefixes(stage: Stage) -> dict[str, list[str]]:
    """Returns the prefixes about which each bucket notifies the queue itself, by its name."""
    buckets: dict[str, list[str]] = {}
    for bucket, prefix in map(split_bucket, stage.choices.buckets if stage.choices.notification else ()):
        buckets.setdefault(bucket, []).append(prefix)
    return buckets


def _queue(arn: str, prefix: str) -> Properties:
    rules = {"Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": prefix}]}}} if prefix else {}
    return {"Event": CREATED, "Queue": arn, **rules}


def sending_buckets(stage: Stage) -> list[str]:
    """Returns the buckets that must send their events to EventBridge."""
    entries = stage.choices.buckets if stage.choices.event_rules else ()
    return list(dict.fromkeys(split_bucket(entry)[0] for entry in entries))


def note_of_region(stage: Stage) -> str:
    region = stage.location.region
    return f"deliveries, subscriptions and rules of EventBridge belong in {region}, wherever the site is"


def _notes(stage: Stage, resources: Mapping[str, Properties]) -> Iterator[str]:
    """Yields what has to be known about the additions. Nothing that is printed replaces the notifications of a bucket,
    because those of others are among them."""
    for bucket in notified_prefixes(stage):
        yield f"bucket {bucket} has one list of notifications: add Sluice's to it, and keep those of others"
    for bucket in sending_buckets(stage):
        yield f"bucket {bucket}: switch on its events to Amazon EventBridge, and keep its other notifications"
    if resources:
        yield note_of_region(stage)


def _beside(stage: Stage, sources: Sources) -> dict[str, Properties]:
    """Returns the resources that are added beside those of the site, by their names in the template."""
    resources: dict[str, Properties] = {}
    for each in additions(stage):
        name = identifier(each.entry if isinstance(each, EventRule) else each.name)
        if isinstance(each, LogDelivery):
            source = sources.get(each.resource_arn, each.own_source)
            delivery: Properties = {
                "Type": "AWS::Logs::Delivery",
                "Properties": {
                    "DeliverySourceName": source,
                    "DeliveryDestinationArn": each.destination_arn,
                    "RecordFields": list(each.fields),
                },
            }
            if source == each.own_source:
                made = {"Name": source, "ResourceArn": each.resource_arn, "LogType": each.log_type}
                resources[f"SluiceSource{name}"] = {"Type": "AWS::Logs::DeliverySource", "Properties": made}
                delivery["DependsOn"] = f"SluiceSource{name}"
            resources[f"SluiceDelivery{name}"] = delivery
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


def identifier(name: str) -> str:
    """Returns letters and digits for a name in a template, which differ if the names do.

    >>> identifier("/site/access"), identifier("/site-access")
    ('siteaccesse058662a', 'siteaccess77c77703')
    """
    return f"{re.sub(r'[^A-Za-z0-9]', '', name)[:100]}{crc32(name.encode()):08x}"


def log_config_arn(stage: Stage) -> str:
    return stage.location.arn("cloudfront", f"realtime-log-config/{stage.log_config}", region=False)


def _capitalised(name: str) -> str:
    return name[0].upper() + name[1:]
