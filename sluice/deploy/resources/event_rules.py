"""Rules of EventBridge, each with one target."""

import json
from abc import abstractmethod
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource

TARGET = "target"


class EventBridgeRule(Resource):
    """A rule on an event bus that sends the events matching a pattern to a target."""

    kind = "EventBridge rule"

    @abstractmethod
    def pattern(self) -> dict[str, Any]: ...

    @abstractmethod
    def target(self, account: AwsAccount) -> dict[str, Any]:
        """Returns the target as PutTargets takes it, without its id."""

    def bus(self) -> str:
        """Returns the name of the bus."""
        return "default"

    def find(self, account: AwsAccount) -> Existing | None:
        return self.remains(account)

    @missing_ok("ResourceNotFoundException")
    def remains(self, account: AwsAccount) -> Existing | None:
        client, bus = account.client("events"), self.bus()
        rule = client.describe_rule(Name=self.name, EventBusName=bus)
        tags = client.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]
        targets = client.list_targets_by_rule(Rule=self.name, EventBusName=bus)["Targets"]
        wrong = {
            "pattern": json.loads(rule["EventPattern"]) != self.pattern(),
            "not enabled": rule["State"] != "ENABLED",
            "target": {**self.target(account), "Id": TARGET} not in targets,
        }
        differences = [name for name, is_wrong in wrong.items() if is_wrong]
        return Existing(self.tagged(tags), differences, {"targets": [each["Id"] for each in targets]})

    def create(self, account: AwsAccount) -> None:
        client, bus = account.client("events"), self.bus()
        pattern = json.dumps(self.pattern())
        client.put_rule(
            Name=self.name, EventBusName=bus, EventPattern=pattern, State="ENABLED", Tags=self.stage.tag_list
        )
        client.put_targets(Rule=self.name, EventBusName=bus, Targets=[{**self.target(account), "Id": TARGET}])

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        client, bus = account.client("events"), self.bus()
        if existing.facts["targets"]:
            client.remove_targets(Rule=self.name, EventBusName=bus, Ids=existing.facts["targets"])
        client.delete_rule(Name=self.name, EventBusName=bus)
