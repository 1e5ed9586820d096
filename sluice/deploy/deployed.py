"""The part of a stage that Chalice creates, as it exists in the account.

Functions, roles and the schedule have names that follow from the stage, event sources belong to functions, and an API
belongs to the stage whose function it invokes. So everything is found without a record of what was created.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.policies import FUNCTIONS
from sluice.deploy.stage import API, TAG, Stage

API_NAME = "sluice"
"""Name of the API of every stage: the application's name in ``.chalice/config.json``."""

API_STAGE = "api"
"""Name of API Gateway's stage, as Chalice names it."""

SCHEDULE = "sweep-event"
"""Chalice's name for the schedule of the sweep."""

READERS = ("ingest", "import_objects", "evaluate", "enforce", "publish")
"""Functions with an event source."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """Everything that Chalice has created for a stage, each by the function's name in Chalice's configuration."""

    functions: Mapping[str, Mapping[str, Any]]
    """Lambda's description of each function."""
    event_sources: Mapping[str, Sequence[Mapping[str, Any]]]
    """The event source mappings of each function that has any, except those that are being deleted."""
    roles: Mapping[str, str]
    """ARN of each function's role."""
    apis: Sequence[str]
    """Ids of the APIs that invoke the stage's function, the one in use first. A ``chalice deploy`` that was interrupted
    and repeated has left more than one."""
    scheduled: bool
    """True if the schedule of the sweep exists."""

    @property
    def anything(self) -> bool:
        return bool(self.functions or self.event_sources or self.roles or self.apis or self.scheduled)

    def url(self, region: str) -> str:
        """Returns the URL of the admin API; empty if there is none."""
        return f"https://{self.apis[0]}.execute-api.{region}.amazonaws.com/{API_STAGE}/" if self.apis else ""


def lambda_name(stage: Stage, function: str) -> str:
    """Returns Lambda's name for a function. Chalice gives the API's function the name of the whole stage."""
    return stage.prefix if function == API else stage.function(function)


def schedule_name(stage: Stage) -> str:
    return stage.function(SCHEDULE)


def functions_of(stage: Stage, account: AwsAccount) -> dict[str, Mapping[str, Any]]:
    """Returns Lambda's description of each deployed function, by the function's name in Chalice's configuration."""
    names = {lambda_name(stage, name): name for name in FUNCTIONS} | {stage.function(API): API}
    described = account.list_all("lambda", "list_functions", "Functions")
    return {names[each["FunctionName"]]: each for each in described if each["FunctionName"] in names}


def look_up(stage: Stage, account: AwsAccount) -> Deployed:
    """Returns what exists in the account for a stage. Raises ClientError."""
    return Deployed(
        functions=functions_of(stage, account),
        event_sources=look_up_sources(stage, account),
        roles=dict(_roles(stage, account)),
        apis=apis_of(stage, account),
        scheduled=_scheduled(stage, account),
    )


def look_up_sources(stage: Stage, account: AwsAccount) -> dict[str, list[Mapping[str, Any]]]:
    """Returns ``Deployed.event_sources``. Raises ClientError."""
    sources: dict[str, list[Mapping[str, Any]]] = {}
    for name, mapping in event_sources_of(stage, account):
        if mapping.get("State") != "Deleting":
            sources.setdefault(name, []).append(mapping)
    return sources


def event_sources_of(stage: Stage, account: AwsAccount) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields each event source mapping, in whatever state, with its function's name in Chalice's configuration."""
    names = {lambda_name(stage, name): name for name in READERS}
    for mapping in account.list_all("lambda", "list_event_source_mappings", "EventSourceMappings"):
        # A version or an alias may follow the name in the ARN.
        function = mapping["FunctionArn"].split(":")[6]
        if function in names:
            yield names[function], mapping


def owner_of(function: Mapping[str, Any], account: AwsAccount) -> str | None:
    """Returns the stage that a function's tag names; None if it has no such tag."""
    tags = account.client("lambda").list_tags(Resource=function["FunctionArn"]).get("Tags", {})
    owner: str | None = tags.get(TAG)
    return owner


def _roles(stage: Stage, account: AwsAccount) -> Iterator[tuple[str, str]]:
    for name in FUNCTIONS:
        with missing_ok("NoSuchEntity"):
            yield name, account.client("iam").get_role(RoleName=stage.function(name))["Role"]["Arn"]


def apis_of(stage: Stage, account: AwsAccount) -> list[str]:
    """Returns ``Deployed.apis``. Raises ClientError."""
    invoked = f":function:{stage.prefix}/invocations"
    client, apis = account.client("apigateway"), []
    for api in account.list_all("apigateway", "get_rest_apis", "items"):
        if api["name"] != API_NAME:
            continue
        resources = account.list_all("apigateway", "get_resources", "items", restApiId=api["id"], embed=["methods"])
        methods = (method for each in resources for method in each.get("resourceMethods", {}).values())
        if any(invoked in method.get("methodIntegration", {}).get("uri", "") for method in methods):
            stages = client.get_stages(restApiId=api["id"])["item"]
            served = any(each["stageName"] == API_STAGE for each in stages)
            apis.append((not served, api["createdDate"], api["id"]))
    return [id_ for _, _, id_ in sorted(apis)]


def _scheduled(stage: Stage, account: AwsAccount) -> bool:
    with missing_ok("ResourceNotFoundException"):
        account.client("events").describe_rule(Name=schedule_name(stage))
        return True
    return False
