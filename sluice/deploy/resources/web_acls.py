"""The rule that refers to the rule group, in web ACLs with other owners: setup adds it, and teardown removes it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import EndpointConnectionError

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.placement import (
    Placement,
    Predecessor,
    check_free,
    first_priority,
    free_priority,
    making_place,
    predecessors,
    restored,
)
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.waf import BUSY
from sluice.deploy.rule_group import WafRule, capacity_of, visibility
from sluice.deploy.stage import MOST_REFERENCES, Refusal

MOST_WCU = 5000
REFERENCES = ("IPSetReferenceStatement", "RegexPatternSetReferenceStatement", "RuleGroupReferenceStatement")

Order = Literal["kept", "changed", "restored"]


@dataclass(frozen=True, slots=True)
class WebAclRule(Resource):
    kind = "web ACL rule"

    web_acl: str
    """ARN."""

    order: Order = field(default="kept", kw_only=True)
    """Fate of the priorities: all stay, those of other rules may change for Sluice's, or they get their former ones."""

    def find(self, account: AwsAccount) -> Existing | None:
        acl = self._read(account)
        rules = acl["Rules"]
        if namesakes := [rule for rule in rules if rule["Name"] == self.stage.rule_group]:
            if not any(map(self._is_ours, namesakes)):
                return Existing(ours=False)
            return Existing(ours=True, differences=self._differences(rules))
        self._check(acl, account)
        self._arranged(rules, {"Name": self.stage.rule_group})
        return None

    def create(self, account: AwsAccount) -> None:
        name, scope = self.stage.rule_group, self.stage.choices.scope
        groups = account.list_all("wafv2", "list_rule_groups", "RuleGroups", Scope=scope)
        arn = next(group["ARN"] for group in groups if group["Name"] == name)
        reference = {
            "Name": name,
            "Statement": {"RuleGroupReferenceStatement": {"ARN": arn}},
            "OverrideAction": {"None": {}},
            "VisibilityConfig": visibility(name),
        }
        self._edit(account, lambda rules: self._arranged(rules, reference))

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self._edit(account, lambda rules: self._arranged(rules, {}))

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self._edit(account, lambda rules: self._restored(rules)[0])

    def placement(self, account: AwsAccount) -> Placement:
        """Returns the place of the rule as ``create`` or ``change`` leaves it. Raises Refusal."""
        acl, own = self._read(account), self.stage.rule_group
        before = acl["Rules"]
        attached = any(map(self._is_ours, before))
        after = self._arranged(before, {"Name": own})
        priorities = {rule["Name"]: rule["Priority"] for rule in after}
        used = acl.get("Capacity", 0)
        return Placement(
            web_acl=web_acl_name(self.web_acl),
            priority=priorities[own],
            place=1 + sum(number < priorities[own] for number in priorities.values()),
            rules=len(after),
            before=predecessors(after, [own]),
            renumbered=[
                (rule["Name"], rule["Priority"], priorities[rule["Name"]])
                for rule in before
                if rule["Name"] != own and priorities[rule["Name"]] != rule["Priority"]
            ],
            wcu_before=used,
            wcu_after=used if attached else used + self._capacity(account),
        )

    def former_priorities(self, account: AwsAccount) -> tuple[int, ...]:
        """Returns the present priorities of the other rules that get others, in order: what undoing needs.

        If none does, returns those that are remembered.
        """
        moved = sorted(former for _, former, _ in self.placement(account).renumbered)
        return tuple(moved) or tuple(self.stage.choices.renumbered.get(self.web_acl, ()))

    def _read(self, account: AwsAccount) -> Mapping[str, Any]:
        with missing_ok("WAFNonexistentItemException"):
            acl: Mapping[str, Any] = account.client("wafv2").get_web_acl(**_identity(self.web_acl))["WebACL"]
            return acl
        raise Refusal(f"web ACL {self.web_acl} does not exist; list them with 'aws wafv2 list-web-acls'")

    def _capacity(self, account: AwsAccount) -> int:
        """Returns the capacity of the rule group: that with which it was created, or will be."""
        name, scope = self.stage.rule_group, self.stage.choices.scope
        for group in account.list_all("wafv2", "list_rule_groups", "RuleGroups", Scope=scope):
            if group["Name"] == name:
                answer = account.client("wafv2").get_rule_group(Name=name, Scope=scope, Id=group["Id"])
                return int(answer["RuleGroup"]["Capacity"])
        return capacity_of(self.stage)

    def _differences(self, rules: Sequence[WafRule]) -> list[str]:
        after = {rule["Name"]: rule["Priority"] for rule in self._arranged(rules, {})}
        moved = [rule for rule in rules if after[rule["Name"]] != rule["Priority"] and not self._is_ours(rule)]
        ours = [rule for rule in rules if after[rule["Name"]] != rule["Priority"] and self._is_ours(rule)]
        differences = [f"priority {rule['Priority']} becomes {after[rule['Name']]}" for rule in ours]
        if moved:
            names = ", ".join(f"{rule['Name']} from {rule['Priority']} to {after[rule['Name']]}" for rule in moved)
            differences.append(f"other rules move: {names}")
        return differences

    def _arranged(self, rules: Sequence[WafRule], new: WafRule) -> list[WafRule]:
        """Returns the rules as they should be; ``new`` is Sluice's if it is not among them. Raises Refusal."""
        own = next(filter(self._is_ours, rules), None)
        others = [rule for rule in rules if rule is not own]
        chosen = self.stage.choices.priority
        if self.order == "restored" and (chosen is not None or self.web_acl in self.stage.choices.renumbered):
            others, chosen = self._restored(rules)
        elif chosen is not None:
            if self.order == "kept":
                check_free(others, chosen, 1, web_acl_name(self.web_acl))
        elif self.order == "changed" and not (own and all(own["Priority"] < rule["Priority"] for rule in others)):
            chosen = first_priority(others, 1)
        else:
            chosen = own["Priority"] if own else free_priority({rule["Priority"] for rule in others})
        return [*making_place(others, chosen, 1), {**(own or new), "Priority": chosen}]

    def _restored(self, rules: Sequence[WafRule]) -> tuple[list[WafRule], int]:
        """Returns the other rules with the priorities that they had, and a free one for Sluice's."""
        own = next(filter(self._is_ours, rules), None)
        others = [rule for rule in rules if rule is not own]
        former = self.stage.choices.renumbered.get(self.web_acl, ())
        if own and former:
            others = restored(others, own["Priority"], former)
        return others, free_priority({rule["Priority"] for rule in others})

    def _edit(self, account: AwsAccount, edit: Callable[[list[WafRule]], list[WafRule]]) -> None:
        client = account.client("wafv2")
        # An update resets every member that it omits, so all that it accepts are sent back unchanged.
        members = client.meta.service_model.operation_model("UpdateWebACL").input_shape.members

        def update() -> None:
            answer = client.get_web_acl(**_identity(self.web_acl))
            acl = answer["WebACL"]
            unchanged = {key: value for key, value in acl.items() if key in members and value not in (None, "")}
            changed = {**_identity(self.web_acl), "Rules": edit(acl["Rules"]), "LockToken": answer["LockToken"]}
            client.update_web_acl(**{**unchanged, **changed})

        account.retry(update, BUSY)

    def _is_ours(self, rule: WafRule) -> bool:
        group = rule["Statement"].get("RuleGroupReferenceStatement", {}).get("ARN", "")
        return f"/rulegroup/{self.stage.rule_group}/" in group and rule["Name"] == self.stage.rule_group

    def _check(self, acl: Mapping[str, Any], account: AwsAccount) -> None:
        """Raises Refusal if the rule group cannot be attached."""
        title = f"web ACL {acl['Name']}"
        used = sum(_references(rule["Statement"]) for rule in acl["Rules"])
        if used >= MOST_REFERENCES:
            raise Refusal(
                f"{title} is full: it has {used} of {MOST_REFERENCES} reference statements (IP sets, pattern sets, "
                "rule groups), which is a fixed quota of AWS. Move some of them into a rule group of their own, then "
                "run setup again"
            )
        capacity, added = acl.get("Capacity", 0), self._capacity(account)
        if capacity + added > MOST_WCU:
            raise Refusal(
                f"{title} is full: it uses {capacity} of {MOST_WCU} WCU, and the rule group needs {added}. Remove "
                "rules from it, then run setup again"
            )
        plan = flat_rate_plan(account, self.web_acl)
        if plan:
            raise Refusal(
                f"{title} belongs to a distribution on the flat-rate plan {plan}, which has neither rule groups nor "
                "real-time logs. Move the distribution to pay-as-you-go pricing, then run setup again"
            )


