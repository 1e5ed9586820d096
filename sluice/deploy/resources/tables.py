"""The two DynamoDB tables, and the first rule set in the state table."""

from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state import ACTIVE, StoredRules
from chalicelib.edges.state_table import StateTable as StateStore
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict
from sluice.deploy.account import AwsAccount, as_list, as_mapping, missing_ok
from sluice.deploy.resource import Existing, Resource

EXPIRY = "expires_at"
STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}


class TableResource(Resource):
    """An on-demand table whose items expire. Subclasses define the key, and whether it has a stream and backups."""

    kind = "DynamoDB table"
    key: Sequence[tuple[str, str]]
    """Attribute and type of the partition key, then of the sort key."""
    streamed = False
    recoverable = False

    def find(self, account: AwsAccount) -> Existing | None:
        client = account.client("dynamodb")
        with missing_ok("ResourceNotFoundException"):
            table = client.describe_table(TableName=self.name)["Table"]
            if table["TableStatus"] == "DELETING":
                client.get_waiter("table_not_exists").wait(TableName=self.name)
                return None
            client.get_waiter("table_exists").wait(TableName=self.name)
            arn = table["TableArn"]
            tags = as_mapping(list(account.list_all("dynamodb", "list_tags_of_resource", "Tags", ResourceArn=arn)))
            ttl = client.describe_time_to_live(TableName=self.name)["TimeToLiveDescription"]
            backups = client.describe_continuous_backups(TableName=self.name)["ContinuousBackupsDescription"]
            recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
            return Existing(
                self.tagged(tags),
                {
                    "arn": arn,
                    "expiry": ttl.get("AttributeName") if ttl["TimeToLiveStatus"] in ("ENABLED", "ENABLING") else None,
                    "stream": table.get("StreamSpecification", {}).get("StreamViewType"),
                    "stream_arn": table.get("LatestStreamArn"),
                    "recoverable": recovery == "ENABLED",
                },
            )
        return None

    def differences(self, existing: Existing) -> list[str]:
        facts = existing.facts
        wrong = []
        if facts["expiry"] != EXPIRY:
            wrong.append(f"items expire by {EXPIRY}")
        if self.streamed and facts["stream"] != STREAM["StreamViewType"]:
            wrong.append("stream with new and old images")
        if self.recoverable and not facts["recoverable"]:
            wrong.append("point-in-time recovery")
        return wrong

    def create(self, account: AwsAccount) -> None:
        client = account.client("dynamodb")
        client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": type_} for name, type_ in self.key],
            KeySchema=[
                {"AttributeName": name, "KeyType": role}
                for (name, _), role in zip(self.key, ("HASH", "RANGE"), strict=True)
            ],
            Tags=as_list(self.stage.tags),
            **({"StreamSpecification": STREAM} if self.streamed else {}),
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("dynamodb")
        if self.streamed and existing.facts["stream"] != STREAM["StreamViewType"]:
            if existing.facts["stream"]:
                client.update_table(TableName=self.name, StreamSpecification={"StreamEnabled": False})
                client.get_waiter("table_exists").wait(TableName=self.name)
            client.update_table(TableName=self.name, StreamSpecification=STREAM)
            client.get_waiter("table_exists").wait(TableName=self.name)
        if existing.facts["expiry"] != EXPIRY:
            client.update_time_to_live(
                TableName=self.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": EXPIRY}
            )
        if self.recoverable and not existing.facts["recoverable"]:
            account.retry(
                lambda: client.update_continuous_backups(
                    TableName=self.name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
                ),
                ["ContinuousBackupsUnavailableException"],
            )

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        client = account.client("dynamodb")
        client.delete_table(TableName=self.name)
        client.get_waiter("table_not_exists").wait(TableName=self.name)


class TallyTableResource(TableResource):
    about = "the shards' tally logs; on demand, items expire"
    key = (("log", "S"), ("offset", "N"))


class StateTableResource(TableResource):
    about = "blocks, allowlist, rules, audit; on demand, stream, point-in-time recovery"
    key = (("kind", "S"), ("id", "S"))
    streamed = True
    recoverable = True


@dataclass(frozen=True, slots=True)
class FirstRules(Resource):
    """The first rule set. Setup never changes it again: later ones are the operator's."""

    kind = "rule set"
    dependent = True

    text: str
    """TOML."""
    now: int
    """Epoch seconds."""

    @property
    def about(self) -> str:
        rules = parse_rules(self.text).rules
        return ", ".join(f"{rule.name} ({rule.action})" for rule in rules)

    def find(self, account: AwsAccount) -> Existing | None:
        with missing_ok("ResourceNotFoundException", "ValidationException"):  # the latter if the keys differ
            stored = account.client("dynamodb").get_item(
                TableName=self.stage.state_table,
                Key={"kind": {"S": StoredRules.kind}, "id": {"S": ACTIVE}},
                ConsistentRead=True,
            )
            return Existing(ours=True) if "Item" in stored else None
        return None

    def create(self, account: AwsAccount) -> None:
        client = account.client("dynamodb")
        client.get_waiter("table_exists").wait(TableName=self.stage.state_table)
        rules = StoredRules(text=self.text, by="sluice setup", saved_at=self.now)
        try:
            state = State(StateStore(client, self.stage.state_table))
            state.write([state.put(rules, id=ACTIVE)])
        except Conflict:
            return  # an operator stored rules meanwhile, and those are kept

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        """Does nothing: the rule set disappears with its table."""
