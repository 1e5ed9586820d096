"""Typed records: what cannot be read is skipped and replaced, and an allowlist entry still holds back what it names."""

from collections.abc import Collection, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

import pytest

from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.breakers import Breaker
from chalicelib.core.state.events import Events
from chalicelib.core.state.kinds import record_type
from chalicelib.core.state.operators import Audit, Pause, WebAcls
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.records import Unreadable
from chalicelib.core.state.trends import TrendMark
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Item, Write
from sluice.local.stores import MemoryStateStore
from tests.support.damaged import DAMAGED, NETWORK, VALID

NOW = 1_760_000_000
every_damage = pytest.mark.parametrize("item", DAMAGED.values(), ids=DAMAGED)


@pytest.fixture
def store() -> MemoryStateStore:
    return MemoryStateStore()


@pytest.fixture
def state(store: MemoryStateStore) -> State:
    return State(store)


def test_records_are_returned_in_the_order_in_which_they_were_asked_for(store: MemoryStateStore, state: State) -> None:
    """DynamoDB answers in whatever order."""
    names = [f"203.0.113.{number}/32" for number in (7, 1, 4)]
    state.overwrite(*(Block(network=name, blocked_at=1, until=2) for name in sorted(names)))
    assert list(state.get_many(Block, [*names, "192.0.2.1/32"])) == names
    any_order = store.get_many
    vars(store)["get_many"] = lambda kind, ids: dict(reversed([*any_order(kind, ids).items()]))
    assert list(state.get_many(Block, names)) == names


@pytest.mark.parametrize(("kind", "id"), VALID)
def test_a_record_is_read_as_it_was_written(state: State, kind: str, id: str) -> None:
    record = VALID[kind, id]
    state.write([state.put(record, id=id)])
    found = state.find(type(record), id)
    assert isinstance(found, Stored)
    assert (found.record, found.id, found.version) == (record, id, 1)
    assert state.get(type(record), id) == found
    assert state.get_many(type(record), [id]) == {id: found}


@every_damage
def test_a_record_that_cannot_be_read_is_skipped_and_reported(
    store: MemoryStateStore, state: State, item: Item
) -> None:
    of = record_type(item.kind, item.id)
    assert of is not None
    store.put_over([item])
    found = state.find(of, item.id)
    assert isinstance(found, Unreadable)
    assert (found.kind, found.id) == (item.kind, item.id)
    assert 0 < len(found.reason) <= 200
    assert list(state.scan(of)) == [found]
    assert state.get(of, item.id) is None
    assert state.get_many(of, [item.id]) == {}
    assert list(state.all(of)) == []
    assert state.records(of) == []


# No two records of events have one id.
REPLACED = [what for what, each in DAMAGED.items() if (each.kind, each.id) in VALID and each.kind != Events.kind]


@pytest.mark.parametrize("what", REPLACED)
def test_a_new_record_replaces_one_that_cannot_be_read(store: MemoryStateStore, state: State, what: str) -> None:
    item = DAMAGED[what]
    new = VALID[item.kind, item.id]
    store.put_over([item])
    others = [state.put(Block(network=f"192.0.2.{n}/32", blocked_at=1, until=2)) for n in range(3)]
    state.write([*others, state.put(new, id=item.id)])
    stored = state.get(type(new), item.id)
    assert stored is not None
    assert (stored.record, stored.version) == (new, 5)
    with pytest.raises(Conflict):
        state.write([state.put(new, id=item.id)])


def test_a_record_that_a_rival_mends_is_not_replaced(store: MemoryStateStore, state: State) -> None:
    mended = Block(network=NETWORK, blocked_at=1, until=7)

    class MendedByARival(MemoryStateStore):
        def write(self, writes: Sequence[Write]) -> None:
            if writes[0].item.version:
                store.put_over([Item(kind=Block.kind, id=NETWORK, body=mended.to_json(), version=9)])
            store.write(writes)

        def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
            return store.get_many(kind, ids)

    store.put_over([Item(kind=Block.kind, id=NETWORK, body=b"{}", version=3)])
    with pytest.raises(Conflict):
        State(MendedByARival()).write([state.put(Block(network=NETWORK, blocked_at=1, until=2))])
    assert state.records(Block) == [mended]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("descending", [False, True])
