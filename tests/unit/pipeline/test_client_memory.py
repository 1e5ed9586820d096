"""The memory of clients: what evaluators note, and what enforcers read."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from chalicelib.core.addresses import parse_network
from chalicelib.core.client_groups import group_keys
from chalicelib.core.known_clients import PERIOD_S, digest_of, period_of
from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.breakers import Known
from chalicelib.core.tally import Tally, count
from chalicelib.pipeline.client_memory import READ_AGAIN_S, STORED_EVERY_S, Acquaintances, ClientMemory
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item, Unavailable, Write
from tests.support.state import Store

START = period_of(1_760_000_000)
DAY = 86400
(METER,) = parse_rules('[[rule]]\nname = "r"\nlimit = 1\nwindow = "5s"\n').meters()


def tally(*hosts: int) -> Tally:
    keys = [bytes([192, 0, 2, host]) for host in hosts]
    return [MeterTally.of(Source.CLOUDFRONT, METER, count(keys, [START * 1000] * len(keys), METER.slot_ms))]


def stored(store: Store, period: int = START) -> set[int]:
    """Returns the last bytes of the addresses in a period's record."""
    found = State(store).get(Known, f"{period:010d}")
    return set() if found is None else {mark[3] for mark in digest_of(found.record).marks}


def known(memory: Acquaintances, now: int) -> bool:
    clients = memory.at(now)
    return clients is not None and bool(clients.within(parse_network("192.0.2.1")))


def test_what_an_evaluator_counts_is_stored_at_once_and_then_every_ten_minutes() -> None:
    store = Store()
    memory = ClientMemory(State(store))
    memory.note([tally(1), tally(2)], START)
    assert stored(store) == {1, 2}
    memory.note([tally(3)], START + STORED_EVERY_S - 1)
    assert stored(store) == {1, 2}
    memory.note([], START + STORED_EVERY_S)
    assert stored(store) == {1, 2, 3}


def test_a_network_that_a_rule_counts_as_a_whole_is_no_client_beside_its_own_clients() -> None:
    narrow, wide = parse_rules(
        '[[rule]]\nname = "login"\nlimit = 1\nwindow = "5s"\nscope = { path_prefix = ["/login"] }\n'
        '[[rule]]\nname = "fleet"\nlimit = 1\nwindow = "5s"\naggregate = { ipv4 = 24, ipv6 = 32 }\n'
    ).meters()
    groups = replace(wide, by=("path",))
    by_itself, in_groups, networks = (
        [ip_address(text).packed for text in texts.split()]
        for texts in (
            "192.0.2.7 2001:db8:1::",
            "203.0.113.7",
            "192.0.2.0 198.51.100.0 2001:db8:: 2001:db9:: 203.0.113.0",
        )
    )
    counted = [
        MeterTally.of(Source.CLOUDFRONT, meter, count(keys, [START * 1000] * len(keys), meter.slot_ms))
        for meter, keys in (
            (wide, networks),
            (narrow, by_itself),
            (groups, group_keys(networks, [b"--path--"] * len(networks))),
            (replace(narrow, by=("path",)), group_keys(in_groups, [b"--path--"])),
        )
    ]
    store = Store()
    ClientMemory(State(store)).note([counted], START)
    (item,) = State(store).records(Known)
    assert digest_of(item).marks == {address[:6] for address in (*by_itself, *in_groups, networks[1], networks[3])}


def test_nothing_is_written_while_nobody_new_comes() -> None:
    store = Store()
    memory = ClientMemory(State(store))
    for minute in range(0, 300, 10):
        memory.note([tally(1, 2)], START + 60 * minute)
    assert len(store.writes) == 1
    ClientMemory(State(store)).note([tally(2)], START + PERIOD_S - 1)
    assert len(store.writes) == 1


def test_a_period_is_completed_when_the_next_one_begins() -> None:
    store = Store()
    memory = ClientMemory(State(store))
    memory.note([tally(1)], START)
    memory.note([tally(2)], START + 1)
    memory.note([tally(3)], START + 20 * PERIOD_S)
    assert (stored(store), stored(store, START + 20 * PERIOD_S)) == ({1, 2}, {3})


def test_two_evaluators_lose_nothing_to_each_other() -> None:
    store = Store()
    first, second = ClientMemory(State(store)), ClientMemory(State(store))
    first.note([tally(1)], START + 5)
    second.note([tally(2)], START + 9)
    store.meddle = lambda: second.note([tally(4)], START + 9 + STORED_EVERY_S)
    first.note([tally(3)], START + 5 + STORED_EVERY_S)
    first.note([], START + 5 + 2 * STORED_EVERY_S)
    assert stored(store) == {1, 2, 3, 4}
    (record,) = State(store).records(Known)
    assert record.counted_since == START + 5


def test_a_store_that_fails_stops_nothing_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    memory = ClientMemory(State(store))

    def unavailable(writes: Sequence[Write]) -> None:
        raise Unavailable("the state table")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", unavailable)
        memory.note([tally(1)], START)
    memory.note([tally(2)], START + STORED_EVERY_S)
    assert stored(store) == {1, 2}


def test_the_memory_is_read_once_in_a_period_and_more_often_while_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, reads = Store(), []
    query = store.query

    def counted(kind: str, **how: object) -> object:
        reads.append(kind)
        return query(kind, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "query", counted)
    memory = Acquaintances(State(store))
    assert [known(memory, START + at) for at in (0, READ_AGAIN_S - 1, READ_AGAIN_S)] == [False] * 3
    assert reads == ["known"] * 2
    ClientMemory(State(store)).note([tally(1)], START)
    assert [known(memory, START + at) for at in (DAY, DAY + PERIOD_S - 1, DAY + PERIOD_S)] == [True] * 3
    assert reads == ["known"] * 4


def test_records_are_removed_once_nobody_is_known_by_them() -> None:
    store = Store()
    ClientMemory(State(store)).note([tally(1)], START)
    (item,) = store.query(Known.kind)
    assert isinstance(item, Item)
    assert item.expires_at is not None
    assert item.expires_at >= START + 3 * DAY + 2 * PERIOD_S
