"""Rules as TOML: a rule set is checked as a whole before any of it is used.

Every problem names the rule, the key, the value and the accepted form. All problems are reported at once.
"""

import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, time
from difflib import get_close_matches
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

from chalicelib.core.checks import ValueCheck, one_of, pattern, whole
from chalicelib.core.client_groups import GROUPED_BY, LONGEST_IPV6_PREFIX
from chalicelib.core.distinct import FINEST_RESOLUTION, LARGEST_DISTINCT
from chalicelib.core.durations import DAY_S, LAST_S, format_duration, parse_duration, utc_text
from chalicelib.core.measures import DISTINCT, LIMITS, SUMS, Measure
from chalicelib.core.paths import normalised
from chalicelib.core.rates import Rate, parse_rate
from chalicelib.core.responses import LONGEST_LADDER, Response, hardness
from chalicelib.core.rules import (
    DEFAULT_RESOLUTION,
    EXACT_MS,
    FEWEST_MEMBERS,
    LARGEST_LIMIT,
    LONGEST_BLOCK_S,
    LONGEST_QUOTA_S,
    LONGEST_WINDOW_S,
    QUOTA_BLOCK_S,
    SHORTEST_WINDOW_S,
    Action,
    Escalation,
    FeedTerms,
    NetworkTerms,
    Rule,
    RuleSet,
    quota_resolution,
)
from chalicelib.core.scope import Scope

MOST_RULES = 100
"""Most rules in a set: each is evaluated for every batch."""
RESERVED_NAMES = frozenset(("manual",))
"""Rule names reserved for manual blocks."""
REFERENCE = "@"
"""Start of a reference to a list, as in ``country = "@eu"``."""
NOT = "not"
"""Key of the scopes that a scope excludes."""
EXACT = "exact"
"""Resolution of an exact rule."""

_DOCUMENT = ("rule", "lists", "networks", "feeds")
"""Keys of a rule set."""

MOST_FEEDS = 20
"""Most feeds: each sweep reads one, and each is read every hour."""
MOST_OF_A_FEED = 5000
"""Most networks of one feed: as text, they fit into an item of the state table."""

BUCKET_SLOTS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Lengths of a bucket's slots: few, and divisors of a second, so that buckets share meters with each other."""
MEMORY_FACTOR = 10
"""Default memory of a bucket, as a multiple of the time in which a full one empties: a client that exceeds the rate by
a tenth for that long is over the limit."""

LONGEST_SHOWN = 100
"""Most characters of a rejected value that a message quotes."""


class RulesError(ValueError):
    """A rule set that cannot be used; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class RuleProblem(NamedTuple):
    """Something wrong with a value, or with a table."""

    message: str
    path: tuple[str, ...] = ()
    """Keys that lead to the value from the rule's table."""

    def below(self, key: str) -> "RuleProblem":
        """Returns the same problem for the enclosing table, whose ``key`` leads to this one."""
        return RuleProblem(self.message, (key, *self.path))

    def of(self, title: str) -> str:
        """Returns the problem as a message about the rule or rule set called ``title``.

        >>> RuleProblem("missing", ("escalate", "max")).of("rule 'burst'")
        "rule 'burst': escalate.max: missing"
        """
        return ": ".join(filter(None, (title, ".".join(self.path), self.message)))


class _Wrong(ValueError):
    """A rejected value."""

    def __init__(self, *problems: RuleProblem) -> None:
        self.problems = problems
        super().__init__(*problems)


_Reader = Callable[[Any], Any]
"""Returns the checked value, or raises _Wrong."""


