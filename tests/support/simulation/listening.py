"""A table's stream and a function that listens to it, as Lambda runs it.

Changes of one partition come in order, one batch at a time; a failed batch is delivered again, cut elsewhere. Lambda
may give up on an invocation that still runs, and the batch is then delivered a second time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from chalicelib.ports import Contended, StreamChange, Unavailable
from sluice.local.stores import StateChange
from tests.support.simulation.schedule import Crash, Schedule, Task

Change = TypeVar("Change")

LARGEST_BATCH = 100
LONGEST_BACKOFF = 15
"""Failures in a row after which a batch waits no longer than before: an outage takes fewer steps, and ends in time."""


@dataclass(eq=False, slots=True)
class Container(Generic[Change]):
    handler: Callable[[Sequence[Change]], object]
    busy: bool = False


@dataclass(eq=False, slots=True)
class Delivery(Generic[Change]):
    partition: str
    changes: int
    container: Container[Change]
    begun: float
    given_up: bool = False
    task: Task | None = None


class Listener(Generic[Change]):
    """One function, and the changes not yet delivered to it."""

    def __init__(
        self,
        schedule: Schedule,
        name: str,
        new: Callable[[], Callable[[Sequence[Change]], object]],
        *,
        most_containers: int = 3,
        backoff_s: float = 0.0,
    ) -> None:
        """``new`` makes a container's handler.

        A batch that has failed n times in a row waits up to n * ``backoff_s`` before the next try, where n is at most
        ``LONGEST_BACKOFF``.
        """
        self.failures: Counter[str] = Counter()
        self.waiting: dict[str, list[Change]] = defaultdict(list)
        """By partition."""
        self.ended_at = 0.0
        """Time when an invocation last succeeded."""
        self._schedule = schedule
        self._name = name
        self._new = new
        self._most = most_containers
        self._backoff_s = backoff_s
        self._not_before: dict[str, float] = {}
        self._failed: Counter[str] = Counter()
        """By partition, how many of the last deliveries failed, one after the other."""
        self._most_changes: defaultdict[str, int] = defaultdict(lambda: LARGEST_BATCH)
        """By partition, changes in a batch at most: half of those in one that has failed."""
        self._containers: list[Container[Change]] = []
        self._deliveries: list[Delivery[Change]] = []

    @property
    def settled(self) -> bool:
        return not self._deliveries and not self.is_behind

    @property
    def is_behind(self) -> bool:
        """Returns whether a change has not been delivered successfully."""
        return any(self.waiting.values())

    def deliver(self) -> None:
        """Begins one delivery, if there is a change to deliver and a container to receive it."""
        busy = {delivery.partition for delivery in self._deliveries if not delivery.given_up}
        busy |= {partition for partition, moment in self._not_before.items() if moment > self._schedule.now}
        ready = [partition for partition, changes in self.waiting.items() if changes and partition not in busy]
        container = self._container()
        if not ready or container is None:
            return
        partition = self._schedule.random.choice(ready)
        changes = self.waiting[partition][: self._schedule.random.choice([1, 2, self._most_changes[partition]])]
        delivery = Delivery(partition, len(changes), container, self._schedule.now)
        self._deliveries.append(delivery)
        container.busy = True

        def ended(task: Task) -> None:
            self._ended(task, delivery, container)

        delivery.task = self._schedule.spawn(f"{self._name} of {partition}", lambda: container.handler(changes), ended)

    def idle(self) -> list[list[Change]]:
        """Returns the queues of which nothing is being delivered."""
        busy = {delivery.partition for delivery in self._deliveries}
        return [changes for partition, changes in self.waiting.items() if partition not in busy]

    def hold_until(self, moment: float) -> None:
        """Delivers nothing that is waiting now before ``moment``."""
        self._not_before.update(dict.fromkeys(self.waiting, moment))

    def give_up(self) -> None:
        waited_for = [delivery for delivery in self._deliveries if not delivery.given_up]
        if waited_for:
            self._schedule.random.choice(waited_for).given_up = True

    def has_given_up_on(self, task: Task | None) -> bool:
        return any(delivery.given_up for delivery in self._deliveries if delivery.task is task)

    def give_up_on_those_before(self, moment: float, *, killed: bool = False) -> None:
        """Gives up on old deliveries, as Lambda does after a time-out, though their invocations may still run.

        With ``killed``, those do not run on, but end at their next call.
        """
        for delivery in self._deliveries:
            if delivery.begun < moment:
                delivery.given_up = True
                self._forget(delivery.container)
                if killed and delivery.task is not None:
                    delivery.task.killed = True

    def replace_containers(self) -> None:
        """Replaces all containers, as a deployment does; running invocations end in the old ones."""
        self._containers.clear()

    def forget_a_container(self) -> None:
        """Drops an idle container, as Lambda does now and then."""
        idle = [container for container in self._containers if not container.busy]
        if idle:
            self._forget(self._schedule.random.choice(idle))

    def _forget(self, container: Container[Change]) -> None:
        self._containers = [each for each in self._containers if each is not container]

    def _ended(self, task: Task, delivery: Delivery[Change], container: Container[Change]) -> None:
        container.busy = False
        self._deliveries.remove(delivery)
        if task.failure is None:
            del self._failed[delivery.partition]
            self._most_changes.pop(delivery.partition, None)
            if not delivery.given_up:
                del self.waiting[delivery.partition][: delivery.changes]
                self.ended_at = self._schedule.now
            return
        self.failures[type(task.failure).__name__] += 1
        self._failed[delivery.partition] += 1
        self._most_changes[delivery.partition] = max(1, delivery.changes // 2)
        if self._backoff_s:
            longest_s = self._backoff_s * min(self._failed[delivery.partition], LONGEST_BACKOFF)
            self._not_before[delivery.partition] = self._schedule.now + self._schedule.random.uniform(0, longest_s)
        if isinstance(task.failure, Crash):
            self._forget(container)
        elif not isinstance(task.failure, (Unavailable, Contended)):
            raise task.failure

    def _container(self) -> Container[Change] | None:
        idle = [container for container in self._containers if not container.busy]
        if len(self._containers) < self._most and (not idle or self._schedule.random.random() < 0.3):
            self._containers.append(Container(self._new()))
            return self._containers[-1]
        return self._schedule.random.choice(idle) if idle else None


def add_changes(changes: Sequence[StateChange], *listeners: Listener[StreamChange]) -> None:
    """Adds changes of the state table to the queues of its ``listeners``, partitioned by kind."""
    for change in changes:
        item = change.new or change.old
        assert item is not None
        body = change.new.body if change.new else None
        for listener in listeners:
            listener.waiting[item.kind].append(StreamChange(item.kind, item.id, body, change.old is not None))
