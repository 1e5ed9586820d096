"""Clocks for simulations whose own work is to be timed."""

import time


class WorkingClock:
    """A clock that jumps like the simulated one, and on which the CPU time of this process passes."""

    def __init__(self, start: float) -> None:
        self._start = start - time.process_time()

    def now(self) -> float:
        return self._start + time.process_time()

    def wait_until(self, moment: float) -> None:
        self._start += max(0.0, moment - self.now())
