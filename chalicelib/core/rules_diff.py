"""A rule in the words of its TOML, and what differs between two rule sets."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from chalicelib.core.durations import format_duration
from chalicelib.core.rules import Action, Escalation, Rule, RuleSet


class Aggregate(msgspec.Struct, frozen=True):
    ipv4: Annotated[int, msgspec.Meta(extra_json_schema={"maximum": 32})]
    ipv6: Annotated[int, msgspec.Meta(extra_json_schema={"maximum": 128})]


class EscalateWords(msgspec.Struct, frozen=True):
    factor: int
    max: str
    memory: str


class RuleWords(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with every key said, as its TOML would say it."""

    name: str
    limit: int
    """Requests allowed within one window; the next one is over."""
    window: str
    action: Action
    block_for: str
    resolution: int
    """Slots per window."""
    aggregate: Aggregate
    scope: dict[str, list[str]]
    """Each field with its alternatives; empty if every request counts."""
    escalate: EscalateWords | None
    extend: bool
    """True if requests made while blocked prolong the block."""


class DiffKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class RuleDiff(msgspec.Struct, frozen=True):
    rule: str
    change: DiffKind
    words: list[str]
    """The changes, one sentence per item."""


def rule_words(rule: Rule) -> RuleWords:
    return RuleWords(
        name=rule.name,
        limit=rule.limit,
        window=format_duration(rule.window_s),
        action=rule.action,
        block_for=format_duration(rule.block_for_s),
        resolution=rule.resolution,
        aggregate=Aggregate(rule.ipv4_prefix, rule.ipv6_prefix),
        scope={name: list(values) for name, values in _scope(rule).items() if values},
        escalate=_escalate(rule.escalate) if rule.escalate else None,
        extend=rule.extend,
    )


def differences(before: RuleSet, after: RuleSet) -> list[RuleDiff]:
    """Returns the fate of each rule, those of ``after`` first; the order of rules is insignificant."""
    old = {rule.name: rule_words(rule) for rule in before.rules}
    new = {rule.name: rule_words(rule) for rule in after.rules}
    changes = []
    for name, rule in new.items():
        if name not in old:
            changes.append(RuleDiff(name, DiffKind.ADDED, [sentence(rule)]))
        elif old[name] != rule:
            changes.append(RuleDiff(name, DiffKind.CHANGED, _changed(old[name], rule)))
    gone = [RuleDiff(name, DiffKind.REMOVED, [sentence(rule)]) for name, rule in old.items() if name not in new]
    return changes + gone


def sentence(rule: RuleWords) -> str:
    """Returns a description of a rule, in one sentence.

    >>> sentence(rule_words(Rule(name="burst", limit=50, window_s=5)))
    'more than 50 requests within 5s: block for 10m'
    """
    which = ", ".join(f"{name} {' or '.join(values)}" for name, values in rule.scope.items())
    what = f"block for {rule.block_for}" if rule.action is Action.BLOCK else "count only"
    return f"more than {rule.limit} requests within {rule.window}" + (f" with {which}" if which else "") + f": {what}"


def summary(changes: list[RuleDiff]) -> str:
    """Returns the number of changed rules, in words.

    >>> summary([*(RuleDiff(name, DiffKind.ADDED, []) for name in "ab"), RuleDiff("c", DiffKind.REMOVED, [])])
    '2 rules added, 1 rule removed'
    """
    numbers = {kind: sum(change.change is kind for change in changes) for kind in DiffKind}
    parts = [f"{number} rule{'' if number == 1 else 's'} {kind}" for kind, number in numbers.items() if number]
    return ", ".join(parts) or "no rule changes"


def _changed(old: RuleWords, new: RuleWords) -> list[str]:
    before, after = _said(old), _said(new)
    words = []
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) == after.get(key):
            continue
        if key not in before:
            words.append(f"{key}: {after[key]} is added")
        elif key not in after:
            words.append(f"{key}: {before[key]} is dropped")
        else:
            words.append(f"{key}: {before[key]} becomes {after[key]}")
    return words


def _said(rule: RuleWords) -> dict[str, str]:
    """Returns a rule's values as text, by dotted key."""
    said: dict[str, str] = {}

    def say(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                say(f"{prefix}{key}.", value)
            elif value is not None:
                said[f"{prefix}{key}"] = ", ".join(value) if isinstance(value, list) else _plain(value)

    say("", msgspec.to_builtins(rule))
    return said


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escalate(escalation: Escalation) -> EscalateWords:
    return EscalateWords(escalation.factor, format_duration(escalation.max_s), format_duration(escalation.memory_s))


def _scope(rule: Rule) -> dict[str, tuple[str, ...]]:
    fields = rule.scope.__dataclass_fields__
    return {name: getattr(rule.scope, name) for name in fields}
