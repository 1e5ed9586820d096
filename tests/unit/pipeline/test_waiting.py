"""Offenders that wait: one note per detection, and nobody is forgotten."""

from collections import Counter
from dataclasses import replace

import pytest

from chalicelib.core.state.breakers import RuleBreaker, Waiting
from chalicelib.core.state.detections import Detection, Offender
from chalicelib.pipeline import waiting
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.waiting import WaitingOffenders
from tests.support.state import NOW, RULES, Store, detection, terms

NETWORKS = [f"192.0.2.{host}/32" for host in range(1, 9)]


def cases(detected: Detection, count: int | None = None) -> list[tuple[Detection, Offender]]:
    worse = [
        o if count is None else Offender(o.network, count, o.last_ms, o.last_ms, o.last_ms) for o in detected.offenders
    ]
    return [(detected, offender) for offender in worse]


def notes(store: Store) -> list[tuple[str, int]]:
    found = [(note.record.detection, note.record.worst) for note in WaitingOffenders(State(store)).notes()]
    return sorted(found, key=lambda note: -note[1])


def release(holder: WaitingOffenders) -> None:
    """Releases all whose detections are gone, as they are here."""
    holder.release(holder.due(holder.notes(), {}, RULES), ())


def test_the_offenders_of_a_detection_wait_with_one_record() -> None:
    store = Store()
    first, second = detection(*NETWORKS, id="log/1/burst"), detection("198.51.100.1/32", id="log/2/burst")
    WaitingOffenders(State(store)).hold([*cases(first), *cases(second, count=99)], NOW)
    assert notes(store) == [("log/2/burst", 99), ("log/1/burst", 11)]
    (item, _) = store.query(Waiting.kind)
    assert item.expires_at == NOW + 7 * 86400


def test_an_offender_that_goes_on_waits_with_its_first_detection() -> None:
    store = Store()
    holder = WaitingOffenders(State(store))
    for number in range(5):
        holder.hold(cases(detection(*NETWORKS, id=f"log/{number}/burst")), NOW + number)
    assert notes(store) == [("log/0/burst", 11)]
    holder.hold(cases(detection(*NETWORKS, "198.51.100.1/32", id="log/8/burst")), NOW + 9)
    assert notes(store) == [("log/0/burst", 11), ("log/8/burst", 11)]


@pytest.mark.parametrize(("count", "noted"), [(21, 1), (22, 2)])
def test_an_offender_that_is_twice_as_bad_is_noted_again(count: int, noted: int) -> None:
    store = Store()
    holder = WaitingOffenders(State(store))
    holder.hold(cases(detection(id="log/0/burst")), NOW)
    holder.hold(cases(detection(id="log/1/burst"), count=count), NOW)
    assert len(notes(store)) == noted


def test_an_offender_whose_record_another_container_has_removed_is_noted_again() -> None:
    store = Store()
    holder, other = WaitingOffenders(State(store)), WaitingOffenders(State(store))
    holder.hold(cases(detection(id="log/0/burst")), NOW)
    release(other)
    assert notes(store) == []
    holder.hold(cases(detection(id="log/1/burst")), NOW + 5)
    assert notes(store) == [("log/1/burst", 11)]


def test_each_rule_has_its_own_offenders() -> None:
    store = Store()
    holder = WaitingOffenders(State(store))
    holder.hold([*cases(detection(id="log/0/a", of=terms("a"))), *cases(detection(id="log/0/b", of=terms("b")))], NOW)
    assert {note.record.rule for note in holder.notes()} == {"a", "b"}


def test_of_each_rule_the_worst_detections_come_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule with a high limit has higher counts than others, and would hold them up."""
    monkeypatch.setattr(waiting, "DETECTIONS_DUE", 3)
    holder = WaitingOffenders(State(Store()))
    for number, (rule, count) in enumerate([("high", 700), ("high", 900), ("high", 800), ("low", 5), ("none", 999)]):
        made = detection(NETWORKS[number], id=f"log/{number}/{rule}", of=terms(rule))
        holder.hold(cases(made, count=count), NOW)
    stopped = RuleBreaker(rule="none", stopped_at=NOW)
    due = holder.due(holder.notes(), {"none": stopped}, RULES)
    assert [note.record.worst for note in due.notes] == [900, 5, 800]


def test_so_many_notes_are_read_of_each_rule_and_then_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that stays stopped during an attack by ever new clients has one note for each of its detections."""
    monkeypatch.setattr(waiting, "NOTES_PER_RULE", 3)
    holder = WaitingOffenders(State(Store()))
    for number, rule in enumerate(["a", *["b"] * 8, "b-1", "b0", "b0", "c"]):
        holder.hold(cases(detection(f"192.0.2.{number}/32", id=f"log/{number:02}/{rule}", of=terms(rule))), NOW)
    read = Counter(note.record.rule for note in holder.notes())
    assert read == {"a": 1, "b-1": 1, "b": 3, "b0": 2, "c": 1}


def test_the_memory_of_a_container_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_REMEMBERED", 4)
    store = Store()
    holder = WaitingOffenders(State(store))
    holder.hold(cases(detection(*NETWORKS, id="log/0/burst")), NOW)
    assert len(holder._remembered) == 4
    holder.hold(cases(detection(*NETWORKS[4:], id="log/1/burst")), NOW)
    assert len(notes(store)) == 1, "the latest are remembered"


def test_notes_are_removed_in_transactions_and_changed_ones_are_left() -> None:
    store = Store()
    holder = WaitingOffenders(State(store))
    for number in range(150):
        holder.hold(
            cases(detection(f"198.51.{number}.0/24", id=f"log/{number}/burst", of=terms(f"rule-{number}"))), NOW
        )
    due = holder.due(holder.notes(), {}, RULES)
    store.put_over([replace(due.notes[70].item, version=7)])
    holder.release(due, ())
    assert len(notes(store)) == 100, "50 that were not due, and 50 of the transaction that failed"
    for _ in range(2):
        release(holder)
    assert notes(store) == []