def parse_rules(text: str, *, version: str | None = None) -> RuleSet:
    """Returns the rule set that TOML ``text`` describes; ``version`` defaults to a digest of the text.

    Raises RulesError with every problem found.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # ValueError: bad TOML, or a number with thousands of digits
        raise RulesError([f"not valid TOML: {exc}"]) from exc
    problems = [_unknown(key, _DOCUMENT).of("rules") for key in document if key not in _DOCUMENT]
    lists, list_problems = _lists(document.get("lists", {}))
    problems += list_problems
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RulesError([*problems, "rules: 'rule' must be an array of tables; write [[rule]]"])
    if len(tables) > MOST_RULES:
        problems.append(f"rules: {len(tables)} rules; at most {MOST_RULES} are accepted")
    networks = None
    if "networks" in document:
        try:
            networks = _networks(document["networks"])
        except _Wrong as exc:
            problems += [problem.below("networks").of("rules") for problem in exc.problems]
    feeds, feed_problems = _feeds(document.get("feeds", {}))
    problems += feed_problems
    rules: dict[str, Rule] = {}
    for number, table in enumerate(tables[:MOST_RULES], 1):
        whole_table, rule_problems = _with_lists(table, lists)
        rule, other_problems = _rule(whole_table)
        rule_problems += other_problems
        if rule is not None:
            if rule.name in rules:
                rule_problems.append(RuleProblem("used by two rules; names must be unique", ("name",)))
            rules[rule.name] = rule
        name = table.get("name")
        title = f"rule {name!r}" if isinstance(name, str) and name else f"rule number {number}"
        problems += [problem.of(title) for problem in rule_problems]
    if problems:
        raise RulesError(problems)
    version = version or blake2b(text.encode(), digest_size=6).hexdigest()
    return RuleSet(tuple(rules.values()), text, version, networks, feeds)


def _feeds(tables: object) -> tuple[tuple[FeedTerms, ...], list[str]]:
    """Returns the feeds in order of name, and all problems."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        return (), ["rules: 'feeds' must hold a table per feed; write [feeds.bingbot], and below it url and allow"]
    problems = []
    if len(tables) > MOST_FEEDS:
        problems.append(f"rules: {len(tables)} feeds; at most {MOST_FEEDS} are accepted")
    feeds = []
    for name, table in sorted(tables.items()):
        try:
            _is(RULE_NAME)(name)
            feeds.append(replace(_feed(table), name=name))
        except _Wrong as exc:
            problems += [problem.of(f"feed {name!r}") for problem in exc.problems]
    return tuple(feeds), problems


def _make_feed(*, allow: bool = False, respond: Response | None = None, **values: Any) -> FeedTerms:
    """Returns a feed, still without its name. Raises _Wrong unless it says either that or how."""
    if allow == (respond is not None):
        message = "write either allow = true, for networks that are never blocked, or a response to their requests"
        raise _Wrong(RuleProblem(message, ("respond" if allow else "allow",)))
    return FeedTerms(name="", respond=respond, **values)


def _lists(tables: object) -> tuple[dict[str, list[Any]], list[str]]:
    """Returns the lists that scopes may refer to, by name, and all problems."""
    if not isinstance(tables, dict):
        return {}, ['rules: \'lists\' must be a table; write [lists], and below it eu = ["DE", "FR"]']
    lists, problems = {}, []
    for name, values in tables.items():
        try:
            _is(RULE_NAME)(name)
            lists[name] = _is(_LIST)(values)
        except _Wrong as exc:
            problems += [problem.of(f"list {name!r}") for problem in exc.problems]
    return lists, problems


def _with_lists(table: Mapping[str, Any], lists: Mapping[str, list[Any]]) -> tuple[dict[str, Any], list[RuleProblem]]:
    """Returns a rule's table with the lists that its scope refers to; or without scope, if one of them does not exist,
    and a problem for each of those."""
    rest = {key: value for key, value in table.items() if key != "scope"}
    if "scope" not in table:
        return rest, []
    scope, problems = _dereferenced(table["scope"], lists)
    return rest if problems else {**rest, "scope": scope}, [problem.below("scope") for problem in problems]


def _dereferenced(scope: object, lists: Mapping[str, list[Any]]) -> tuple[object, list[RuleProblem]]:
    if not isinstance(scope, dict):
        return scope, []
    values: dict[str, object] = {}
    problems: list[RuleProblem] = []
    for key, value in scope.items():
        if key == NOT:
            parts = [_dereferenced(part, lists) for part in (value if isinstance(value, list) else [value])]
            values[key] = [part for part, _ in parts] if isinstance(value, list) else parts[0][0]
            problems += [problem.below(key) for _, part_problems in parts for problem in part_problems]
        elif not isinstance(value, str) or not value.startswith(REFERENCE):
            values[key] = value
        elif value.removeprefix(REFERENCE) in lists:
            values[key] = lists[value.removeprefix(REFERENCE)]
        else:
            problems.append(RuleProblem(f"{value!r} {_no_list(value.removeprefix(REFERENCE), lists)}", (key,)))
    return values, problems


