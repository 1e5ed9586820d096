"""A web ACL of the stage's own, for sites whose earlier one is deleted with its owner.

It refers to the stage's rule group first, and then to managed rule groups of AWS. Nothing is associated with it: the
operator moves distributions and load balancers to it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sluice.deploy.account import AwsAccount
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.resources.logs import WebAclLogging
from sluice.deploy.resources.waf import WafResource
from sluice.deploy.rule_group import WafRule, visibility
from sluice.deploy.stage import Refusal

VENDOR = "AWS"
FIRST_PRIORITY, STEP = 100, 10
"""Priority of the first managed group, and distance to the next. Those before and between are free for other rules."""


@dataclass(frozen=True, slots=True)
class CreatedWebAcl(WafResource):
    """The web ACL. Missing rules are added, and the rule group's gets the chosen priority; operators' own rules are
    not changed."""

    kind = "WAF web ACL"
    noun, shape = "web_acl", "WebACL"

    groups: tuple[str, ...]
    """Names of AWS's managed rule groups, in the order in which they are evaluated."""

    def find(self, account: AwsAccount) -> Existing | None:
        existing = WafResource.find(self, account)  # super() does not know a class that got slots
        if existing is None:
            return None
        answer = account.client("wafv2").get_web_acl(**self._identity(existing))
        rules = answer["WebACL"]["Rules"]
        differences = [
            f"{rule['Name']}: priority {rule['Priority']} becomes {placed['Priority']}"
            for rule, placed in zip(rules, self._placed(rules), strict=True)
            if placed != rule
        ]
        differences += [f"{rule['Name']} is added" for rule in self._missing(rules, account)]
        return Existing(existing.ours, differences, existing.facts)

    def create(self, account: AwsAccount) -> None:
        self.make(
            account,
            DefaultAction={"Allow": {}},
            Description="Refuses the clients in the IP sets of Sluice; other rules are its operators'.",
            Rules=list(self._missing((), account)),
            VisibilityConfig=visibility(self.name),
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        # An update resets every member that it omits, so all that it accepts are sent back unchanged.
        client, identity = account.client("wafv2"), self._identity(existing)
        members = client.meta.service_model.operation_model("UpdateWebACL").input_shape.members

        def with_missing(acl: Mapping[str, Any]) -> Mapping[str, Any]:
            accepted = {key: value for key, value in acl.items() if key in members and key not in identity}
            unchanged = {key: value for key, value in accepted.items() if value not in (None, "")}
            rules = self._placed(acl["Rules"])
            return {**unchanged, "Rules": [*rules, *self._missing(rules, account)]}

        self.write(account, existing, "update", with_missing)

    def _placed(self, rules: Iterable[WafRule]) -> list[WafRule]:
        """Returns ``rules`` with the rule group's at the chosen priority. Raises Refusal if another has it."""
        rules, own, chosen = list(rules), self.stage.rule_group, self.stage.choices.priority
        if chosen is None:
            return rules
        for rule in rules:
            if rule["Name"] != own and rule["Priority"] == chosen:
                raise Refusal(
                    f"--priority {chosen}: web ACL {self.name} has {rule['Name']} there. Choose another number"
                )
        return [{**rule, "Priority": chosen} if rule["Name"] == own else rule for rule in rules]

    def _missing(self, rules: Iterable[WafRule], account: AwsAccount) -> Iterator[WafRule]:
        """Yields the rules that are not among ``rules``, with free priorities."""
        rules = list(rules)
        names = {rule["Name"] for rule in rules}
        taken = {rule["Priority"] for rule in rules}
        own = self.stage.rule_group
        if own not in names:
            groups = account.list_all("wafv2", "list_rule_groups", "RuleGroups", Scope=self.stage.choices.scope)
            arn = next((group["ARN"] for group in groups if group["Name"] == own), "")
            chosen = self.stage.choices.priority
            priority = _free(taken, 0, 1) if chosen is None else chosen
            taken.add(priority)
            yield _reference(own, priority, {"RuleGroupReferenceStatement": {"ARN": arn}})
        for group in self.groups:
            if group not in names:
                priority = _free(taken, FIRST_PRIORITY, STEP)
                taken.add(priority)
                yield _reference(group, priority, {"ManagedRuleGroupStatement": {"VendorName": VENDOR, "Name": group}})


@dataclass(frozen=True, slots=True)
class CreatedWebAclLogging(Resource):
    """The logging configuration of the stage's own web ACL, whose ARN is known once it exists."""

    kind = WebAclLogging.kind

    def find(self, account: AwsAccount) -> Existing | None:
        logging = self._logging(account)
        return logging.find(account) if logging else None

    def create(self, account: AwsAccount) -> None:
        if logging := self._logging(account):
            logging.create(account)

    def change(self, account: AwsAccount, existing: Existing) -> None:
        if logging := self._logging(account):
            logging.change(account, existing)

    def remove(self, account: AwsAccount, existing: Existing) -> None:
        if logging := self._logging(account):
            logging.remove(account, existing)

    def _logging(self, account: AwsAccount) -> WebAclLogging | None:
        acls = account.list_all("wafv2", "list_web_acls", "WebACLs", Scope=self.stage.choices.scope)
        arn = next((acl["ARN"] for acl in acls if acl["Name"] == self.name), None)
        return WebAclLogging(self.stage, self.name, arn) if arn else None


def _reference(name: str, priority: int, statement: Mapping[str, Any]) -> WafRule:
    return {
        "Name": name,
        "Priority": priority,
        "Statement": statement,
        "OverrideAction": {"None": {}},
        "VisibilityConfig": visibility(name),
    }


def _free(taken: Iterable[int], first: int, step: int) -> int:
    """Returns the first of ``first``, ``first + step`` and so on that is not taken.

    >>> _free({100, 110}, 100, 10)
    120
    """
    taken = set(taken)
    while first in taken:
        first += step
    return first
