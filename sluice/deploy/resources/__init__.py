"""Everything a stage consists of, in the order in which it is created."""

from collections.abc import Callable
from dataclasses import replace

from chalicelib.core.responses import SOFTER
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.rule_sets import ACTIVE
from sluice.deploy.resource import Resource
from sluice.deploy.resources.chalice_config import ChaliceStage, Project
from sluice.deploy.resources.cloudfront import DistributionLogging, LogConfig
from sluice.deploy.resources.created_web_acl import CreatedWebAcl, CreatedWebAclLogging
from sluice.deploy.resources.deliveries import DeliveryDestination, DistributionDelivery, LoadBalancerDelivery
from sluice.deploy.resources.leftovers import BlockedClients, ChaliceDeployment, FunctionLogs
from sluice.deploy.resources.logs import AddedSubscription, LogGroup, LogSubscription, WebAclLogging
from sluice.deploy.resources.monitoring import monitoring
from sluice.deploy.resources.notices import notices
from sluice.deploy.resources.objects import BucketNotification, ObjectsQueue, Queue, event_rule
from sluice.deploy.resources.parameters import FirstToken, memory_of
from sluice.deploy.resources.streams import DeliveryRole, LogStream, mode
from sluice.deploy.resources.tables import DeletionProtection, FirstRules, Table
from sluice.deploy.resources.waf import RuleGroup, ip_set_resources
from sluice.deploy.resources.web_acls import Order, WebAclRule, web_acl_name
from sluice.deploy.rule_group import Body, capacity_of
from sluice.deploy.stage import API, LOGS, Stage

SUBSCRIBED = "sends every line to the stream, spread over its shards"


def resources_of(
    stage: Stage,
    *,
    now: int,
    project: Project,
    rules: str = "",
    body: Body | None = None,
    order: Order = "kept",
    webhook: str = "",
    show_token: Callable[[str], None] = lambda _: None,
) -> list[Resource]:
    """Returns the resources of a stage, in order of creation.

    ``now`` is epoch seconds, ``rules`` the first rule set as TOML. ``body``: the body of refusals; None keeps the
    present one. ``order``: what becomes of the priorities in web ACLs. ``webhook``: address of the webhook for notices;
    empty keeps the present one. ``show_token`` receives the first token, if one is created.
    """
    choices, seeds = stage.choices, _seeds(stage, now, rules, show_token)
    remembered = memory_of(stage)
    if choices.stack:
        # CloudFormation creates the others.
        return [
            remembered,
            *seeds,
            *(_access_logs(stage) if choices.delivered else ()),
            *additions(stage, order, webhook),
        ]
    tallies = "the shards' tally logs; on demand, stream, items expire"
    state = "blocks, allowlist, rules, audit; on demand, stream, recoverable, protected"
    responses = ", ".join(each for each in SOFTER if each in choices.responses)
    group = f"answers {choices.block_status} to both families, Retry-After {choices.retry_after_s} s"
    group += f"; {capacity_of(stage)} WCU"
    group += "; forwarded addresses too" if choices.behind_proxies else ""
    group += f"; {responses}" if responses else ""
    encrypted = "encrypted" if choices.stream_encryption else "not encrypted"
    delivery = "lets the log sources write to the stream, and nothing else"
    deployment = f"settings and policies of the functions, in .chalice; evaluate with {choices.evaluator_mb:,} MB"
    resources: list[Resource] = [
        remembered,
        LogStream(stage, stage.log_stream, about=f"{mode(choices.shards)}; {encrypted}"),
        Table(stage, stage.tally_table, {"log": "S", "offset": "N"}, "KEYS_ONLY", about=tallies),
        Table(stage, stage.state_table, {"kind": "S", "id": "S"}, "NEW_AND_OLD_IMAGES", durable=True, about=state),
        *seeds,
        Queue(stage, stage.dead_letters, about="changes that enforce and publish could not handle; kept for 14 days"),
        *ip_set_resources(stage),
        RuleGroup(stage, stage.rule_group, body, about=group),
    ]
    if choices.live:
        resources.append(DeliveryRole(stage, stage.delivery_role, about=delivery))
    if "cloudfront" in choices.sources:
        logged = f"{len(choices.fields)} fields, {choices.sample_rate} % of requests"
        resources.append(LogConfig(stage, stage.log_config, about=logged))
    if "waf" in choices.sources:
        kept = "receives WAF's logs and forwards them; kept for a day"
        resources.append(LogGroup(stage, stage.waf_log_group, 1, about=kept))
        name = f"{stage.waf_log_group}/{stage.prefix}"
        resources.append(LogSubscription(stage, name, stage.waf_log_group, about=SUBSCRIBED))
    if choices.delivered:
        resources += _access_logs(stage)
    if choices.buckets:
        failed = "notifications that could not be handled; kept for 14 days"
        queued = "receives the buckets' notifications for import_objects; standard, encrypted"
        resources.append(Queue(stage, stage.objects_dead_letters, about=failed))
        resources.append(ObjectsQueue(stage, stage.objects_queue, about=queued))
    return [
        *resources,
        # Chalice creates the log groups of all functions, but gives the API's a name that is never used.
        LogGroup(stage, stage.log_group(API), 30, about="logs of the admin API; kept for 30 days"),
        *monitoring(stage),
        ChaliceStage(stage, stage.name, project, about=deployment),
        *additions(stage, order, webhook),
    ]


