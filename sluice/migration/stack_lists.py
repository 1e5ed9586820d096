"""The lists and the web ACL of a stack of "Security Automations for AWS WAF"."""

from chalicelib.core.addresses import parse_network
from chalicelib.core.durations import format_duration
from chalicelib.core.rules import LONGEST_BLOCK_S
from chalicelib.core.wording import plural
from sluice.migration.old_stack import OldSet, OldStack
from sluice.migration.outcomes import ManagedGroup, Outcomes, faults, row
from sluice.migration.plan import Fate, Import

MANAGED = {
    "ActivateAWSManagedIPRParam": "AWSManagedRulesAmazonIpReputationList",
    "ActivateAWSManagedAIPParam": "AWSManagedRulesAnonymousIpList",
    "ActivateAWSManagedRulesParam": "AWSManagedRulesCommonRuleSet",
    "ActivateAWSManagedAPParam": "AWSManagedRulesAdminProtectionRuleSet",
    "ActivateAWSManagedKBIParam": "AWSManagedRulesKnownBadInputsRuleSet",
    "ActivateAWSManagedPHPParam": "AWSManagedRulesPHPRuleSet",
    "ActivateAWSManagedWPParam": "AWSManagedRulesWordPressRuleSet",
    "ActivateAWSManagedLinuxParam": "AWSManagedRulesLinuxRuleSet",
    "ActivateAWSManagedPOSIXParam": "AWSManagedRulesUnixRuleSet",
    "ActivateAWSManagedWindowsParam": "AWSManagedRulesWindowsRuleSet",
    "ActivateAWSManagedSQLParam": "AWSManagedRulesSQLiRuleSet",
}
"""Managed rule group of each parameter, in the order in which a web ACL should evaluate them."""

REPLACED = {
    "ActivateSqlInjectionProtectionParam": ("the stack's own SQL injection rule", "AWSManagedRulesSQLiRuleSet"),
    "ActivateCrossSiteScriptingProtectionParam": ("the stack's own XSS rule", "AWSManagedRulesCommonRuleSet"),
    "ActivateReputationListsProtectionParam": (
        "the lists of Spamhaus, Emerging Threats and Tor",
        "AWSManagedRulesAmazonIpReputationList",
    ),
}
"""Parameters of what disappears with the stack: what it is, and the managed group that takes its place."""

ALLOWED, DENIED = "Whitelist", "Blacklist"
RETENTION = {ALLOWED: "IPRetentionPeriodAllowedParam", DENIED: "IPRetentionPeriodDeniedParam"}
NO_RETENTION = "-1"
LEAST_RETENTION = 15
"""Shortest retention, in minutes: the stack raises a shorter one to it."""

AUTOMATIC = {
    "HTTPFlood": "the rules find these clients again",
    "ScannersProbes": "the rules find these clients again",
    "IPReputationLists": "the lists change every hour, and AWSManagedRulesAmazonIpReputationList takes their place",
    "IPBadBot": "the stack never removes any; 'sluice block - --for 30d' blocks those that you want to keep",
}
"""IP sets that the stack fills by itself, and why they are not imported."""


def list_outcomes(old: OldStack, now: int) -> Outcomes:
    """Yields what becomes of the IP sets; ``now`` is epoch seconds."""
    kept: dict[str, int | None] = {}
    for kind, setting in RETENTION.items():
        value = old.parameters.get(setting, NO_RETENTION)
        wrong = faults(setting, value, -1)
        yield from wrong
        kept[kind] = None if wrong or value == NO_RETENTION else max(LEAST_RETENTION, int(value))
        if setting in old.parameters and not wrong:
            detail = f"each network ends when the stack would remove it, {kept[kind]} minutes after it was added"
            fate = Fate.ALLOWLIST if kind == ALLOWED else Fate.BLOCKS
            yield row(setting, value, *((Fate.UNUSED, "no end") if kept[kind] is None else (fate, detail)))
    for ip_set in old.ip_sets:
        setting, number = f"IP set {ip_set.name}", plural(len(ip_set.addresses), "network")
        of = set_kind(ip_set.name)
        if of is None:
            yield row(setting, number, Fate.BY_HAND, "not a set of this solution")
        elif of in kept:
            yield from _imports(old, ip_set, of, kept[of], now)
        else:
            by_hand = of == "IPBadBot" and ip_set.addresses
            yield row(setting, number, Fate.BY_HAND if by_hand else Fate.UNUSED, AUTOMATIC[of])


