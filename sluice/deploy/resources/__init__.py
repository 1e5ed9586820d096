"""Everything a stage consists of, in the order in which it is created."""

from collections.abc import Callable

from sluice.deploy.resource import Resource
from sluice.deploy.resources.chalice_config import ChaliceStage, Project
from sluice.deploy.resources.cloudfront import DistributionLogging, LogConfig
from sluice.deploy.resources.leftovers import BlockedClients, ChaliceDeployment, FunctionLogs
from sluice.deploy.resources.log_groups import ApiLogGroup, WafLogGroup
from sluice.deploy.resources.parameters import FirstToken, RememberedChoices
from sluice.deploy.resources.roles import DeliveryRole
from sluice.deploy.resources.streams import LogStream
from sluice.deploy.resources.tables import FirstRules, StateTableResource, TallyTableResource
from sluice.deploy.resources.waf import IpSetResource, RuleGroup
from sluice.deploy.resources.waf_logs import LogSubscription, WebAclLogging
from sluice.deploy.resources.web_acls import WebAclRule
from sluice.deploy.stage import Stage

FAMILIES = (4, 6)


def resources_of(
    stage: Stage, *, rules: str, now: int, project: Project, show_token: Callable[[str], None]
) -> list[Resource]:
    """``rules``: TOML to start with; ``now``: epoch seconds; ``show_token`` is given the first token, once."""
    choices = stage.choices
    if choices.stack:
        # CloudFormation has created the rest; these it cannot.
        seeds: list[Resource] = [
            RememberedChoices(stage),
            FirstRules(stage, rules, now),
            FirstToken(stage, now, show_token),
        ]
        return seeds + _attachments(stage)
    wanted: list[Resource] = [
        RememberedChoices(stage),
        LogStream(stage),
        TallyTableResource(stage),
        StateTableResource(stage),
        FirstRules(stage, rules, now),
        FirstToken(stage, now, show_token),
    ]
    wanted += [IpSetResource(stage, family, number) for family in FAMILIES for number in range(1, choices.ip_sets + 1)]
    wanted += [RuleGroup(stage), DeliveryRole(stage)]
    if "cloudfront" in choices.sources:
        wanted.append(LogConfig(stage))
    if "waf" in choices.sources:
        wanted += [WafLogGroup(stage), LogSubscription(stage)]
    wanted += [ApiLogGroup(stage), ChaliceStage(stage, project)]
    return wanted + _attachments(stage)


def _attachments(stage: Stage) -> list[Resource]:
    """What is changed of things that are somebody else's."""
    attachments: list[Resource] = [DistributionLogging(stage, id) for id in stage.choices.distributions]
    for web_acl in stage.choices.web_acls:
        attachments.append(WebAclRule(stage, web_acl))
        if "waf" in stage.choices.sources and not stage.choices.stack:
            attachments.append(WebAclLogging(stage, web_acl))
    return attachments


def remains_of(stage: Stage, *, now: int, project: Project) -> list[Resource]:
    """Everything that is to be removed, in reverse: what Chalice deployed came last, and who is blocked after that."""

    def nobody(token: str) -> None:
        """A teardown issues no token."""

    created = resources_of(stage, rules="", now=now, project=project, show_token=nobody)
    if stage.choices.stack:
        # Deleting the stack removes the rest, its note of the choices included.
        return [*created[1:], BlockedClients(stage, now)]
    return [*created, FunctionLogs(stage), ChaliceDeployment(stage, project), BlockedClients(stage, now)]
