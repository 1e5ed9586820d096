"""AWS WAF: the IP sets that Sluice fills, and the rule group that answers the clients in them."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from chalicelib.core.ipsets import SetGroup
from chalicelib.core.responses import Response
from sluice.deploy.account import RETRY_FOR_S, AwsAccount, missing_ok
from sluice.deploy.resource import Existing, Resource
from sluice.deploy.rule_group import (
    BODY_KEY,
    IP_SET_DESCRIPTION,
    RULE_GROUP_DESCRIPTION,
    Answers,
    Body,
    WafRule,
    arns_in,
    capacity_of,
    compares_forwarded,
    needed_wcu,
    references_in,
    rules_of,
    visibility,
)
from sluice.deploy.stage import Refusal, Stage

BUSY = (
    "ThrottlingException",
    "WAFUnavailableEntityException",
    "WAFOptimisticLockException",
    "WAFInternalErrorException",
)
"""Error codes to retry: WAF accepts one change per second, and takes time to know new resources everywhere."""

IN_USE = (*BUSY, "WAFAssociatedItemException")
IN_USE_S = 180.0
"""Longest time for which a detached resource may count as in use, in seconds."""


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
        self.make(account, IPAddressVersion=f"IPV{self.family}", Addresses=[], Description=IP_SET_DESCRIPTION)

    def empty(self, account: AwsAccount, existing: Existing) -> None:
        def without_addresses(ip_set: Mapping[str, Any]) -> Mapping[str, Any] | None:
            if not ip_set["Addresses"]:
                return None
            # An update without the description clears it; an empty one is rejected.
            description = ip_set.get("Description")
            return {"Addresses": [], **({"Description": description} if description else {})}

        self.write(account, existing, "update", without_addresses)


@dataclass(frozen=True, slots=True)
class RuleGroup(WafResource):
    kind = "WAF rule group"
    noun, shape = "rule_group", "RuleGroup"

    body: Body | None = None
    """The body of refusals. None keeps the one that the rule group has, if any, and an empty one removes it."""

    @missing_ok("WAFNonexistentItemException")
    def find(self, account: AwsAccount) -> Existing | None:
        existing = WafResource.find(self, account)
        if existing is None:
            return None
        group = account.client("wafv2").get_rule_group(**self._identity(existing))["RuleGroup"]
        needed = needed_wcu(self.stage)
        if existing.ours and group["Capacity"] < needed:
            raise Refusal(
                f"rule group {self.name} has a capacity of {group['Capacity']} WCU, which can never be changed, and "
                f"its rules would need {needed}. Use fewer IP sets or responses, or set up another stage with "
                "these choices"
            )
        bodies, rules = group.get("CustomResponseBodies", {}), group.get("Rules", [])
        current, desired = gist(rules), gist(self._rules(account, bodies))
        referenced = len({arn for rule in rules for arn in arns_in(rule["Statement"])})
        count = sum(map(len, self.stage.ip_sets.values()))
        differences = []
        proxied = any(compares_forwarded(each) for rule in rules for each in references_in(rule["Statement"]))
        if proxied != self.stage.choices.behind_proxies:
            differences.append("forwarded addresses are " + ("no longer compared" if proxied else "compared too"))
        # ``desired`` lacks the sets that are still to be created, so their number is compared too.
        if referenced != count:
            differences.append(f"{referenced} IP sets become {count}")
        elif (current != desired and not differences) or bodies != self._bodies(bodies):
            differences.append("its answers change")
        return Existing(existing.ours, differences, existing.facts)

    def create(self, account: AwsAccount) -> None:
        bodies = self._bodies({})
        self.make(
            account,
            Capacity=capacity_of(self.stage),
            Description=RULE_GROUP_DESCRIPTION,
            Rules=self._rules(account, {}),
            VisibilityConfig=visibility(self.name),
            **({"CustomResponseBodies": bodies} if bodies else {}),
        )

    def change(self, account: AwsAccount, existing: Existing) -> None:
        def as_desired(group: Mapping[str, Any]) -> Mapping[str, Any]:
            bodies = group.get("CustomResponseBodies", {})
            kept = self._bodies(bodies)
            return {
                "Description": group.get("Description") or RULE_GROUP_DESCRIPTION,
                "Rules": self._rules(account, bodies),
                "VisibilityConfig": group["VisibilityConfig"],
                **({"CustomResponseBodies": kept} if kept else {}),
            }

        self.write(account, existing, "update", as_desired)

    def _bodies(self, present: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the bodies that the rule group should have, given the present ones."""
        if self.body is None:
            return dict(present)
        others = {key: body for key, body in present.items() if key != BODY_KEY}
        own = {BODY_KEY: {"ContentType": self.body.content_type, "Content": self.body.content}}
        return others | (own if self.body.content else {})

    def _rules(self, account: AwsAccount, bodies: Mapping[str, Any]) -> list[WafRule]:
        """Returns the rules for those IP sets that exist. ``bodies``: the present ones."""
        ip_sets, choices = ip_sets_of(self.stage, account), self.stage.choices
        arns = {
            group: [ip_sets[name]["ARN"] for name in names if name in ip_sets]
            for group, names in self.stage.ip_sets.items()
        }
        answers = Answers.of(choices, has_body=BODY_KEY in self._bodies(bodies))
        return rules_of(self.name, arns, answers, behind_proxies=choices.behind_proxies)


def ip_set_resources(stage: Stage) -> list[IpSetResource]:
    return [
        IpSetResource(stage, name, group.family, about=_about(group))
        for group, names in stage.ip_sets.items()
        for name in names
    ]


def ip_sets_without(stage: Stage, responses: Iterable[Response]) -> list[IpSetResource]:
    """Returns the IP sets that ``stage`` would have for ``responses``, which it no longer has."""
    choices = replace(stage.choices, responses=tuple(set(responses) - set(stage.choices.responses)))
    with_them = ip_set_resources(replace(stage, choices=choices))
    return [ip_set for ip_set in with_them if ip_set.name not in {each.name for each in ip_set_resources(stage)}]


def _about(group: SetGroup) -> str:
    softer = "" if group.response is Response.BLOCK else f"{group.response}, "
    return f"{softer}IPv{group.family}, room for 10,000 networks"


def ip_sets_of(stage: Stage, account: AwsAccount) -> dict[str, Mapping[str, str]]:
    """Returns AWS's summaries of those of the stage's IP sets that exist, by name."""
    names = {name for family in stage.ip_sets.values() for name in family}
    summaries = account.list_all("wafv2", "list_ip_sets", "IPSets", Scope=stage.choices.scope)
    return {summary["Name"]: summary for summary in summaries if summary["Name"] in names}


def gist(rules: Iterable[Mapping[str, Any]]) -> set[tuple[str, tuple[str, ...], str]]:
    """Returns the significant parts of each rule: its name, its references to IP sets, and what it does."""
    parts = set()
    for rule in rules:
        limit = rule["Statement"].get("RateBasedStatement", {}).get("Limit")
        does = json.dumps([rule.get("Action"), limit], sort_keys=True)
        references = sorted(json.dumps(each, sort_keys=True) for each in references_in(rule["Statement"]))
        parts.add((rule["Name"], tuple(references), does))
    return parts
