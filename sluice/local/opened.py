"""A local cloud with its API and page open on 127.0.0.1."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from threading import Thread
from typing import Any

from chalicelib import handlers as deployed
from chalicelib.bootstrap import compose, running_in
from chalicelib.core.tokens import SECRET_BYTES, Role, Token, issue
from sluice.local.cloud import LocalCloud
from sluice.local.gateway import HOST, Answer, Gateway, serve
from sluice.local.open_clock import OpenClock

TALLIES_KEPT_S = 3 * 3600
EXPIRY_S = 60.0


class OpenGateway(Gateway):
    """A gateway whose calls are made in the cloud's own thread, while the cloud runs."""

    def __init__(self, container: Callable[[], AbstractContextManager[None]], clock: OpenClock) -> None:
        super().__init__(deployed.app, container)
        self._clock = clock

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes, source: str) -> Answer:
        answer_here = super().answer
        return self._clock.hand_over(lambda: answer_here(method, target, headers, body, source))


class OpenCloud:
    """To be made and run in one thread; it answers others while it runs."""

    def __init__(
        self,
        *,
        rules: str,
        port: int = 0,
        start: float | None = None,
        seed: int = 0,
        settings: Mapping[str, str] | None = None,
        allow: Sequence[tuple[str, str]] = (),
    ) -> None:
        """``start``: epoch seconds in the past, from which it catches up. Raises RulesError, ConfigError, OSError."""
        self.clock = OpenClock(start)
        self.cloud = LocalCloud(self.clock, rules=rules, seed=seed, settings=settings, allow=allow)
        self.kept: list[Token] = []
        """The tokens that are accepted, as they are stored."""
        world = replace(self.cloud.world, tokens=lambda: tuple(self.kept))
        services = compose(self.cloud.config, world)
        self._server = serve(OpenGateway(lambda: running_in(services), self.clock), port)
        self.url = f"http://{HOST}:{self._server.server_address[1]}/"
        self.cloud.start()
        self.cloud.loop.every(EXPIRY_S, self._expire, first=self.cloud.now())

    def token(self, name: str, role: Role) -> str:
        """A fresh token, good until this ends."""
        text, kept = issue(name, role, secret=secrets.token_bytes(SECRET_BYTES), now=int(time.time()))
        self.kept.append(kept)
        return text

    def hand_over(self, work: Callable[[], Any]) -> Any:
        """What ``work`` returns, done by the running cloud. To be called from other threads."""
        return self.clock.hand_over(work)

    def run(self, until: float) -> None:
        """Runs to ``until`` (epoch seconds)."""
        self.cloud.loop.run(until)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answers while the block runs; in it, call ``run``."""
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _expire(self) -> None:
        self.cloud.tally_logs.expire(int((self.cloud.now() - TALLIES_KEPT_S) * 1000))
