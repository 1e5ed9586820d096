"""What is announced: every event and change by an operator at least once, and in a flood a bounded number."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from msgspec.structs import replace

from chalicelib.core.announcements import (
    BREAKER_OPENED,
    CLIENT_BLOCKED,
    CLIENT_UNBLOCKED,
    SUMMARISED,
    WOULD_BE_BLOCKED,
    Announcement,
)
from chalicelib.core.portraits import Portrait
from chalicelib.core.rules import Action
from chalicelib.core.state.events import Event, Events, Unannounced
from chalicelib.core.state.operators import Audit
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.pipeline.announce import MINUTE_S, MOST_MINUTES, MOST_PER_MINUTE, SETTLED_S, SILENT_S, Announce
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State
from chalicelib.ports import StreamChange, Unavailable
from tests.support.clock import Clock
from tests.support.state import CLIENT, NOW, Store, detection, new_enforcer, stream_changes, terms

BEAT = [StreamChange(Heartbeat.kind, Heartbeat.id, Heartbeat(at=NOW).to_json(), True)]
MINUTE = NOW // 60 * 60


class Bus:
    """A receiver that can be out of order."""

    def __init__(self) -> None:
        self.sent: list[Announcement] = []
        self.broken = False
        self.tries = 0

    def send(self, announcements: Sequence[Announcement]) -> None:
        self.tries += 1
        if self.broken:
            raise Unavailable("no event bus")
        self.sent += announcements

    def ids(self) -> list[str]:
        return [each.id for each in self.sent]


class Stage:
    """A state table, and an announcer that receives what its stream delivers."""

    def __init__(self) -> None:
        self.store = Store()
        self.state = State(self.store)
        self.clock = Clock()
        self.bus = Bus()
        self.announce = self.container()

    def container(self) -> Announce:
        return Announce(state=self.state, announcements=self.bus, clock=self.clock, stage="sluice-test")

    def stored(self) -> list[StreamChange]:
        """Returns what the stream delivers since the last call."""
        changes = [
            StreamChange(each.new.kind, each.new.id, each.new.body, each.old is not None)
            for each in self.store.changes
            if each.new is not None
        ]
        self.store.changes.clear()
        return changes

    def record(self, *events: Event, at: int = NOW) -> None:
        record = Events(at_ms=at * 1000, events=events)
        self.state.overwrite(record)

    def audit(self, action: str, *, at: int = NOW) -> None:
        record = Audit(at_ms=at * 1000, by="ann", address="", request="", action=action, target="rules", detail="so")
        self.state.overwrite(record, id=f"{at * 1000:013d}-{action}")

    def beat_after(self, seconds: float) -> None:
        self.clock.now += seconds
        self.announce.run(BEAT)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def flood(number: int, *, of: str = "blocked") -> list[Event]:
    return [Event(outcome=of, network=f"198.51.{each // 256}.{each % 256}/32", rule="burst") for each in range(number)]


def types(bus: Bus) -> list[str]:
    return [each.type for each in bus.sent]


def test_a_block_and_its_end_are_announced_with_who_why_and_until_when(stage: Stage) -> None:
    new_enforcer(stage.store, stage.clock).run(stream_changes(detection()))
    (block,) = stage.state.all(type(stage.store.blocks()[CLIENT]))
    lift(stage.state, [block], NOW + 5, by="ann")
    stage.announce.run(stage.stored())
    began, ended = stage.bus.sent
    assert (began.type, began.network, began.family, began.rule) == (CLIENT_BLOCKED, CLIENT, 4, "burst")
    assert began.title == f"sluice-test: {CLIENT} blocked"
    assert began.text == "burst: 11 requests within 5s, limit 10. Until 2025-10-09T09:03:20Z."
    assert (began.at, began.until) == ("2025-10-09T08:53:20Z", "2025-10-09T09:03:20Z")
    assert (ended.type, ended.text) == (CLIENT_UNBLOCKED, "Ended after 5s, lifted by ann.")
    history = [f"{each.id}/0" for each in stage.state.all(Events)]
    assert sorted(stage.bus.ids()) == sorted(history)


def test_what_the_client_wrote_is_announced_apart_from_the_words(stage: Stage) -> None:
    detected = detection()
    mention = Portrait(requests=1, lines={"GET www.example.com/<!channel> 200": 1})
    offenders = tuple(replace(each, portrait=mention) for each in detected.offenders)
    new_enforcer(stage.store, stage.clock).run(stream_changes(replace(detected, offenders=offenders)))
    stage.announce.run(stage.stored())
    (announcement,) = stage.bus.sent
    assert announcement.evidence is not None
    assert announcement.evidence.portrait == mention
    assert "channel" not in announcement.title + announcement.text


def test_what_a_rule_that_only_counts_would_have_done_is_announced(stage: Stage) -> None:
    new_enforcer(stage.store, stage.clock).run(stream_changes(detection(of=terms(action=Action.COUNT))))
    stage.announce.run(stage.stored())
    (announcement,) = stage.bus.sent
    assert announcement.type == WOULD_BE_BLOCKED
    assert announcement.title == f"sluice-test: {CLIENT} would be blocked"


@pytest.mark.parametrize(
    ("action", "type"),
    [
        ("pause", "Enforcement Paused"),
        ("resume", "Enforcement Resumed"),
        ("rules.put", "Rules Changed"),
        ("allowlist.delete", "Allowlist Changed"),
        ("breaker.reset", "Breaker Reset"),
    ],
)
def test_changes_by_operators_are_announced_from_the_audit(stage: Stage, action: str, type: str) -> None:
    stage.audit(action)
    stage.announce.run(stage.stored())
    (announcement,) = stage.bus.sent
    assert (announcement.type, announcement.by, announcement.text) == (type, "ann", "rules: so.")


def test_a_block_by_hand_is_announced_as_an_event_and_not_again_as_a_change(stage: Stage) -> None:
    stage.audit("block.post")
    stage.announce.run(stage.stored())
    assert stage.bus.sent == []


def test_a_change_that_is_delivered_again_is_announced_under_the_same_id(stage: Stage) -> None:
    stage.record(*flood(3))
    changes = stage.stored()
    stage.announce.run(changes)
    stage.container().run(changes)
    assert stage.bus.ids()[:3] == stage.bus.ids()[3:]
    assert len(set(stage.bus.ids())) == 3


def test_in_a_flood_a_bounded_number_is_announced_and_the_minute_is_summarised_once_it_is_over(stage: Stage) -> None:
    stage.record(*flood(49), *flood(20, of="ended"))
    stage.record(*flood(49), at=NOW + 1)
    changes = stage.stored()
    report = stage.announce.run(changes)
    assert (len(report.announcements), report.left_out) == (MOST_PER_MINUTE, 118 - MOST_PER_MINUTE)
    writes = len(stage.store.writes)
    stage.announce.run(changes)
    assert len(stage.store.writes) == writes, "a minute is noted once"
    stage.bus.sent.clear()
    stage.beat_after(MINUTE_S)
    assert stage.bus.sent == []
    stage.beat_after(SETTLED_S)
    (summary,) = stage.bus.sent
    assert (summary.type, summary.id, summary.number) == (SUMMARISED, f"minute/{MINUTE}", 118)
    assert {(each.type, each.rule): each.number for each in summary.counts} == {
        (CLIENT_BLOCKED, "burst"): 98,
        (CLIENT_UNBLOCKED, "burst"): 20,
    }
    stage.beat_after(MINUTE_S)
    assert len(stage.bus.sent) == 1
    assert stage.state.control(Unannounced).record == Unannounced()


def test_offences_that_are_only_numbered_count_in_the_summary(stage: Stage) -> None:
    stage.record(*flood(MOST_PER_MINUTE), Event(outcome="counted", rule="burst", number=940))
    stage.announce.run(stage.stored())
    stage.beat_after(MINUTE_S + SETTLED_S)
    assert stage.bus.sent[-1].number == MOST_PER_MINUTE + 940


def test_a_flood_hides_no_stopped_rule_and_no_change_by_an_operator(stage: Stage) -> None:
    stage.record(*flood(100), Event(outcome="stopped", rule="burst", number=7))
    stage.audit("pause")
    stage.announce.run(stage.stored())
    assert types(stage.bus)[-2:] == [BREAKER_OPENED, "Enforcement Paused"]


def test_what_cannot_be_sent_is_announced_again_until_it_is_accepted(stage: Stage) -> None:
    stage.bus.broken = True
    stage.record(*flood(2), Event(outcome="stopped", rule="burst", number=7))
    stage.audit("pause")
    report = stage.announce.run(stage.stored())
    assert report.failed == len(report.announcements) == 4
    ids = [each.id for each in report.announcements]
    stage.beat_after(MINUTE_S + SETTLED_S)
    stage.bus.broken = False
    stage.announce = stage.container()
    stage.beat_after(MINUTE_S)
    assert sorted(stage.bus.ids()) == sorted(ids)
    stage.beat_after(MINUTE_S)
    assert len(stage.bus.sent) == 4


def test_a_flood_that_cannot_be_sent_is_summarised_with_what_is_not_about_clients(stage: Stage) -> None:
    stage.bus.broken = True
    stage.record(*flood(100), Event(outcome="stopped", rule="burst", number=7))
    stage.announce.run(stage.stored())
    stage.bus.broken = False
    stage.beat_after(MINUTE_S + SETTLED_S)
    assert types(stage.bus) == [BREAKER_OPENED, SUMMARISED]


def test_an_outage_delays_few_invocations_and_loses_nothing(stage: Stage) -> None:
    stage.bus.broken = True
    for second in range(5):
        stage.record(*flood(1), at=NOW + second)
        stage.announce.run(stage.stored())
    assert stage.bus.tries == 1
    stage.bus.broken = False
    stage.clock.now += SILENT_S
    stage.beat_after(MINUTE_S + SETTLED_S)
    assert len(stage.bus.sent) == 5


def test_of_an_endless_outage_the_latest_minutes_are_kept() -> None:
    noted = Unannounced()
    for minute in range(0, (MOST_MINUTES + 9) * 60, 60):
        noted = noted.with_minutes([], [minute], MOST_MINUTES)
    assert (len(noted.failed), noted.failed[0]) == (MOST_MINUTES, 9 * 60)


def test_without_a_receiver_announcements_are_for_the_log_alone(stage: Stage) -> None:
    stage.record(*flood(100))
    announce = Announce(state=stage.state, announcements=None, clock=stage.clock, stage="sluice-test")
    report = announce.run(stage.stored())
    assert (len(report.announcements), report.failed) == (MOST_PER_MINUTE, 0)


def test_records_that_are_removed_changed_or_unreadable_are_not_announced(stage: Stage) -> None:
    body = Events(at_ms=NOW * 1000, events=(Event(outcome="blocked", network=CLIENT),)).to_json()
    id = f"{NOW * 1000:013d}-ab"
    stage.announce.run(
        [
            StreamChange(Events.kind, id, None, True),
            StreamChange(Events.kind, id, body, True),
            StreamChange(Events.kind, id, body[:-1], False),
        ]
    )
    assert stage.bus.sent == []


class Killed(BaseException):
    """Death of a container in the middle of a call."""


class UnreliableBus(Bus):
    """A receiver that may reject a call after some of its announcements, and in which a container may die."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.trouble = 0.0
        """Share of the calls that fail."""

    def send(self, announcements: Sequence[Announcement]) -> None:
        if self.random.random() >= self.trouble:
            super().send(announcements)
            return
        super().send(announcements[: self.random.randint(0, len(announcements))])
        raise self.random.choice([Unavailable("no event bus"), Killed()])


