"""Rules in the words of their TOML, and the differences between two rule sets."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from chalicelib.core.durations import format_duration, utc_text
from chalicelib.core.measures import amount_text, unit_text
from chalicelib.core.responses import BLOCKED, Response
from chalicelib.core.rules import NETWORKS, Action, FeedTerms, NetworkTerms, Rule, RuleSet, serving
from chalicelib.core.scope import Scope


class Aggregate(msgspec.Struct, frozen=True):
    ipv4: Annotated[int, msgspec.Meta(extra_json_schema={"maximum": 32})]
    ipv6: Annotated[int, msgspec.Meta(extra_json_schema={"maximum": 128})]
    by: list[str] = []
    """Columns that group a client's requests: the limit applies to each group; empty: to all its requests together."""


class EscalateWords(msgspec.Struct, frozen=True):
    factor: int
    max: str
    memory: str


class BucketWords(msgspec.Struct, frozen=True):
    rate: str
    """Requests that the bucket is refilled with, and the time, such as '2/s'."""
    burst: int
    memory: str
    """Longest interval that is examined."""


class RuleWords(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with every key spelled out, in the words of its TOML."""

    name: str
    limit: int
    """Requests allowed within one window; the next one is over the limit. Of a bucket, its burst."""
    window: str
    """Length of the window; for a bucket, its memory."""
    action: Action
    block_for: str
    resolution: int
    """Slots per window; the window in milliseconds for an exact rule. Of a bucket, slots in its memory."""
    aggregate: Aggregate
    scope: dict[str, list[str]]
    """Each key with its alternatives; empty if every request counts. A key below ``not`` is written ``not.country``, or
    ``not.1.country`` and so on if there are several scopes of which none may match."""
    escalate: EscalateWords | None
    extend: bool
    """True if requests made while blocked extend the block."""
    respond: list[Response]
    """The response to the first remembered offence, the second, and so on; the last one stays."""
    bucket: BucketWords | None = None
    """The rate and burst of a token bucket; null for a limit per window."""
    measure: str = "requests"
    """Unit of the limit: requests, bytes, or, for time, milliseconds; or paths, hosts or user_agents, of which only
    different ones count."""
    paused_until: int = 0
    """First second at which a paused rule blocks again; until then, it only counts. 0 if it is not paused. Epoch
    seconds."""


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
    escalate = None
    if rule.escalate:
        maximum, memory = format_duration(rule.escalate.max_s), format_duration(rule.escalate.memory_s)
        escalate = EscalateWords(rule.escalate.factor, maximum, memory)
    window = format_duration(rule.window_s)
    bucket = BucketWords(str(rule.rate), rule.limit, window) if rule.rate is not None else None
    return RuleWords(
        name=rule.name,
        limit=rule.limit,
        window=window,
        action=rule.action,
        block_for=format_duration(rule.block_for_s),
        resolution=rule.resolution,
        aggregate=Aggregate(rule.ipv4_prefix, rule.ipv6_prefix, list(rule.by)),
        scope=_scope_words(rule.scope),
        escalate=escalate,
        extend=rule.extend,
        bucket=bucket,
        measure=str(rule.measure),
        respond=list(rule.respond),
        paused_until=rule.paused_until,
    )


def _scope_words(scope: Scope) -> dict[str, list[str]]:
    """Returns the keys of a scope that are set.

    >>> _scope_words(Scope(method=("POST",), static=False, excluded=(Scope(country=("DE", "FR")),)))
    {'method': ['POST'], 'static': ['false'], 'not.country': ['DE', 'FR']}
    """
    words = {}
    for field in fields(scope):
        match getattr(scope, field.name):
            case bool() as value if value is not field.default:
                words[field.name] = [str(value).lower()]
            case (Scope(), *_) as scopes:
                for number, excluded in enumerate(scopes, 1):
                    prefix = "not" if len(scopes) == 1 else f"not.{number}"
                    words |= {f"{prefix}.{name}": values for name, values in _scope_words(excluded).items()}
            case (str(), *_) as values:
                words[field.name] = list(values)
    return words


def allowed(rule: Rule) -> str:
    """Returns what a rule allows one client, in a few words.

    >>> from chalicelib.core.rates import Rate
    >>> allowed(Rule(name="burst", limit=5000, window_s=5))
    '5,000 in 5s'
    >>> allowed(Rule(name="pace", limit=50, window_s=250, rate=Rate(2, 1)))
    '50 + 2/s'
    """
    limit = amount_text(rule.measure, rule.limit)
    return f"{limit} in {format_duration(rule.window_s)}" if rule.rate is None else f"{limit} + {rule.rate}"


def measured(rule: Rule, count: int) -> str:
    """Returns a client's count in one window of ``rule`` or, of a bucket, its level, in a few words.

    >>> from chalicelib.core.rates import Rate
    >>> measured(Rule(name="burst", limit=50, window_s=5), 1200)
    '1,200 in 5s'
    >>> measured(Rule(name="pace", limit=50, window_s=250, rate=Rate(2, 1)), 63)
    '63 above 2/s'
    """
    counted = amount_text(rule.measure, count)
    return f"{counted} in {format_duration(rule.window_s)}" if rule.rate is None else f"{counted} above {rule.rate}"


def differences(before: RuleSet, after: RuleSet) -> list[RuleDiff]:
    """Returns the change to each rule that differs, rules of ``after`` first; the order of rules does not matter."""
    old = {rule.name: rule_words(rule) for rule in before.rules}
    new = {rule.name: rule_words(rule) for rule in after.rules}
    diffs = [
        RuleDiff(name, DiffKind.CHANGED, _changes(old[name], rule))
        if name in old
        else RuleDiff(name, DiffKind.ADDED, [sentence(rule)])
        for name, rule in new.items()
        if rule != old.get(name)
    ]
    diffs += [RuleDiff(name, DiffKind.REMOVED, [sentence(rule)]) for name, rule in old.items() if name not in new]
    return [*diffs, *_networks_differ(before.networks, after.networks), *_feeds_differ(before.feeds, after.feeds)]


def _feeds_differ(before: Sequence[FeedTerms], after: Sequence[FeedTerms]) -> Iterator[RuleDiff]:
    """Yields the change to each feed that differs, feeds of ``after`` first."""
    old, new = ({feed.title: feed for feed in feeds} for feeds in (before, after))
    for title, feed in new.items():
        if title not in old:
            yield RuleDiff(title, DiffKind.ADDED, [feed_sentence(feed)])
        elif feed != old[title]:
            words = [f"{feed_sentence(old[title])} becomes {feed_sentence(feed)}"]
            yield RuleDiff(title, DiffKind.CHANGED, words)
    for title, feed in old.items():
        if title not in new:
            yield RuleDiff(title, DiffKind.REMOVED, [feed_sentence(feed)])


def feed_sentence(feed: FeedTerms) -> str:
    """Returns a one-line description of a feed.

    >>> feed_sentence(FeedTerms(name="bingbot", url="https://example.com/bots.json"))
    'up to 1,000 networks of https://example.com/bots.json: never block'
    """
    answer = "never block" if feed.respond is None else feed.respond
    return f"up to {feed.most:,} networks of {feed.url}: {answer}"


def _networks_differ(before: NetworkTerms | None, after: NetworkTerms | None) -> list[RuleDiff]:
    """Returns the change to the conditions on which networks are blocked; empty if they are the same."""
    if before == after:
        return []
    if before is None or after is None:
        kind = DiffKind.ADDED if before is None else DiffKind.REMOVED
        return [RuleDiff(NETWORKS, kind, [terms_sentence(terms) for terms in (before, after) if terms is not None])]
    pairs = zip(asdict(before).items(), asdict(after).values(), strict=True)
    return [
        RuleDiff(NETWORKS, DiffKind.CHANGED, [f"{key}: {old} becomes {new}" for (key, old), new in pairs if old != new])
    ]


def terms_sentence(terms: NetworkTerms) -> str:
    """Returns a one-line description of when networks are blocked.

    >>> terms_sentence(NetworkTerms())
    'networks with 8 blocked clients and at most 2 innocents, up to /16 and, in IPv6, /48'
    """
    who = f"{terms.members} blocked clients and at most {terms.innocents} innocents"
    return f"networks with {who}, up to /{terms.ipv4} and, in IPv6, /{terms.ipv6}"


def counted_anew(before: RuleSet, after: RuleSet) -> Iterator[str]:
    """Yields a sentence about each rule of ``after`` that finds no counts when it takes the place of ``before``.

    >>> slow, fast = Rule(name="slow", limit=50, window_s=20), Rule(name="fast", limit=50, window_s=10)
    >>> list(counted_anew(RuleSet((fast,)), RuleSet((slow, fast))))
    []
    >>> for line in counted_anew(RuleSet((slow,)), RuleSet((slow, fast))):
    ...     print(line)
    Rule fast starts counting from zero, because no rule in force counts its requests in slots that fit: for up to 10s after its activation, it does not see what came before.
    """  # noqa: E501 - one sentence
    meters, rolled_up = before.meters(), {quota.meter.topic for quota in before.quotas().rules}
    for rule in after.rules:
        if rule.is_quota:
            if rule.meter.topic not in rolled_up:
                yield (
                    f"Rule {rule.name} starts counting from zero, because no quota in force counts its requests: for "
                    f"up to {format_duration(rule.window_s)} after its activation, it does not see what came before."
                )
        elif serving(rule.slot_ms, [meter for meter in meters if meter.topic == rule.meter.topic]) is None:
            yield (
                f"Rule {rule.name} starts counting from zero, because no rule in force counts its requests in slots "
                f"that fit: for up to {format_duration(rule.window_s)} after its activation, it does not see what "
                "came before."
            )


def sentence(rule: RuleWords) -> str:
    """Returns a one-line description of a rule.

    >>> from chalicelib.core.measures import Measure
    >>> from chalicelib.core.rates import Rate
    >>> sentence(rule_words(Rule(name="burst", limit=50, window_s=5)))
    'more than 50 requests within 5s: block for 10m'
    >>> sentence(rule_words(Rule(name="egress", limit=10_000_000, window_s=60, measure=Measure.BYTES)))
    'more than 10 MB within 1m: block for 10m'
    >>> sentence(rule_words(Rule(name="copy", limit=300, window_s=3600, measure=Measure.PATHS)))
    'more than 300 different paths within 1h: block for 10m'
    >>> sentence(rule_words(Rule(name="pace", limit=50, window_s=250, rate=Rate(2, 1))))
    'more than 2/s and a burst of 50 requests: block for 10m'
    >>> sentence(rule_words(Rule(name="burst", limit=50, window_s=5, paused_until=1_767_225_600)))
    'more than 50 requests within 5s: block for 10m (paused until 2026-01-01T00:00:00Z)'
    >>> sentence(rule_words(Rule(name="page", limit=50, window_s=60, by=("host", "path"))))
    'more than 50 requests of the same host and path within 1m: block for 10m'
    """
    scope = ", ".join(_condition(name, values) for name, values in rule.scope.items())
    ladder = ", then ".join(rule.respond)
    action = f"{ladder} for {rule.block_for}" if rule.action is Action.BLOCK else "count only"
    if rule.action is Action.COUNT and rule.respond != list(BLOCKED):
        action += f" (would {ladder})"
    if rule.paused_until:
        action += f" (paused until {utc_text(rule.paused_until)})"
    requests = unit_text(rule.measure)
    limit = str(rule.limit) if requests else amount_text(rule.measure, rule.limit)
    same = f" of the same {' and '.join(rule.aggregate.by)}" if rule.aggregate.by else ""
    over = f"{limit}{requests}{same} within {rule.window}"
    if rule.bucket is not None:
        over = f"{rule.bucket.rate} and a burst of {rule.bucket.burst} requests{same}"
    return f"more than {over}{scope and f' with {scope}'}: {action}"


_FLAGS: dict[tuple[str, ...], str] = {
    ("static", "false"): "no static files",
    ("static", "true"): "static files alone",
    ("normalise", "true"): "paths in normal form",
    ("ignore_case", "true"): "paths in any case",
}


def _condition(name: str, values: Sequence[str]) -> str:
    """Returns a key of a scope in words.

    >>> _condition("static", ["false"]), _condition("not.country", ["DE", "FR"])
    ('no static files', 'not country DE or FR')
    """
    *outer, key = name.split(".")
    words = _FLAGS.get((key, *values), f"{key} {' or '.join(values)}")
    return f"not {words}" if outer else words


def summary(changes: list[RuleDiff]) -> str:
    """Returns the numbers of added, removed and changed rules, in words.

    >>> summary([*(RuleDiff(name, DiffKind.ADDED, []) for name in "ab"), RuleDiff("c", DiffKind.REMOVED, [])])
    '2 rules added, 1 rule removed'
    """
    others = [change for change in changes if change.rule.startswith("[")]
    numbers = Counter(change.change for change in changes if change not in others)
    parts = [f"{numbers[kind]} rule{'' if numbers[kind] == 1 else 's'} {kind}" for kind in DiffKind if numbers[kind]]
    parts += [f"{change.rule} {change.change}" for change in others]
    return ", ".join(parts) or "no rule changes"


def _changes(old: RuleWords, new: RuleWords) -> list[str]:
    before, after = (dict(_texts(_values(rule))) for rule in (old, new))
    changes = []
    for key in before | after:
        if key not in before:
            changes.append(f"{key}: {after[key]} is added")
        elif key not in after:
            changes.append(f"{key}: {before[key]} is dropped")
        elif before[key] != after[key]:
            changes.append(f"{key}: {before[key]} becomes {after[key]}")
    return changes


def _values(rule: RuleWords) -> dict[str, Any]:
    pause = {"paused_until": utc_text(rule.paused_until) if rule.paused_until else None}
    return {**msgspec.to_builtins(rule), **pause}


def _texts(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the dotted key and the text of each value that is set."""
    for key, value in values.items():
        match value:
            case None:
                continue
            case dict():
                yield from _texts(value, f"{prefix}{key}.")
            case []:
                continue
            case list():
                yield f"{prefix}{key}", ", ".join(value)
            case bool():
                yield f"{prefix}{key}", str(value).lower()
            case _:
                yield f"{prefix}{key}", str(value)
