"""The outcomes that readers of an old configuration yield, setting by setting. A plan consists of all of them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from chalicelib.core.durations import format_duration
from chalicelib.core.rules import LARGEST_LIMIT, LONGEST_BLOCK_S
from chalicelib.core.rules_toml import RulesError, parse_rules
from sluice.migration.plan import Fate, Import, MigratedRule, Plan, Row, RuleLine, unique_names


@dataclass(frozen=True, slots=True)
class Draft:
    """A rule before its name is unique."""

    stem: str
    lines: tuple[RuleLine, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogBucket:
    """A bucket with logs that Sluice can count."""

    name: str
    prefix: str
    settings: str
    """Options of ``sluice setup`` for the delay of these logs."""


@dataclass(frozen=True, slots=True)
class ManagedGroup:
    """One of AWS's managed rule groups that the web ACL keeps."""

    name: str


MigrationOutcome = Row | Draft | LogBucket | ManagedGroup | Import
Outcomes = Iterator[MigrationOutcome]


def composed(title: str, outcomes: Sequence[MigrationOutcome], setups: Iterable[str] = ()) -> Plan:
    """Returns the plan that consists of ``outcomes``."""
    drafts = [each for each in outcomes if isinstance(each, Draft)]
    names = unique_names(draft.stem for draft in drafts)
    imports = [each for each in outcomes if isinstance(each, Import)]
    return Plan(
        title=title,
        rules=tuple(MigratedRule(name, each.lines, each.notes) for name, each in zip(names, drafts, strict=True)),
        rows=tuple(each for each in outcomes if isinstance(each, Row)),
        allowlist=tuple(each for each in imports if each.allowed),
        blocks=tuple(each for each in imports if not each.allowed),
        managed_groups=tuple(each.name for each in outcomes if isinstance(each, ManagedGroup)),
        setups=tuple(setups),
    )


def row(setting: str, value: object, fate: Fate, detail: str) -> Row:
    """Returns a row; a value that is not text is shown as JSON."""
    return Row(setting, value if isinstance(value, str) else json.dumps(value), fate, detail)


def faults(setting: str, value: object, least: int) -> list[Row]:
    """Returns a row for a value that is not a whole number of at least ``least``; ``int`` accepts any other.

    >>> faults("ErrorThreshold", "50", 0), faults("ErrorThreshold", -1, 0)[0].detail
    ([], 'not a whole number of at least 0')
    """
    text = str(value).strip()
    if isinstance(value, bool) or not text.removeprefix("-").isdecimal() or int(text) < least:
        return [row(setting, value, Fate.BY_HAND, f"not a whole number of at least {least}")]
    return []


def below(threshold: float) -> int:
    """Returns the largest limit with which every count that reaches ``threshold`` is over the limit.

    >>> below(100), below(20.4), below(0)
    (99, 20, 0)
    """
    return min(max(0, ceil(threshold) - 1), LARGEST_LIMIT)


def block_for(minutes: int) -> str:
    """Returns a block period as a duration: at least a minute, at most the longest block.

    >>> block_for(240), block_for(0), block_for(10**9)
    ('4h', '1m', '366d')
    """
    return format_duration(min(max(1, minutes) * 60, LONGEST_BLOCK_S))


def accepts(scope: str) -> bool:
    """Returns whether ``scope``, keys of a scope in TOML, is accepted in a rule.

    >>> accepts('path = ["/a"]'), accepts('path = ["a"]')
    (True, False)
    """
    try:
        parse_rules(f'[[rule]]\nname = "r"\nlimit = 1\nwindow = "60s"\nscope = {{ {scope} }}')
    except RulesError:
        return False
    return True