def deliver(stage: Stage, random: Random, changes: Sequence[StreamChange]) -> None:
    """Delivers changes to a container until it succeeds; one that dies is replaced, and may come twice."""
    for _ in range(random.choice([1, 1, 1, 2])):
        while True:
            if random.random() < 0.1:
                stage.announce = stage.container()
            try:
                stage.announce.run(changes)
                break
            except Killed:
                stage.announce = stage.container()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_whatever_fails_nothing_is_lost_and_what_is_repeated_has_the_same_id_and_content(seed: int) -> None:
    random, stage = Random(seed), Stage()
    bus = stage.bus = UnreliableBus(random)
    stage.announce = stage.container()
    start, waiting = stage.clock.now, list[StreamChange]()
    for second in range(0, 400, 5):
        stage.clock.now = start + second
        bus.trouble = random.choice([0.0, 0.0, 0.5, 1.0]) if second % 60 == 0 else bus.trouble
        for _ in range(random.choice([0, 1, 1, 3])):
            others = [Event(outcome="stopped", rule="burst")] if random.random() < 0.2 else []
            stage.record(*flood(random.choice([1, 2, 49])), *others, at=int(stage.clock.now))
        if random.random() < 0.1:
            stage.audit("pause", at=int(stage.clock.now))
        waiting += [each for each in stage.stored() if each.kind in (Events.kind, Audit.kind)]
        bus.trouble = min(bus.trouble, 0.9)  # so that deliveries end
        while waiting and random.random() < 0.8:
            deliver(stage, random, waiting[:10])
            del waiting[:10]
        if second % 60 == 0:
            deliver(stage, random, BEAT)
    bus.trouble = 0.0
    while waiting:
        deliver(stage, random, waiting[:10])
        del waiting[:10]
    for _ in range(9):
        stage.beat_after(MINUTE_S)
    assert stage.state.control(Unannounced).record == Unannounced()
    sent: dict[str, Announcement] = {}
    for each in bus.sent:
        assert sent.setdefault(each.id, each) == each
    numbers: Counter[int] = Counter()
    for record in stage.state.all(Events):
        minute = record.record.at_ms // 60_000 * 60
        for number, event in enumerate(record.record.events):
            numbers[minute] += bool(event.network)
            told = f"{record.id}/{number}" in sent
            assert told or (event.network and f"minute/{minute}" in sent), event
    assert all(
        sent[f"minute/{minute}"].number == number for minute, number in numbers.items() if f"minute/{minute}" in sent
    )
    assert {f"change/{each.id}" for each in stage.state.all(Audit)} <= set(sent)