def _no_list(name: str, lists: Iterable[str]) -> str:
    near = get_close_matches(name, list(lists), n=1)
    hint = f"did you mean '{REFERENCE}{near[0]}'?" if near else f"below [lists] are {', '.join(lists) or 'none'}"
    return f"refers to no list ({hint})"


def _rule(table: Mapping[str, Any]) -> tuple[Rule | None, list[RuleProblem]]:
    """Returns the rule in ``table``, or None if a key is missing or wrong, and all problems."""
    is_bucket = "bucket" in table
    readers = {**_RULE, "limit": _DISTINCT_LIMIT if "distinct" in table else _limit(table.get("measure"))}
    values, problems = _read(table, readers, ("name",) if is_bucket else ("name", "limit", "window"))
    if is_bucket:
        beside = "a bucket replaces limit and window: its burst is the limit"
        problems += [RuleProblem(beside, (key,)) for key in ("limit", "window") if key in table]
        if values.get("measure", Measure.REQUESTS) is not Measure.REQUESTS:
            problems.append(RuleProblem("a bucket counts requests", ("measure",)))
    clients = values.pop("aggregate", {})
    if "distinct" in table:
        problems += _distinct_problems(table, values.get("resolution"), **clients)
    is_quota = values.get("window", 0) > LONGEST_WINDOW_S
    if is_quota:
        problems += _quota_problems(table)
    if problems:
        return None, problems
    if is_bucket:
        values |= _bucket(values.pop("bucket"), values.get("resolution", DEFAULT_RESOLUTION))
    elif is_quota:
        values = {"block_for": QUOTA_BLOCK_S, **values, "resolution": quota_resolution(values["window"])}
    elif values.get("resolution") == EXACT:
        values["resolution"] = values["window"] * 1000 // EXACT_MS
    rule = Rule(**_attributes(values), **clients)
    if rule.window_s * 1000 % rule.resolution:
        window = format_duration(rule.window_s)
        message = f"{rule.resolution} does not divide a window of {window} into whole milliseconds"
        problems.append(RuleProblem(message, ("resolution",)))
    if rule.escalate is not None and rule.escalate.max_s < rule.block_for_s:
        message = f"shorter than block_for ({format_duration(rule.block_for_s)})"
        problems.append(RuleProblem(message, ("escalate", "max")))
    return rule, problems


def _distinct_problems(
    table: Mapping[str, Any],
    resolution: int | str | None,
    *,
    ipv4_prefix: int = 32,  # noqa: ARG001
    ipv6_prefix: int = 64,
    by: tuple[str, ...] = (),
) -> list[RuleProblem]:
    """Returns a problem for each key that does not go together with ``distinct``."""
    problems = [
        RuleProblem(f"a rule with distinct counts different values; leave out {key}", (key,))
        for key in ("measure", "bucket")
        if key in table
    ]
    if by:
        message = "a rule with distinct counts the values of a client together; leave out by"
        problems.append(RuleProblem(message, ("aggregate", "by")))
    if ipv6_prefix > LONGEST_IPV6_PREFIX:
        problems.append(RuleProblem(_longer_than_counted(ipv6_prefix), ("aggregate", "ipv6")))
    if resolution == EXACT or (isinstance(resolution, int) and resolution > FINEST_RESOLUTION):
        message = f"{resolution!r} is not a whole number from 10 to {FINEST_RESOLUTION}, as a rule with distinct takes"
        problems.append(RuleProblem(message, ("resolution",)))
    return problems


def _quota_problems(table: Mapping[str, Any]) -> list[RuleProblem]:
    """Returns a problem for each key that does not go together with a window of days."""
    clients = table.get("aggregate")
    return [
        RuleProblem(f"a quota, whose window is a day or longer, {reason}", path)
        for path, reason, is_set in (
            (("distinct",), "counts requests, bytes or time; leave out distinct", "distinct" in table),
            (("resolution",), "has slots of 15 minutes to 6 hours; leave out resolution", "resolution" in table),
            (
                ("aggregate", "by"),
                "counts all requests of a client together; leave out by",
                isinstance(clients, dict) and "by" in clients,
            ),
        )
        if is_set
    ]


