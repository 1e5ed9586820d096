"""AWS WAF: the IP sets that Sluice fills, and the rule group that blocks the clients in them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chalicelib.core.refusals import REFUSAL_STATUS
from sluice.deploy.account import RETRY_FOR_S, AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.stage import Stage

BUSY = (
    "ThrottlingException",
    "WAFUnavailableEntityException",
    "WAFOptimisticLockException",
    "WAFInternalErrorException",
)
"""Error codes to retry: WAF accepts one change per second, and takes time to know new resources everywhere."""

IN_USE = (*BUSY, "WAFAssociatedItemException")
IN_USE_S = 180.0
"""Longest time for which a detached resource may count as in use, seconds."""

CAPACITY = 50
"""WCU of the rule group, which can never be changed: one for each of the 50 reference statements that fit."""

RETRY_AFTER_S = 60
"""Retry-After of blocked requests, seconds: the sweep ends expired blocks once a minute."""

RULE_GROUP_DESCRIPTION = "Refuses the clients in the IP sets of Sluice."


class WafResource(Resource):
    """An item of AWS WAF. Each write needs the lock token of a read, and fails if another write came first."""

    noun: ClassVar[str]
    """The item in the names of boto3's methods, such as ``ip_set``."""
    shape: ClassVar[str]
    """The item in answers, such as ``IPSet``."""

    def find(self, account: AwsAccount) -> Existing | None:
        scope = self.stage.choices.scope
        for summary in account.list_all("wafv2", f"list_{self.noun}s", f"{self.shape}s", Scope=scope):
            if summary["Name"] == self.name:
                answer = account.client("wafv2").list_tags_for_resource(ResourceARN=summary["ARN"])
                return Existing(self.tagged(answer["TagInfoForResource"]["TagList"]), facts=summary)
        return None

    def make(self, account: AwsAccount, **arguments: Any) -> None:
        """Creates the item; ``arguments``: those that are specific to its kind."""
        create, scope = getattr(account.client("wafv2"), f"create_{self.noun}"), self.stage.choices.scope
        account.retry(create, BUSY, Name=self.name, Scope=scope, Tags=self.stage.tag_list, **arguments)

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        self.write(account, existing, "delete", lambda _: {}, IN_USE, IN_USE_S)

    def write(
        self,
        account: AwsAccount,
        existing: Existing,
        verb: str,
        arguments_for: Callable[[Mapping[str, Any]], Mapping[str, Any] | None],
        codes: Collection[str] = BUSY,
        for_s: float = RETRY_FOR_S,
    ) -> None:
        """Reads the item and writes it with the lock token; repeats both while WAF answers with one of ``codes``.

        ``arguments_for`` returns the other arguments of the write for the item as read, or None to skip the write.
        """
        client, identity = account.client("wafv2"), self._identity(existing)

        def read_and_write() -> None:
            answer = getattr(client, f"get_{self.noun}")(**identity)
            arguments = arguments_for(answer[self.shape])
            if arguments is not None:
                getattr(client, f"{verb}_{self.noun}")(**identity, **arguments, LockToken=answer["LockToken"])

        account.retry(read_and_write, codes, for_s)

    def _identity(self, existing: Existing) -> dict[str, str]:
        return {"Name": self.name, "Scope": self.stage.choices.scope, "Id": existing.facts["Id"]}


@dataclass(frozen=True, slots=True)
class IpSetResource(WafResource):
    kind = "WAF IP set"
    noun, shape = "ip_set", "IPSet"

    family: int

    def create(self, account: AwsAccount) -> None:
        description = "Filled by Sluice: changes made by hand are undone within a minute."
        self.make(account, IPAddressVersion=f"IPV{self.family}", Addresses=[], Description=description)

    def empty(self, account: AwsAccount, existing: Existing) -> None:
        def without_addresses(ip_set: Mapping[str, Any]) -> Mapping[str, Any] | None:
            if not ip_set["Addresses"]:
                return None
            # An update without the description clears it; an empty one is rejected.
            description = ip_set.get("Description")
            return {"Addresses": [], **({"Description": description} if description else {})}

        self.write(account, existing, "update", without_addresses)


