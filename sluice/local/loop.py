"""The local cloud's time: an event loop in one thread, on a clock that follows the wall clock or jumps.

Tasks are greenlets: while a handler sleeps, as the publisher does between updates, the others continue, as they would
in separate containers on Lambda. With a simulated clock, times alone determine the order of events.
"""

import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from greenlet import getcurrent, greenlet


class Clock(Protocol):
    """A clock of the loop."""

    def now(self) -> float:
        """Returns epoch seconds."""

    def wait_until(self, moment: float) -> None: ...


class SimulatedClock:
    """A clock that stands still during work and jumps to the next event."""

    def __init__(self, start: float) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def wait_until(self, moment: float) -> None:
        self._now = max(self._now, moment)


class WallClock:
    """A clock that runs from ``start``, ``speed`` times as fast as the wall clock: the time that work takes counts."""

    def __init__(self, start: float, speed: float = 1.0) -> None:
        self._start = start
        self._speed = speed
        self._began = time.monotonic()

    def now(self) -> float:
        return self._start + (time.monotonic() - self._began) * self._speed

    def wait_until(self, moment: float) -> None:
        missing = (moment - self.now()) / self._speed
        if missing > 0:
            time.sleep(missing)


class Loop:
    """An event loop whose tasks run one at a time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._hub: greenlet = getcurrent()

    def at(self, moment: float, call: Callable[[], object]) -> None:
        """Calls ``call`` once, as a task, at or after ``moment``."""
        task = greenlet(call)
        heappush(self._events, (moment, next(self._numbers), lambda: self._switch(task)))

    def every(self, interval: float, call: Callable[[], object], *, first: float) -> None:
        """Calls ``call`` at ``first`` and then every ``interval`` seconds, never while the previous call runs."""

        def run() -> None:
            call()
            self.every(interval, call, first=tick(first, interval, self.clock.now()))

        self.at(first, run)

    def sleep(self, seconds: float) -> None:
        """Lets other tasks run for ``seconds``. For tasks only."""
        task = getcurrent()
        heappush(self._events, (self.clock.now() + seconds, next(self._numbers), lambda: self._switch(task)))
        self._hub.switch()

    def run(self, until: float) -> None:
        """Runs all events up to ``until`` (inclusive) and returns at that time. Raises what a task raises."""
        self._hub = getcurrent()
        while self._events and self._events[0][0] <= until:
            moment, _, event = heappop(self._events)
            self.clock.wait_until(moment)
            event()
        self.clock.wait_until(until)

    def _switch(self, task: greenlet) -> None:
        task.parent = self._hub
        task.switch()


def tick(first: float, interval: float, now: float) -> float:
    """Returns the first of ``first``, ``first + interval``, ... that is after ``now``.

    >>> tick(0.25, 1.0, 3.5), tick(0.25, 1.0, 3.25)
    (4.25, 4.25)
    """
    return first if now < first else first + (int((now - first) / interval) + 1) * interval


class Bell:
    """A poll that is made only after a ring, at the next tick.

    Polling an idle source a million times per day would slow a simulation down and change nothing.
    """

    def __init__(self, loop: Loop, interval: float, call: Callable[[], bool], *, first: float) -> None:
        """``call`` returns whether to call it again at the next tick."""
        self._loop = loop
        self._interval = interval
        self._first = first
        self._call = call
        self._rung = self._busy = False

    def ring(self) -> None:
        """Requests a call. A ring during a call causes another one after it."""
        if not self._rung and not self._busy:
            self._loop.at(tick(self._first, self._interval, self._loop.clock.now()), self._answer)
        self._rung = True

    def _answer(self) -> None:
        self._rung, self._busy = False, True
        again = True
        try:
            again = self._call()
        finally:
            self._busy = False
            if again or self._rung:
                self._rung = False
                self.ring()
