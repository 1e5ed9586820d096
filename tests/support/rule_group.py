"""A web ACL or rule group at work: the rule that refuses a request, as AWS WAF evaluates and compares.

Source: AWS WAF Developer Guide, "IP set match rule statement", "Using forwarded IP addresses", "Setting rule priority"
and "Rule action".
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

COMPARED = 10
"""Addresses compared in a header, from the right."""


class Arrival(NamedTuple):
    """A request as it reaches the web ACL."""

    connection: str
    """Address of the connection."""
    forwarded_for: str = ""
    """X-Forwarded-For; empty if the request has none."""
    country: str = ""


Rules = Sequence[Mapping[str, Any]]


def refusing_rule(
    rules: Rules, contents: Mapping[str, Sequence[str]], arrival: Arrival, groups: Mapping[str, Rules] | None = None
) -> str:
    """Returns the name of the rule that blocks a request; empty if none does, or if another allows it before.

    ``contents``: networks of each IP set; ``groups``: rules of each rule group that ``rules`` refer to; both by ARN.
    """
    rule = _ending(rules, contents, arrival, groups or {})
    return str(rule["Name"]) if rule is not None and "Block" in rule["Action"] else ""


def _ending(
    rules: Rules, contents: Mapping[str, Sequence[str]], arrival: Arrival, groups: Mapping[str, Rules]
) -> Mapping[str, Any] | None:
    """Returns the rule that ends the evaluation of a request: of those that match it, the first that does not count."""
    for rule in sorted(rules, key=lambda rule: rule["Priority"]):
        if reference := rule["Statement"].get("RuleGroupReferenceStatement"):
            ending = _ending(groups[reference["ARN"]], contents, arrival, groups)
            if ending is not None:
                return ending
        elif {"Allow", "Block"} & rule["Action"].keys() and _matches(rule["Statement"], contents, arrival):
            return rule
    return None


def _matches(statement: Mapping[str, Any], contents: Mapping[str, Sequence[str]], arrival: Arrival) -> bool:
    ((kind, inner),) = statement.items()
    if kind == "OrStatement":
        return any(_matches(each, contents, arrival) for each in inner["Statements"])
    if kind == "GeoMatchStatement":
        return arrival.country in inner["CountryCodes"]
    assert kind == "IPSetReferenceStatement", f"{kind} is not known here"
    compared = _compared(inner.get("IPSetForwardedIPConfig"), arrival)
    networks = [ip_network(each) for each in contents[inner["ARN"]]]
    return any(address in network for address in compared for network in networks)


def _compared(forwarded: Mapping[str, str] | None, arrival: Arrival) -> list[Any]:
    """Returns the addresses of a request that an IP set is compared with."""
    if forwarded is None:
        return [ip_address(arrival.connection)]
    assert (forwarded["HeaderName"].lower(), forwarded["FallbackBehavior"]) == ("x-forwarded-for", "NO_MATCH")
    members = [member.strip() for member in arrival.forwarded_for.split(",") if member.strip()]
    at = {"FIRST": slice(1), "LAST": slice(-1, None), "ANY": slice(-COMPARED, None)}[forwarded["Position"]]
    return [ip_address(member) for member in members[at] if _is_address(member)]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
