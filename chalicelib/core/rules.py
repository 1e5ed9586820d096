"""Rules: who may do how much of what within which window, as TOML.

A rule set is checked whole before any of it is used; every error names the rule, the key, the value and the accepted
form. A *meter* is what has to be counted; rules that ask for the same requests of the same clients share one, at the
finest slot that serves them all.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.scope import EVERYTHING, Scope

SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 1, 3600
LARGEST_LIMIT = 1_000_000_000
LONGEST_BLOCK_S = 366 * 86400
MOST_RULES = 100
LARGEST_FOLD = 20
"""Slots of a meter in one slot of a rule it serves. Past it a meter of the rule's own costs less memory."""

DEFAULT_RESOLUTION = 100
RESERVED_NAMES = frozenset(("manual",))
"""What blocks that operators make have in place of a rule."""

LONGEST_SHOWN = 100


class Action(StrEnum):
    BLOCK = "block"
    COUNT = "count"
    """Records what would be blocked and touches nothing."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Each offence within ``memory_s`` of the last block's end multiplies the block by ``factor``, up to ``max_s``."""

    factor: int
    max_s: int
    memory_s: int


@dataclass(frozen=True, slots=True)
class Meter:
    """A count to be made: requests in ``scope`` per client network, in slots of ``slot_ms`` milliseconds."""

    scope: Scope
    ipv4_prefix: int
    ipv6_prefix: int
    slot_ms: int
    topic: bytes = field(init=False, repr=False, compare=False)
    """Eight bytes that stand for scope and prefixes: the same in every process, as long as their ``repr`` is."""

    def __post_init__(self) -> None:
        counted = repr((self.scope, self.ipv4_prefix, self.ipv6_prefix)).encode()
        object.__setattr__(self, "topic", blake2b(counted, digest_size=8).digest())

    @property
    def prefixes(self) -> tuple[int, int]:
        """Prefix lengths of IPv4 and of IPv6 clients."""
        return self.ipv4_prefix, self.ipv6_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A limit, and the action for clients that exceed it."""

    name: str
    limit: int
    """Requests allowed within one window; the next one is over the limit."""
    window_s: int
    action: Action = Action.BLOCK
    block_for_s: int = 600
    resolution: int = DEFAULT_RESOLUTION
    """Slots per window. More slots are more exact (G2 holds for spans of window - window / resolution) and use more
    memory."""
    ipv4_prefix: int = 32
    """Bits of an IPv4 address that make up a client: 24 counts each /24 as one client."""
    ipv6_prefix: int = 64
    scope: Scope = EVERYTHING
    escalate: Escalation | None = None
    extend: bool = False
    """Whether requests made while blocked prolong the block."""
    meter: Meter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Stored, because making a meter hashes its scope.
        object.__setattr__(self, "meter", Meter(self.scope, self.ipv4_prefix, self.ipv6_prefix, self.slot_ms))

    @property
    def slot_ms(self) -> int:
        return self.window_s * 1000 // self.resolution

    @property
    def prefixes(self) -> tuple[int, int]:
        """Prefix lengths of IPv4 and of IPv6 clients."""
        return self.ipv4_prefix, self.ipv6_prefix


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Valid rules, and what has to be counted for them."""

    rules: tuple[Rule, ...]
    text: str = ""
    version: str = ""

    @property
    def longest_window_ms(self) -> int:
        return max((rule.window_s for rule in self.rules), default=0) * 1000

    def columns(self) -> frozenset[str]:
        """The columns that the scopes look at."""
        return frozenset(column for rule in self.rules for column in rule.scope.columns())

    def meters(self) -> list[Meter]:
        """The fewest meters that serve every rule: of two slots one of which divides the other, only the finer one."""
        meters: list[Meter] = []
        for rule in sorted(self.rules, key=lambda rule: rule.slot_ms):
            if not any(_serves(meter, rule.meter) for meter in meters):
                meters.append(rule.meter)
        return meters


def _serves(meter: Meter, other: Meter) -> bool:
    fold, rest = divmod(other.slot_ms, meter.slot_ms)
    return meter.topic == other.topic and rest == 0 and fold <= LARGEST_FOLD