def flat_rate_plan(account: AwsAccount, arn: str) -> str | None:
    """Returns the flat-rate plan of a distribution or web ACL; None if it has none, or the plans cannot be read."""
    with suppress(EndpointConnectionError), missing_ok("AccessDeniedException"):
        for plan in account.list_all("pricing-plan-manager", "list_subscriptions", "subscriptionSummaries"):
            if arn in plan.get("resourceArns", ()):
                return f"{plan['planFamily']} {plan['planTier']}"
    return None


def preceding(account: AwsAccount, arn: str, rule_group: str) -> list[Predecessor]:
    """Returns the web ACL's rules that may end evaluation before ``rule_group`` sees a request, in order.

    Returns none if the web ACL does not exist or does not refer to the rule group.
    """
    with missing_ok("WAFNonexistentItemException"):
        return predecessors(account.client("wafv2").get_web_acl(**_identity(arn))["WebACL"]["Rules"], [rule_group])
    return []


def _references(part: Any) -> int:
    """Returns the number of reference statements within a statement, at any depth."""
    if isinstance(part, Mapping):
        return sum((kind in REFERENCES) + _references(inner) for kind, inner in part.items())
    return sum(map(_references, part)) if isinstance(part, list) else 0


def _identity(arn: str) -> dict[str, str]:
    """Returns the arguments that name a web ACL in WAF's calls.

    >>> _identity("arn:aws:wafv2:us-east-1:1:global/webacl/edge/abc")
    {'Name': 'edge', 'Scope': 'CLOUDFRONT', 'Id': 'abc'}
    """
    try:
        scope, kind, name, id = arn.split(":", 5)[5].split("/")
    except (IndexError, ValueError):
        kind = ""
    if kind != "webacl":
        raise Refusal(
            f"{arn!r} is not the ARN of a web ACL, such as arn:aws:wafv2:us-east-1:123456789012:global/webacl/name/id"
        )
    return {"Name": name, "Scope": "CLOUDFRONT" if scope == "global" else "REGIONAL", "Id": id}


def web_acl_name(arn: str) -> str:
    """Returns the name in a web ACL's ARN. Raises Refusal if the ARN has another form."""
    return _identity(arn)["Name"]


def arn_of(account: AwsAccount, scope: str, name: str) -> str:
    """Returns the ARN of a web ACL, given its name or its ARN. Raises Refusal if there is none of the scope."""
    if name.startswith("arn:"):
        if _identity(name)["Scope"] != scope:
            raise Refusal(f"web ACL {name} is not of scope {scope}; use the other --scope")
        return name
    acls = account.list_all("wafv2", "list_web_acls", "WebACLs", Scope=scope)
    arns: dict[str, str] = {acl["Name"]: acl["ARN"] for acl in acls}
    if name not in arns:
        raise Refusal(f"there is no web ACL {name!r} of scope {scope}; existing: {', '.join(sorted(arns)) or 'none'}")
    return arns[name]
