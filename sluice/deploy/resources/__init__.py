"""Everything a stage consists of, in the order in which it is created."""

from collections.abc import Callable

from sluice.deploy.resource import Resource
from sluice.deploy.resources.chalice_config import ChaliceStage, Project
from sluice.deploy.resources.cloudfront import Distribution, LogConfig
from sluice.deploy.resources.leftovers import Blocked, Deployment, FunctionLogs
from sluice.deploy.resources.log_groups import ApiLogGroup, WafLogGroup
from sluice.deploy.resources.parameters import FirstToken, RememberedChoices
from sluice.deploy.resources.roles import DeliveryRole
from sluice.deploy.resources.streams import LogStream
from sluice.deploy.resources.tables import FirstRules, StateTable, TallyTable
from sluice.deploy.resources.waf import IpSet, RuleGroup
from sluice.deploy.resources.waf_logs import Subscription, WebAclLogging
from sluice.deploy.resources.web_acls import Attachment
from sluice.deploy.stage import Stage

FAMILIES = (4, 6)


def resources_of(
    stage: Stage, *, rules: str, now: int, project: Project, hand_over: Callable[[str], None]
) -> list[Resource]:
    """``rules``: TOML to start with; ``now``: epoch seconds; ``hand_over`` is given the first token, once."""
    choices = stage.choices
    if choices.stack:
        # CloudFormation has created the rest; these it cannot.
        seeds: list[Resource] = [
            RememberedChoices(stage),
            FirstRules(stage, rules, now),
            FirstToken(stage, now, hand_over),
        ]
        return seeds + _attachments(stage)
    wanted: list[Resource] = [
        RememberedChoices(stage),
        LogStream(stage),
        TallyTable(stage),
        StateTable(stage),
        FirstRules(stage, rules, now),
        FirstToken(stage, now, hand_over),
    ]
    wanted += [IpSet(stage, family, number) for family in FAMILIES for number in range(1, choices.ip_sets + 1)]
    wanted += [RuleGroup(stage), DeliveryRole(stage)]
    if "cloudfront" in choices.sources:
        wanted.append(LogConfig(stage))
    if "waf" in choices.sources:
        wanted += [WafLogGroup(stage), Subscription(stage)]
    wanted += [ApiLogGroup(stage), ChaliceStage(stage, project)]
    return wanted + _attachments(stage)


def _attachments(stage: Stage) -> list[Resource]:
    """What is changed of things that are somebody else's."""
    attachments: list[Resource] = [Distribution(stage, id) for id in stage.choices.distributions]
    for web_acl in stage.choices.web_acls:
        attachments.append(Attachment(stage, web_acl))
        if "waf" in stage.choices.sources and not stage.choices.stack:
            attachments.append(WebAclLogging(stage, web_acl))
    return attachments


def remains_of(stage: Stage, *, now: int, project: Project) -> list[Resource]:
    """Everything that is to be removed, in reverse: what Chalice deployed came last, and who is blocked after that."""

    def nobody(token: str) -> None:
        """A teardown issues no token."""

    created = resources_of(stage, rules="", now=now, project=project, hand_over=nobody)
    if stage.choices.stack:
        # Deleting the stack removes the rest, its note of the choices included.
        return [*created[1:], Blocked(stage, now)]
    return [*created, FunctionLogs(stage), Deployment(stage, project), Blocked(stage, now)]
