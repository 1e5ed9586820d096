"""Moving what version 0.2 stored under one key, and back."""

from collections.abc import Iterable

import pytest

from chalicelib.core.state.blocks import Block, History
from chalicelib.edges.state_table import StateTable, partition_key
from chalicelib.pipeline import moving
from chalicelib.pipeline.moving import move, move_back
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item, Put, Write
from tests.support.tables import Tables

NETWORKS = [f"192.0.2.{host}/32" for host in range(7)]


def block(network: str, until: int = 100) -> Block:
    return Block(network=network, blocked_at=1, until=until)


def put_as_version_0_2(tables: Tables, *records: Block | History, expires_at: int | None = None) -> None:
    for record in records:
        attributes = {"kind": {"S": record.kind}, "id": {"S": record.id}, "body": {"S": record.to_json().decode()}}
        expires = {} if expires_at is None else {"expires_at": {"N": str(expires_at)}}
        tables.client.put_item(TableName=tables.state, Item={**attributes, "version": {"N": "4"}, **expires})


def places(tables: Tables) -> set[tuple[str, str]]:
    return {(i["kind"]["S"], i["id"]["S"]) for i in tables.client.scan(TableName=tables.state)["Items"]}


def spread(kind: str, networks: Iterable[str]) -> set[tuple[str, str]]:
    return {(partition_key(kind, network), network) for network in networks}


@pytest.fixture
def store(moto_tables: Tables) -> StateTable:
    return StateTable(moto_tables.client, moto_tables.state)


def test_blocks_and_histories_are_moved_some_each_minute(
    moto_tables: Tables, store: StateTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "MOST_MOVED", 4)
    put_as_version_0_2(moto_tables, *map(block, NETWORKS))
    put_as_version_0_2(moto_tables, History(network=NETWORKS[0], ended_at=9), expires_at=2_000_000_000)
    assert [move(store) for _ in range(3)] == [5, 3, 0]
    assert places(moto_tables) == spread(Block.kind, NETWORKS) | spread(History.kind, NETWORKS[:1])
    assert {each.network for each in State(store).records(Block)} == set(NETWORKS)
    history = store.get(History.kind, NETWORKS[0])
    assert history is not None
    assert (history.expires_at, history.version) == (2_000_000_000, 1)


@pytest.mark.parametrize(("old", "new", "kept"), [(100, 50, 100), (50, 100, 100)])
def test_of_two_blocks_of_a_network_the_one_that_lasts_longer_stays(
    moto_tables: Tables, store: StateTable, old: int, new: int, kept: int
) -> None:
    put_as_version_0_2(moto_tables, block(NETWORKS[0], old), block(NETWORKS[1]))
    store.put_over([Item(kind=Block.kind, id=NETWORKS[0], body=block(NETWORKS[0], new).to_json())])
    assert move(store) == 2
    assert places(moto_tables) == spread(Block.kind, NETWORKS[:2])
    stored = State(store).get(Block, NETWORKS[0])
    assert stored is not None
    assert stored.record.until == kept


def test_what_changes_while_it_is_moved_stays_as_it_is_for_the_next_sweep(
    moto_tables: Tables, store: StateTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_as_version_0_2(moto_tables, *map(block, NETWORKS[:3]))
    write, changed = store.write, State(store).get(Block, NETWORKS[1])
    assert changed is not None

    def rival(writes: list[Write]) -> None:
        monkeypatch.setattr(store, "write", write)
        store.write([State.put(block(NETWORKS[1], until=999), over=changed)])
        store.write(writes)

    monkeypatch.setattr(store, "write", rival)
    assert move(store) == 2
    assert places(moto_tables) == spread(Block.kind, [NETWORKS[0], NETWORKS[2]]) | {(Block.kind, NETWORKS[1])}
    assert move(store) == 1
    stored = State(store).get(Block, NETWORKS[1])
    assert stored is not None
    assert stored.record.until == 999


def test_a_rollback_finds_everything_where_version_0_2_looks(moto_tables: Tables, store: StateTable) -> None:
    store.write([Put(Item(kind=Block.kind, id=network, body=block(network).to_json())) for network in NETWORKS])
    store.write([Put(Item(kind=History.kind, id=NETWORKS[0], body=History(network=NETWORKS[0]).to_json()))])
    put_as_version_0_2(moto_tables, block(NETWORKS[3], until=5))  # made anew after the rollback
    assert move_back(store) == len(NETWORKS) + 1
    assert places(moto_tables) == {(Block.kind, network) for network in NETWORKS} | {(History.kind, NETWORKS[0])}
    stored = State(StateTable(moto_tables.client, moto_tables.state)).get(Block, NETWORKS[3])
    assert stored is not None
    assert stored.record.until == 5
    assert move_back(store) == 0
