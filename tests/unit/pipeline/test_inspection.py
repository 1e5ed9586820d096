"""The inspection finds every unreadable record in turn, and forgets those that were mended or removed."""

import pytest

from chalicelib.core.state.blocks import Block
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.records import MOST_UNREADABLE, Unreadable
from chalicelib.pipeline import inspection
from chalicelib.pipeline.inspection import inspect, still_unreadable
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import Delete, Item
from tests.support.damaged import DAMAGED
from tests.support.state import NOW, Store


@pytest.fixture
def store() -> Store:
    return Store()


def found(unreadable: tuple[Unreadable, ...]) -> set[tuple[str, str]]:
    return {(each.kind, each.id) for each in unreadable}


def following(state: State, last: Heartbeat = Heartbeat()) -> Heartbeat:  # noqa: B008 - immutable
    return Heartbeat(**inspect(state, last)._asdict())


@pytest.mark.parametrize("what", DAMAGED)
def test_every_sweep_reports_what_cannot_be_read_until_it_is_gone(store: Store, what: str) -> None:
    item = DAMAGED[what]
    store.block("192.0.2.1/32")
    store.put_over([item])
    sweep = Sweep(state=State(store), clock=lambda: NOW)
    assert found(tuple(sweep.run().unreadable)) == {(item.kind, item.id)}
    if (item.kind, item.id) != (Heartbeat.kind, Heartbeat.id):
        assert found(tuple(sweep.run().unreadable)) == {(item.kind, item.id)}
        stored = store.get(item.kind, item.id)
        assert stored is not None
        store.write([Delete(stored)])
    assert sweep.run().unreadable == ()


def test_a_part_of_each_kind_is_read_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(inspection.MOST_READ, Block.kind, 3)
    networks = sorted(f"192.0.2.{number}/32" for number in range(8))
    for network in networks:
        store.block(network)
    damaged = {networks[0], networks[4], networks[7]}
    store.put_over([Item(kind=Block.kind, id=id, body=b"{}") for id in damaged])
    state = State(store)
    beat = Heartbeat()
    seen = []
    for _ in range(4):
        beat = following(state, beat)
        seen.append({id for _, id in found(beat.unreadable)})
    assert seen == [{networks[0]}, {networks[0], networks[4]}, damaged, damaged]
    # One is mended and one removed; each is forgotten when its part is read again.
    store.block(networks[7])
    store.write([Delete(next(item for item in store.query(Block.kind) if item.id == networks[4]))])
    beat = following(state, following(state, beat))
    assert found(beat.unreadable) == {(Block.kind, networks[0])}


def test_no_more_are_listed_than_fit(store: Store) -> None:
    ids = [f"192.0.2.{number}/33" for number in range(MOST_UNREADABLE + 20)]
    store.put_over([Item(kind=Block.kind, id=id, body=b"{}") for id in ids])
    beat = following(State(store))
    assert [each.id for each in beat.unreadable] == sorted(ids)[:MOST_UNREADABLE]
    assert following(State(store), beat) == beat


def test_a_damaged_heartbeat_costs_no_more_than_another_search(store: Store) -> None:
    store.put_over([Item(kind=Heartbeat.kind, id=Heartbeat.id, body=b'{"inspected":7,"unreadable":[["x"]]}')])
    Sweep(state=State(store), clock=lambda: NOW).run()
    assert State(store).control(Heartbeat).record.at == NOW


def test_what_was_mended_since_is_not_shown(store: Store) -> None:
    store.put_over(
        [Item(kind=Block.kind, id=id, body=b"{}") for id in ("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")]
    )
    store.put_over([Item(kind=Pause.kind, id=Pause.id, body=b"[")])
    beat = following(State(store))
    assert len(beat.unreadable) == 4
    store.block("192.0.2.1/32")
    store.write([Delete(Item(kind=Block.kind, id="192.0.2.2/32", body=b"", version=1))])
    left = still_unreadable(State(store), beat.unreadable)
    assert found(left) == {(Block.kind, "192.0.2.3/32"), (Pause.kind, Pause.id)}


def test_a_record_of_an_unknown_kind_is_none_of_this_versions_business(store: Store) -> None:
    store.put_over([Item(kind="control", id="next-version", body=b"?"), Item(kind="of-later", id="x", body=b"?")])
    assert following(State(store)).unreadable == ()
    assert State(store).unreadable("control", ["next-version"]) == []
    assert State(store).get(Detection, "next-version") is None
