"""Resources of the CloudFormation template that setup makes as well, from the same definitions.

IP sets and rule group: parameters of the stack take the place of choices, and a response that is not chosen has neither
IP sets nor a rule. Alarms, dashboard and budget: references take the place of names.
``python -m sluice.deploy.template`` writes them into the template.
"""

import re
from typing import Any

from chalicelib.core.ipsets import SetGroup
from chalicelib.core.responses import SOFTER, Response
from sluice.deploy.monitoring import (
    OBJECTS_FAILED,
    Thresholds,
    Watched,
    alarms_of,
    budget_notifications,
    budget_of,
    dashboard_of,
)
from sluice.deploy.rule_group import (
    BODY_KEY,
    IP_SET_DESCRIPTION,
    RULE_GROUP_DESCRIPTION,
    Answers,
    WafRule,
    rules_of,
    visibility,
)
from sluice.deploy.stage import API

NO_VALUE = {"Ref": "AWS::NoValue"}
NAME = "sluice-${Stage}"
TAGS = [{"Key": "sluice:stage", "Value": {"Ref": "Stage"}}]
ANSWERS = Answers(status=-1, retry_after_s=-2, has_body=True, slow_limit=-3)
PARAMETERS: dict[Any, Any] = {
    -1: {"Ref": "BlockStatus"},
    "-2": {"Ref": "RetryAfter"},
    -3: {"Ref": "SlowLimit"},
    BODY_KEY: {"Fn::If": ["HasBody", BODY_KEY, NO_VALUE]},
}
"""Parameters of the stack, by the value in ``ANSWERS`` that they take the place of."""

WATCHED = Watched(
    service=NAME,
    region="${AWS::Region}",
    functions={name: f"${{{name.capitalize()}}}" for name in ("ingest", "evaluate", "enforce", "publish", "sweep")}
    | {API: "${APIHandler}"},
    stream="${LogStream}",
    dead_letters="${DeadLetters.QueueName}",
    objects_dead_letters="${ObjectsDeadLetters.QueueName}",
    topic="${Alarms}",
    thresholds=Thresholds(
        iterator_age_ms="${IteratorAgeSeconds}000",
        malformed_percent="${MalformedPercent}",
        ip_set_fill_percent="${IpSetFillPercent}",
        paused_minutes="${PausedMinutes}",
        replayed_records="${ReplayedRecords}",
    ),
)
"""References to the stack's resources and parameters."""

GROUPS = tuple(SetGroup(response, family) for response in Response for family in (4, 6))
"""The pairs of IP sets that a stack may have: one set per group."""


def condition_of(response: Response) -> str:
    """Returns the name of the template's condition under which a response has IP sets and a rule."""
    return response.capitalize()


def ip_set_of(group: SetGroup) -> str:
    """Returns the name of an IP set's resource in the template.

    >>> ip_set_of(SetGroup(Response.BLOCK, 4)), ip_set_of(SetGroup(Response.SLOW, 6))
    ('IpSetV4', 'IpSetSlowV6')
    """
    return f"IpSet{'' if group.response is Response.BLOCK else condition_of(group.response)}V{group.family}"


def waf_resources() -> dict[str, Any]:
    """Returns the IP sets and the rule group as resources of the template."""
    arns = {group: [ip_set_of(group)] for group in GROUPS}
    plain = rules_of(NAME, arns, ANSWERS)
    proxied = rules_of(NAME, arns, ANSWERS, behind_proxies=True)
    return {ip_set_of(group): _ip_set(group) for group in GROUPS} | {
        "RuleGroup": {
            "Type": "AWS::WAFv2::RuleGroup",
            "Properties": {
                "Name": _in_template(NAME),
                "Description": RULE_GROUP_DESCRIPTION,
                "Scope": {"Ref": "WafScope"},
                "Capacity": {"Ref": "RuleGroupCapacity"},
                "CustomResponseBodies": {
                    "Fn::If": [
                        "HasBody",
                        {BODY_KEY: {"ContentType": {"Ref": "BlockBodyType"}, "Content": {"Ref": "BlockBody"}}},
                        NO_VALUE,
                    ]
                },
                "Rules": [_rule(*pair) for pair in zip(plain, proxied, strict=True)],
                "VisibilityConfig": _in_template(visibility(NAME)),
                "Tags": TAGS,
            },
        }
    }