def _access_logs(stage: Stage) -> list[Resource]:
    """Returns the log group to which access logs are delivered, its subscription and the destination of deliveries."""
    group = stage.access_log_group
    return [
        LogGroup(stage, group, 1, about="receives access logs and forwards them; kept for a day"),
        LogSubscription(stage, f"{group}/{stage.prefix}", group, about=SUBSCRIBED),
        DeliveryDestination(stage, stage.prefix, about=f"delivers access logs to {group}, as JSON"),
    ]


def _seeds(stage: Stage, now: int, rules: str, show_token: Callable[[str], None]) -> list[Resource]:
    """Returns what the operator changes later, and setup does not."""
    about = ", ".join(f"{rule.name} ({rule.action})" for rule in parse_rules(rules).rules) if rules else ""
    tokens = "the admin API's tokens (hashes); the first one is shown once"
    return [
        FirstRules(stage, ACTIVE, rules, now, about=about),
        FirstToken(stage, stage.tokens_parameter, now, show_token, about=tokens),
    ]


def additions(stage: Stage, order: Order = "kept", webhook: str = "") -> list[Resource]:
    """Returns the additions to resources with other owners, and what sends notices to people."""
    choices = stage.choices
    attached = "its cache behaviours log to the stream"
    delivered = f"delivers its log to {stage.access_log_group}; other deliveries stay unchanged"
    reference = f"refers to the rule group, {capacity_of(stage)} WCU; other rules stay unchanged"
    added: list[Resource] = []
    if "cloudfront" in choices.sources:
        added += [DistributionLogging(stage, id, about=attached) for id in choices.distributions]
    if "cloudfront-standard" in choices.sources:
        added += [
            DistributionDelivery(stage, id, stage.distribution_arn(id), about=delivered) for id in choices.distributions
        ]
    added += [LoadBalancerDelivery(stage, arn.split("/")[-2], arn, about=delivered) for arn in choices.load_balancers]
    added += [
        AddedSubscription(stage, f"{group}/{stage.prefix}", group, about=f"{SUBSCRIBED}; other filters stay unchanged")
        for group in stage.choices.log_groups
    ]
    notified = f"notifies {stage.objects_queue} of new objects; other notifications stay unchanged"
    if stage.choices.notification:
        added += [BucketNotification(stage, entry, about=notified) for entry in stage.choices.buckets]
    if stage.choices.event_rules:
        added += [event_rule(stage, entry) for entry in stage.choices.buckets]
    for web_acl in stage.choices.web_acls:
        name = web_acl_name(web_acl)
        added.append(WebAclRule(stage, f"{name}/{stage.rule_group}", web_acl, about=reference, order=order))
        if "waf" in stage.choices.sources and not stage.choices.stack:
            added.append(WebAclLogging(stage, name, web_acl, about=f"writes to {stage.waf_log_group}"))
    added = [replace(each, elsewhere=choices.elsewhere) for each in added]
    if stage.choices.own_web_acl:
        number = 1 + len(stage.choices.managed_groups)
        has = ", ".join(("the rule group", *stage.choices.managed_groups))
        price = f"{5 + number} USD a month, and 0.60 per million requests"
        added.append(CreatedWebAcl(stage, stage.web_acl, stage.choices.managed_groups, about=f"{has}; {price}"))
        if "waf" in stage.choices.sources and not stage.choices.stack:
            added.append(CreatedWebAclLogging(stage, stage.web_acl, about=f"writes to {stage.waf_log_group}"))
    return [*added, *notices(stage, webhook)]


def remains_of(stage: Stage, *, now: int, project: Project) -> list[Resource]:
    """Returns everything that teardown removes, in reverse order of removal."""
    created = resources_of(stage, now=now, project=project)
    blocked = BlockedClients(stage, "in all IP sets", now)
    # Left behind if the last bucket, log group or load balancer was detached.
    former = [] if stage.choices.delivered else _access_logs(stage)
    first, *others = created
    if stage.choices.stack:
        # Deleting the stack removes the others.
        return [first, *former, *others, DeletionProtection(stage, stage.state_table), blocked]
    logs = FunctionLogs(stage, f"{LOGS}{stage.prefix}-*")
    former += [
        DeliveryRole(stage, stage.delivery_role),
        Queue(stage, stage.objects_dead_letters),
        ObjectsQueue(stage, stage.objects_queue),
    ]
    names = {(resource.kind, resource.name) for resource in created}
    former = [resource for resource in former if (resource.kind, resource.name) not in names]
    return [first, *former, *others, logs, ChaliceDeployment(stage, stage.prefix, project), blocked]
