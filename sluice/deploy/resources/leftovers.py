"""State that deployments and running functions leave behind, which teardown removes first.

In order of removal: the blocks, then the functions, then the functions' logs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from chalicelib.core.state.operators import Pause
from chalicelib.edges.state_table import StateTable
from chalicelib.pipeline.stored import State
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.chalice_record import record_file
from sluice.deploy.deployed import Deployed, look_up, owner_of, schedule_name
from sluice.deploy.policies import FUNCTIONS
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.waf import IpSetResource, ip_set_resources
from sluice.deploy.stage import LOGS

GONE = "ResourceNotFoundException"
SETTLING_S = 120.0
"""Seconds for which a call is retried while an event source mapping is being changed, or API Gateway is busy."""


@dataclass(frozen=True, slots=True)
class BlockedClients(Resource):
    """Networks in the IP sets. They are unblocked first, so that a failed teardown leaves no client blocked."""

    kind = "blocked clients"

    now: int
    """Epoch seconds."""

    def find(self, account: AwsAccount) -> Existing | None:
        return Existing(ours=True) if next(self._ip_sets(account), None) else None

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        # Functions that still run would fill the sets again.
        client = account.client("dynamodb")
        pause = Pause(paused=True, release=True, at=self.now, by="sluice teardown")
        with missing_ok("ResourceNotFoundException"):
            client.describe_table(TableName=self.stage.state_table)
            State(StateTable(client, self.stage.state_table)).overwrite(pause)
        for ip_set, existing_set in self._ip_sets(account):
            ip_set.empty(account, existing_set)

    def _ip_sets(self, account: AwsAccount) -> Iterator[tuple[IpSetResource, Existing]]:
        for ip_set in ip_set_resources(self.stage):
            existing = ip_set.find(account)
            if existing is not None and existing.ours:
                yield ip_set, existing


@dataclass(frozen=True, slots=True)
class ChaliceDeployment(Resource):
    """Functions, event sources, schedule, roles and API, which are found in the account, whatever Chalice has recorded.

    ``chalice delete`` deletes what its record names, in one go: it cannot be repeated after it has failed halfway.
    """

    kind = "Chalice deployment"

    project: Project

    def find(self, account: AwsAccount) -> Existing | None:
        deployed = look_up(self.stage, account)
        record = record_file(self.project, self.stage.name)
        if not deployed.anything and not record.exists():
            return None
        owners = {owner_of(function, account) for function in deployed.functions.values()}
        return Existing(ours=owners <= {self.stage.name}, facts={"deployed": deployed})

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        deployed: Deployed = existing.facts["deployed"]
        functions, gateway, events = (account.client(name) for name in ("lambda", "apigateway", "events"))
        for mapping in (each for sources in deployed.event_sources.values() for each in sources):
            delete = functions.delete_event_source_mapping
            with missing_ok(GONE):
                account.retry(delete, ("ResourceInUseException",), for_s=SETTLING_S, UUID=mapping["UUID"])
        if deployed.scheduled:
            rule = schedule_name(self.stage)
            with missing_ok(GONE):
                targets = events.list_targets_by_rule(Rule=rule)["Targets"]
                if targets:
                    events.remove_targets(Rule=rule, Ids=[target["Id"] for target in targets])
                events.delete_rule(Name=rule)
        for api in deployed.apis:
            # API Gateway deletes an API every half minute at most.
            with missing_ok("NotFoundException"):
                throttled = ("TooManyRequestsException",)
                account.retry(gateway.delete_rest_api, throttled, for_s=SETTLING_S, restApiId=api)
        for function in deployed.functions.values():
            with missing_ok(GONE):
                functions.delete_function(FunctionName=function["FunctionName"])
        for name in deployed.roles:
            self._remove_role(self.stage.function(name), account)
        record_file(self.project, self.stage.name).unlink(missing_ok=True)

    @staticmethod
    def _remove_role(name: str, account: AwsAccount) -> None:
        iam = account.client("iam")
        with missing_ok("NoSuchEntity"):
            for policy in account.list_all("iam", "list_role_policies", "PolicyNames", RoleName=name):
                iam.delete_role_policy(RoleName=name, PolicyName=policy)
            iam.delete_role(RoleName=name)


class FunctionLogs(Resource):
    """Log groups of the functions, which Lambda creates without tags and Chalice does not delete."""

    kind = "CloudWatch log groups"

    def find(self, account: AwsAccount) -> Existing | None:
        prefix = f"{LOGS}{self.stage.prefix}"
        groups = account.list_all("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix)
        ours = {f"{LOGS}{self.stage.function(name)}" for name in FUNCTIONS}
        names = [group["logGroupName"] for group in groups if group["logGroupName"] in ours]
        return Existing(ours=True, facts={"groups": names}) if names else None

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        for group in existing.facts["groups"]:
            with missing_ok("ResourceNotFoundException"):
                account.client("logs").delete_log_group(logGroupName=group)
