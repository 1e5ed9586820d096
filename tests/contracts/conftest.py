"""One fixture per port, with every adapter behind it. The AWS adapters run on moto and on AWS's own DynamoDB Local."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Barrier
from typing import Any, cast

import pytest

from chalicelib.edges.events import state_changes
from chalicelib.edges.roll_up_table import RollUpTable
from chalicelib.edges.state_table import StateTable
from chalicelib.edges.tally_table import TallyTable
from chalicelib.ports import Conflict, RollUps, StateStore, StreamChange, TallyLogs
from sluice.local.events import state_event
from sluice.local.stores import MemoryRollUps, MemoryStateStore, MemoryTallyLogs
from tests.support.tables import Tables, stream_event, streams_client

AWS = ("moto", "dynamodb-local")
ATOMIC = ("memory", "dynamodb-local")
"""Stores on which threads may race. Not moto, which lets two conditional writes succeed."""


@pytest.fixture(params=AWS)
def tables(request: pytest.FixtureRequest) -> Tables:
    return _tables(request)


def _tables(request: pytest.FixtureRequest) -> Tables:
    return cast("Tables", request.getfixturevalue("moto_tables" if request.param == "moto" else "local_tables"))


@pytest.fixture(params=("memory", *AWS))
def tally_logs(request: pytest.FixtureRequest) -> TallyLogs:
    if request.param == "memory":
        return MemoryTallyLogs()
    tables = _tables(request)
    return TallyTable(tables.client, tables.tally)


@pytest.fixture(params=("memory", *AWS))
def roll_ups(request: pytest.FixtureRequest) -> RollUps:
    if request.param == "memory":
        return MemoryRollUps()
    tables = _tables(request)
    return RollUpTable(tables.client, tables.tally)


@pytest.fixture(params=("memory", *AWS))
def store(request: pytest.FixtureRequest) -> StateStore:
    if request.param == "memory":
        return MemoryStateStore()
    tables = _tables(request)
    return StateTable(tables.client, tables.state)


@dataclass(frozen=True, slots=True)
class Streamed:
    """A state store, and all that its stream has delivered, as Lambda's event and as the changes in it."""

    store: StateStore
    event: Callable[[], dict[str, Any]]

    def changes(self) -> list[StreamChange]:
        return state_changes(self.event())


@pytest.fixture(params=("memory", *AWS))
def streamed(request: pytest.FixtureRequest) -> Iterator[Streamed]:
    if request.param == "memory":
        memory = MemoryStateStore()
        yield Streamed(memory, lambda: state_event(memory.changes))
        return
    tables = _tables(request)
    endpoint = None if request.param == "moto" else request.getfixturevalue("dynamodb_local")
    streams = streams_client(endpoint)
    yield Streamed(StateTable(tables.client, tables.state), lambda: stream_event(streams, tables.state_stream_arn))
    streams.close()


Race = Callable[[object, Callable[[int, int], object]], list[list[int]]]
RACERS = 8


@pytest.fixture
def race() -> Iterator[Race]:
    """Eight threads race through rounds on a store.

    ``race(store, write)`` calls ``write(round, racer)`` in each thread for one round after the other, and gives each
    round's winners: the racers that met no Conflict.
    """
    before = sys.getswitchinterval()
    with ThreadPoolExecutor(RACERS) as threads:

        def run(store: object, write: Callable[[int, int], object]) -> list[list[int]]:
            rounds = 15
            if isinstance(store, (MemoryTallyLogs, MemoryStateStore)):
                # Memory is quick: threads meet only if they take turns at every chance, and then in a few of many
                # rounds. Those that call a server meet in most.
                rounds = 2000
                sys.setswitchinterval(1e-6)
            winners: list[list[int]] = [[] for _ in range(rounds)]
            start = Barrier(RACERS)

            def race_through(racer: int) -> None:
                start.wait(60)
                for number in range(rounds):
                    with suppress(Conflict):
                        write(number, racer)
                        winners[number].append(racer)

            list(threads.map(race_through, range(RACERS)))
            return winners

        yield run
    sys.setswitchinterval(before)