def _imports(old: OldStack, ip_set: OldSet, kind: str, minutes: int | None, now: int) -> Outcomes:
    number = 0
    for address in ip_set.addresses:
        try:
            network = parse_network(address)
        except ValueError:
            yield row(f"IP set {ip_set.name}", address, Fate.BY_HAND, "not an address or a network")
            continue
        number += 1
        yield Import(network, _end(old, ip_set.name, address, minutes, now), ip_set.name, allowed=kind == ALLOWED)
    if kind == ALLOWED:
        detail = "sluice allow: Sluice never blocks them; other rules of the web ACL apply to them, unlike before"
        yield row(f"IP set {ip_set.name}", plural(number, "network"), Fate.ALLOWLIST, detail)
        return
    longest = format_duration(LONGEST_BLOCK_S)
    detail = "sluice block" if minutes else f"sluice block, for {longest}, the longest block: the old list has no end"
    yield row(f"IP set {ip_set.name}", plural(number, "network"), Fate.BLOCKS, detail)


def _end(old: OldStack, ip_set: str, address: str, minutes: int | None, now: int) -> int | None:
    """Returns when the stack removes an address: when the first of the updates that wrote it expires."""
    ends = [
        each.expires_at
        for each in old.retentions
        if each.ip_set == ip_set and address in each.addresses and each.expires_at > now
    ]
    if ends:
        return min(ends)
    # Without the stack's table, the latest possible end; an address in no update was added before there was an end.
    return None if minutes is None or old.retentions else now + minutes * 60


def web_acl_outcomes(old: OldStack) -> Outcomes:
    """Yields the managed rule groups to keep, and what becomes of the other rules of the web ACL."""
    kept = []
    for parameter, group in MANAGED.items():
        value = old.parameters.get(parameter)
        if value == "yes":
            kept.append(group)
            yield row(parameter, value, Fate.WEB_ACL, f"{group} stays")
        elif value is not None:
            yield row(parameter, value, Fate.UNUSED, f"{group} is not in use")
    for parameter, (rule, group) in REPLACED.items():
        value = old.parameters.get(parameter)
        if value is not None and value.startswith("yes"):
            kept += [group] if group not in kept else []
            yield row(parameter, value, Fate.WEB_ACL, f"{rule} disappears with the stack, and {group} takes its place")
        elif value is not None:
            yield row(parameter, value, Fate.UNUSED, "switched off")
    for each in old.acl_rules:
        name, statement = str(each.get("Name", "")), each.get("Statement", {})
        group = statement.get("ManagedRuleGroupStatement", {}).get("Name")
        if group and group not in kept:
            kept.append(group)
            yield row(f"web ACL rule {name}", group, Fate.WEB_ACL, "added by hand; stays")
        elif not group and not name.startswith(old.name):
            yield row(
                f"web ACL rule {name}", statement, Fate.BY_HAND, "not the stack's: create it in the new web ACL as well"
            )
    order = {group: place for place, group in enumerate(MANAGED.values())}
    yield from map(ManagedGroup, sorted(kept, key=lambda group: order.get(group, len(order))))
    acl = old.outputs.get("WAFWebACLArn") or old.outputs.get("WAFWebACL")
    if acl:
        detail = "deleted with the stack: 'sluice setup --create-web-acl' makes another beforehand"
        yield row("WAFWebACL", acl, Fate.WEB_ACL, detail)


def set_kind(name: str) -> str | None:
    """Returns the kind of an IP set, which its name contains; None if the set does not belong to such a stack.

    >>> set_kind("edgeIPBadBotSetIPV6"), set_kind("partners")
    ('IPBadBot', None)
    """
    kinds = (ALLOWED, DENIED, *AUTOMATIC)
    return next((kind for kind in kinds if name.endswith((f"{kind}SetIPV4", f"{kind}SetIPV6"))), None)
