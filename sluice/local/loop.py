"""The local cloud's time: an event loop in one thread, on a clock that runs with the wall's or jumps.

Tasks are greenlets, so a handler that sleeps (the publisher keeps its updates apart) lets the others go on, as
Lambda's containers would. With a simulated clock the order of everything follows from the times alone.
"""

import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from greenlet import getcurrent, greenlet


class Clock(Protocol):
    def now(self) -> float:
        """Epoch seconds."""

    def wait_until(self, moment: float) -> None: ...


class SimulatedClock:
    """Stands still while work is done and jumps to the next event."""

    def __init__(self, start: float) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def wait_until(self, moment: float) -> None:
        self._now = max(self._now, moment)


class WallClock:
    """Runs from ``start``, ``speed`` times as fast as the wall's clock: the time that work takes counts."""

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
        """Calls ``call`` at ``first`` and then again and again, never twice at the same time."""

        def run() -> None:
            call()
            self.every(interval, call, first=tick(first, interval, self.clock.now()))

        self.at(first, run)

    def sleep(self, seconds: float) -> None:
        """Lets others run for ``seconds``; to be called from a task."""
        task = getcurrent()
        heappush(self._events, (self.clock.now() + seconds, next(self._numbers), lambda: self._switch(task)))
        self._hub.switch()

    def run(self, until: float) -> None:
        """Runs all events up to ``until`` (inclusive) and returns at that time. What a task raises is raised here."""
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
    """The next of ``first``, ``first + interval``, ... that is after ``now``.

    >>> tick(0.25, 1.0, 3.5), tick(0.25, 1.0, 3.25)
    (4.25, 4.25)
    """
    return first if now < first else first + (int((now - first) / interval) + 1) * interval


class Bell:
    """Calls somebody at the next tick after it is rung; who is never rung is never called.

    What polls an idle source a million times a day costs a simulation its speed, and changes nothing.
    """

    def __init__(self, loop: Loop, interval: float, call: Callable[[], bool], *, first: float) -> None:
        """``call`` says whether it is to be called again at the next tick."""
        self._loop = loop
        self._interval = interval
        self._first = first
        self._call = call
        self._rung = self._busy = False

    def ring(self) -> None:
        """Also heard while the last call is still running: then it is answered after that."""
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
