"""Sluice's rules in web ACLs with other owners: setup adds them, and teardown removes them.

Usually that is one rule, which refers to the rule group. A web ACL on a flat-rate plan of CloudFront cannot refer to a
rule group, so it gets the rules of the group themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.core.responses import SOFTER
from chalicelib.core.state.operators import Placed, WebAcls
from chalicelib.edges.state_table import StateTable
from chalicelib.pipeline.stored import State
from chalicelib.ports import Unavailable
from sluice.deploy.account import AwsAccount, missing_ok
from sluice.deploy.placement import (
    Placement,
    check_free,
    first_priority,
    free_priority,
    making_place,
    place_of,
    predecessors,
    restored,
)
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.waf import BUSY, RuleGroup, gist, ip_sets_of
from sluice.deploy.rule_group import Answers, WafRule, arns_in, capacity_of, rules_of, visibility, wcu
from sluice.deploy.stage import MOST_REFERENCES, Refusal, Stage

MOST_WCU = 5000
REFERENCES = ("IPSetReferenceStatement", "RegexPatternSetReferenceStatement", "RuleGroupReferenceStatement")

PLAN_RULES = {"FREE": 5, "PRO": 25, "BUSINESS": 50, "PREMIUM": 75}
"""Rules of a web ACL, by the tier of a flat-rate plan (CloudFront Developer Guide, "Flat-rate pricing plan")."""

PLAN_LACKS = {"CustomResponse": ("FREE",), "Captcha": ("FREE",), "Challenge": ("FREE", "PRO")}
"""Tiers without an action of rules."""

Order = Literal["kept", "changed", "restored"]


@dataclass(frozen=True, slots=True)
class WebAclRule(Resource):
    kind = "web ACL rule"

    web_acl: str
    """ARN."""

    order: Order = field(default="kept", kw_only=True)
    """Treatment of the priorities: all stay, those of other rules may change to make room for Sluice's, or other rules
    get their former ones back."""

    def find(self, account: AwsAccount) -> Existing | None:
        acl = self._read(account)
        rules = acl["Rules"]
        own, plan = list(filter(self._is_ours, rules)), flat_rate_plan(account, self.web_acl)
        if not own:
            if any(rule["Name"] in own_names(self.stage.rule_group) for rule in rules):
                return Existing(ours=False)
            self._check(acl, account, plan)
            self._arranged(rules, self._desired(account, plan))
            return None
        differences = self._differences(rules, self._kept(rules, plan) or self._desired(account, plan))
        if differences:
            self._check(acl, account, plan)
        return Existing(ours=True, differences=differences)

    def keeps(self, existing: Existing) -> str:  # noqa: ARG002
        return f"{RuleGroup.kind} {self.stage.rule_group}"

    def create(self, account: AwsAccount) -> None:
        plan = flat_rate_plan(account, self.web_acl)
        desired = self._desired(account, plan)
        self._edit(account, lambda rules: self._arranged(rules, self._kept(rules, plan) or desired))

    def change(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self.create(account)

    def remove(self, account: AwsAccount, existing: Existing) -> None:  # noqa: ARG002
        self._edit(account, lambda rules: self._restored(rules, 1)[0])

    def placement(self, account: AwsAccount) -> Placement:
        """Returns the place of the rules as ``create`` or ``change`` leaves them. Raises Refusal."""
        acl, plan = self._read(account), flat_rate_plan(account, self.web_acl)
        before = acl["Rules"]
        desired = self._kept(before, plan) or self._desired(account, plan)
        own = [rule["Name"] for rule in desired]
        after = self._arranged(before, desired)
        priorities = {rule["Name"]: rule["Priority"] for rule in after}
        first = min(priorities[name] for name in own)
        used, present = acl.get("Capacity", 0), list(filter(self._is_ours, before))
        added = wcu(desired) - wcu(present) if plan else 0 if present else self._capacity(account)
        return Placement(
            web_acl=web_acl_name(self.web_acl),
            plan=plan or "",
            priority=first,
            place=1 + sum(number < first for number in priorities.values()),
            rules=len(after),
            before=predecessors(after, own),
            renumbered=[
                (rule["Name"], rule["Priority"], priorities[rule["Name"]])
                for rule in before
                if not self._is_ours(rule) and priorities[rule["Name"]] != rule["Priority"]
            ],
            wcu_before=used,
            wcu_after=used + added,
        )

    def former_priorities(self, account: AwsAccount) -> tuple[int, ...]:
        """Returns the present priorities of those other rules whose priority will change, in order. They are needed to
        undo the change.

        If none will change, returns those that are remembered.
        """
        moved = sorted(former for _, former, _ in self.placement(account).renumbered)
        return tuple(moved) or tuple(self.stage.choices.renumbered.get(self.web_acl, ()))

    def _read(self, account: AwsAccount) -> Mapping[str, Any]:
        with missing_ok("WAFNonexistentItemException"):
            acl: Mapping[str, Any] = account.client("wafv2").get_web_acl(**_identity(self.web_acl))["WebACL"]
            return acl
        listing = f"aws wafv2 list-web-acls --scope {_identity(self.web_acl)['Scope']} --region {account.region}"
        raise Refusal(f"web ACL {self.web_acl} does not exist; '{listing}' lists those that do")

    def _capacity(self, account: AwsAccount) -> int:
        """Returns the capacity of the rule group: that with which it was created, or will be."""
        name, scope = self.stage.rule_group, self.stage.choices.scope
        for group in account.list_all("wafv2", "list_rule_groups", "RuleGroups", Scope=scope):
            if group["Name"] == name:
                answer = account.client("wafv2").get_rule_group(Name=name, Scope=scope, Id=group["Id"])
                return int(answer["RuleGroup"]["Capacity"])
        return capacity_of(self.stage)

    def _kept(self, rules: Sequence[WafRule], plan: str | None) -> list[WafRule]:
        """Returns the rule for the rule group, if there is one: an operator may have changed what it overrides."""
        return [] if plan else [rule for rule in rules if self._is_ours(rule)]

    def _desired(self, account: AwsAccount, plan: str | None) -> list[WafRule]:
        """Returns Sluice's rules, without their final priorities: one for the rule group or, on a plan, those in it.

        An IP set that does not exist yet is referred to by its name, and a rule group that does not by an empty text.
        """
        name, choices = self.stage.rule_group, self.stage.choices
        if plan:
            existing = ip_sets_of(self.stage, account)
            arns = {
                group: [existing[each]["ARN"] if each in existing else each for each in names]
                for group, names in self.stage.ip_sets.items()
            }
            return rules_of(name, arns, Answers.of(choices), behind_proxies=choices.behind_proxies)
        groups = account.list_all("wafv2", "list_rule_groups", "RuleGroups", Scope=choices.scope)
        arn = next((group["ARN"] for group in groups if group["Name"] == name), "")
        return [
            {
                "Name": name,
                "Statement": {"RuleGroupReferenceStatement": {"ARN": arn}},
                "OverrideAction": {"None": {}},
                "VisibilityConfig": visibility(name),
            }
        ]

    def _differences(self, rules: Sequence[WafRule], desired: Sequence[WafRule]) -> list[str]:
        after = {rule["Name"]: rule["Priority"] for rule in self._arranged(rules, desired)}
        own = list(filter(self._is_ours, rules))
        moved = [rule for rule in rules if after.get(rule["Name"], rule["Priority"]) != rule["Priority"]]
        differences = [
            f"priority {rule['Priority']} becomes {after[rule['Name']]}" for rule in moved if self._is_ours(rule)
        ]
        if gist(own) != gist(desired):
            differences.append("its rules change")
        if others := [rule for rule in moved if not self._is_ours(rule)]:
            names = ", ".join(f"{rule['Name']} from {rule['Priority']} to {after[rule['Name']]}" for rule in others)
            differences.append(f"other rules move: {names}")
        return differences

    def _arranged(self, rules: Sequence[WafRule], desired: Sequence[WafRule]) -> list[WafRule]:
        """Returns the rules of the web ACL as they should be, with ``desired`` as Sluice's. Raises Refusal."""
        own = list(filter(self._is_ours, rules))
        others = [rule for rule in rules if not self._is_ours(rule)]
        taken, number = {rule["Priority"] for rule in others}, len(desired)
        present = min((rule["Priority"] for rule in own), default=None)
        chosen = self.stage.choices.priority
        if self.order == "restored" and (chosen is not None or self.web_acl in self.stage.choices.renumbered):
            others, chosen = self._restored(rules, number)
        elif chosen is not None:
            if self.order == "kept":
                check_free(others, chosen, number, web_acl_name(self.web_acl))
        elif self.order == "changed" and not (present is not None and all(present < each for each in taken)):
            chosen = first_priority(others, number)
        elif present is not None and (self.order == "changed" or taken.isdisjoint(range(present, present + number))):
            chosen = present
        else:
            chosen = free_priority(taken, number)
        placed = [{**rule, "Priority": at} for at, rule in enumerate(desired, chosen)]
        return [*making_place(others, chosen, number), *placed]

    def _restored(self, rules: Sequence[WafRule], number: int) -> tuple[list[WafRule], int]:
        """Returns the other rules with the priorities that they had, and ``number`` free ones for Sluice's."""
        own = [rule["Priority"] for rule in rules if self._is_ours(rule)]
        others = [rule for rule in rules if not self._is_ours(rule)]
        former = self.stage.choices.renumbered.get(self.web_acl, ())
        if own and former:
            others = restored(others, min(own), former)
        return others, free_priority({rule["Priority"] for rule in others}, number)

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
        name = self.stage.rule_group
        group = rule["Statement"].get("RuleGroupReferenceStatement", {}).get("ARN", "")
        if rule["Name"] == name:
            return f"/rulegroup/{name}/" in group
        arns = arns_in(rule["Statement"])
        return rule["Name"] in own_names(name) and bool(arns) and all(f"/ipset/{name}-" in arn for arn in arns)

    def _check(self, acl: Mapping[str, Any], account: AwsAccount, plan: str | None) -> None:
        """Raises Refusal if there is no room for the rules, or if the plan lacks an action that they need."""
        title = f"web ACL {acl['Name']}"
        others = [rule for rule in acl["Rules"] if not self._is_ours(rule)]
        desired = self._desired(account, plan)
        if plan:
            _check_plan(title, plan, len(others), desired)
        used = sum(_references(rule["Statement"]) for rule in others)
        if used + sum(_references(rule["Statement"]) for rule in desired) > MOST_REFERENCES:
            raise Refusal(
                f"{title} is full: it has {used} of {MOST_REFERENCES} reference statements (IP sets, pattern sets, "
                "rule groups), which is a fixed quota of AWS. Move some of them into a rule group of their own, then "
                "run setup again"
            )
        capacity, added = acl.get("Capacity", 0), wcu(desired) if plan else self._capacity(account)
        if len(others) == len(acl["Rules"]) and capacity + added > MOST_WCU:
            raise Refusal(
                f"{title} is full: it uses {capacity} of {MOST_WCU} WCU, and the rule group needs {added}. Remove "
                "rules from it, then run setup again"
            )


