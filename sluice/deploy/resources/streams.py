"""The Kinesis stream that receives the logs."""

from math import ceil
from typing import Any

from sluice.deploy.account import AwsAccount, as_mapping, missing_ok
from sluice.deploy.resource import Existing, Resource

RESHARDING = {"Delay": 5, "MaxAttempts": 240}
"""Polling of a stream that is being resharded: twenty minutes at most, for many shards."""

ON_DEMAND, PROVISIONED = "ON_DEMAND", "PROVISIONED"


class LogStream(Resource):
    kind = "Kinesis stream"

    @property
    def about(self) -> str:
        return _mode(self._shards)

    @property
    def _shards(self) -> int:
        return self.stage.choices.shards

    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("kinesis")
        with missing_ok("ResourceNotFoundException"):
            stream = client.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]
            if stream["StreamStatus"] == "DELETING":
                client.get_waiter("stream_not_exists").wait(StreamName=self.name)
                return None
            tags = as_mapping(client.list_tags_for_stream(StreamName=self.name)["Tags"])
            mode = stream.get("StreamModeDetails", {}).get("StreamMode", PROVISIONED)
            return Existing(
                self.tagged(tags),
                {"shards": 0 if mode == ON_DEMAND else stream["OpenShardCount"], "arn": stream["StreamARN"]},
            )
        return None

    def differences(self, existing: Existing) -> list[str]:
        shards = existing.facts["shards"]
        return [] if shards == self._shards else [f"{_mode(shards)} becomes {_mode(self._shards)}"]

    def create(self, account: AwsAccount) -> None:
        client = account.client("kinesis")
        size: dict[str, Any] = {"StreamModeDetails": {"StreamMode": PROVISIONED}, "ShardCount": self._shards}
        if not self._shards:
            size = {"StreamModeDetails": {"StreamMode": ON_DEMAND}}
        client.create_stream(StreamName=self.name, Tags=self.stage.tags, **size)
        self._wait(account)

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("kinesis")
        self._wait(account)
        if not (self._shards and existing.facts["shards"]):
            mode = PROVISIONED if self._shards else ON_DEMAND
            client.update_stream_mode(StreamARN=existing.facts["arn"], StreamModeDetails={"StreamMode": mode})
            self._wait(account)
        while self._shards and (shards := self._open_shards(account)) != self._shards:
            # One call at most doubles or halves the shards.
            target = max(ceil(shards / 2), min(2 * shards, self._shards))
            client.update_shard_count(StreamName=self.name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
            self._wait(account)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        client = account.client("kinesis")
        client.delete_stream(StreamName=self.name, EnforceConsumerDeletion=True)
        client.get_waiter("stream_not_exists").wait(StreamName=self.name)

    def _open_shards(self, account: AwsAccount) -> int:
        summary = account.client("kinesis").describe_stream_summary(StreamName=self.name)
        return int(summary["StreamDescriptionSummary"]["OpenShardCount"])

    def _wait(self, account: AwsAccount) -> None:
        account.client("kinesis").get_waiter("stream_exists").wait(StreamName=self.name, WaiterConfig=RESHARDING)


def _mode(shards: int) -> str:
    return f"{shards} shard{'s' * (shards != 1)}" if shards else "on-demand"
