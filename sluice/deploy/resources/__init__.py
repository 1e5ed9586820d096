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
from sluice.deploy.resources.waf import RuleGroup, ip_set_resources
from sluice.deploy.resources.waf_logs import LogSubscription, WebAclLogging
from sluice.deploy.resources.web_acls import WebAclRule
from sluice.deploy.stage import Stage


def resources_of(
    stage: Stage,
    *,
    now: int,
    project: Project,
    rules: str = "",
    show_token: Callable[[str], None] = lambda _: None,
) -> list[Resource]:
    """Returns the resources of a stage, in order of creation.

    ``now`` is epoch seconds, ``rules`` the first rule set as TOML. ``show_token`` receives the first token, if one is
    created.
    """
    choices = stage.choices
    seeds: list[Resource] = [FirstRules(stage, rules, now), FirstToken(stage, now, show_token)]
    if choices.stack:
        # CloudFormation creates the others.
        return [RememberedChoices(stage), *seeds, *_additions(stage)]
    resources: list[Resource] = [
        RememberedChoices(stage),
        LogStream(stage),
        TallyTableResource(stage),
        StateTableResource(stage),
        *seeds,
        *ip_set_resources(stage),
        RuleGroup(stage),
        DeliveryRole(stage),
    ]
    if "cloudfront" in choices.sources:
        resources.append(LogConfig(stage))
    if "waf" in choices.sources:
        resources += [WafLogGroup(stage), LogSubscription(stage)]
    return [*resources, ApiLogGroup(stage), ChaliceStage(stage, project), *_additions(stage)]


def _additions(stage: Stage) -> list[Resource]:
    """Additions to resources with other owners."""
    additions: list[Resource] = [DistributionLogging(stage, id) for id in stage.choices.distributions]
    for web_acl in stage.choices.web_acls:
        additions.append(WebAclRule(stage, web_acl))
        if "waf" in stage.choices.sources and not stage.choices.stack:
            additions.append(WebAclLogging(stage, web_acl))
    return additions


def remains_of(stage: Stage, *, now: int, project: Project) -> list[Resource]:
    """Returns everything that teardown removes, in reverse order of removal."""
    created = resources_of(stage, now=now, project=project)
    if stage.choices.stack:
        # Deleting the stack removes the others, including the remembered choices.
        return [*created[1:], BlockedClients(stage, now)]
    return [*created, FunctionLogs(stage), ChaliceDeployment(stage, project), BlockedClients(stage, now)]
