"""Properties of a rule set that replay needs."""

from dataclasses import replace

from chalicelib.core.measures import Measure
from chalicelib.core.rules import LARGEST_LIMIT, Rule, RuleSet
from chalicelib.core.scope import EVERYTHING

EVERY_REQUEST = "every-request"


def every_request(rules: RuleSet) -> Rule:
    """Returns a rule that counts all requests, in slots that divide a second.

    It is one of the set's own rules if possible, so that nothing is counted twice; otherwise one with a huge limit.
    """
    ipv4 = max((rule.ipv4_prefix for rule in rules.rules), default=32)
    ipv6 = max((rule.ipv6_prefix for rule in rules.rules), default=64)
    for rule in rules.rules:
        is_whole = rule.scope == EVERYTHING and requests_of(rule) == rule
        if is_whole and rule.prefixes == (ipv4, ipv6) and 1000 % rule.slot_ms == 0:
            return rule
    return Rule(name=EVERY_REQUEST, limit=LARGEST_LIMIT, window_s=100, ipv4_prefix=ipv4, ipv6_prefix=ipv6)


def with_every_request(rules: RuleSet) -> RuleSet:
    """Returns ``rules`` with the rule that counts all requests and, for each rule with another measure or with groups,
    one that counts its clients' requests."""
    more = [every_request(rules), *map(requests_of, rules.rules)]
    return replace(rules, rules=(*rules.rules, *(rule for rule in dict.fromkeys(more) if rule not in rules.rules)))


def requests_of(rule: Rule) -> Rule:
    """Returns ``rule`` or, if it has another measure or counts groups, a rule that counts its clients' requests."""
    if rule.measure is Measure.REQUESTS and not rule.by:
        return rule
    return replace(rule, measure=Measure.REQUESTS, by=(), limit=LARGEST_LIMIT)


def group_prefix(rules: RuleSet) -> tuple[int, int]:
    """Returns the shortest prefix lengths of the rules, for IPv4 and IPv6."""
    ipv4 = min((rule.ipv4_prefix for rule in rules.rules), default=32)
    return ipv4, min((rule.ipv6_prefix for rule in rules.rules), default=64)


def client_prefix(rules: RuleSet) -> tuple[int, int]:
    """Returns the longest prefix lengths of the rules, for IPv4 and IPv6; there is at least one rule."""
    return max(rule.ipv4_prefix for rule in rules.rules), max(rule.ipv6_prefix for rule in rules.rules)
