"""Tasks that switch at every call to the outside, in an order that a seed decides, with faults at named points.

A task is a greenlet. Every port call has a point before and one after its effect: there other tasks may run, the
container may crash (``Crash``: none of its tasks continues), or the call may fail (``Unavailable``: the container
survives). A fault after the effect is a write whose acknowledgement was lost.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import TypeVar

from greenlet import getcurrent, greenlet

from chalicelib.ports import Unavailable

_T = TypeVar("_T")

LONGEST_STALL_S = 5


class Crash(BaseException):
    """The container is gone."""


class Faults:
    """Faults at points chosen by chance, at most ``most`` of them."""

    def __init__(
        self, random: Random, *, chance: float, most: int, kinds: Iterable[type[BaseException]] = (Crash, Unavailable)
    ) -> None:
        self._random = random
        self._chance = chance
        self._left = most
        self._kinds = list(kinds)

    def at(self, point: str) -> BaseException | None:
        if not self._left or self._random.random() >= self._chance:
            return None
        self._left -= 1
        return self._random.choice(self._kinds)(f"injected {point}")


class FaultAt(Faults):
    """One fault, at the ``number``-th point that is reached (from 0)."""

    def __init__(self, number: int, kind: type[BaseException] = Crash) -> None:
        super().__init__(Random(0), chance=0, most=0)
        self._number = number
        self._kind = kind
        self.struck: str | None = None

    def at(self, point: str) -> BaseException | None:
        self._number -= 1
        if self._number != -1:
            return None
        self.struck = point
        return self._kind(f"injected {point}")


class Task:
    """One invocation. ``failure`` is what ended it; None if it succeeded or has not ended."""

    def __init__(self, name: str, call: Callable[[], object], ended: Callable[["Task"], None]) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.wake_at = 0.0
        self.over = False
        self.killed = False
        """True if it ends at its next point."""
        self.priority = 0.0
        self._call = call
        self._ended = ended
        self.greenlet = greenlet(self._run)

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as exc:  # noqa: BLE001 - whatever ends a task is its driver's to judge
            self.failure = exc
        self.over = True
        self._ended(self)


class Schedule:
    """Runs tasks a step at a time. ``now`` is the time of the world in epoch seconds.

    Some schedules take any ready task for each step, some follow priorities that change occasionally, and in some
    a task may pause for seconds while all others continue, which finds the rarest races.
    """

    def __init__(self, random: Random, faults: Faults, *, start: float) -> None:
        self.random = random
        self.faults = faults
        self.now = start
        self.tasks: list[Task] = []
        self.trace: list[str] = []
        self._redraw = random.choice([1.0, 1.0, 0.1, 0.02])
        self._stall = random.choice([0, 0, 0.08])
        self._hub = getcurrent()
        self._running: Task | None = None

    @property
    def running(self) -> Task | None:
        """The task that calls; None outside of all tasks."""
        return self._running

    def spawn(self, name: str, call: Callable[[], object], ended: Callable[[Task], None]) -> Task:
        task = Task(name, call, ended)
        self.tasks.append(task)
        return task

    def step(self) -> bool:
        """Runs one task up to its next point, or lets time pass if all wait. Returns whether there was any task."""
        if not self.tasks:
            return False
        ready = [task for task in self.tasks if task.wake_at <= self.now]
        for task in self.tasks:
            if not task.priority or self.random.random() < self._redraw:
                task.priority = self.random.random()
        if not ready:
            # Time passes in small steps, because other events may happen while all tasks wait.
            until = min(task.wake_at for task in self.tasks)
            self.now = min(until, self.now + self.random.choice([0.05, 1.0, 60.0]))
            return True
        task = self._running = max(ready, key=lambda task: task.priority)
        self._hub = getcurrent()
        task.greenlet.parent = self._hub
        task.greenlet.switch()
        self._running = None
        if task.over:
            self.tasks.remove(task)
        return True

    def run_out(self) -> None:
        """Runs all tasks to their ends."""
        while self.step():
            pass

    def point(self, name: str) -> None:
        """Lets other tasks run; raises a fault if one is due at this point."""
        task = self._running
        if task is None:
            return
        if self.random.random() < self._stall:
            task.wake_at = self.now + self.random.uniform(0, LONGEST_STALL_S)
        self._hub.switch()
        fault = Crash("out of time") if task.killed else self.faults.at(name)
        self.trace.append(f"{task.name}: {name}" + (f" !{type(fault).__name__}" if fault else ""))
        if fault is not None:
            raise fault

    def call(self, name: str, effect: Callable[[], _T]) -> _T:
        """Returns the result of ``effect``, called between two points."""
        self.point(f"before {name}")
        answer = effect()
        self.point(f"after {name}")
        return answer

    def sleep(self, seconds: float) -> None:
        """Lets other tasks run for ``seconds``."""
        if self._running is not None:
            self._running.wake_at = self.now + seconds
            self._hub.switch()
