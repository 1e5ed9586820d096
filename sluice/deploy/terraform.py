"""The IP sets and the rule group of a stage in Terraform's JSON syntax, made from the rules that setup writes.

Sources: Terraform, "JSON Configuration Syntax"; its AWS provider, "aws_wafv2_ip_set" and "aws_wafv2_rule_group".
"""

import json
from typing import Any

from chalicelib.core.ipsets import SetGroup
from sluice.deploy.rule_group import (
    BODY_KEY,
    IP_SET_DESCRIPTION,
    RULE_GROUP_DESCRIPTION,
    Answers,
    Body,
    capacity_of,
    rules_of,
)
from sluice.deploy.stage import Stage

VISIBILITY = {"cloudwatch_metrics_enabled": True, "sampled_requests_enabled": True}


def terraform_of(stage: Stage, body: Body | None) -> dict[str, Any]:
    """Returns the configuration, to be stored as JSON in a file whose name ends in ``.tf.json``.

    Terraform creates the IP sets empty and leaves their addresses to Sluice. Names and tags are those by which setup
    recognises the stage's resources, so that it keeps them.
    """
    choices = stage.choices
    content = body.content if body else ""
    arns = {group: [f"${{aws_wafv2_ip_set.{name}.arn}}" for name in names] for group, names in stage.ip_sets.items()}
    answers = Answers.of(choices, has_body=bool(content))
    rules = rules_of(stage.rule_group, arns, answers, behind_proxies=choices.behind_proxies)
    group: dict[str, Any] = {
        "name": stage.rule_group,
        "description": RULE_GROUP_DESCRIPTION,
        "scope": choices.scope,
        "capacity": capacity_of(stage),
        "rules_json": json.dumps(rules),
        "visibility_config": VISIBILITY | {"metric_name": stage.rule_group},
        "tags": stage.tags,
    }
    if body and content:
        group["custom_response_body"] = [
            {"key": BODY_KEY, "content_type": body.content_type, "content": _literal(content)}
        ]
    return {
        "resource": {
            "aws_wafv2_ip_set": {
                name: _ip_set(stage, of, name) for of, names in stage.ip_sets.items() for name in names
            },
            "aws_wafv2_rule_group": {stage.rule_group: group},
        },
        "output": {f"{stage.rule_group}-rule-group": {"value": f"${{aws_wafv2_rule_group.{stage.rule_group}.arn}}"}},
    }


def _ip_set(stage: Stage, group: SetGroup, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": IP_SET_DESCRIPTION,
        "scope": stage.choices.scope,
        "ip_address_version": f"IPV{group.family}",
        "addresses": [],
        "tags": stage.tags,
        "lifecycle": {"ignore_changes": ["addresses"]},
    }


def _literal(text: str) -> str:
    """Returns a text in which Terraform replaces nothing.

    >>> _literal("${now} %{if}")
    '$${now} %%{if}'
    """
    return text.replace("${", "$${").replace("%{", "%%{")