class Slotted(Protocol):
    """A meter, or a count made by one."""

    @property
    def slot_ms(self) -> int: ...


_Slotted = TypeVar("_Slotted", bound=Slotted)


def serving(slot_ms: int, meters: Iterable[_Slotted]) -> _Slotted | None:
    """Returns the meter to evaluate a rule with slots of ``slot_ms`` from: the coarsest whose slots divide the rule's.

    ``meters`` are of the rule's topic; None if none of them fits.
    """
    fitting = [meter for meter in meters if slot_ms % meter.slot_ms == 0]
    return max(fitting, key=lambda meter: meter.slot_ms, default=None)


class RulesError(ValueError):
    """A rule set that cannot be used; ``problems`` says everything that is wrong with it."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class _Wrong(ValueError):
    """What is wrong with one value; the caller knows its rule and key."""


def parse_rules(text: str, *, version: str | None = None) -> RuleSet:
    """The rule set that TOML ``text`` describes.

    ``version`` defaults to a digest of the text. Raises RulesError with every problem found.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # ValueError: bad TOML, or a number of thousands of digits
        raise RulesError([f"not valid TOML: {exc}"]) from exc
    problems = [_unknown("rules", key, ["rule"]) for key in document if key != "rule"]
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RulesError([*problems, "rules: 'rule' must be an array of tables; write [[rule]]"])
    if len(tables) > MOST_RULES:
        problems.append(f"rules: {len(tables)} rules; at most {MOST_RULES} are accepted")
    rules: list[Rule] = []
    for number, table in enumerate(tables[:MOST_RULES], 1):
        rule = _rule(table, number, problems)
        if rule is not None:
            if any(rule.name == other.name for other in rules):
                problems.append(f"rule {rule.name!r}: name: used by two rules; every rule needs its own")
            rules.append(rule)
    if problems:
        raise RulesError(problems)
    return RuleSet(tuple(rules), text, version or blake2b(text.encode(), digest_size=6).hexdigest())


def _rule(table: Mapping[str, Any], number: int, problems: list[str]) -> Rule | None:
    name = table.get("name")
    title = f"rule {name!r}" if isinstance(name, str) and name else f"rule number {number}"
    before = len(problems)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            problems.append(_unknown(title, key, _KEYS))
            continue
        try:
            values |= _KEYS[key](value)
        except _Wrong as exc:
            problems.extend(f"{title}: {key}{problem}" for problem in exc.args)
    problems.extend(f"{title}: {key}: missing" for key in ("name", "limit", "window") if key not in table)
    if len(problems) > before:
        return None
    rule = Rule(**values)
    if rule.window_s * 1000 % rule.resolution:
        problems.append(
            f"{title}: resolution: {rule.resolution} does not divide a window of {format_duration(rule.window_s)} "
            "into whole milliseconds"
        )
    escalate = rule.escalate
    if escalate is not None and escalate.max_s < rule.block_for_s:
        problems.append(f"{title}: escalate.max: shorter than block_for ({format_duration(rule.block_for_s)})")
    return rule