def own_names(rule_group: str) -> list[str]:
    """Returns the names of all rules that Sluice may have in a web ACL: for the rule group, and on a flat-rate plan."""
    return [rule_group, *(f"{rule_group}-{each}" for each in ("ipv4", "ipv6", *SOFTER))]


def _check_plan(title: str, plan: str, others: int, desired: Sequence[WafRule]) -> None:
    """Raises Refusal if a flat-rate plan has no room for the rules, or lacks an action that they need."""
    tier = plan.rpartition(" ")[2]
    most = PLAN_RULES.get(tier, others + len(desired))
    if others + len(desired) > most:
        raise Refusal(
            f"{title} is on the flat-rate plan {plan}, which allows {most} rules: {others} are in use, and Sluice "
            f"needs {len(desired)}. Remove rules or responses (--no-respond), or choose a larger plan, then run setup "
            "again"
        )
    for action, tiers in PLAN_LACKS.items():
        if tier in tiers and any(action in str(rule["Action"]) for rule in desired):
            raise Refusal(
                f"{title} is on the flat-rate plan {plan}, which has no {action}: "
                f"{', '.join(rule['Name'] for rule in desired if action in str(rule['Action']))} cannot work there. "
                "Choose a larger plan, or pay-as-you-go pricing, or give the response up with --no-respond"
            )


