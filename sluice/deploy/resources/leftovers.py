"""State that ``chalice deploy`` and running functions leave behind, which teardown removes first.

In order of removal: the blocks, then the functions, then the functions' logs.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.core.state import Pause
from chalicelib.edges.state_table import StateTable
from chalicelib.pipeline.stored import State
from sluice.deploy.account import AwsAccount, AwsError, missing_ok
from sluice.deploy.policies import FUNCTIONS
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.waf import IpSetResource, ip_set_resources
from sluice.deploy.stage import LOGS, Refusal, Stage

CHALICE = (sys.executable, "-c", "from chalice.cli import main; main()")


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
    """Functions, event sources, schedule, roles and API, which Chalice created and can delete."""

    kind = "Chalice deployment"

    project: Project

    def find(self, account: AwsAccount) -> Existing | None:
        recorded = self._record.exists()
        if not recorded and (functions := functions_of(self.stage, account)):
            raise Refusal(
                f"{len(functions)} functions of stage {self.stage.name} are deployed, but {self._record} is missing: "
                f"'chalice deploy' ran in another checkout. Run 'chalice delete --stage {self.stage.name}' there, "
                "then teardown again"
            )
        return Existing(ours=True) if recorded else None

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        command = [*CHALICE, "delete", "--stage", self.stage.name]
        directory = self.project.directory
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603
        if result.returncode:
            raise AwsError(f"'chalice delete --stage {self.stage.name}' failed:\n{result.stdout}{result.stderr}")
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.project.chalice / "deployed" / f"{self.stage.name}.json"


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


def functions_of(stage: Stage, account: AwsAccount) -> list[Mapping[str, Any]]:
    """Returns Lambda's description of each deployed function. The API's function is named ``stage.prefix``."""
    names = {*(stage.function(name) for name in FUNCTIONS), stage.prefix}
    functions = account.list_all("lambda", "list_functions", "Functions")
    return [function for function in functions if function["FunctionName"] in names]
