"""Everything a stage consists of, in the order in which it is created."""

from collections.abc import Callable

from chalicelib.core.state import ACTIVE
from sluice.deploy.resource import Resource
from sluice.deploy.resources.chalice_config import ChaliceStage, Project
from sluice.deploy.resources.cloudfront import DistributionLogging, LogConfig
from sluice.deploy.resources.leftovers import LOGS, BlockedClients, ChaliceDeployment, FunctionLogs
from sluice.deploy.resources.log_groups import ApiLogGroup, WafLogGroup
from sluice.deploy.resources.parameters import FirstToken, RememberedChoices
from sluice.deploy.resources.roles import DeliveryRole
from sluice.deploy.resources.streams import LogStream
from sluice.deploy.resources.tables import FirstRules, StateTableResource, TallyTableResource
from sluice.deploy.resources.waf import RuleGroup, ip_set_resources
from sluice.deploy.resources.waf_logs import LogSubscription, WebAclLogging
from sluice.deploy.resources.web_acls import WebAclRule, web_acl_name
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
    remembered = RememberedChoices(stage, stage.choices_parameter)
    seeds: list[Resource] = [
        FirstRules(stage, ACTIVE, rules, now),
        FirstToken(stage, stage.tokens_parameter, now, show_token),
    ]
    if choices.stack:
        # CloudFormation creates the others.
        return [remembered, *seeds, *_additions(stage)]
    resources: list[Resource] = [
        remembered,
        LogStream(stage, stage.log_stream),
        TallyTableResource(stage, stage.tally_table),
        StateTableResource(stage, stage.state_table),
        *seeds,
        *ip_set_resources(stage),
        RuleGroup(stage, stage.rule_group),
        DeliveryRole(stage, stage.delivery_role),
    ]
    if "cloudfront" in choices.sources:
        resources.append(LogConfig(stage, stage.log_config))
    if "waf" in choices.sources:
        resources.append(WafLogGroup(stage, stage.waf_log_group))
        resources.append(LogSubscription(stage, f"{stage.waf_log_group}/{stage.prefix}"))
    resources.append(ApiLogGroup(stage, f"/aws/lambda/{stage.prefix}"))
    resources.append(ChaliceStage(stage, stage.name, project))
    return resources + _additions(stage)


def _additions(stage: Stage) -> list[Resource]:
    """Additions to resources with other owners."""
    additions: list[Resource] = [DistributionLogging(stage, id) for id in stage.choices.distributions]
    for web_acl in stage.choices.web_acls:
        name = web_acl_name(web_acl)
        additions.append(WebAclRule(stage, f"{name}/{stage.rule_group}", web_acl))
        if "waf" in stage.choices.sources and not stage.choices.stack:
            additions.append(WebAclLogging(stage, name, web_acl))
    return additions


def remains_of(stage: Stage, *, now: int, project: Project) -> list[Resource]:
    """Returns everything that teardown removes, in reverse order of removal."""
    created = resources_of(stage, now=now, project=project)
    blocked = BlockedClients(stage, "in all IP sets", now)
    if stage.choices.stack:
        # Deleting the stack removes the others, including the remembered choices.
        return [*created[1:], blocked]
    logs = FunctionLogs(stage, f"{LOGS}{stage.prefix}-*")
    return [*created, logs, ChaliceDeployment(stage, stage.prefix, project), blocked]
