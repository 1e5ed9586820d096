"""The two DynamoDB tables, and the first rule set in the state table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.core.state.rule_sets import ACTIVE, StoredRules, version_id
from chalicelib.edges.state_table import StateTable as StateStore
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource

EXPIRY = "expires_at"
STREAMS = {"NEW_AND_OLD_IMAGES": "stream with new and old images", "KEYS_ONLY": "stream of keys"}
"""The plan's phrases for the view types of streams."""


@dataclass(frozen=True, slots=True)
class Table(Resource):
    """An on-demand table whose items expire."""

    kind = "DynamoDB table"

    key: Mapping[str, str]
    """Types of the partition key and the sort key, by attribute."""
    stream: str
    """View type of the table's stream."""
    durable: bool = False
    """True if the table can be restored to any moment of the last 35 days, and cannot be deleted by mistake."""

    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("dynamodb")
        with missing_ok("ResourceNotFoundException"):
            table = client.describe_table(TableName=self.name)["Table"]
            if table["TableStatus"] == "DELETING":
                client.get_waiter("table_not_exists").wait(TableName=self.name)
                return None
            client.get_waiter("table_exists").wait(TableName=self.name)
            tags = account.list_all("dynamodb", "list_tags_of_resource", "Tags", ResourceArn=table["TableArn"])
            ttl = client.describe_time_to_live(TableName=self.name)["TimeToLiveDescription"]
            expires = ttl["TimeToLiveStatus"] in ("ENABLED", "ENABLING") and ttl.get("AttributeName") == EXPIRY
            backups = client.describe_continuous_backups(TableName=self.name)["ContinuousBackupsDescription"]
            recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
            stream = table.get("StreamSpecification", {}).get("StreamViewType")
            differences = {
                f"items expire by {EXPIRY}": not expires,
                STREAMS[self.stream]: stream != self.stream,
                "point-in-time recovery": self.durable and recovery != "ENABLED",
                "deletion protection": self.durable and not table.get("DeletionProtectionEnabled"),
            }
            wrong = [phrase for phrase, differs in differences.items() if differs]
            return Existing(self.tagged(tags), wrong, {"wrong": list(differences.values()), "stream": stream})
        return None

    @property
    def _stream_on(self) -> dict[str, Any]:
        return {"StreamEnabled": True, "StreamViewType": self.stream}

    def create(self, account: AwsAccount) -> None:
        roles = zip(self.key, ("HASH", "RANGE"), strict=True)
        account.client("dynamodb").create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": type_} for name, type_ in self.key.items()],
            KeySchema=[{"AttributeName": name, "KeyType": role} for name, role in roles],
            StreamSpecification=self._stream_on,
            Tags=self.stage.tag_list,
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("dynamodb")
        expiry, stream, recovery, protection = existing.facts["wrong"]
        if stream:
            # DynamoDB cannot change a stream's view type, so the stream is replaced.
            off = [{"StreamEnabled": False}] if existing.facts["stream"] else []
            for specification in (*off, self._stream_on):
                client.update_table(TableName=self.name, StreamSpecification=specification)
                client.get_waiter("table_exists").wait(TableName=self.name)
        if expiry:
            client.update_time_to_live(
                TableName=self.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": EXPIRY}
            )
        if recovery:
            account.retry(
                client.update_continuous_backups,
                ["ContinuousBackupsUnavailableException"],
                TableName=self.name,
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
            )
        if protection:
            _protect(account, self.name, protected=True)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        client = account.client("dynamodb")
        if self.durable:
            _protect(account, self.name, protected=False)
        client.delete_table(TableName=self.name)
        client.get_waiter("table_not_exists").wait(TableName=self.name)


def _protect(account: AwsAccount, table: str, *, protected: bool) -> None:
    client = account.client("dynamodb")
    client.update_table(TableName=table, DeletionProtectionEnabled=protected)
    client.get_waiter("table_exists").wait(TableName=table)


@dataclass(frozen=True, slots=True)
class DeletionProtection(Resource):
    """The protection of a stack's table, which teardown removes so that the stack can be deleted."""

    kind = "deletion protection"

    @missing_ok("ResourceNotFoundException")
    def find(self, account: AwsAccount) -> Existing | None:
        table = account.client("dynamodb").describe_table(TableName=self.name)["Table"]
        return Existing(ours=True) if table.get("DeletionProtectionEnabled") else None

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        _protect(account, self.name, protected=False)


def stream_of(table: str, account: AwsAccount) -> str | None:
    """Returns the ARN of a table's stream; None if the table is missing or its stream is off."""
    with missing_ok("ResourceNotFoundException"):
        described = account.client("dynamodb").describe_table(TableName=table)["Table"]
        # LatestStreamArn also names a stream that was switched off.
        return described.get("LatestStreamArn") if "StreamSpecification" in described else None
    return None


@dataclass(frozen=True, slots=True)
class FirstRules(Resource):
    """The first rule set, removed with its table. Setup never changes it: later ones are the operator's."""

    kind = "rule set"
    dependent = True

    text: str
    """TOML."""
    now: int
    """Epoch seconds."""

    def find(self, account: AwsAccount) -> Existing | None:
        with missing_ok("ResourceNotFoundException", "ValidationException"):  # the latter if the keys differ
            key = {"kind": {"S": StoredRules.kind}, "id": {"S": ACTIVE}}
            client = account.client("dynamodb")
            stored = client.get_item(TableName=self.stage.state_table, Key=key, ConsistentRead=True)
            return Existing(ours=True) if "Item" in stored else None
        return None

    def create(self, account: AwsAccount) -> None:
        client = account.client("dynamodb")
        client.get_waiter("table_exists").wait(TableName=self.stage.state_table)
        rules = StoredRules(text=self.text, by="sluice setup", saved_at=self.now)
        try:
            state = State(StateStore(client, self.stage.state_table))
            state.write([state.put(rules, id=id) for id in (ACTIVE, version_id(1))])
        except Conflict:
            return  # an operator stored rules meanwhile, and those are kept
