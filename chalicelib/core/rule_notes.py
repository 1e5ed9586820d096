"""Notes for operators on rules that will do more, or less, than they seem to say, before they are used."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from chalicelib.core.logs.requests import LIVE_SOURCES, Source
from chalicelib.core.measures import Measure, unit_text
from chalicelib.core.rules import Action, Rule
from chalicelib.core.scope import Scope

ColumnsOf = Mapping[Source, AbstractSet[str]]
"""The columns that each log has."""

PAGE_REQUESTS = 10
"""Lowest limit on requests of all kinds that is not suspicious: one page with its files may take as many."""

_USUAL_METHODS = frozenset(("GET", "HEAD"))
_USUAL_STATUSES = frozenset(("2xx", "200", "3xx", "304"))
_NARROWING = (
    *("waf_action", "waf_label", "country", "asn", "ja3", "ja4", "path", "path_suffix"),
    *("content_type", "user_agent", "referer", "header_names"),
)
"""Keys of a scope that not every request of an ordinary visit to a site matches."""


def rule_notes(rules: Iterable[Rule], columns: ColumnsOf, counted: Iterable[Source] = ()) -> Iterator[str]:
    """Yields sentences about rules that would name ordinary visitors, and about logs that a rule cannot count, or only
    in part.

    ``counted``: the logs that requests are read from; if it is empty, they are unknown.
    """
    sources = list(counted)
    for rule in rules:
        yield from _wide_notes(rule)
        yield from _column_notes(rule, columns, sources)


def objections(rules: Iterable[Rule], widest: Mapping[int, int]) -> Iterator[str]:
    """Yields each reason why a rule that blocks needs consent, just as the same block by hand would.

    ``widest``: the shortest prefix lengths that need none, by IP version.
    """
    for rule in rules:
        if rule.action is not Action.BLOCK:
            continue
        if rule.limit == 0 and is_broad(rule.scope):
            yield f"rule {rule.name} blocks every client that makes one request"
        for version, prefix in ((4, rule.ipv4_prefix), (6, rule.ipv6_prefix)):
            if prefix < widest[version]:
                yield f"rule {rule.name} blocks a whole IPv{version} /{prefix}, which is wider than /{widest[version]}"


def is_broad(scope: Scope) -> bool:
    """Returns whether the requests of an ordinary visit to the site are in scope.

    >>> is_broad(Scope()), is_broad(Scope(method=("GET",), static=False)), is_broad(Scope(path_prefix=("/",)))
    (True, True, True)
    >>> is_broad(Scope(path=("/trap",))), is_broad(Scope(method=("POST",))), is_broad(Scope(status=("4xx",)))
    (False, False, False)
    """
    return (
        not any(getattr(scope, key) for key in _NARROWING)
        and (not scope.path_prefix or "/" in scope.path_prefix)
        and (not scope.method or not _USUAL_METHODS.isdisjoint(scope.method))
        and (not scope.status or not _USUAL_STATUSES.isdisjoint(scope.status))
    )


def _wide_notes(rule: Rule) -> Iterator[str]:
    named = "blocks" if rule.action is Action.BLOCK else "names"
    if is_broad(rule.scope) and rule.limit < PAGE_REQUESTS:
        if rule.limit == 0:
            yield f"Rule {rule.name} {named} every client that makes one request. Give it a scope, or a limit."
        elif rule.scope.static is not False and rule.measure in (Measure.REQUESTS, Measure.PATHS):
            counted = unit_text(rule.measure, rule.limit)
            yield (
                f"Rule {rule.name} {named} clients after {rule.limit}{counted} of any kind: one page with its files "
                "may be more. Count pages with static = false, or raise the limit."
            )


def _column_notes(rule: Rule, columns: ColumnsOf, counted: list[Source]) -> Iterator[str]:
    examined = [*dict.fromkeys((*rule.scope.columns(), *filter(None, [rule.measure.column]), *rule.by))]
    lacking = {source: [name for name in examined if name not in columns[source]] for source in counted or LIVE_SOURCES}
    if all(lacking.values()):
        names = sorted({name for names in lacking.values() for name in names})
        where = f"the {' and the '.join(counted)} log lacks" if counted else "no log that Sluice reads has all of"
        yield f"Rule {rule.name} counts nothing: {where} {', '.join(names)}."
    elif counted:
        for source, names in lacking.items():
            if names:
                yield f"Rule {rule.name} counts nothing in the {source} log, which lacks {', '.join(names)}."
    if Source.WAF in counted and rule.scope.status and not lacking[Source.WAF]:
        yield (
            f"Rule {rule.name}: the {Source.WAF} log gives the status of the requests that AWS WAF answers itself, "
            "and of no others."
        )
