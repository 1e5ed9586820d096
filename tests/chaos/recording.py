"""Checks that the recorded events tell all that was decided, and nothing twice."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import TypeVar

from chalicelib.core.events import RECORDED
from chalicelib.core.rules import NETWORKS
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.events import Event, Events
from chalicelib.core.state.records import StateRecord
from chalicelib.ports import Item
from sluice.local.stores import StateChange
from tests.support.simulation.ingesting import Violation

R = TypeVar("R", bound=StateRecord)
Fact = tuple[object, ...]
"""What happened to a network, apart from its time."""


class EventJudge:
    """Compares the events of one run with the changes of its blocks and histories."""

    def __init__(self) -> None:
        self._facts: dict[Fact, str] = {}
        """What has to be recorded, and in words."""
        self._events: list[Event] = []

    def saw(self, changes: Iterable[StateChange]) -> None:
        for change in changes:
            if events := _read(Events, change.new):
                self._events += events.events
            before, after = _read(History, change.old), _read(History, change.new)
            network = after.network if after else ""
            for rule, past in after.rules.items() if after else ():
                former = before.rules.get(rule) if before else None
                is_new = former is None or former.evidence != past.evidence or former.outcome != past.outcome
                if is_new and past.outcome in RECORDED:
                    fact = (past.outcome, network, rule, past.offence, *_of(past.evidence))
                    self._facts[fact] = f"{network}: {past.outcome} by {rule}"
            if (block := _read(Block, change.old)) and change.new is None:
                self._facts["ended", block.network, block.refuses_from] = f"the end of the block of {block.network}"

    def judge(self, damaged: AbstractSet[str]) -> None:
        """Raises Violation. Whose record was ``damaged`` may be decided about, and recorded, again."""
        told = {_fact(event) for event in self._events}
        for fact, words in self._facts.items():
            if fact not in told:
                raise Violation(f"no event says: {words}")
        # A warning is given again after an hour, in the same words.
        about_networks = [each for each in self._events if each.network and each.network not in damaged]
        # A guilty network may be blocked again, until the same time, after an operator has ended its block.
        ends = Counter(each.network for each in about_networks if each.outcome == "ended")
        again = {repr(each): ends[each.network] for each in about_networks if _is_of_guilty_network(each)}
        for event, number in Counter(map(repr, about_networks)).items():
            if number > 1 + again.get(event, 0):
                raise Violation(f"recorded {number} times: {event}")


def _fact(event: Event) -> Fact:
    if event.outcome == "ended":
        return (event.outcome, event.network, event.since)
    return (event.outcome, event.network, event.rule, event.offence, *_of(event.evidence))


def _is_of_guilty_network(event: Event) -> bool:
    return event.outcome == "blocked" and event.rule == NETWORKS


def _of(evidence: Evidence | None) -> Fact:
    return (evidence.detection, evidence.last_ms) if evidence else ()


def _read(of: type[R], item: Item | None) -> R | None:
    """Returns the record in an item of this kind; None if it cannot be read, or if there is none."""
    record = of.read(item.id, item.body) if item is not None and item.kind == of.kind else None
    return record if isinstance(record, of) else None
