"""The Kinesis stream that receives the logs."""

from math import ceil
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource

RESHARDING = {"Delay": 5, "MaxAttempts": 240}
"""Polling of a stream that is being resharded: twenty minutes at most, for many shards."""

ON_DEMAND, PROVISIONED = {"StreamMode": "ON_DEMAND"}, {"StreamMode": "PROVISIONED"}


class LogStream(Resource):
    kind = "Kinesis stream"

    @property
    def _shards(self) -> int:
        return self.stage.choices.shards

    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("kinesis")
        with missing_ok("ResourceNotFoundException"):
            stream = self._summary(account)
            if stream["StreamStatus"] == "DELETING":
                client.get_waiter("stream_not_exists").wait(StreamName=self.name)
                return None
            tags = client.list_tags_for_stream(StreamName=self.name)["Tags"]
            on_demand = ON_DEMAND.items() <= stream.get("StreamModeDetails", {}).items()
            shards = 0 if on_demand else stream["OpenShardCount"]
            differences = [] if shards == self._shards else [f"{mode(shards)} becomes {mode(self._shards)}"]
            return Existing(self.tagged(tags), differences, {"shards": shards, "arn": stream["StreamARN"]})
        return None

    def create(self, account: AwsAccount) -> None:
        size: dict[str, Any] = {"StreamModeDetails": PROVISIONED, "ShardCount": self._shards}
        if not self._shards:
            size = {"StreamModeDetails": ON_DEMAND}
        account.client("kinesis").create_stream(StreamName=self.name, Tags=self.stage.tags, **size)
        self._wait(account)

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("kinesis")
        self._wait(account)
        if not (self._shards and existing.facts["shards"]):
            details = PROVISIONED if self._shards else ON_DEMAND
            client.update_stream_mode(StreamARN=existing.facts["arn"], StreamModeDetails=details)
            self._wait(account)
        while self._shards and (shards := int(self._summary(account)["OpenShardCount"])) != self._shards:
            # One call at most doubles or halves the shards.
            target = max(ceil(shards / 2), min(2 * shards, self._shards))
            client.update_shard_count(StreamName=self.name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
            self._wait(account)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        client = account.client("kinesis")
        client.delete_stream(StreamName=self.name, EnforceConsumerDeletion=True)
        client.get_waiter("stream_not_exists").wait(StreamName=self.name)

    def _summary(self, account: AwsAccount) -> Any:
        return account.client("kinesis").describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]

    def _wait(self, account: AwsAccount) -> None:
        account.client("kinesis").get_waiter("stream_exists").wait(StreamName=self.name, WaiterConfig=RESHARDING)


def mode(shards: int) -> str:
    """Returns a stream's capacity in words; 0 shards mean an on-demand stream."""
    return f"{shards} shard{'s' * (shards != 1)}" if shards else "on-demand"