def _longer_than_counted(ipv6: int) -> str:
    return f"{ipv6} is longer than /{LONGEST_IPV6_PREFIX}, the longest prefix of clients counted by value"


def _limit(measure: object) -> _Reader:
    """Returns the reader of a limit of ``measure``; of a limit of requests if ``measure`` is none or unknown."""
    for known, (parse, accepted) in LIMITS.items():
        if measure == known:
            return _parsed(parse, accepted)
    return _RULE["limit"]


def _parsed(parse: Callable[[object], int | None], accepted: str) -> _Reader:
    def read(value: object) -> int:
        amount = parse(value)
        if amount is None:
            raise _not(value, accepted)
        return amount

    return read


class _Bucket(NamedTuple):
    """A token bucket as it is written."""

    rate: Rate
    burst: int
    memory_s: int


def _bucket(bucket: _Bucket, resolution: int | str) -> dict[str, Any]:
    """Returns the values of a bucket's rule, by key. ``resolution``: the slots in which a full bucket empties."""
    slots = sys.maxsize if resolution == EXACT else int(resolution)
    emptying_ms = bucket.burst * bucket.rate.period_s * 1000 // bucket.rate.number
    slot_ms = max((length for length in BUCKET_SLOTS_MS if length * slots <= emptying_ms), default=EXACT_MS)
    window = {"window": bucket.memory_s, "resolution": bucket.memory_s * 1000 // slot_ms}
    return {"limit": bucket.burst, "rate": bucket.rate, **window}


def _make_bucket(rate: Rate, burst: int, memory_s: int | None = None) -> _Bucket:
    """Returns the bucket, with the default memory if none is given. Raises _Wrong."""
    emptying_s = -(-burst * rate.period_s // rate.number)
    empties = f"the {format_duration(emptying_s)} in which a full bucket empties (burst / rate)"
    if emptying_s > LONGEST_WINDOW_S:
        longest = format_duration(LONGEST_WINDOW_S)
        message = f"{empties} are over {longest}, the longest memory; lower the burst or raise the rate"
        raise _Wrong(RuleProblem(message))
    if memory_s is None:
        memory_s = min(LONGEST_WINDOW_S, -(-MEMORY_FACTOR * burst * rate.period_s // rate.number))
    elif memory_s < emptying_s:
        raise _Wrong(RuleProblem(f"{format_duration(memory_s)} is shorter than {empties}", ("memory",)))
    return _Bucket(rate, burst, memory_s)


def _read(
    table: Mapping[str, Any], readers: Mapping[str, _Reader], required: Iterable[str] = ()
) -> tuple[dict[str, Any], list[RuleProblem]]:
    """Returns the checked values of a table, and a problem for each key that is unknown, wrong or missing."""
    values: dict[str, Any] = {}
    problems: list[RuleProblem] = []
    for key, value in table.items():
        if key not in readers:
            problems.append(_unknown(key, readers))
            continue
        try:
            values[key] = readers[key](value)
        except _Wrong as exc:
            problems += [problem.below(key) for problem in exc.problems]
    problems += [RuleProblem("missing", (key,)) for key in required if key not in table]
    return values, problems


def _unknown(key: str, known: Iterable[str]) -> RuleProblem:
    near = get_close_matches(key, list(known), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else f"; known keys: {', '.join(known)}"
    return RuleProblem(f"unknown key {key!r}{hint}")


def _not(value: object, accepted: str) -> _Wrong:
    try:
        shown = value.isoformat() if isinstance(value, date | time) else repr(value)
    except ValueError:  # a number with thousands of digits
        shown = "a number with thousands of digits"
    if len(shown) > LONGEST_SHOWN:
        shown = f"{shown[:LONGEST_SHOWN]}..."
    return _Wrong(RuleProblem(f"{shown} is not {accepted}"))


def _is(check: ValueCheck) -> _Reader:
    def read(value: object) -> object:
        if not check.accepts(value):
            raise _not(value, check.accepted)
        return value

    return read


def _is_resolution(value: object) -> bool:
    return value == EXACT or whole(10, 1000).accepts(value)


def _several(check: ValueCheck, form: Callable[[Any], str] = str) -> _Reader:
    """Reads a list of at least one value, and sorts it so that the order in which it is written does not matter.

    ``form`` returns the text to which an accepted value is compared.
    """
    read = _is(check)

    def read_all(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise _not(value, "a list of at least one value, or a reference to a list such as '@eu'")
        return tuple(sorted({form(read(item)) for item in value}))

    return read_all


def _moment(value: object) -> int:
    """Returns a time that has a UTC offset as epoch seconds; a fraction of a second is dropped."""
    if isinstance(value, datetime) and value.tzinfo is not None and 0 <= value.timestamp() <= LAST_S:
        return int(value.timestamp())
    raise _not(value, f"a time with its zone, such as 2026-12-24T18:00:00Z, from 1970 to {utc_text(LAST_S)}")


def _duration(low: int, high: int) -> _Reader:
    """Reads a duration of ``low`` to ``high`` seconds, both inclusive."""

    def read(value: object) -> int:
        try:
            seconds = parse_duration(value)
        except ValueError as exc:
            raise _Wrong(RuleProblem(str(exc))) from exc
        if not low <= seconds <= high:
            raise _Wrong(RuleProblem(f"{value!r} is outside {format_duration(low)} .. {format_duration(high)}"))
        return seconds

    return read


def _window(value: object) -> int:
    """Reads the length of a window in seconds: up to an hour or, of a quota, whole days."""
    try:
        seconds = parse_duration(value)
    except ValueError as exc:
        raise _Wrong(RuleProblem(str(exc))) from exc
    if seconds % DAY_S == 0 and DAY_S <= seconds <= LONGEST_QUOTA_S:
        return seconds
    if SHORTEST_WINDOW_S <= seconds <= LONGEST_WINDOW_S:
        return seconds
    windows = f"{format_duration(SHORTEST_WINDOW_S)} .. {format_duration(LONGEST_WINDOW_S)}"
    quotas = f"{format_duration(DAY_S)} .. {format_duration(LONGEST_QUOTA_S)}"
    raise _Wrong(RuleProblem(f"{value!r} is outside {windows}; a quota has whole days, {quotas}"))


def _rate(value: object) -> Rate:
    try:
        return parse_rate(value)
    except ValueError as exc:
        raise _Wrong(RuleProblem(str(exc))) from exc


def _table(readers: Mapping[str, _Reader], required: Iterable[str] = (), make: Callable[..., Any] = dict) -> _Reader:
    """Reads an inline table and passes its values to ``make``, by key."""

    def read(value: object) -> object:
        if not isinstance(value, dict):
            raise _not(value, f"a table such as {{ {next(iter(readers))} = ... }}")
        values, problems = _read(value, readers, required)
        if problems:
            raise _Wrong(*problems)
        return make(**_attributes(values))

    return read


RULE_NAME = pattern(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "1 to 64 letters, digits, '-' or '_', the first a letter or digit"
)
_LIST = ValueCheck(
    "a list of at least one text or whole number",
    lambda value: isinstance(value, list) and value != [] and all(type(item) in (str, int) for item in value),
)
_BOOLEAN = ValueCheck("true or false", lambda value: isinstance(value, bool))


def _name(value: object) -> str:
    _is(RULE_NAME)(value)
    if value in RESERVED_NAMES:
        raise _Wrong(RuleProblem(f"{value!r} is reserved for blocks made by operators; choose another name"))
    return str(value)


def _excluded(value: object) -> tuple[Scope, ...]:
    """Reads the scope or scopes in ``not``."""
    read = _table(_CONDITIONS, make=Scope)
    scopes = tuple(map(read, value)) if isinstance(value, list) and value else (read(value),)
    if not all(scope.columns() for scope in scopes):
        raise _Wrong(RuleProblem("an empty table excludes every request; name at least one column"))
    return tuple(sorted(scopes, key=repr))


def _response(value: object) -> Response:
    """Reads one response."""
    return Response(_is(one_of(tuple(Response), f"one of {', '.join(map(repr, map(str, Response)))}"))(value))


def _respond(value: object) -> tuple[Response, ...]:
    """Reads one response, or a ladder of them."""
    answers = value if isinstance(value, list) else [value]
    if not 1 <= len(answers) <= LONGEST_LADDER:
        raise _not(value, f"a response, or a list of 1 to {LONGEST_LADDER}")
    ladder = tuple(map(_response, answers))
    for before, after in pairwise(ladder):
        if hardness(after) < hardness(before):
            softest_first = ", ".join(reversed(Response))
            message = f"{str(after)!r} after {str(before)!r} is softer; a ladder only climbs: {softest_first}"
            raise _Wrong(RuleProblem(message))
    return ladder


def _scope(**values: Any) -> Scope:
    """Returns a scope whose excluded scopes compare paths as it does itself."""
    scope = Scope(**values)
    excluded = tuple(
        replace(e, normalise=scope.normalise or e.normalise, ignore_case=scope.ignore_case or e.ignore_case)
        for e in scope.excluded
    )
    scope = replace(scope, excluded=excluded)
    problems = _abnormal(scope)
    problems += [problem.below(NOT) for e in excluded for problem in _abnormal(e)]
    if problems:
        raise _Wrong(*problems)
    return scope


def _abnormal(scope: Scope) -> list[RuleProblem]:
    """Returns a problem for each path that can match nothing because ``scope`` compares paths in their normal form."""
    if not scope.normalise:
        return []
    # What follows a prefix may change its normal form: "/." is the start of "/.well-known".
    normal_forms = [
        *(("path", path, normalised(path)) for path in scope.path),
        *(("path_prefix", start, normalised(f"{start}x").removesuffix("x")) for start in scope.path_prefix),
    ]
    return [
        RuleProblem(f"{path!r} is never the normal form of a path; write {normal!r}", (key,))
        for key, path, normal in normal_forms
        if path != normal
    ]


def _by(value: object) -> tuple[str, ...]:
    """Reads the columns that group the requests of a client."""
    if not isinstance(value, list) or not value:
        raise _not(value, f"a list of at least one of {', '.join(GROUPED_BY)}")
    read = _is(one_of(GROUPED_BY, f"one of {', '.join(map(repr, GROUPED_BY))}"))
    return tuple(sorted({str(read(item)) for item in value}))


def _aggregate(ipv4: int = 32, ipv6: int = 64, by: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the attributes of a rule that define what it counts as one client."""
    if by and ipv6 > LONGEST_IPV6_PREFIX:
        raise _Wrong(RuleProblem(_longer_than_counted(ipv6), ("ipv6",)))
    return {"ipv4_prefix": ipv4, "ipv6_prefix": ipv6, "by": by}


_PATH = _several(pattern(r"/[^?#\s]*", "a path that starts with '/' and has no query"))
_PART = pattern(r"[\x20-\x7e]{1,256}", "1 to 256 printable ASCII characters")

_CONDITIONS: dict[str, _Reader] = {
    "status": _several(pattern(r"[1-5](\d\d|xx)|000", "a status such as '404' or a class such as '4xx'")),
    "method": _several(pattern(r"[A-Z][A-Z_-]{0,31}", "a method in capitals such as 'POST'")),
    "waf_action": _several(
        one_of(("ALLOW", "BLOCK", "CAPTCHA", "CHALLENGE"), "one of ALLOW, BLOCK, CAPTCHA, CHALLENGE")
    ),
    "country": _several(pattern(r"[A-Z]{2}|-", "a two-letter country code in capitals such as 'DE'")),
    "host": _several(
        pattern(
            r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", "a host in lower case such as 'www.example.com' or '*.example.com'"
        )
    ),
    "path": _PATH,
    "path_prefix": _PATH,
    "waf_label": _several(
        pattern(r"[A-Za-z0-9_:-]{1,1024}", "an AWS WAF label such as 'awswaf:managed:aws:bot-control:bot:verified'")
    ),
    "user_agent": _several(_PART),
    "path_suffix": _several(pattern(r"[^?#\s]{1,256}", "the end of a path, such as '.php', without query")),
    "static": _is(_BOOLEAN),
    "normalise": _is(_BOOLEAN),
    "ignore_case": _is(_BOOLEAN),
    "content_type": _several(
        pattern(
            r"[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)|-",
            "a media type in lower case such as 'text/html' or 'image/*'",
        )
    ),
    "asn": _several(whole(1, 2**32 - 1)),
    "ja3": _several(pattern(r"[0-9a-f]{32}|-", "a JA3 fingerprint: 32 hexadecimal digits in lower case")),
    "ja4": _several(
        pattern(
            r"[a-z0-9]{10}_[0-9a-f]{12}_[0-9a-f]{12}|-",
            "a JA4 fingerprint such as 't13d1516h2_8daaf6152771_02713d6af862'",
        )
    ),
    "referer": _several(_PART),
    "header_names": _several(
        pattern(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}", "the name of a header such as 'Accept-Language'"), str.lower
    ),
}
"""Keys of a scope, each of which a request must match."""

_SCOPE: dict[str, _Reader] = {**_CONDITIONS, NOT: _excluded}

_ESCALATE: dict[str, _Reader] = {
    "factor": _is(whole(1, 100)),
    "max": _duration(1, LONGEST_BLOCK_S),
    "memory": _duration(1, LONGEST_BLOCK_S),
}

_BUCKET: dict[str, _Reader] = {
    "rate": _rate,
    "burst": _is(whole(1, LARGEST_LIMIT)),
    "memory": _duration(SHORTEST_WINDOW_S, LONGEST_WINDOW_S),
}

_MEASURES = (Measure.REQUESTS, *SUMS)

_DISTINCT_LIMIT = _is(whole(0, LARGEST_DISTINCT))

_RULE: dict[str, _Reader] = {
    "name": _name,
    "limit": _is(whole(0, LARGEST_LIMIT)),
    "window": _window,
    "measure": lambda value: Measure(_is(one_of(_MEASURES, "'requests', 'bytes' or 'time'"))(value)),
    "distinct": lambda value: DISTINCT[str(_is(one_of(tuple(DISTINCT), "'path', 'host' or 'user_agent'"))(value))],
    "bucket": _table(_BUCKET, required=("rate", "burst"), make=_make_bucket),
    "action": lambda value: Action(_is(one_of(tuple(Action), "'block' or 'count'"))(value)),
    "block_for": _duration(1, LONGEST_BLOCK_S),
    "resolution": _is(ValueCheck("a whole number from 10 to 1000 or 'exact'", _is_resolution)),
    "aggregate": _table({"ipv4": _is(whole(8, 32)), "ipv6": _is(whole(16, 128)), "by": _by}, make=_aggregate),
    "scope": _table(_SCOPE, make=_scope),
    "escalate": _table(_ESCALATE, required=_ESCALATE, make=Escalation),
    "extend": _is(_BOOLEAN),
    "respond": _respond,
    "paused_until": _moment,
}

_NETWORKS: dict[str, _Reader] = {
    "members": _is(whole(FEWEST_MEMBERS, 256)),
    "innocents": _is(whole(0, 1000)),
    "ipv4": _is(whole(8, 24)),
    "ipv6": _is(whole(32, 48)),
}

_networks = _table(_NETWORKS, make=NetworkTerms)

_FEED: dict[str, _Reader] = {
    "url": _is(pattern(r"https://[A-Za-z0-9.-]{1,253}(/[!-~]{0,1500})?", "an https address without user and port")),
    "allow": _is(_BOOLEAN),
    "respond": _response,
    "most": _is(whole(1, MOST_OF_A_FEED)),
}

_feed = _table(_FEED, required=("url",), make=_make_feed)

_ATTRIBUTES = {
    "window": "window_s",
    "block_for": "block_for_s",
    "max": "max_s",
    "memory": "memory_s",
    "distinct": "measure",
    NOT: "excluded",
}
"""Attributes of Rule, Escalation and Scope that are named differently from their key."""


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_ATTRIBUTES.get(key, key): value for key, value in values.items()}
