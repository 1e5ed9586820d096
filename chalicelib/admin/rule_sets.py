"""Rule sets: the active one and all earlier ones. Versions count up, and each edit names the version it is based on."""

from collections.abc import Set as AbstractSet
from typing import Annotated

import msgspec
from msgspec.structs import asdict

from chalicelib.admin.answers import Page, at_most
from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import MOST_FAULTS, Invalid, NotFound, StaleVersion, fault
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.admin.schemas import HistoryQuery, NewRules, Rollback, RulesText
from chalicelib.admin.wording import without_sets
from chalicelib.core.response_notes import response_notes
from chalicelib.core.responses import Response
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_diff import RuleDiff, RuleWords, differences, rule_words, summary
from chalicelib.core.rules_toml import MOST_RULES, RulesError, parse_rules
from chalicelib.core.sampling import Sampling, sampling_notes
from chalicelib.core.state import ACTIVE, Call, StoredRules, version_id
from chalicelib.pipeline.stored import State, Stored

_LOST = StoredRules(text="")
"""Stands for an active rule set that cannot be read."""


class RuleSetView(msgspec.Struct, frozen=True, kw_only=True):
    """A version of the rule set."""

    version: int
    """0 if no rule set is stored."""
    active: bool
    text: str
    """The rules as TOML."""
    rules: Annotated[list[RuleWords], at_most(MOST_RULES)]
    saved_at: int
    """Time it was saved. Epoch seconds."""
    by: str
    comment: str
    problem: str | None
    """The reason why it cannot be used; null if it can."""


class RulesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The changes that a rule set would make."""

    version: int
    """The active version, which the rule set was compared with."""
    changes: Annotated[list[RuleDiff], at_most(2 * MOST_RULES)]
    detail: str
    """The changes in one sentence."""
    notes: Annotated[list[str], at_most(MOST_RULES)] = []
    """Sentences about rules that will do less than they say."""


class RulesAnswer(ChangeAnswer, frozen=True, kw_only=True):
    """The answer to a change of the rule set."""

    version: int
    """The version that is now active."""
    changes: Annotated[list[RuleDiff], at_most(2 * MOST_RULES)]


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    active: bool
    rules: int
    """Number of rules."""
    saved_at: int
    """Time it was saved. Epoch seconds."""
    by: str
    comment: str


class VersionPage(Page, frozen=True):
    versions: Annotated[list[VersionView], at_most(100)]


def rule_set(state: State, version: int | None = None) -> RuleSetView:
    """Returns the active rule set, or the one of ``version``. Raises NotFound."""
    active = state.get(StoredRules, ACTIVE, damaged=_LOST)
    if version is not None and (active is None or active.version != version):
        earlier = state.get(StoredRules, version_id(version))
        if earlier is None:
            raise NotFound(f"There is no rule-set version {version}.")
        return view(version, earlier.record, active=False)
    if active is not None:
        return view(active.version, active.record, active=True)
    return msgspec.structs.replace(view(0, StoredRules(text=""), active=True), problem="no rule set is stored")


def plan(state: State, form: RulesText, sampling: Sampling, responses: AbstractSet[Response]) -> RulesPlan:
    """Returns the changes that a rule set would make. ``responses``: those that have IP sets.

    Raises Invalid with everything that is wrong with it.
    """
    active = state.get(StoredRules, ACTIVE, damaged=_LOST)
    rules = _valid(form.text, responses)
    changes = differences(_usable(active.record if active else None)[0], rules)
    notes = [*sampling_notes(rules.rules, sampling), *response_notes(rules.rules)]
    return RulesPlan(version=active.version if active else 0, changes=changes, detail=summary(changes), notes=notes)


def activate(
    state: State, new: NewRules, *, responses: AbstractSet[Response], based_on: int, caller: Caller, now: int
) -> PlannedChange[RulesAnswer]:
    """Activates a rule set. ``responses``: those that have IP sets.

    Raises Invalid, and StaleVersion unless version ``based_on`` is active.

    Activating the text that is already active changes nothing, whatever it is based on, so a call can be repeated.
    """
    rules = _valid(new.text, responses)
    active = state.get(StoredRules, ACTIVE, damaged=_LOST)
    if active is not None and active.record is not _LOST and active.record.text == new.text:
        return _unchanged(active.version, f"version {active.version} is already active and has the same text")
    stored = StoredRules(text=new.text, by=caller.name, saved_at=now, comment=new.comment)
    return _change(state, active, stored, rules, based_on, action="rules.put")


def rollback(
    state: State, back: Rollback, *, responses: AbstractSet[Response], based_on: int, caller: Caller, now: int
) -> PlannedChange[RulesAnswer]:
    """Activates an earlier version again, as a new one. ``responses``: those that have IP sets.

    Raises NotFound, Invalid, StaleVersion.
    """
    earlier = rule_set(state, back.version)
    active = state.get(StoredRules, ACTIVE, damaged=_LOST)
    if active is not None and active.version == back.version:
        return _unchanged(back.version, f"version {back.version} is already active")
    comment = back.comment or f"restores version {back.version}"
    stored = StoredRules(text=earlier.text, by=caller.name, saved_at=now, comment=comment)
    origin = f", restored from version {back.version}"
    rules = _valid(earlier.text, responses)
    return _change(state, active, stored, rules, based_on, action="rules.rollback", origin=origin)


def history(state: State, query: HistoryQuery, now: int) -> VersionPage:
    """Returns a page of the versions, newest first. Raises Invalid."""
    active = state.get(StoredRules, ACTIVE, damaged=_LOST)
    below = version_id(read_cursor(query.cursor, [int])[0]) if query.cursor else ACTIVE
    stored = {
        int(rules.id): rules for rules in state.all(StoredRules, below=below, limit=query.limit + 1, descending=True)
    }
    if active is not None and not query.cursor:
        stored.setdefault(active.version, active)
    versions = (
        VersionView(
            version=version,
            active=active is not None and version == active.version,
            rules=len(_usable(rules.record)[0].rules),
            saved_at=rules.record.saved_at,
            by=rules.record.by,
            comment=rules.record.comment,
        )
        for version, rules in sorted(stored.items(), reverse=True)
    )
    shown, following = page(versions, query.limit, lambda version: [version.version])
    return VersionPage(now=now, versions=shown, next=following)


def _change(
    state: State,
    active: Stored[StoredRules] | None,
    new: StoredRules,
    rules: RuleSet,
    based_on: int,
    *,
    action: str,
    origin: str = "",
) -> PlannedChange[RulesAnswer]:
    current = active.version if active else 0
    if based_on != current:
        by = f" (saved by {active.record.by or 'setup'})" if active else ""
        raise StaleVersion(
            f"Version {current}{by} is active, not {based_on}. Read it and try again.",
            [fault("header", "If-Match", f'"{based_on}"', f'"{current}"')],
        )
    version = current + 1
    writes = [state.put(new, id=ACTIVE, over=active)]
    kept = state.get_many(StoredRules, [version_id(current), version_id(version)])
    if active is not None and active.record is not _LOST and version_id(current) not in kept:
        writes.append(state.put(active.record, id=version_id(current)))
    writes.append(state.put(new, id=version_id(version), over=kept.get(version_id(version))))
    changes = differences(_usable(active.record if active else None)[0], rules)
    match = {"If-Match": f'"{version}"'}
    undo = Call(method="PUT", path="/v1/rules", headers=match, body={"text": ""})
    if active is not None:
        undo = Call(method="POST", path="/v1/rules/rollback", headers=match, body={"version": current})
    detail = f"version {version} is active{origin}: {summary(changes)}"
    answer = RulesAnswer(changed=True, detail=detail, undo=undo, version=version, changes=changes)
    return PlannedChange(answer=answer, writes=writes, action=action, target=f"version {version}")


def _unchanged(version: int, detail: str) -> PlannedChange[RulesAnswer]:
    answer = RulesAnswer(changed=False, detail=detail, version=version, changes=[])
    return PlannedChange(answer=answer, action="rules.put", target=f"version {version}")


def _valid(text: str, responses: AbstractSet[Response]) -> RuleSet:
    try:
        rules = parse_rules(text)
    except RulesError as exc:
        raise Invalid(*(fault("body", "text", None, problem) for problem in exc.problems[:MOST_FAULTS])) from exc
    problems = [
        f"rule {rule.name!r}: respond: {str(each)!r} is not {without_sets(each, responses)}"
        for rule in rules.rules
        for each in dict.fromkeys(rule.respond)
        if each not in responses
    ]
    if problems:
        raise Invalid(*(fault("body", "text", None, problem) for problem in problems[:MOST_FAULTS]))
    return rules


def _usable(stored: StoredRules | None) -> tuple[RuleSet, str | None]:
    """Returns the stored rules and None, or no rules and the reason why the stored ones cannot be used."""
    try:
        return parse_rules(stored.text) if stored else RuleSet(()), None
    except RulesError as exc:
        return RuleSet(()), exc.problems[0]


def view(version: int, stored: StoredRules, *, active: bool) -> RuleSetView:
    """Returns a version as operators see it, with the reason if it cannot be used."""
    rules, problem = _usable(stored)
    if stored is _LOST:
        problem = "it cannot be read; activate a rule set, or roll back to an earlier version"
    words = [rule_words(rule) for rule in rules.rules]
    return RuleSetView(version=version, active=active, rules=words, problem=problem, **asdict(stored))
