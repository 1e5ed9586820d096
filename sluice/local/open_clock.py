"""The clock of a local cloud that is open to the outside: other threads' calls are made in the loop's own thread.

The cloud knows one thread only. While nothing is due, the loop waits here; a call that arrives meanwhile is made at
once, between two events, so nothing needs a lock and a page is served while the cloud runs.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class OpenClock:
    """Runs with the wall's clock. Started in the past, it jumps from event to event until it has caught up."""

    def __init__(self, start: float | None = None) -> None:
        """``start``: epoch seconds in the past; now if left out."""
        self._epoch = time.time() - time.monotonic()
        self._past = start
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def now(self) -> float:
        """Epoch seconds."""
        return self._wall() if self._past is None else self._past

    def wait_until(self, moment: float) -> None:
        """Makes what other threads call until ``moment`` has come; at least what is waiting already."""
        if self._past is not None:
            if moment < self._wall():
                self._past = max(self._past, moment)
                return
            self._past = None
        for _ in range(self._calls.qsize()):
            self._calls.get()()
        while (missing := moment - self._wall()) > 0:
            try:
                call = self._calls.get(timeout=missing)
            except Empty:
                return
            call()

    def hand_over(self, work: Callable[[], T]) -> T:
        """Has ``work`` done by the loop; returns, or raises, what it does. To be called from other threads."""
        done: Future[T] = Future()

        def call() -> None:
            try:
                done.set_result(work())
            except BaseException as exc:  # noqa: BLE001 - it is raised where it was asked for
                done.set_exception(exc)

        self._calls.put(call)
        return done.result()

    def _wall(self) -> float:
        return self._epoch + time.monotonic()
