"""The offenders that wait, because their rule is stopped or its pace is used up.

They stay in their detection, which the state table keeps for days. In addition, one small record is stored per
detection, however many of its offenders wait. An offender that continues is detected again and again; it waits already,
so its later detections are not noted, unless they are twice as bad.

Of a detection, those with the highest counts are decided about first. The record says how far that has come, so that
the next minute continues there, and the others have their turn.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from msgspec.structs import replace

from chalicelib.core.rules import Action, RuleSet
from chalicelib.core.state.breakers import RuleBreaker, Waiting
from chalicelib.core.state.detections import Detection, Offender
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Write

KEPT_S = 7 * 86400
"""Time for which offenders may wait: as long as their detections are kept."""

MOST_REMEMBERED = 100_000
"""Most offenders remembered by a container. Those beyond it are noted again when they are detected again."""

DETECTIONS_DUE = 100
"""Most detections that are read at once, of up to 1,000 offenders each: the worst of each rule. The others follow."""

NOTES_PER_RULE = 1000
"""Most records that are read of one rule at once, the oldest. There may be any number of a rule that stays stopped."""

WRITTEN_AT_ONCE = 50
"""Records removed or replaced in one transaction; DynamoDB accepts up to 100 writes."""

Case = tuple[Detection, Offender]

CaseKey = tuple[str, str]
"""Rule and network."""


def key_of(case: Case) -> CaseKey:
    detection, offender = case
    return detection.terms.name, offender.network


@dataclass(frozen=True, slots=True)
class Due:
    """Offenders that have waited, and whose rules are not stopped any more."""

    notes: Sequence[Stored[Waiting]] = ()
    """The records of their detections, the rules by turns, of each rule the worst first."""
    detections: Mapping[str, Stored[Detection]] = field(default_factory=dict)
    """Those of the detections that are still there, and whose rules are as they were, by id."""
    cases: Sequence[Case] = ()
    """The offenders to decide about, the worst first; each as in the detection with its highest count."""
    spare: frozenset[CaseKey] = frozenset()
    """Those among them that are not to be blocked if they are known clients: they waited when their rule was resumed
    because it hit few known clients."""


class WaitingOffenders:
    """One container's notes of the offenders that wait."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._remembered: dict[tuple[str, str], tuple[int, str]] = {}
        """By rule and network: the count with which it waits, and the id of the record."""

    def hold(self, cases: Collection[Case], now: int) -> None:
        """Stores that the offenders of ``cases`` wait."""
        remembered = {key: self._remembered[key] for key in map(key_of, cases) if key in self._remembered}
        stored = self._state.get_many(Waiting, {id for _, id in remembered.values()})
        worst: dict[str, Waiting] = {}
        for case in cases:
            detection, offender = case
            count, id = remembered.get(key_of(case), (-1, ""))
            if id in stored and stored[id].record.waits(count) and offender.count < 2 * count:
                continue
            rule = detection.terms.name
            noted = Waiting(rule=rule, detection=detection.id, since=now, worst=offender.count)
            if noted.id not in worst or worst[noted.id].worst < noted.worst:
                worst[noted.id] = noted
            self._remembered.pop(key_of(case), None)  # so that the order is that of the notes
            self._remembered[key_of(case)] = offender.count, noted.id
        self._state.overwrite(*worst.values(), expires_at=now + KEPT_S)
        for key in list(islice(self._remembered, max(0, len(self._remembered) - MOST_REMEMBERED))):
            del self._remembered[key]

    def notes(self) -> list[Stored[Waiting]]:
        """Returns the records of detections with offenders that wait, of each rule up to ``NOTES_PER_RULE``."""
        notes: list[Stored[Waiting]] = []
        above = ""
        while page := list(self._state.all(Waiting, above=above, limit=NOTES_PER_RULE)):
            last = page[-1].record.rule
            if page[0].record.rule == last:
                notes += page
                above = f"{last}0"  # after all records of this rule: "0" is the character after "/"
            else:
                notes += [note for note in page if note.record.rule != last]
                above = f"{last}/"
        return notes

    def due(self, notes: Iterable[Stored[Waiting]], breakers: Mapping[str, RuleBreaker], rules: RuleSet) -> Due:
        """Returns the offenders of ``notes`` that may be decided about; ``breakers``: those of all rules, by rule.

        ``rules``: those in use. Offenders of a rule that has been changed or removed since are not decided about: it
        would not block them as it stands.
        """
        stopped = {rule for rule, breaker in breakers.items() if breaker.stopped_at}
        notes = _in_turns(note for note in notes if note.record.rule not in stopped)[:DETECTIONS_DUE]
        read = self._state.get_many(Detection, [note.record.detection for note in notes])
        terms = {rule.name: (rule.limit, rule.window_s, rule.action) for rule in rules.rules}
        detections = {id: each for id, each in read.items() if terms.get(each.record.terms.name) == _terms(each.record)}
        cases: dict[CaseKey, Case] = {}
        spare: set[CaseKey] = set()
        for note in notes:
            if (detection := detections.get(note.record.detection)) is None:
                continue
            breaker = breakers.get(note.record.rule)
            for case in _undecided(note, detection):
                key, (_, offender) = key_of(case), case
                if key not in cases or cases[key][1].count < offender.count:
                    cases[key] = case
                if breaker is not None and note.record.since <= breaker.spared_until:
                    spare.add(key)
        ordered = sorted(cases.values(), key=lambda case: -case[1].count / max(1, case[0].terms.limit))
        return Due(notes, detections, ordered, frozenset(spare))

    def release(self, due: Due, waiting: Iterable[Case]) -> None:
        """Removes the records of those detections that have no offender among ``waiting``; for the others, notes how
        far they have been decided about.

        Records that have just been replaced are left for the next time.
        """
        keys = set(map(key_of, waiting))
        writes: list[Write] = []
        over: set[str] = set()
        for note in due.notes:
            undecided = _undecided(note, due.detections.get(note.record.detection))
            left = [case[1].count for case in undecided if key_of(case) in keys]
            if not left:
                writes.append(State.delete(note))
                over.add(note.id)
            elif max(left) < max(offender.count for _, offender in undecided):
                record = replace(note.record, worst=max(left), decided_above=max(left))
                writes.append(State.put(record, over=note, expires_at=note.item.expires_at))
        for key in [key for key, (_, id) in self._remembered.items() if id in over]:
            del self._remembered[key]
        for start in range(0, len(writes), WRITTEN_AT_ONCE):
            with suppress(Conflict):
                self._state.write(writes[start : start + WRITTEN_AT_ONCE])


def _in_turns(notes: Iterable[Stored[Waiting]]) -> list[Stored[Waiting]]:
    """Returns the worst of each rule, then the second of each, and so on, so that no rule holds up another."""
    taken: Counter[str] = Counter()
    turns: list[tuple[int, Stored[Waiting]]] = []
    for note in sorted(notes, key=lambda note: -note.record.worst):
        turns.append((taken[note.record.rule], note))
        taken[note.record.rule] += 1
    return [note for _, note in sorted(turns, key=lambda turn: turn[0])]


def _undecided(note: Stored[Waiting], detection: Stored[Detection] | None) -> list[Case]:
    """Returns the offenders of a note's detection that are still to be decided about; none if it is gone."""
    if detection is None:
        return []
    return [(detection.record, each) for each in detection.record.offenders if note.record.waits(each.count)]


def _terms(detection: Detection) -> tuple[int, int, Action]:
    return detection.terms.limit, detection.terms.window_s, detection.terms.action
