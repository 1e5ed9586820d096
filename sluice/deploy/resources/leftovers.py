"""What ``chalice deploy`` and running functions leave behind, to be removed before everything else.

In the order of removal: nobody stays blocked, then nothing runs, then what ran is forgotten.
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chalicelib.core.state import Pause
from chalicelib.edges.state_table import StateTable
from chalicelib.pipeline.stored import State
from sluice.deploy.account import AwsAccount, AwsError, missing_ok
from sluice.deploy.policies import FUNCTIONS
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.waf import IpSetResource
from sluice.deploy.stage import Refusal, Stage

LOGS = "/aws/lambda/"


class Leftover(Resource):
    """Something that setup does not create."""

    def create(self, account: AwsAccount) -> None:
        """It comes by itself."""


@dataclass(frozen=True, slots=True)
class BlockedClients(Leftover):
    """Whoever is refused at the moment. They are let go first: what fails after that blocks nobody for good."""

    kind = "blocked clients"

    now: int
    """Epoch seconds."""

    @property
    def name(self) -> str:
        return "in all IP sets"

    def find(self, account: AwsAccount) -> Existing | None:
        return Existing(ours=True) if any(True for _ in self._ip_sets(account)) else None

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        client = account.client("dynamodb")
        pause = Pause(paused=True, release=True, at=self.now, by="sluice teardown")
        # As long as the functions run they would fill the sets again.
        with missing_ok("ResourceNotFoundException"):
            client.describe_table(TableName=self.stage.state_table)
            State(StateTable(client, self.stage.state_table)).overwrite(pause)
        for ip_set, held in self._ip_sets(account):
            ip_set.empty(account, held)

    def _ip_sets(self, account: AwsAccount) -> Iterable[tuple[IpSetResource, Existing]]:
        for family in (4, 6):
            for number in range(1, self.stage.choices.ip_sets + 1):
                ip_set = IpSetResource(self.stage, family, number)
                existing = ip_set.find(account)
                if existing is not None and existing.ours:
                    yield ip_set, existing


@dataclass(frozen=True, slots=True)
class ChaliceDeployment(Leftover):
    """Functions, event sources, schedule, roles and API, which Chalice created and knows how to delete."""

    kind = "Chalice deployment"

    project: Project
    command: tuple[str, ...] = field(default=(sys.executable, "-c", "from chalice.cli import main; main()"))

    @property
    def name(self) -> str:
        return self.stage.prefix

    def find(self, account: AwsAccount) -> Existing | None:
        functions = functions_of(self.stage, account)
        recorded = self._record.exists()
        if functions and not recorded:
            raise Refusal(
                f"{len(functions)} functions of stage {self.stage.name} are deployed, but {self._record} is missing: "
                f"'chalice deploy' was run in another checkout. Run 'chalice delete --stage {self.stage.name}' there, "
                "then teardown again"
            )
        return Existing(ours=True, facts={"functions": functions}) if recorded else None

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [*self.command, "delete", "--stage", self.stage.name],
            cwd=self.project.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AwsError(f"'chalice delete --stage {self.stage.name}' failed:\n{done.stdout}{done.stderr}")
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Any:
        return self.project.chalice / "deployed" / f"{self.stage.name}.json"


class FunctionLogs(Leftover):
    """Log groups of the functions; Lambda makes them, without tags, and Chalice leaves them."""

    kind = "CloudWatch log groups"

    @property
    def name(self) -> str:
        return f"{LOGS}{self.stage.prefix}-*"

    def find(self, account: AwsAccount) -> Existing | None:
        prefix = f"{LOGS}{self.stage.prefix}"
        listed = account.list_all("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix)
        known = {self.stage.function(name) for name in FUNCTIONS}
        groups = [group["logGroupName"] for group in listed if group["logGroupName"].removeprefix(LOGS) in known]
        return Existing(ours=True, facts={"groups": groups}) if groups else None

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        for group in existing.facts["groups"]:
            with missing_ok("ResourceNotFoundException"):
                account.client("logs").delete_log_group(logGroupName=group)


def functions_of(stage: Stage, account: AwsAccount) -> list[Mapping[str, Any]]:
    """Lambda's description of each deployed function; Chalice gives the API's the stage's own name."""
    known = {*(stage.function(name) for name in FUNCTIONS), stage.prefix}
    listed = account.list_all("lambda", "list_functions", "Functions")
    return [function for function in listed if function["FunctionName"] in known]
