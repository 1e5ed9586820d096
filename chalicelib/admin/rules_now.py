"""The effect that the rules of a plan would have on the clients counted now."""

from collections.abc import Iterable, Iterator
from itertools import product

import msgspec

from chalicelib.admin.live_counts import LiveCounts
from chalicelib.core.allowance import Allowance
from chalicelib.core.logs.requests import LiveSource, Source
from chalicelib.core.rules import Rule
from chalicelib.core.sampling import Sampling
from chalicelib.core.windows import occupied, over_allowance


class RuleNow(msgspec.Struct, frozen=True, kw_only=True):
    """The clients counted now in one log, and how many of them are over a rule's limit."""

    rule: str
    source: LiveSource
    clients: int
    """Clients with requests that the rule counts."""
    over: int
    """Those of them that are over its limit, whether they are blocked or on the allowlist or not."""
    span_s: int
    """Seconds in which their requests were made."""


def rules_now(live: LiveCounts, rules: Iterable[Rule], sampling: Sampling) -> list[RuleNow]:
    """Returns the effect of each rule whose requests are already counted, per log; ``live`` must be fresh."""
    counted = [rule for rule in rules if is_counted(live, rule)]
    return list(
        filter(None, (_rule_now(live, rule, source, sampling) for rule, source in product(counted, live.sources)))
    )


def uncounted(live: LiveCounts, rules: Iterable[Rule]) -> Iterator[str]:
    """Yields a sentence about each rule about which the live counts say nothing; ``live`` must be fresh."""
    for rule in rules:
        if rule.is_quota:
            yield (
                f"Rule {rule.name} is a quota, whose counts are not live, so nothing is known of what it would do now. "
                "'sluice replay' computes it from logs."
            )
        elif not is_counted(live, rule):
            yield (
                f"Rule {rule.name} counts requests that no rule in force counts, so nothing is known of what it would "
                "do now. 'sluice replay' computes it from logs."
            )


def is_counted(live: LiveCounts, rule: Rule) -> bool:
    """Returns whether a rule in force counts the same requests of the same clients, in slots that fit."""
    if rule.is_quota:
        return False
    meters = (meter for meter in live.rules.meters() if meter.topic == rule.meter.topic)
    return any(rule.slot_ms % meter.slot_ms == 0 for meter in meters)


def _rule_now(live: LiveCounts, rule: Rule, source: Source, sampling: Sampling) -> RuleNow | None:
    allowance = Allowance.of(rule, source, sampling)
    clients: set[bytes] = set()
    over: set[bytes] = set()
    first, last = None, 0
    for client, slots in live.view.clients(source, rule):
        clients.add(client)
        numbers = occupied(slots, allowance)
        first, last = min(numbers) if first is None else min(first, *numbers), max(last, *numbers)
        if sum(slots.values()) > allowance.limit and over_allowance(slots, numbers, allowance) is not None:
            over.add(client)
    if first is None:
        return None
    span_s = max(1, (last + 1 - first) * rule.slot_ms // 1000)
    return RuleNow(rule=rule.name, source=source.value, clients=len(clients), over=len(over), span_s=span_s)