def test_a_page_is_full_whatever_lies_between(
    store: MemoryStateStore, state: State, limit: int, descending: bool
) -> None:
    audit = VALID[Audit.kind, "1760000000000-0a0b0c0d"]
    ids = [f"{number:02d}" for number in range(20)]
    readable = [id for id in ids if int(id) % 5 == 3]
    store.put_over([Item(kind=Audit.kind, id=id, body=audit.to_json() if id in readable else b"{}") for id in ids])
    page = [stored.id for stored in state.all(Audit, above="03", limit=limit, descending=descending)]
    rest = [id for id in readable if id > "03"]
    assert page == (rest[::-1] if descending else rest)[:limit]


# The allowlist


@pytest.mark.parametrize(
    ("id", "body", "held"),
    [
        ("192.0.2.0/24", b"{}", "192.0.2.0/24"),
        ("192.0.2.0/24", b"\xff not JSON", "192.0.2.0/24"),
        ("192.0.2.77/24", b'{"network":"192.0.2.77/24"}', "192.0.2.0/24"),
        ("192.0.2.0/33", b'{"network":"192.0.2.0/33"}', "192.0.2.0/23"),
        ("10.0.0.0/330", b"{}", "10.0.0.0/16"),
        ("192.0.2.77", b'{"network":"192.0.2.77"}', "192.0.2.77/32"),
        ("192.0.2.77/", b"{}", "192.0.2.77/32"),
        ("192.0.2.0/255.255.255.0", b"{}", "192.0.2.0/24"),
        ("2001:DB8::/48", b"{}", "2001:db8::/48"),
        ("2001:db8::7/64", b"{}", "2001:db8::/64"),
        ("2001:db8::/129", b"{}", "2001:db8::/32"),
        ("office", b'{"network" : "192.0.2.77/24", "comment', "192.0.2.0/24"),
        ("office", b'{"network":"the office","comment":"192.0.2.7"}', None),
        ("office", b"", None),
    ],
)
def test_an_unreadable_entry_holds_back_the_network_that_it_names(
    store: MemoryStateStore, state: State, id: str, body: bytes, held: str | None
) -> None:
    store.put_over([Item(kind=Allow.kind, id=id, body=body)])
    exempt = state.exemptions(NOW)
    assert exempt.entries == []
    if held is None:
        assert not exempt.networks
        return
    network: Any = ip_network(held)
    assert exempt.networks.overlaps(network)
    wider = network.supernet()
    assert [exempt.networks.overlaps(half) for half in wider.subnets()] == [half == network for half in wider.subnets()]
    assert all(map(exempt.networks.overlaps, network.subnets()))


def test_an_unreadable_entry_holds_nothing_back_once_its_item_has_expired(
    store: MemoryStateStore, state: State
) -> None:
    store.put_over([Item(kind=Allow.kind, id="192.0.2.0/24", body=b"{}", expires_at=NOW)])
    assert state.allowlist(NOW - 1)
    assert not state.allowlist(NOW)


# Control records


@pytest.mark.parametrize(
    ("body", "pause"),
    [
        (b'{"paused":true,"release":true,"at":"today"}', Pause(paused=True, release=True)),
        (b'{"paused":true,"release":"yes","at":7,"by":1}', Pause(paused=True, at=7)),
        (b'{"paused":"yes"}', Pause()),
        (b"paused", Pause()),
    ],
)
def test_a_damaged_control_record_says_what_can_be_read_of_it(
    store: MemoryStateStore, state: State, body: bytes, pause: Pause
) -> None:
    store.put_over([Item(kind=Pause.kind, id=Pause.id, body=body)])
    assert state.pause(NOW) == pause
    assert state.controls(NOW) == (pause, Breaker(), None, WebAcls(), TrendMark())
    state.write([state.put(Pause(by="alice"), over=state.control(Pause))])
    assert state.pause(NOW) == Pause(by="alice")


def test_damaged_control_records_do_not_hide_each_other(store: MemoryStateStore, state: State) -> None:
    store.put_over(
        [
            Item(kind=Pause.kind, id=Pause.id, body=b"["),
            Item(kind=Breaker.kind, id=Breaker.id, body=b'{"open":true,"would_block":"many"}'),
            Item(kind=Heartbeat.kind, id=Heartbeat.id, body=b'{"at":5,"blocks":-1}'),
        ]
    )
    assert state.controls(NOW) == (Pause(), Breaker(open=True), Heartbeat(at=5), WebAcls(), TrendMark())