def flat_rate_plan(account: AwsAccount, arn: str) -> str | None:
    """Returns the flat-rate plan of a distribution or web ACL; None if it has none, or the plans cannot be read.

    An older boto3 does not know them, and their service may answer with any error: AWS WAF itself refuses what a plan
    does not allow.
    """
    with suppress(BotoCoreError, ClientError):
        for plan in account.list_all("pricing-plan-manager", "list_subscriptions", "subscriptionSummaries"):
            if arn in plan.get("resourceArns", ()):
                return f"{plan['planFamily']} {plan['planTier']}"
    return None


def places(account: AwsAccount, stage: Stage) -> list[Placed]:
    """Returns the place of the stage's rules in each web ACL that setup added them to, if it still exists."""
    web_acls: list[Placed] = []
    for arn in stage.choices.web_acls:
        rules = rules_in(account, arn)
        if rules is not None:
            web_acls.append(place_of(web_acl_name(arn), rules, own_names(stage.rule_group)))
    return web_acls


@missing_ok("WAFNonexistentItemException")
def rules_in(account: AwsAccount, web_acl: str) -> list[WafRule] | None:
    """Returns the rules of a web ACL, given its ARN; None if it does not exist. Raises ClientError."""
    rules: list[WafRule] = account.client("wafv2").get_web_acl(**_identity(web_acl))["WebACL"]["Rules"]
    return rules


def note_places(account: AwsAccount, stage: Stage, web_acls: Sequence[Placed], now: int) -> None:
    """Stores the places found at the epoch second ``now``, for the API and the page, which cannot call AWS WAF."""
    table = StateTable(account.client("dynamodb"), stage.state_table)
    # Without the note, the page shows an earlier one and says how old it is.
    with suppress(Unavailable):
        State(table).overwrite(WebAcls(at=now, web_acls=tuple(web_acls)))


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
