"""A stage under examination: what the checks ask AWS, each thing once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from chalicelib.core.state import StateRecord
from chalicelib.edges.state_table import item_of
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.policies import FUNCTIONS
from sluice.deploy.resource import Resource
from sluice.deploy.resources.leftovers import functions_of
from sluice.deploy.stage import Stage

R = TypeVar("R", bound=StateRecord)

LOOKED_BACK_S = 900


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, or worth knowing, and its remedy."""

    check: str
    what: str
    remedy: str
    wrong: bool = True
    """False: it may well be meant."""


@dataclass(frozen=True)
class Inspection:
    """A stage that is examined. ``now``: epoch seconds."""

    stage: Stage
    account: AwsAccount
    now: int
    resources: Sequence[Resource] = field(repr=False)

    @cached_property
    def functions(self) -> dict[str, Mapping[str, Any]]:
        """Lambda's description of each deployed function, by the name in Chalice's configuration."""
        deployed = {about["FunctionName"]: about for about in functions_of(self.stage, self.account)}
        names = {self.stage.function(name): name for name in FUNCTIONS}
        names[self.stage.prefix] = "api_handler"
        return {names[name]: about for name, about in deployed.items()}

    def environment(self, function: str) -> Mapping[str, str]:
        variables: Mapping[str, str] = self.functions.get(function, {}).get("Environment", {}).get("Variables", {})
        return variables

    def record(self, of: type[R], id: str) -> R | None:
        """Returns a record of the state table; None if the record or the table does not exist."""
        with missing_ok("ResourceNotFoundException"):
            answer = self.account.client("dynamodb").get_item(
                TableName=self.stage.state_table, Key={"kind": {"S": of.kind}, "id": {"S": id}}, ConsistentRead=True
            )
            return of.from_json(item_of(answer["Item"]).body) if "Item" in answer else None
        return None

    def metric(self, namespace: str, name: str, statistic: str, **dimensions: str) -> float | None:
        """Over the last quarter of an hour; None if nothing was reported."""
        points = self.account.client("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=datetime.fromtimestamp(self.now - LOOKED_BACK_S, UTC),
            EndTime=datetime.fromtimestamp(self.now, UTC),
            Period=LOOKED_BACK_S,
            Statistics=[statistic],
        )["Datapoints"]
        values: list[float] = [point[statistic] for point in points]
        if not values:
            return None
        return max(values) if statistic == "Maximum" else sum(values)

    def own_metric(self, name: str, statistic: str) -> float | None:
        return self.metric("Sluice", name, statistic, service=self.stage.prefix)

    def command(self, name: str) -> str:
        return self.stage.command(name)

    @property
    def deploy(self) -> str:
        if self.stage.choices.stack:
            return f"deploy the stack {self.stage.choices.stack} again"
        return f"AWS_DEFAULT_REGION={self.stage.location.region} chalice deploy --stage {self.stage.name}"