class RuleGroup(WafResource):
    kind = "WAF rule group"
    noun, shape = "rule_group", "RuleGroup"

    @missing_ok("WAFNonexistentItemException")
    def find(self, account: AwsAccount) -> Existing | None:
        existing = super().find(account)
        if existing is None:
            return None
        group = account.client("wafv2").get_rule_group(**self._identity(existing))["RuleGroup"]
        current, desired = _gist(group.get("Rules", [])), _gist(self._rules(account))
        referenced = len({arn for _, arns, _ in current for arn in arns})
        count = sum(map(len, self.stage.ip_sets.values()))
        # ``desired`` lacks the sets that are still to be created, so their number is compared too.
        right = current == desired and referenced == count
        differences = [] if right else [f"{referenced} IP sets become {count}"]
        return Existing(existing.ours, differences, existing.facts)

    def create(self, account: AwsAccount) -> None:
        rules, metrics = self._rules(account), visibility(self.name)
        self.make(account, Capacity=CAPACITY, Description=RULE_GROUP_DESCRIPTION, Rules=rules, VisibilityConfig=metrics)

    def change(self, account: AwsAccount, existing: Existing) -> None:
        def with_all_sets(group: Mapping[str, Any]) -> Mapping[str, Any]:
            return {
                "Description": group.get("Description") or RULE_GROUP_DESCRIPTION,
                "Rules": self._rules(account),
                "VisibilityConfig": group["VisibilityConfig"],
            }

        self.write(account, existing, "update", with_all_sets)

    def _rules(self, account: AwsAccount) -> list[dict[str, Any]]:
        """Returns one rule per family, which answers 429 to the clients in any of its IP sets that exist."""
        ip_sets, rules = ip_sets_of(self.stage, account), []
        retry_after = {"Name": "Retry-After", "Value": str(RETRY_AFTER_S)}
        refusal = {"Block": {"CustomResponse": {"ResponseCode": REFUSAL_STATUS, "ResponseHeaders": [retry_after]}}}
        for priority, (family, names) in enumerate(self.stage.ip_sets.items()):
            arns = [ip_sets[name]["ARN"] for name in names if name in ip_sets]
            references = [{"IPSetReferenceStatement": {"ARN": arn}} for arn in arns]
            statement = references[0] if len(references) == 1 else {"OrStatement": {"Statements": references}}
            name = f"{self.name}-ipv{family}"
            rule = {"Name": name, "Priority": priority, "Statement": statement, "Action": refusal}
            rules.append({**rule, "VisibilityConfig": visibility(name)})
        return rules


def visibility(name: str) -> dict[str, Any]:
    return {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": name}


def ip_set_resources(stage: Stage) -> list[IpSetResource]:
    return [
        IpSetResource(stage, name, family, about=f"IPv{family}, room for 10,000 networks")
        for family, names in stage.ip_sets.items()
        for name in names
    ]


def ip_sets_of(stage: Stage, account: AwsAccount) -> dict[str, Mapping[str, str]]:
    """Returns AWS's summaries of those of the stage's IP sets that exist, by name."""
    names = {name for family in stage.ip_sets.values() for name in family}
    summaries = account.list_all("wafv2", "list_ip_sets", "IPSets", Scope=stage.choices.scope)
    return {summary["Name"]: summary for summary in summaries if summary["Name"] in names}


def _gist(rules: Iterable[Mapping[str, Any]]) -> set[tuple[str, tuple[str, ...], int | None]]:
    """Returns the significant parts of each rule: its name, its IP sets, and the status it answers."""
    gist = set()
    for rule in rules:
        statement = rule["Statement"]
        references = statement.get("OrStatement", {}).get("Statements", [statement])
        arns = sorted(ref["IPSetReferenceStatement"]["ARN"] for ref in references if "IPSetReferenceStatement" in ref)
        answer = rule.get("Action", {}).get("Block", {}).get("CustomResponse", {})
        gist.add((rule["Name"], tuple(arns), answer.get("ResponseCode")))
    return gist
