"""Rule sets: the active one and all earlier ones. Versions count up, and each edit names the version it is based on."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import starmap
from typing import Annotated

import msgspec
from msgspec.structs import asdict

from chalicelib.admin.answers import Page, at_most
from chalicelib.admin.changes import Caller, ChangeAnswer, PlannedChange
from chalicelib.admin.errors import MOST_FAULTS, ForceNeeded, Invalid, NotFound, StaleVersion, fault
from chalicelib.admin.inputs import Widest
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.pagination import page, read_cursor
from chalicelib.admin.rules_now import RuleNow, rules_now, uncounted
from chalicelib.admin.schemas import HistoryQuery, NewRules, Rollback, RuleEdit, RulesText
from chalicelib.core.logs.requests import LIVE_SOURCES
from chalicelib.core.response_notes import response_notes
from chalicelib.core.responses import Response
from chalicelib.core.rule_notes import ColumnsOf, objections, rule_notes
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_diff import DiffKind, RuleDiff, RuleWords, counted_anew, differences, rule_words, summary
from chalicelib.core.rules_edit import EditError, Value, edit_words, edited, end_of_pause
from chalicelib.core.rules_toml import MOST_RULES, RulesError, parse_rules
from chalicelib.core.sampling import Sampling, sampling_notes
from chalicelib.core.state.operators import Call
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules, version_id
from chalicelib.core.wording import commented, few, without_sets
from chalicelib.pipeline.stored import State, Stored

MOST_NOTES = 10 * MOST_RULES
"""Most sentences about the rules of a set."""

MOST_WORDS = 300
"""Most characters about the changes of one rule in a sentence."""

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
    now: Annotated[list[RuleNow], at_most(MOST_RULES * len(LIVE_SOURCES))] = []
    """For each rule and log: how many of the clients that are counted now would be over its limit."""
    needs_force: Annotated[list[str], at_most(MOST_NOTES)] = []
    """Reasons why it is activated only with force."""
    notes: Annotated[list[str], at_most(MOST_NOTES)] = []
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


@dataclass(frozen=True, slots=True)
class RuleBounds:
    """The responses and networks that a stage accepts in its rules."""

    responses: AbstractSet[Response]
    """Those that have IP sets."""
    widest: Widest


def plan(
    state: State,
    form: RulesText | RuleEdit,
    bounds: RuleBounds,
    *,
    sampling: Sampling,
    columns: ColumnsOf,
    live: LiveCounts,
    now_ms: int,
) -> RulesPlan:
    """Returns the changes that a rule set or an edit would make, and what it would do now.

    ``columns``: those of each log. Raises Invalid with everything that is wrong, and NotFound for an edit of an unknown
    rule.
    """
    active = state.get(StoredRules, ACTIVE, damaged=_LOST)
    text = _edited(state, form)[0] if isinstance(form, RuleEdit) else form.text
    rules = _valid(text, bounds.responses)
    before = _usable(active.record if active else None)[0]
    changes = differences(before, rules)
    problem = live.problem(now_ms)
    counted = [] if problem else live.sources
    notes = [
        *rule_notes(rules.rules, columns, counted),
        *sampling_notes(rules.rules, sampling),
        *response_notes(rules.rules),
        *(counted_anew(before, rules) if before.rules else ()),
        *([f"It is not known what the rules would do now: {problem}."] if problem else uncounted(live, rules.rules)),
    ]
    return RulesPlan(
        version=active.version if active else 0,
        changes=changes,
        detail=summary(changes),
        now=[] if problem else rules_now(live, rules.rules, sampling),
        needs_force=_objections(before, rules, bounds.widest)[:MOST_NOTES],
        notes=notes[:MOST_NOTES],
    )


def activate(
    state: State, new: NewRules, bounds: RuleBounds, *, based_on: int, caller: Caller, now: int
) -> PlannedChange[RulesAnswer]:
    """Activates a rule set. Raises Invalid and ForceNeeded, and StaleVersion unless version ``based_on`` is active.

    Activating the text that is already active changes nothing, whatever it is based on, so a call can be repeated.
    """
    return _activate(state, new, bounds, new.comment, based_on=based_on, caller=caller, now=now)


def _activate(
    state: State, new: NewRules, bounds: RuleBounds, comment: str, *, based_on: int, caller: Caller, now: int
) -> PlannedChange[RulesAnswer]:
    """Activates a rule set; ``comment``: the operator's own, if any."""
    rules = _valid(new.text, bounds.responses)
    active = state.get(StoredRules, ACTIVE, damaged=_LOST)
    if active is not None and active.record is not _LOST and active.record.text == new.text:
        return _unchanged(active.version, f"version {active.version} is already active and has the same text")
    stored = StoredRules(text=new.text, by=caller.name, saved_at=now, comment=new.comment)
    return _change(
        state, active, stored, rules, based_on, bounds.widest, force=new.force, action="rules.put", comment=comment
    )


def edit(
    state: State, form: RuleEdit, bounds: RuleBounds, *, based_on: int, caller: Caller, now: int
) -> PlannedChange[RulesAnswer]:
    """Activates the rule set with new values for keys of one rule.

    Raises NotFound, Invalid, ForceNeeded, StaleVersion.
    """
    text, values = _edited(state, form)
    comment = form.comment or f"{form.rule}: {', '.join(starmap(edit_words, values.items()))}"
    new = NewRules(text=text, comment=comment, force=form.force)
    return _activate(state, new, bounds, form.comment, based_on=based_on, caller=caller, now=now)


