"""A local cloud that serves its API and page on 127.0.0.1.

The cloud runs in one thread and has no locks. While nothing is due, its clock waits here and makes the calls that
other threads hand over, between two events: a page is served while the cloud runs.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from chalicelib import handlers
from chalicelib.bootstrap import compose, running_in
from chalicelib.core.tally import kept_s
from chalicelib.core.tokens import SECRET_BYTES, Role, Token, issue
from chalicelib.ports import Announcements, Feeds, LogObjects
from sluice.local.cloud import LocalCloud
from sluice.local.gateway import HOST, Gateway, serve

T = TypeVar("T")

EXPIRY_S = 60.0
"""Seconds between two removals of old tallies."""


class ServedClock:
    """A clock that follows the wall clock. Started in the past, it jumps from event to event until it has caught up."""

    def __init__(self, start: float | None = None) -> None:
        """``start``: epoch seconds in the past; by default the current time."""
        self._epoch = time.time() - time.monotonic()
        self._past = start
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def now(self) -> float:
        """Returns epoch seconds."""
        return self._wall() if self._past is None else self._past

    def wait_until(self, moment: float) -> None:
        """Makes the calls of other threads until ``moment``, and at least those that are already queued.

        While the clock catches up, it jumps to ``moment`` and makes no calls.
        """
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
        """Makes the loop's thread call ``work``; returns its result or raises its error. For other threads only."""
        done: Future[T] = Future()

        def call() -> None:
            try:
                done.set_result(work())
            except BaseException as exc:  # noqa: BLE001 - raised again in the calling thread
                done.set_exception(exc)

        self._calls.put(call)
        return done.result()

    def _wall(self) -> float:
        return self._epoch + time.monotonic()


class ServedCloud:
    """A local cloud with its API on a port. Create and run it in one thread; it answers others while it runs."""

    def __init__(
        self,
        *,
        rules: str,
        port: int = 0,
        start: float | None = None,
        seed: int = 0,
        settings: Mapping[str, str] | None = None,
        allow: Sequence[tuple[str, str]] = (),
        objects: LogObjects | None = None,
        announcements: Announcements | None = None,
        feeds: Feeds | None = None,
    ) -> None:
        """``start``: epoch seconds in the past, from which the cloud catches up. ``objects``: its bucket.
        ``announcements``: their receiver. ``feeds``: what reads them.

        Raises RulesError, ConfigError, or OSError if the port is taken.
        """
        self.clock = ServedClock(start)
        self.cloud = LocalCloud(
            self.clock,
            rules=rules,
            seed=seed,
            settings=settings,
            allow=allow,
            objects=objects,
            announcements=announcements,
            feeds=feeds,
        )
        self.tokens: list[Token] = []
        """Accepted tokens, as they are stored."""
        world = replace(self.cloud.world, tokens=lambda: tuple(self.tokens))
        services = compose(self.cloud.config, world)
        gateway = Gateway(handlers.app, lambda: running_in(services))
        self._server = serve(lambda *call: self.clock.hand_over(lambda: gateway.answer(*call)), port)
        self.url = f"http://{HOST}:{self._server.server_address[1]}/"
        self.cloud.start()
        self.cloud.loop.every(EXPIRY_S, self._expire, first=self.cloud.now())

    def token(self, name: str, role: Role) -> str:
        """Returns a new token, valid until this cloud ends."""
        text, token = issue(name, role, secret=secrets.token_bytes(SECRET_BYTES), now=int(time.time()))
        self.tokens.append(token)
        return text

    def run(self, until: float) -> None:
        """Runs until ``until`` (epoch seconds)."""
        self.cloud.loop.run(until)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answers HTTP requests inside the ``with`` block, where the caller has to call ``run``."""
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _expire(self) -> None:
        self.cloud.tally_logs.expire(int((self.cloud.now() - kept_s(self.cloud.config.retention_s)) * 1000))
