"""A stage under inspection: what the checks read from AWS, cached where several checks need it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from chalicelib.core.state.breakers import RuleBreaker
from chalicelib.core.state.operators import Placed
from chalicelib.core.state.records import StateRecord, Unreadable
from chalicelib.edges.state_table import StateTable, item_of
from chalicelib.pipeline.rule_breakers import stopped_rules
from chalicelib.pipeline.stored import State
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.deployed import functions_of
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.web_acls import places
from sluice.deploy.stack import BY_ITS_OWNER, is_published, repackaging
from sluice.deploy.stage import Stage

METRIC_PERIOD_S = 900
"""Most recent seconds over which metrics are aggregated, unless a check needs more."""

StoredRecord = TypeVar("StoredRecord", bound=StateRecord)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem or a remark, and its remedy."""

    check: str
    what: str
    remedy: str
    wrong: bool = True
    """False if what it describes may be intended."""


@dataclass(frozen=True)
class Inspection:
    """The stage to check, and the checkout that deploys it. ``now`` is epoch seconds."""

    stage: Stage
    account: AwsAccount
    project: Project
    now: int

    @cached_property
    def functions(self) -> dict[str, Mapping[str, Any]]:
        """Lambda's description of each deployed function, by the function's name in Chalice's configuration."""
        return functions_of(self.stage, self.account)

    @cached_property
    def web_acls(self) -> list[Placed]:
        """The place of the stage's rules in each web ACL that setup added them to."""
        return places(self.account, self.stage)

    def environment(self, function: str) -> Mapping[str, str]:
        return dict(self.functions.get(function, {}).get("Environment", {}).get("Variables", {}))

    def record(self, type_: type[StoredRecord], id: str) -> StoredRecord | None:
        """Returns a record of the state table; None if there is none that can be read."""
        with missing_ok("ResourceNotFoundException"):
            key = {"kind": {"S": type_.kind}, "id": {"S": id}}
            client = self.account.client("dynamodb")
            answer = client.get_item(TableName=self.stage.state_table, Key=key, ConsistentRead=True)
            record = type_.read(id, item_of(answer["Item"]).body) if "Item" in answer else None
            return None if isinstance(record, Unreadable) else record
        return None

    def stopped_rules(self) -> list[RuleBreaker]:
        """Returns the breakers of the rules that are stopped."""
        with missing_ok("ResourceNotFoundException"):
            return list(stopped_rules(State(StateTable(self.account.client("dynamodb"), self.stage.state_table))))
        return []

    def metric(
        self, namespace: str, name: str, statistic: str, *, over_s: int = METRIC_PERIOD_S, **dimensions: str
    ) -> float | None:
        """Returns a metric's value over the last ``over_s`` seconds; None if nothing was reported."""
        points = self.account.client("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=datetime.fromtimestamp(self.now - over_s, UTC),
            EndTime=datetime.fromtimestamp(self.now, UTC),
            Period=over_s,
            Statistics=[statistic],
        )["Datapoints"]
        values: list[float] = [point[statistic] for point in points]
        combine = max if statistic == "Maximum" else sum
        return combine(values) if values else None

    @property
    def setup(self) -> str:
        """The command that repairs what setup created."""
        return self.stage.command("setup")

    @cached_property
    def published(self) -> bool:
        """True if the console or another tool has to update the stage's stack, without a checkout."""
        name = self.stage.choices.stack
        return bool(name) and is_published(self.account, name)

    @property
    def deploy(self) -> str:
        """The command or action that deploys the functions again."""
        if self.published:
            return f"update stack {self.stage.choices.stack} {BY_ITS_OWNER}"
        return self.stage.command("stack deploy" if self.stage.choices.stack else "deploy")

    @property
    def drift_remedy(self) -> str:
        """The action that makes a stack's resources again as its template has them."""
        stack = self.stage.choices.stack
        return f"in the CloudFormation console, create a drift-aware change set of stack {stack}, and execute it"

    @property
    def restore(self) -> str:
        """The command or action that restores what a deployment makes, also if someone has changed it by hand.

        An update of a stack compares templates, not resources.
        """
        if not self.stage.choices.stack:
            return self.deploy
        return f"{self.deploy}; if that changes nothing: {self.drift_remedy}"

    @property
    def repackage(self) -> str:
        """The command or action by which the functions get the settings that setup remembers."""
        return repackaging(self.stage.choices.stack) if self.published else self.deploy

    def with_parameter(self, parameter: str) -> str:
        """Returns the command or action that sets a parameter of the stage's stack."""
        if self.published:
            return f"update stack {self.stage.choices.stack} with {parameter} {BY_ITS_OWNER}"
        return f"{self.deploy} --parameter {parameter}"

    def change(self, option: str, parameter: str, *, of_functions: bool = False) -> str:
        """Returns the command that makes a choice: an option of setup, or a parameter of the stage's stack.

        With ``of_functions``, the functions have to be deployed again before they know of it.
        """
        if self.stage.choices.stack:
            return self.with_parameter(parameter)
        return f"{self.setup} {option}" + (f", then {self.deploy}" if of_functions else "")

    def set(self, setting: str) -> str:
        """Returns the command that gives the functions a setting which is no parameter of a stack."""
        return f"{self.setup} --set {setting}, then {self.repackage}"

    def log_group(self, function: str) -> str:
        return f"the log group {self.stage.log_group(function)}"
