"""Rule sets: the one in force and every one before it. Versions count up; the version is what edits are based on."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec.structs import asdict

from chalicelib.admin.answers import Page, at_most
from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import MOST_FAULTS, Fault, Invalid, NotFound, StaleVersion, fault
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_diff import RuleDiff, RuleWords, differences, rule_words, summary
from chalicelib.core.rules_toml import MOST_RULES, RulesError, parse_rules
from chalicelib.core.state import ACTIVE, Call, StoredRules
from chalicelib.pipeline.stored import State, Stored


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
    """The rule set in force, or the one of ``version``. Raises NotFound."""
    active = state.get(StoredRules, ACTIVE)
    if version is None or (active is not None and active.version == version):
        if active is None:
            empty = asdict(StoredRules(text=""))
            return RuleSetView(version=0, active=True, rules=[], problem="none is stored", **empty)
        return _view(active.version, True, active.record)
    earlier = state.get(StoredRules, _id(version))
    if earlier is None:
        raise NotFound(f"There is no rule-set version {version}.")
    return _view(version, False, earlier.record)


def plan(state: State, text: str) -> RulesPlan:
    """Returns what ``text`` would change. Raises Invalid with everything that is wrong with it."""
    active = state.get(StoredRules, ACTIVE)
    changes = differences(_parsed(active), _valid(text))
    return RulesPlan(version=active.version if active else 0, changes=changes, detail=summary(changes))


def put(
    state: State, text: str, *, comment: str, based_on: int, caller: Caller, now: int
) -> PlannedChange[RulesAnswer]:
    """Puts ``text`` in force. Raises Invalid, and StaleVersion unless version ``based_on`` is active.

    A text that is in force already changes nothing, whatever it is based on: repeating a call is harmless.
    """
    rules = _valid(text)
    active = state.get(StoredRules, ACTIVE)
    if active is not None and active.record.text == text:
        return _unchanged(active.version, f"version {active.version}, in force already, says the same")
    return _put(state, active, rules, comment=comment, based_on=based_on, caller=caller, now=now)


def rollback(
    state: State, version: int, *, comment: str, based_on: int, caller: Caller, now: int
) -> PlannedChange[RulesAnswer]:
    """Puts an earlier version in force again, as a new one. Raises NotFound, Invalid, StaleVersion."""
    earlier = rule_set(state, version)
    active = state.get(StoredRules, ACTIVE)
    if active is not None and active.version == version:
        return _unchanged(version, f"version {version} is in force already")
    rules = _valid(earlier.text)
    said = comment or f"as version {version}"
    return _put(state, active, rules, comment=said, based_on=based_on, caller=caller, now=now, restores=version)


def history(state: State, *, limit: int, cursor: str | None, now: int) -> VersionPage:
    """Returns a page of the versions, newest first."""
    active = state.get(StoredRules, ACTIVE)
    below = _id(read_cursor(cursor, [int])[0]) if cursor else ACTIVE
    stored = {int(rules.id): rules for rules in state.all(StoredRules, below=below, limit=limit + 1, descending=True)}
    if active is not None and not cursor:
        stored.setdefault(active.version, active)
    versions = (
        VersionView(
            version=version,
            active=active is not None and version == active.version,
            rules=len(_parsed(rules).rules),
            saved_at=rules.record.saved_at,
            by=rules.record.by,
            comment=rules.record.comment,
        )
        for version, rules in sorted(stored.items(), reverse=True)
    )
    shown, following = page(versions, limit, lambda version: [version.version])
    return VersionPage(now=now, versions=shown, next=following)


def _put(
    state: State,
    active: Stored[StoredRules] | None,
    rules: RuleSet,
    *,
    comment: str,
    based_on: int,
    caller: Caller,
    now: int,
    restores: int | None = None,
) -> PlannedChange[RulesAnswer]:
    current = active.version if active else 0
    if based_on != current:
        by = f"; saved by {active.record.by or 'setup'}" if active else ""
        raise StaleVersion(
            f"Version {current} is active, not {based_on}{by}. Read it and try again.",
            [fault("header", "If-Match", f'"{based_on}"', f'"{current}"')],
        )
    new = StoredRules(text=rules.text, by=caller.name, saved_at=now, comment=comment)
    version = current + 1
    writes = [state.put(new, id=ACTIVE, over=active)]
    kept = state.get_many(StoredRules, [_id(current), _id(version)])
    if active is not None and _id(current) not in kept:
        writes.append(state.put(active.record, id=_id(current)))
    writes.append(state.put(new, id=_id(version), over=kept.get(_id(version))))
    changes = differences(_parsed(active), rules)
    match = {"If-Match": f'"{version}"'}
    if active is not None:
        undo = Call(method="POST", path="/v1/rules/rollback", headers=match, body={"version": current})
    else:
        undo = Call(method="PUT", path="/v1/rules", headers=match, body={"text": ""})
    words, action = ("", "rules.put") if restores is None else (f", as version {restores}", "rules.rollback")
    answer = RulesAnswer(
        changed=True,
        detail=f"version {version} is in force{words}: {summary(changes)}",
        undo=undo,
        version=version,
        changes=changes,
    )
    return PlannedChange(answer=answer, writes=writes, action=action, target=f"version {version}")


def _unchanged(version: int, detail: str) -> PlannedChange[RulesAnswer]:
    answer = RulesAnswer(changed=False, detail=detail, version=version, changes=[])
    return PlannedChange(answer=answer, action="rules.put", target=f"version {version}")


def _valid(text: str) -> RuleSet:
    try:
        return parse_rules(text)
    except RulesError as exc:
        raise Invalid.of(_faults(exc.problems)) from exc


def _faults(problems: Sequence[str]) -> list[Fault]:
    return [fault("body", "text", None, problem) for problem in problems[:MOST_FAULTS]]


def _parsed(stored: Stored[StoredRules] | None) -> RuleSet:
    """The rules that are stored; none if they cannot be used."""
    try:
        return parse_rules(stored.record.text) if stored else RuleSet(())
    except RulesError:
        return RuleSet(())


def _view(version: int, active: bool, stored: StoredRules) -> RuleSetView:
    problem, rules = None, RuleSet(())
    try:
        rules = parse_rules(stored.text)
    except RulesError as exc:
        problem = exc.problems[0]
    words = [rule_words(rule) for rule in rules.rules]
    return RuleSetView(version=version, active=active, rules=words, problem=problem, **asdict(stored))


def _id(version: int) -> str:
    return f"{version:010d}"