def monitoring_resources() -> dict[str, Any]:
    """Returns the budget, the alarms and the dashboard as resources of the template."""
    budget = budget_of(NAME, "${MonthlyBudget}")
    by_tag = {"TagKeyValue": ["user:sluice:stage$${Stage}"]}
    filters = {"Fn::If": ["Tagged", *map(_in_template, (by_tag, budget.pop("CostFilters")))]}
    notifications = _in_template(budget_notifications(WATCHED.topic))
    alarms = {
        name: {
            "Type": "AWS::CloudWatch::Alarm",
            **({"Condition": "Objects"} if name == OBJECTS_FAILED else {}),
            "Properties": {**_in_template(properties), "Tags": TAGS},
        }
        for name, properties in alarms_of(WATCHED).items()
    }
    return {
        "Budget": {
            "Type": "AWS::Budgets::Budget",
            "Properties": {
                "Budget": {**_in_template(budget), "CostFilters": filters},
                "NotificationsWithSubscribers": notifications,
            },
        },
        **alarms,
        "Dashboard": {
            "Type": "AWS::CloudWatch::Dashboard",
            "Properties": _in_template({"DashboardName": NAME, "DashboardBody": dashboard_of(WATCHED)}),
        },
    }


def ip_set_arns() -> list[Any]:
    """Returns the ARNs of those IP sets that the stack has."""
    arns = [(group.response, {"Fn::GetAtt": [ip_set_of(group), "Arn"]}) for group in GROUPS]
    return [
        arn if response is Response.BLOCK else {"Fn::If": [condition_of(response), arn, NO_VALUE]}
        for response, arn in arns
    ]


def _ip_set(group: SetGroup) -> dict[str, Any]:
    condition = {} if group.response is Response.BLOCK else {"Condition": condition_of(group.response)}
    softer = "" if group.response is Response.BLOCK else f"-{group.response}"
    properties = {
        "Name": _in_template(f"{NAME}{softer}-v{group.family}-1"),
        "Description": IP_SET_DESCRIPTION,
        "Scope": {"Ref": "WafScope"},
        "IPAddressVersion": f"IPV{group.family}",
        "Addresses": [],
        "Tags": TAGS,
    }
    return {"Type": "AWS::WAFv2::IPSet", **condition, "Properties": properties}


def _rule(plain: WafRule, proxied: WafRule) -> dict[str, Any]:
    statements = [_in_template(rule["Statement"]) for rule in (proxied, plain)]
    rule = _in_template(plain) | {"Statement": {"Fn::If": ["BehindProxies", *statements]}}
    softer = [response for response in SOFTER if plain["Name"] == f"{NAME}-{response}"]
    return {"Fn::If": [condition_of(softer[0]), rule, NO_VALUE]} if softer else rule


def _in_template(part: Any) -> Any:
    """Returns a part of a definition with references and parameters, and with CloudFormation's name for an ARN."""
    if isinstance(part, dict):
        return {
            "Arn" if name == "ARN" else name: {"Fn::GetAtt": [inner, "Arn"]} if name == "ARN" else _in_template(inner)
            for name, inner in part.items()
        }
    if isinstance(part, list):
        return list(map(_in_template, part))
    if isinstance(part, str) and (reference := re.fullmatch(r"\$\{(\w+)\}", part)):
        return {"Ref": reference[1]}
    return {"Fn::Sub": part} if isinstance(part, str) and "${" in part else PARAMETERS.get(part, part)
