"""A clock for simulations in which the work of the deployed handlers takes time.

Nothing of Sluice's is imported, so that earlier versions can use it, too.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch


class WorkingClock:
    """A clock that jumps like the simulated one, and on which the CPU time of the handlers passes.

    Handlers work one after the other, though they have processors of their own on Lambda. What only imitates the world
    around them, such as the traffic and the edge, takes no time.
    """

    def __init__(self, start: float) -> None:
        self._now = start
        self._working_since: float | None = None
        """CPU time of this process when a handler began to work; None while none does."""

    def now(self) -> float:
        return self._now + (0.0 if self._working_since is None else time.process_time() - self._working_since)

    def wait_until(self, moment: float) -> None:
        self._now = max(self._now, moment)

    @contextmanager
    def _while(self, *, working: bool) -> Iterator[None]:
        before = self._working_since is not None
        self._work(working)
        try:
            yield
        finally:
            self._work(before)

    def _work(self, working: bool) -> None:
        self._now = self.now()
        self._working_since = time.process_time() if working else None

    @contextmanager
    def timing(self, loop: type[Any], cloud: type[Any]) -> Iterator[None]:
        """Lets time pass for the handlers of all local clouds: ``loop`` and ``cloud`` are the classes of theirs."""

        def timed(method: Callable[..., Any], *, working: bool) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                with self._while(working=working):
                    return method(*arguments)

            return call

        with ExitStack() as stack:
            stack.enter_context(patch.object(cloud, "_invoke", timed(cloud._invoke, working=True)))
            stack.enter_context(patch.object(loop, "sleep", timed(loop.sleep, working=False)))
            yield
