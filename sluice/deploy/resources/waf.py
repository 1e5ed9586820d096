"""AWS WAF: the IP sets that Sluice fills, and the rule group that refuses who is in them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount, as_list, as_mapping, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Stage

BUSY = (
    "ThrottlingException",
    "WAFUnavailableEntityException",
    "WAFOptimisticLockException",
    "WAFInternalErrorException",
)
"""AWS takes one change a second, and needs a moment to know everywhere what was just made."""

IN_USE = (*BUSY, "WAFAssociatedItemException")
IN_USE_S = 180.0
"""How long what was just let go may still count as in use."""

CAPACITY = 50
"""WCU of the rule group: one a reference statement, of which 50 fit. It cannot be changed later, so it has room."""

RETRY_AFTER_S = 60
"""What a refused client is told: blocks are lifted once a minute."""


@dataclass(frozen=True, slots=True)
class IpSetResource(Resource):
    kind = "WAF IP set"

    family: int
    number: int

    @property
    def name(self) -> str:
        return self.stage.ip_set(self.family, self.number)

    @property
    def about(self) -> str:
        return f"IPv{self.family}, room for 10,000 networks"

    def find(self, account: AwsAccount) -> Existing | None:
        summary = _summary(account, self.stage, "list_ip_sets", "IPSets", self.name)
        return Existing(self.tagged(tags_of(account, summary["ARN"])), summary) if summary else None

    def create(self, account: AwsAccount) -> None:
        account.retry(
            lambda: account.client("wafv2").create_ip_set(
                Name=self.name,
                Scope=self.stage.choices.scope,
                IPAddressVersion=f"IPV{self.family}",
                Addresses=[],
                Description="Filled by Sluice: changes made by hand are undone within a minute.",
                Tags=as_list(self.stage.tags),
            ),
            BUSY,
        )

    def empty(self, account: AwsAccount, existing: Existing) -> int:
        """Lets everybody in it go; how many there were."""
        client = account.client("wafv2")
        identity = {"Name": self.name, "Scope": self.stage.choices.scope, "Id": existing.facts["Id"]}

        def replace() -> int:
            answer = client.get_ip_set(**identity)
            held = answer["IPSet"]
            if held["Addresses"]:
                description = {"Description": held["Description"]} if held.get("Description") else {}
                client.update_ip_set(**identity, **description, Addresses=[], LockToken=answer["LockToken"])
            return len(held["Addresses"])

        released: int = account.retry(replace, BUSY)
        return released

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("wafv2")
        identity = {"Name": self.name, "Scope": self.stage.choices.scope, "Id": existing.facts["Id"]}
        account.retry(
            lambda: client.delete_ip_set(**identity, LockToken=client.get_ip_set(**identity)["LockToken"]),
            IN_USE,
            IN_USE_S,
        )


class RuleGroup(Resource):
    kind = "WAF rule group"

    @property
    def name(self) -> str:
        return self.stage.rule_group

    @property
    def about(self) -> str:
        return f"answers 429 to both families, Retry-After {RETRY_AFTER_S} s; {CAPACITY} WCU"

    def find(self, account: AwsAccount) -> Existing | None:
        summary = _summary(account, self.stage, "list_rule_groups", "RuleGroups", self.name)
        if summary is None:
            return None
        with missing_ok("WAFNonexistentItemException"):
            group = account.client("wafv2").get_rule_group(
                Name=self.name, Scope=self.stage.choices.scope, Id=summary["Id"]
            )["RuleGroup"]
            facts = {**summary, "rules": group.get("Rules", []), "wanted": self._rules(account)}
            return Existing(self.tagged(tags_of(account, summary["ARN"])), facts)
        return None

    def differences(self, existing: Existing) -> list[str]:
        held, wanted = _gist(existing.facts["rules"]), _gist(existing.facts["wanted"])
        number = sum(map(len, ip_set_names(self.stage).values()))
        # A set that is still to be created counts as well.
        if held == wanted and len(_sets(held)) == number:
            return []
        return [f"{len(_sets(held))} IP sets become {number}"]

    def create(self, account: AwsAccount) -> None:
        account.retry(
            lambda: account.client("wafv2").create_rule_group(
                Name=self.name,
                Scope=self.stage.choices.scope,
                Capacity=CAPACITY,
                Description="Refuses the clients in the IP sets of Sluice.",
                Rules=self._rules(account),
                VisibilityConfig=visibility(self.name),
                Tags=as_list(self.stage.tags),
            ),
            BUSY,
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("wafv2")
        identity = {"Name": self.name, "Scope": self.stage.choices.scope, "Id": existing.facts["Id"]}

        def update() -> None:
            answer = client.get_rule_group(**identity)
            group = answer["RuleGroup"]
            client.update_rule_group(
                **identity,
                Description=group.get("Description") or "Refuses the clients in the IP sets of Sluice.",
                Rules=self._rules(account),
                VisibilityConfig=group["VisibilityConfig"],
                LockToken=answer["LockToken"],
            )

        account.retry(update, BUSY)

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        client = account.client("wafv2")
        identity = {"Name": self.name, "Scope": self.stage.choices.scope, "Id": existing.facts["Id"]}
        account.retry(
            lambda: client.delete_rule_group(**identity, LockToken=client.get_rule_group(**identity)["LockToken"]),
            IN_USE,
            IN_USE_S,
        )

    def _rules(self, account: AwsAccount) -> list[dict[str, Any]]:
        sets = ip_sets_of(self.stage, account)
        return [
            rule(f"{self.name}-ipv{family}", priority, [sets[name]["ARN"] for name in names if name in sets])
            for priority, (family, names) in enumerate(ip_set_names(self.stage).items())
        ]


def rule(name: str, priority: int, ip_sets: Sequence[str]) -> dict[str, Any]:
    """Refuses whoever is in one of the sets, given by ARN."""
    references = [{"IPSetReferenceStatement": {"ARN": arn}} for arn in ip_sets]
    return {
        "Name": name,
        "Priority": priority,
        "Statement": references[0] if len(references) == 1 else {"OrStatement": {"Statements": references}},
        "Action": {
            "Block": {
                "CustomResponse": {
                    "ResponseCode": 429,
                    "ResponseHeaders": [{"Name": "Retry-After", "Value": str(RETRY_AFTER_S)}],
                }
            }
        },
        "VisibilityConfig": visibility(name),
    }


def visibility(name: str) -> dict[str, Any]:
    return {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": name}


def ip_set_names(stage: Stage) -> dict[int, list[str]]:
    """Names of the stage's IP sets, by family."""
    numbers = range(1, stage.choices.ip_sets + 1)
    return {family: [stage.ip_set(family, number) for number in numbers] for family in (4, 6)}