def _edited(state: State, form: RuleEdit) -> tuple[str, dict[str, Value]]:
    """Returns the text of the active rule set after an edit, and the new values. Raises NotFound, Invalid."""
    values: dict[str, Value] = {
        key: value for key, value in (("action", form.action), ("limit", form.limit)) if value is not None
    }
    if form.paused_until is not None:
        values["paused_until"] = end_of_pause(form.paused_until)
    if not values:
        raise Invalid(fault("body", "action", None, "an action, a limit, or a time until which the rule is paused"))
    stored = rule_set(state)
    if form.rule not in [rule.name for rule in stored.rules]:
        known = ", ".join(rule.name for rule in stored.rules)
        raise NotFound(f"There is no rule {form.rule!r}. Existing rules: {known or 'none'}.")
    try:
        return edited(stored.text, form.rule, values), values
    except EditError as exc:
        raise Invalid(fault("body", "rule", form.rule, str(exc))) from exc


def rollback(
    state: State, back: Rollback, bounds: RuleBounds, *, based_on: int, caller: Caller, now: int
) -> PlannedChange[RulesAnswer]:
    """Activates an earlier version again, as a new one. Raises NotFound, Invalid, ForceNeeded, StaleVersion."""
    earlier = rule_set(state, back.version)
    active = state.get(StoredRules, ACTIVE, damaged=_LOST)
    if active is not None and active.version == back.version:
        return _unchanged(back.version, f"version {back.version} is already active")
    comment = back.comment or f"restores version {back.version}"
    stored = StoredRules(text=earlier.text, by=caller.name, saved_at=now, comment=comment)
    origin = f", restored from version {back.version}"
    rules, audit = _valid(earlier.text, bounds.responses), {"action": "rules.rollback", "comment": back.comment}
    return _change(state, active, stored, rules, based_on, bounds.widest, force=back.force, origin=origin, **audit)


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
    widest: Widest,
    *,
    force: bool,
    action: str,
    comment: str,
    origin: str = "",
) -> PlannedChange[RulesAnswer]:
    current = active.version if active else 0
    if based_on != current:
        by = f" (saved by {active.record.by or 'setup'})" if active else ""
        raise StaleVersion(
            f"Version {current}{by} is active, not {based_on}. Read it and try again.",
            [fault("header", "If-Match", f'"{based_on}"', f'"{current}"')],
        )
    before = _usable(active.record if active else None)[0]
    reasons = _objections(before, rules, widest)
    if reasons and not force:
        raise ForceNeeded(
            f"{'; '.join(reasons[:3])}{'; …' if len(reasons) > 3 else ''}: this is accepted only with force",
            [fault("body", "text", None, f"{reason}; it is accepted with force") for reason in reasons[:MOST_FAULTS]],
        )
    version = current + 1
    writes = [state.put(new, id=ACTIVE, over=active)]
    kept = state.get_many(StoredRules, [version_id(current), version_id(version)])
    if active is not None and active.record is not _LOST and version_id(current) not in kept:
        writes.append(state.put(active.record, id=version_id(current)))
    writes.append(state.put(new, id=version_id(version), over=kept.get(version_id(version))))
    changes = differences(before, rules)
    match = {"If-Match": f'"{version}"'}
    consent = {"force": True} if _objections(rules, before, widest) else {}
    undo = Call(method="PUT", path="/v1/rules", headers=match, body={"text": "", **consent})
    if active is not None:
        undo = Call(method="POST", path="/v1/rules/rollback", headers=match, body={"version": current, **consent})
    detail = f"version {version} is active{origin}: {summary(changes)}{_named(changes)}{commented([comment])}"
    answer = RulesAnswer(changed=True, detail=detail, undo=undo, version=version, changes=changes)
    return PlannedChange(answer=answer, writes=writes, action=action, target=f"version {version}")


def _named(changes: Sequence[RuleDiff]) -> str:
    """Returns in words which rules have changed, and how: a bounded part of it."""
    words = [
        f"{each.rule}: {', '.join(each.words)[:MOST_WORDS]}" if each.change is DiffKind.CHANGED else each.rule
        for each in changes
    ]
    return f" ({few(words)})" if words else ""


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
    problems += [
        f"feed {feed.name!r}: respond: {str(feed.respond)!r} is not {without_sets(feed.respond, responses)}"
        for feed in rules.feeds
        if feed.respond is not None and feed.respond not in responses
    ]
    if problems:
        raise Invalid(*(fault("body", "text", None, problem) for problem in problems[:MOST_FAULTS]))
    return rules


def _objections(before: RuleSet, after: RuleSet, widest: Widest) -> list[str]:
    """Returns each reason why replacing ``before`` by ``after`` needs consent; unchanged rules need none again."""
    if before.rules and not after.rules:
        return ["no rule is left"]
    changed = {change.rule for change in differences(before, after) if change.change is not DiffKind.REMOVED}
    return list(objections((rule for rule in after.rules if rule.name in changed), widest))


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
