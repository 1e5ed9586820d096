"""The state table's stream and a function that listens to it, as Lambda runs it.

Changes of a kind come in order, one batch in flight each; a failed batch is delivered again, cut elsewhere. Lambda may
give up on an invocation that still runs, and the batch is then delivered a second time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chalicelib.ports import Contended, StreamChange, Unavailable
from sluice.local.stores import StateChange
from tests.support.simulation.schedule import Crash, Schedule, Task

Handler = Callable[[Sequence[StreamChange]], object]


@dataclass(eq=False, slots=True)
class Container:
    handler: Handler
    busy: bool = False


@dataclass(eq=False, slots=True)
class Delivery:
    kind: str
    changes: int
    container: Container
    begun: float
    given_up: bool = False


class Listener:
    """One function, and the changes not yet delivered to it."""

    def __init__(
        self,
        schedule: Schedule,
        name: str,
        new: Callable[[], Handler],
        *,
        most_containers: int = 3,
        backoff_s: float = 0.0,
    ) -> None:
        """``new`` makes a container's handler; a batch that failed waits up to ``backoff_s`` before the next try."""
        self.failures: Counter[str] = Counter()
        self.waiting: dict[str, list[StreamChange]] = defaultdict(list)
        self._schedule = schedule
        self._name = name
        self._new = new
        self._most = most_containers
        self._backoff_s = backoff_s
        self._not_before: dict[str, float] = {}
        self._containers: list[Container] = []
        self._deliveries: list[Delivery] = []

    def add(self, records: Sequence[StateChange]) -> None:
        for record in records:
            item = record.new or record.old
            assert item is not None
            body = record.new.body if record.new else None
            self.waiting[item.kind].append(StreamChange(item.kind, item.id, body, record.old is not None))

    @property
    def settled(self) -> bool:
        return not self._deliveries and not any(self.waiting.values())

    def deliver(self) -> None:
        """Begins one delivery, if there is a change to deliver and a container to receive it."""
        busy = {delivery.kind for delivery in self._deliveries if not delivery.given_up}
        busy |= {kind for kind, moment in self._not_before.items() if moment > self._schedule.now}
        kinds = [kind for kind, changes in self.waiting.items() if changes and kind not in busy]
        container = self._container()
        if not kinds or container is None:
            return
        kind = self._schedule.random.choice(kinds)
        changes = self.waiting[kind][: self._schedule.random.choice([1, 2, 100])]
        delivery = Delivery(kind, len(changes), container, self._schedule.now)
        self._deliveries.append(delivery)
        container.busy = True

        def ended(task: Task) -> None:
            self._ended(task, delivery, container)

        self._schedule.spawn(f"{self._name} of {kind}", lambda: container.handler(changes), ended)

    def give_up(self) -> None:
        waited_for = [delivery for delivery in self._deliveries if not delivery.given_up]
        if waited_for:
            self._schedule.random.choice(waited_for).given_up = True

    def give_up_on_those_before(self, moment: float) -> None:
        """Gives up on old deliveries, as Lambda does after a time-out, though their invocations may still run."""
        for delivery in self._deliveries:
            if delivery.begun < moment:
                delivery.given_up = True
                self._forget(delivery.container)

    def replace_containers(self) -> None:
        """Replaces all containers, as a deployment does; running invocations end in the old ones."""
        self._containers.clear()

    def _forget(self, container: Container) -> None:
        self._containers = [each for each in self._containers if each is not container]

    def _ended(self, task: Task, delivery: Delivery, container: Container) -> None:
        container.busy = False
        self._deliveries.remove(delivery)
        if task.failure is None:
            if not delivery.given_up:
                del self.waiting[delivery.kind][: delivery.changes]
            return
        self.failures[type(task.failure).__name__] += 1
        if self._backoff_s:
            self._not_before[delivery.kind] = self._schedule.now + self._schedule.random.uniform(0, self._backoff_s)
        if isinstance(task.failure, Crash):
            self._forget(container)
        elif not isinstance(task.failure, (Unavailable, Contended)):
            raise task.failure

    def _container(self) -> Container | None:
        idle = [container for container in self._containers if not container.busy]
        if len(self._containers) < self._most and (not idle or self._schedule.random.random() < 0.3):
            self._containers.append(Container(self._new()))
            return self._containers[-1]
        return self._schedule.random.choice(idle) if idle else None
