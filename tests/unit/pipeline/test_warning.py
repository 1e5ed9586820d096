"""Warnings: recorded once an hour while their cause lasts, by one of all containers."""

from functools import partial

from chalicelib.core.announcements import of_event
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.logs.malformed_counts import MalformedCount
from chalicelib.core.responses import Response
from chalicelib.core.rules import RuleSet
from chalicelib.core.state.events import HISTORY_S, Event, Events, Warned
from chalicelib.core.tally import pack
from chalicelib.core.view import View
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.evaluate import Evaluate
from chalicelib.pipeline.log_reader import LogReader, Unevaluated
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.warning import EVERY_S, LEAST_MALFORMED, LINES_S, Warnings
from chalicelib.ports import LogItem, Unavailable
from sluice.local.stores import MemoryTallyLogs
from tests.support.state import NOW, Store

V4 = SetGroup(Response.BLOCK, 4)


def warnings(store: Store) -> Warnings:
    return Warnings(State(store), HISTORY_S)


def recorded(store: Store) -> list[Event]:
    return [event for record in State(store).records(Events) for event in record.events]


def item(*, requests: int = 0, malformed: int = 0) -> Unevaluated:
    return Unevaluated("log", 0, (), (), 0, 0, 0, 0, requests, malformed)


def test_nearly_full_sets_are_named_with_their_response_family_and_share() -> None:
    store = Store()
    warnings(store).full({V4: 0.8, SetGroup(Response.SLOW, 6): 0.79}, NOW)
    assert recorded(store) == [Event(outcome="full", rule="", response=Response.BLOCK, number=80, comment="IPv4")]
    announcement = of_event(recorded(store)[0], "1/0", NOW * 1000, "sluice-prod")
    assert (announcement.type, announcement.text) == ("IP Sets Nearly Full", "the IPv4 sets of block are 80 % full.")


def test_sets_that_stay_full_are_warned_of_once_an_hour_by_all_containers_together() -> None:
    store = Store()
    first, second = warnings(store), warnings(store)
    for now in range(NOW, NOW + EVERY_S, 60):
        first.full({V4: 1.0}, now)
        second.full({V4: 1.0}, now + 1)
    assert len(recorded(store)) == 1
    second.full({V4: 1.0}, NOW + EVERY_S)
    first.full({V4: 1.0}, NOW + EVERY_S)
    assert len(recorded(store)) == 2
    assert State(store).records(Warned) == [Warned(subject="full/block/v4", at=NOW + EVERY_S)]


def test_logs_of_which_more_is_malformed_than_not_are_warned_of() -> None:
    store = Store()
    watch = warnings(store)
    watch.lines([item(requests=9), item(malformed=LEAST_MALFORMED - 1)], NOW)
    assert recorded(store) == []
    watch.lines([item(malformed=1)], NOW + 1)
    assert recorded(store) == [Event(outcome="unreadable", rule="", number=LEAST_MALFORMED)]


def test_malformed_pieces_among_more_requests_are_no_reason_to_warn_nor_are_those_of_earlier_minutes() -> None:
    store = Store()
    watch = warnings(store)
    watch.lines([item(requests=1000, malformed=999)], NOW)
    watch.lines([item(requests=1000, malformed=LEAST_MALFORMED)], NOW + LINES_S)
    assert recorded(store) == []


def test_a_store_that_cannot_be_reached_does_not_stop_the_work() -> None:
    class Unreachable(Store):
        def get(self, kind: str, id: str) -> None:
            raise Unavailable(f"read {kind} {id}")

    watch = warnings(Unreachable())
    watch.full({V4: 1.0}, NOW)
    watch.lines([item(malformed=LEAST_MALFORMED)], NOW)


def test_evaluate_counts_the_malformed_pieces_of_the_items_that_it_reads() -> None:
    logs, store = MemoryTallyLogs(), Store()
    logs.register("logs/1", (), ("logs/1@1",))
    malformed = (MalformedCount(reason="fields", number=30),)
    logs.append("logs/1@1", 0, [LogItem(body=pack(()), last_sequence=1, written_ms=NOW * 1000, malformed=malformed)])
    reader = LogReader(logs, partial(View, sample_rate=100, most_entries=1000), lateness_ms=1000)
    rules = RulesInUse(RuleSet(()))
    evaluate = Evaluate(
        logs=logs, reader=reader, rules=lambda _: rules, detect=lambda _: None, warn=warnings(store).lines
    )
    evaluate.run(NOW * 1000)
    assert [event.number for event in recorded(store)] == [30]