def ip_sets_of(stage: Stage, account: AwsAccount) -> dict[str, Mapping[str, str]]:
    """AWS's summary of each of the stage's IP sets that exists, by name."""
    names = {name for family in ip_set_names(stage).values() for name in family}
    listed = account.list_all("wafv2", "list_ip_sets", "IPSets", Scope=stage.choices.scope)
    return {summary["Name"]: summary for summary in listed if summary["Name"] in names}


def tags_of(account: AwsAccount, arn: str) -> dict[str, str]:
    answer = account.client("wafv2").list_tags_for_resource(ResourceARN=arn)
    return as_mapping(answer["TagInfoForResource"]["TagList"])


def _summary(account: AwsAccount, stage: Stage, operation: str, key: str, name: str) -> Mapping[str, str] | None:
    listed: Iterable[Mapping[str, str]] = account.list_all("wafv2", operation, key, Scope=stage.choices.scope)
    return next((summary for summary in listed if summary["Name"] == name), None)


Gist = frozenset[tuple[str, tuple[str, ...], int | None]]


def _gist(rules: Iterable[Mapping[str, Any]]) -> Gist:
    """Of each rule what matters: its name, its sets, and the status it answers."""
    existing = []
    for one in rules:
        statement = one["Statement"]
        references = statement.get("OrStatement", {}).get("Statements", [statement])
        arns = sorted(ref["IPSetReferenceStatement"]["ARN"] for ref in references if "IPSetReferenceStatement" in ref)
        answer = one.get("Action", {}).get("Block", {}).get("CustomResponse", {})
        existing.append((one["Name"], tuple(arns), answer.get("ResponseCode")))
    return frozenset(existing)


def _sets(gist: Gist) -> set[str]:
    return {arn for _, arns, _ in gist for arn in arns}
