"""The reads of the admin API with very many blocks in force and a month of history, in one container."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from threading import RLock
from urllib.parse import urlencode

from msgspec.structs import replace as with_fields

import app
from bench.measure import Figure, cpu_s
from bench.publishing import NOW as MADE_AT
from bench.publishing import blocks
from bench.units import MeteredStore
from chalicelib.bootstrap import compose, running_in
from chalicelib.core.durations import DAY_S
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.events import Event, Events
from chalicelib.pipeline.stored import State
from sluice.local.gateway import Gateway
from tests.support.admin_api import Desk

BLOCKS = 100_000
DAYS, RECORDS_A_DAY, EVENTS = 30, 140, 49
"""Days of history, its records a day, and the events in each, as an attack leaves them."""

ROUNDS = 3

CALLS: dict[str, tuple[str, Mapping[str, object]]] = {
    "status": ("/v1/status", {}),
    "blocks, newest first": ("/v1/blocks", {"limit": 200}),
    "blocks by network": ("/v1/blocks", {"limit": 200, "sort": "network"}),
    "blocks by number of requests": ("/v1/blocks", {"limit": 200, "sort": "-count"}),
    "blocks with a text": ("/v1/blocks", {"limit": 200, "text": "203.0.113"}),
    "blocks within a network": ("/v1/blocks", {"limit": 200, "text": "203.0.113.0/24"}),
    "a client": ("/v1/clients", {"address": "203.0.113.9"}),
    "a network": ("/v1/clients", {"address": "203.0.113.0/24"}),
    "series": ("/v1/series", {"step": 10}),
    "history, newest first": ("/v1/history", {"limit": 100}),
    "history of a network": ("/v1/history", {"network": "203.0.113.9", "limit": 100}),
    "busiest clients": ("/v1/top", {"n": 8}),
    "allowlist": ("/v1/allowlist", {}),
    "rules": ("/v1/rules", {}),
    "audit": ("/v1/audit", {}),
}
"""Path and query by name."""


def figures() -> Iterator[Figure]:
    desk = filled()
    state = State(desk.cloud.state)
    floor_s = cpu_s(lambda: state.records(Block), rounds=ROUNDS)
    metered = _Units(desk)
    for name, (path, query) in CALLS.items():
        target = f"{path}?{urlencode(query)}" if query else path
        call = partial(_call, desk, target)
        first_s = cpu_s(call, rounds=1)
        call_s = cpu_s(call, rounds=ROUNDS)
        yield Figure(
            f"CPU of the API with {BLOCKS:,} blocks / decoding them: {name}",
            call_s / floor_s,
            "x",
            0.2,
            f"{call_s * 1000:.0f} ms / {floor_s * 1000:,.0f} ms; the first call {first_s * 1000:,.0f} ms; "
            f"{metered.of(target):,.0f} read units",
        )


def filled() -> Desk:
    """Returns the API of a site with ``BLOCKS`` blocks in force and the events of ``DAYS`` days."""
    desk = Desk()
    desk.attack("203.0.113.9")
    state, later = State(desk.cloud.state), desk.now - MADE_AT
    state.overwrite(*(_offender(block, later, number) for number, block in enumerate(blocks(BLOCKS))))
    state.overwrite(*(_events(desk.now, number) for number in range(DAYS * RECORDS_A_DAY)))
    return desk


def _offender(block: Block, later: int, number: int) -> Block:
    at = block.blocked_at + later
    evidence = Evidence(
        rule="burst",
        count=40 + number % 97,
        limit=20,
        window_s=10,
        first_ms=at * 1000 - 9000,
        last_ms=at * 1000,
        source="cloudfront",
        arrived_ms=at * 1000,
        detection=f"shard-0/{number}/burst/cloudfront",
    )
    return with_fields(block, blocked_at=at, until=block.until + later, offence=1, evidence=evidence)


def _events(now: int, number: int) -> Events:
    at = now - DAYS * DAY_S + number * DAY_S // RECORDS_A_DAY
    clients = (f"10.{number >> 8 & 255}.{number & 255}.{host}/32" for host in range(EVENTS))
    events = (Event(outcome="blocked", network=client, rule="burst", until=at + 600, offence=1) for client in clients)
    return Events(at_ms=at * 1000, events=tuple(events))


def _call(desk: Desk, target: str, gateway: Gateway | None = None) -> None:
    """Makes a call three seconds after the one before, in which three more clients were blocked."""
    desk.clock.wait_until(desk.clock.now() + 3)
    for host in range(3):
        desk.put_block(f"9.9.{desk.now % 256}.{host}/32")
    sent = {"authorization": f"Bearer {desk.secrets['alice']}"}
    answer = (gateway or desk.gateway).answer("GET", target, sent, b"", "198.51.100.4")
    assert answer.status == 200, (target, answer.status, answer.body)


class _Units:
    """The read units of calls."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._store = MeteredStore(desk.cloud.state)
        services = compose(desk.cloud.config, replace(desk.services.world, state=self._store))
        self._gateway = Gateway(app.app, lambda: running_in(services), RLock())

    def of(self, target: str) -> float:
        before = self._store.reads
        _call(self._desk, target, self._gateway)
        return self._store.reads - before