def _unknown(title: str, key: str, known: Iterable[str]) -> str:
    near = get_close_matches(key, list(known), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else f"; known are {', '.join(known)}"
    return f"{title}: unknown key {key!r}{hint}"


def _shown(value: object) -> str:
    """``value`` as an error shows it: on one line, not too long."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _Wrong(f": {_shown(value)} is not a whole number from {low} to {high}")
        return value

    return check


def _duration(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        try:
            seconds = parse_duration(value)
        except ValueError as exc:
            raise _Wrong(f": {exc}") from exc
        if not low <= seconds <= high:
            raise _Wrong(f": {value!r} is outside {format_duration(low)} .. {format_duration(high)}")
        return seconds

    return check


def _pattern(pattern: str, accepted: str) -> Callable[[object], str]:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> str:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise _Wrong(f": {_shown(value)} is not {accepted}")
        return value

    return check


def _name(value: object) -> str:
    name = _pattern(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "1 to 64 letters, digits, '-' or '_'")(value)
    if name in RESERVED_NAMES:
        raise _Wrong(f": {name!r} is what blocks made by operators are called; choose another name")
    return name


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f": {_shown(value)} is not true or false")
    return value


def _action(value: object) -> Action:
    try:
        return Action(value)  # type: ignore[arg-type]
    except ValueError:
        raise _Wrong(f": {_shown(value)} is not 'block' or 'count'") from None


def _table(value: object, keys: Mapping[str, Callable[[Any], Any]], required: Iterable[str]) -> dict[str, Any]:
    """The checked values of an inline table; all its problems in one _Wrong."""
    if not isinstance(value, dict):
        raise _Wrong(f": {_shown(value)} is not a table such as {{ {next(iter(keys))} = ... }}")
    wrong: list[str] = []
    checked: dict[str, Any] = {}
    for key, inner in value.items():
        if key not in keys:
            wrong.append(_unknown("", key, keys))
            continue
        try:
            checked[key] = keys[key](inner)
        except _Wrong as exc:
            wrong.extend(f".{key}{problem}" for problem in exc.args)
    wrong.extend(f".{key}: missing" for key in required if key not in value)
    if wrong:
        raise _Wrong(*wrong)
    return checked


def _several(check: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """A list of at least one value; sorted, so that equal scopes are equal however they are written."""

    def check_all(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise _Wrong(f": {_shown(value)} is not a list of at least one value")
        return tuple(sorted({check(item) for item in value}))

    return check_all


_SCOPE: dict[str, Callable[[object], tuple[str, ...]]] = {
    "status": _several(_pattern(r"[1-5](\d\d|xx)|000", "a status such as '404' or a class such as '4xx'")),
    "method": _several(_pattern(r"[A-Z][A-Z_-]{0,31}", "a method in capitals such as 'POST'")),
    "waf_action": _several(_pattern(r"ALLOW|BLOCK|CAPTCHA|CHALLENGE", "one of ALLOW, BLOCK, CAPTCHA, CHALLENGE")),
    "country": _several(_pattern(r"[A-Z]{2}|-", "a two-letter country code in capitals such as 'DE'")),
    "host": _several(
        _pattern(
            r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", "a host in lower case such as 'www.example.com' or '*.example.com'"
        )
    ),
    "path": _several(_pattern(r"/[^?#\s]*", "a path that starts with '/' and has no query")),
    "path_prefix": _several(_pattern(r"/[^?#\s]*", "a path that starts with '/' and has no query")),
    "waf_label": _several(
        _pattern(r"[A-Za-z0-9_:-]{1,1024}", "an AWS WAF label such as 'awswaf:managed:aws:bot-control:bot:verified'")
    ),
    "user_agent": _several(_pattern(r"[\x20-\x7e]{1,256}", "1 to 256 printable ASCII characters")),
}


def _scope(value: object) -> dict[str, Any]:
    return {"scope": Scope(**_table(value, _SCOPE, ()))}


def _escalate(value: object) -> dict[str, Any]:
    keys = {"factor": _whole(2, 100), "max": _duration(1, LONGEST_BLOCK_S), "memory": _duration(1, LONGEST_BLOCK_S)}
    checked = _table(value, keys, keys)
    return {"escalate": Escalation(checked["factor"], checked["max"], checked["memory"])}


def _as(name: str, check: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: check(value)}


_KEYS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "name": _as("name", _name),
    "limit": _as("limit", _whole(0, LARGEST_LIMIT)),
    "window": _as("window_s", _duration(SHORTEST_WINDOW_S, LONGEST_WINDOW_S)),
    "action": _as("action", _action),
    "block_for": _as("block_for_s", _duration(1, LONGEST_BLOCK_S)),
    "resolution": _as("resolution", _whole(10, 1000)),
    "aggregate": lambda value: {
        f"{family}_prefix": bits
        for family, bits in _table(value, {"ipv4": _whole(8, 32), "ipv6": _whole(16, 128)}, ()).items()
    },
    "scope": _scope,
    "escalate": _escalate,
    "extend": _as("extend", _flag),
}
