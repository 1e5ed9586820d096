"""The Kinesis stream that receives the logs, and the role that CloudFront and CloudWatch Logs assume to write to it."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.policies import allow, policy
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.roles import ServiceRole
from sluice.deploy.stage import Stage

RESHARDING = {"Delay": 5, "MaxAttempts": 240}
"""Polling of a stream that is being resharded: twenty minutes at most, for many shards."""

REQUIRED_BY_CLOUDFRONT = "DescribeStreamSummary DescribeStream PutRecord PutRecords"
"""Actions on the stream, of which CloudWatch Logs needs the last two."""

KEY = "alias/aws/kinesis"
ENCRYPTION: Mapping[str, Any] = {"EncryptionType": "KMS", "KeyId": KEY}
"""Encryption at rest with the account's own key for Kinesis, which costs nothing to keep."""

ON_DEMAND, PROVISIONED = {"StreamMode": "ON_DEMAND"}, {"StreamMode": "PROVISIONED"}


class LogStream(Resource):
    kind = "Kinesis stream"

    @property
    def _shards(self) -> int:
        return self.stage.choices.shards

    @missing_ok("ResourceNotFoundException")
    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("kinesis")
        stream = self._summary(account)
        if stream["StreamStatus"] == "DELETING":
            client.get_waiter("stream_not_exists").wait(StreamName=self.name)
            return None
        tags = client.list_tags_for_stream(StreamName=self.name)["Tags"]
        on_demand = ON_DEMAND.items() <= stream.get("StreamModeDetails", {}).items()
        shards = 0 if on_demand else stream["OpenShardCount"]
        differences = [] if shards == self._shards else [f"{mode(shards)} becomes {mode(self._shards)}"]
        encrypted = stream.get("EncryptionType") == ENCRYPTION["EncryptionType"]
        if encrypted != self.stage.choices.stream_encryption:
            differences.append(f"its records become {'unencrypted' if encrypted else 'encrypted'}")
        facts = {"shards": shards, "arn": stream["StreamARN"], "encrypted": encrypted}
        return Existing(self.tagged(tags), differences, facts)

    def create(self, account: AwsAccount) -> None:
        size: dict[str, Any] = {"StreamModeDetails": PROVISIONED, "ShardCount": self._shards}
        if not self._shards:
            size = {"StreamModeDetails": ON_DEMAND}
        account.client("kinesis").create_stream(StreamName=self.name, Tags=self.stage.tags, **size)
        self._wait(account)

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("kinesis")
        self._wait(account)
        if existing.facts["encrypted"] != self.stage.choices.stream_encryption:
            change = client.stop_stream_encryption if existing.facts["encrypted"] else client.start_stream_encryption
            change(StreamName=self.name, **ENCRYPTION)
            self._wait(account)
        if self._shards == existing.facts["shards"]:
            return
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


class DeliveryRole(ServiceRole):
    policy_name = "write-to-the-log-stream"
    description = "Writes access logs into Sluice's log stream."

    def trust(self) -> dict[str, Any]:
        return trust(self.stage)

    def permissions(self) -> dict[str, Any]:
        location = self.stage.location
        # CloudFront asks for it if the stream is encrypted.
        encrypt = allow("kms", "GenerateDataKey", location.arn("kms", "key/*"))
        encrypt["Condition"] = {
            "StringEquals": {"kms:ViaService": f"kinesis.{location.region}.amazonaws.com"},
            "ForAnyValue:StringEquals": {"kms:ResourceAliases": KEY},
        }
        return policy([allow("kinesis", REQUIRED_BY_CLOUDFRONT, self.stage.log_stream_arn), encrypt])


def trust(stage: Stage) -> dict[str, Any]:
    """Returns the trust policy: CloudFront may assume the role only for this account, CloudWatch Logs only for its log
    groups.

    All logs but CloudFront's real-time log come from log groups.
    """
    assume: dict[str, Any] = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    logs_only = {"StringLike": {"aws:SourceArn": stage.location.arn("logs", "*")}}
    this_account = {"StringEquals": {"aws:SourceAccount": stage.location.account}}
    statements: dict[str, dict[str, Any]] = {
        "cloudfront": {**assume, "Principal": {"Service": "cloudfront.amazonaws.com"}, "Condition": this_account},
        "logs": {**assume, "Principal": {"Service": "logs.amazonaws.com"}, "Condition": logs_only},
    }
    services = ["cloudfront" if source == "cloudfront" else "logs" for source in stage.choices.sources]
    services += ["logs"] if stage.choices.subscribed else []
    return policy([statements[service] for service in dict.fromkeys(services)])
