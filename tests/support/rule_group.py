"""A rule group at work: which requests its rules match, as AWS WAF compares them.

Source: AWS WAF Developer Guide, "IP set match rule statement" and "Using forwarded IP addresses".
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


def refusing_rule(rules: Sequence[Mapping[str, Any]], contents: Mapping[str, Sequence[str]], arrival: Arrival) -> str:
    """Returns the name of the rule that blocks a request, the first by priority; empty if none does.

    ``contents``: networks of each IP set, by ARN.
    """
    for rule in sorted(rules, key=lambda rule: rule["Priority"]):
        if "Block" in rule["Action"] and _matches(rule["Statement"], contents, arrival):
            return str(rule["Name"])
    return ""


def _matches(statement: Mapping[str, Any], contents: Mapping[str, Sequence[str]], arrival: Arrival) -> bool:
    ((kind, inner),) = statement.items()
    if kind == "OrStatement":
        return any(_matches(each, contents, arrival) for each in inner["Statements"])
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
