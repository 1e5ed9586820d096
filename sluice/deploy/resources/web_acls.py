"""The rule that refers to the rule group, in web ACLs with other owners: setup adds it, and teardown removes it."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import EndpointConnectionError

from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.waf import BUSY
from sluice.deploy.rule_group import capacity_of, visibility
from sluice.deploy.stage import MOST_REFERENCES, Refusal

MOST_WCU = 5000
REFERENCES = ("IPSetReferenceStatement", "RegexPatternSetReferenceStatement", "RuleGroupReferenceStatement")
Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WebAclRule(Resource):
    kind = "web ACL rule"

    web_acl: str
    """ARN."""

    def find(self, account: AwsAccount) -> Existing | None:
        with missing_ok("WAFNonexistentItemException"):
            answer = account.client("wafv2").get_web_acl(**_identity(self.web_acl))
            acl = answer["WebACL"]
            if namesakes := [rule for rule in acl["Rules"] if rule["Name"] == self.stage.rule_group]:
                return Existing(ours=any(map(self._is_ours, namesakes)))
            self._check(acl, account)
            return None
        raise Refusal(f"web ACL {self.web_acl} does not exist; list them with 'aws wafv2 list-web-acls'")

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

        def add(rules: list[Rule]) -> list[Rule]:
            if any(map(self._is_ours, rules)):
                return rules
            priority = free_priority({rule["Priority"] for rule in rules})
            return [*rules, {**reference, "Priority": priority}]

        self._edit(account, add)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self._edit(account, lambda rules: [rule for rule in rules if not self._is_ours(rule)])

    def _edit(self, account: AwsAccount, edit: Callable[[list[Rule]], list[Rule]]) -> None:
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

    def _is_ours(self, rule: Mapping[str, Any]) -> bool:
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
        capacity, added = acl.get("Capacity", 0), capacity_of(self.stage)
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


def free_priority(taken: set[int]) -> int:
    """Returns a priority before all others if there is one, so that blocked clients cost no further rules.

    Otherwise returns the first free number.

    >>> free_priority({5, 6}), free_priority({0, 1, 3}), free_priority(set())
    (4, 2, 0)
    """
    first = min(taken, default=1)
    if first > 0:
        return first - 1
    return next(number for number in range(len(taken) + 1) if number not in taken)


def allowing_before(account: AwsAccount, arn: str, rule_group: str) -> list[str]:
    """Returns the names of the web ACL's own rules that allow requests before ``rule_group`` sees them, in order.

    Returns none if the web ACL does not exist or does not refer to the rule group.
    """
    with missing_ok("WAFNonexistentItemException"):
        rules = account.client("wafv2").get_web_acl(**_identity(arn))["WebACL"]["Rules"]
        own = [rule["Priority"] for rule in rules if rule["Name"] == rule_group]
        allowing = [
            rule for rule in rules if "Allow" in rule.get("Action", {}) and rule["Priority"] < min(own, default=0)
        ]
        return [rule["Name"] for rule in sorted(allowing, key=lambda rule: rule["Priority"])]
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
