"""The contract of ``StateStore`` and its stream."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from msgspec import structs

from chalicelib.core.state.blocks import Block
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.state.rule_sets import StoredRules
from chalicelib.edges.events import state_changes
from chalicelib.edges.state_table import PARTS, SPREAD_KINDS, StateTable, partition_key
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, Delete, Item, Put, StateStore, StreamChange, Unavailable, Write
from tests.contracts.conftest import ATOMIC, RACERS, Race, Streamed
from tests.support.tables import Tables, calls_of

KIND = Block.kind
raced = pytest.mark.parametrize("store", ATOMIC, indirect=True)


def item(id: str = "192.0.2.7/32", body: bytes = b"{}", version: int = 0, kind: str = KIND) -> Item:
    return Item(kind=kind, id=id, body=body, version=version)


def put(store: StateStore, *ids: str, kind: str = KIND) -> None:
    for start in range(0, len(ids), 100):
        store.write([Put(item(id, kind=kind)) for id in ids[start : start + 100]])


def ids(items: Iterable[Item]) -> list[str]:
    return [each.id for each in items]


# One item


def test_a_read_sees_the_write_before_it(store: StateStore) -> None:
    written = Item(kind=KIND, id="2001:db8::/64", body='{"comment":"Grüße ☂"}'.encode(), expires_at=1_760_000_000)
    for version in range(1, 20):
        store.write([Put(written)])
        read = store.get(KIND, "2001:db8::/64")
        assert read == replace(written, version=version)
        assert list(store.query(KIND)) == [read]
        assert store.get_many(KIND, ["2001:db8::/64"]) == {"2001:db8::/64": read}
        written = read


def test_an_item_never_written_is_absent(store: StateStore) -> None:
    put(store, "192.0.2.7/32")
    assert store.get(KIND, "192.0.2.8/32") is None
    assert store.get("allow", "192.0.2.7/32") is None
    assert store.get_many("allow", ["192.0.2.7/32"]) == {}
    assert list(store.query("allow")) == []


@pytest.mark.parametrize("action", [Put, Delete])
@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        pytest.param(1, 0, id="one who has seen none, but there is one"),
        pytest.param(2, 1, id="one who has seen an older one"),
        pytest.param(1, 2, id="one who has seen a newer one"),
        pytest.param(0, 1, id="one who has seen one, but there is none"),
    ],
)
def test_a_write_meets_a_conflict_from(store: StateStore, action: type[Write], stored: int, seen: int) -> None:
    for version in range(stored):
        store.write([Put(item(body=b'"theirs"', version=version))])
    before = store.get(KIND, item().id)
    with pytest.raises(Conflict):
        store.write([action(item(body=b'"mine"', version=seen))])
    assert store.get(KIND, item().id) == before


def test_a_deleted_item_is_absent_and_starts_over(store: StateStore) -> None:
    put(store, "192.0.2.7/32")
    store.write([Delete(item(version=1))])
    assert store.get(KIND, "192.0.2.7/32") is None
    assert list(store.query(KIND)) == []
    put(store, "192.0.2.7/32")
    assert store.get(KIND, "192.0.2.7/32") == item(version=1)


def test_deleting_an_item_known_to_be_absent_changes_nothing(store: StateStore) -> None:
    store.write([Delete(item(version=0))])
    assert store.get(KIND, item().id) is None


def test_an_expiry_can_be_removed(store: StateStore) -> None:
    store.write([Put(replace(item(), expires_at=1_760_000_000))])
    store.write([Put(item(version=1))])
    assert store.get(KIND, item().id) == item(version=2)


def test_put_over_replaces_any_version(store: StateStore) -> None:
    put(store, "a", "b")
    store.write([Put(item("b", version=1))])
    store.put_over([item("a", b'"new"'), item("b", b'"new"'), item("c", b'"new"')])
    assert [each.body for each in store.query(KIND)] == [b'"new"'] * 3
    again = store.get(KIND, "c")
    assert again is not None
    store.write([Put(replace(again, body=b'"changed"'))])


def test_a_body_of_390_kb_survives(store: StateStore) -> None:
    large = b'"' + b"x" * 390_000 + b'"'
    store.put_over([item(body=large)])
    assert store.get(KIND, item().id) == item(body=large, version=1)


# Several items at once


def test_a_hundred_writes_are_one_transaction(store: StateStore) -> None:
    kept, gone = [f"kept-{n}" for n in range(50)], [f"gone-{n}" for n in range(50)]
    put(store, *gone)
    store.write([*(Put(item(id)) for id in kept), *(Delete(item(id, version=1)) for id in gone)])
    assert ids(store.query(KIND)) == sorted(kept)


@pytest.mark.parametrize("loser", [0, 50, 99])
def test_one_lost_condition_among_a_hundred_undoes_all(store: StateStore, loser: int) -> None:
    old = [f"old-{n}" for n in range(30)]
    put(store, *old, f"new-{loser}")
    writes: list[Write] = [Put(item(f"new-{n}")) for n in range(100)]
    writes[30:60] = [Delete(item(id, version=1)) for id in old] if loser != 50 else writes[30:60]
    with pytest.raises(Conflict):
        store.write(writes)
    assert ids(store.query(KIND)) == sorted([*old, f"new-{loser}"])


def test_writes_of_several_kinds_are_one_transaction(store: StateStore) -> None:
    put(store, "x", kind="block")
    with pytest.raises(Conflict):
        store.write([Put(item("x", kind="offence")), Put(item("x", kind="block"))])
    assert store.get("offence", "x") is None
    store.write([Put(item("x", kind="offence")), Delete(item("x", kind="block", version=1))])
    assert store.get("offence", "x") == item("x", kind="offence", version=1)
    assert store.get("block", "x") is None


def test_more_than_a_hundred_writes_are_rejected(store: StateStore) -> None:
    with pytest.raises(Unavailable):
        store.write([Put(item(f"{n}")) for n in range(101)])
    assert list(store.query(KIND)) == []


def test_two_writes_of_one_item_are_rejected(store: StateStore) -> None:
    # DynamoDB Local looks at the conditions before it looks at the keys.
    with pytest.raises((Unavailable, Conflict)):
        store.write([Put(item("a")), Delete(item("a"))])
    assert list(store.query(KIND)) == []


# Races


@raced
def test_of_racing_first_writes_exactly_one_wins(store: StateStore, race: Race) -> None:
    rounds = race(store, lambda n, racer: store.write([Put(item(f"{n:05d}", b"%d" % racer))]))
    assert [len(winners) for winners in rounds] == [1] * len(rounds)
    assert [int(each.body) for each in store.query(KIND)] == [winner for (winner,) in rounds]


@raced
def test_racing_read_and_write_loops_lose_no_increment(store: StateStore, race: Race) -> None:
    def increment(number: int, racer: int) -> None:
        existing = store.get(KIND, "counter") or item("counter", b"0")
        store.write([Put(replace(existing, body=b"%d" % (int(existing.body) + 1)))])

    successes = sum(map(len, race(store, increment)))
    counter = store.get(KIND, "counter")
    assert counter is not None
    assert (int(counter.body), counter.version) == (successes, successes)


@raced
def test_of_racing_overlapping_transactions_the_losers_leave_nothing(store: StateStore, race: Race) -> None:
    def write(number: int, racer: int) -> None:
        mine, shared = item(f"{number:05d}-{racer}"), item(f"{number:05d}-shared", b"%d" % racer)
        store.write([Put(mine), Put(shared)])

    rounds = race(store, write)
    left = {each.id: each.body for each in store.query(KIND)}
    for number, winners in enumerate(rounds):
        assert len(winners) <= 1
        mine = {racer for racer, n in product(range(RACERS), [number]) if f"{n:05d}-{racer}" in left}
        assert mine == set(winners)
        assert left.get(f"{number:05d}-shared") == (b"%d" % winners[0] if winners else None)


# Queries


EVERY = ["10.0.0.0/8", "192.0.2.1/32", "192.0.2.10/32", "192.0.2.2/32", "2001:db8::/64", "Z", "a", "ä", "｡", "😀"]
"""In order: that of UTF-8 bytes, which is that of code points, and not that of UTF-16."""


def test_items_come_in_the_order_of_their_ids(store: StateStore) -> None:
    put(store, *reversed(EVERY))
    put(store, "another kind", kind="allow")
    assert ids(store.query(KIND)) == EVERY
    assert ids(store.query(KIND, descending=True)) == EVERY[::-1]


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_every_range_and_limit_gives_what_a_sorted_list_gives(store: StateStore, descending: bool) -> None:
    existing = ["b", "d", "f", "h"]
    put(store, *existing)
    for above, below, limit in product(("", "a", "b", "e", "h"), (None, "", "b", "e", "h", "z"), (None, 0, 1, 3, 9)):
        expected = [id for id in existing if id > above and (below is None or id < below)]
        if descending:
            expected.reverse()
        returned = ids(store.query(KIND, above=above, below=below, limit=limit, descending=descending))
        assert returned == expected[:limit], (above, below, limit)


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("limit", [None, 9])
def test_a_query_continues_past_a_page_of_a_megabyte(store: StateStore, limit: int | None, descending: bool) -> None:
    store.put_over([item(f"{n:02d}", b'"' + b"x" * 250_000 + b'"') for n in range(14)])
    returned = ids(store.query(KIND, above="00", below="13", limit=limit, descending=descending))
    expected = [f"{n:02d}" for n in range(1, 13)]
    assert returned == (expected[::-1] if descending else expected)[:limit]


def test_a_query_can_be_abandoned_early(store: StateStore) -> None:
    put(store, "a", "b", "c")
    assert next(iter(store.query(KIND))).id == "a"


# Many items


def test_more_items_are_read_than_one_call_accepts(store: StateStore) -> None:
    names = [f"192.0.2.{n}/32" for n in range(130)]
    put(store, *names)
    returned = store.get_many(KIND, [*names, "198.51.100.1/32", names[0]])
    assert set(returned) == set(names)
    assert all(returned[name] == item(name, version=1) for name in names)
    assert store.get_many(KIND, []) == {}


def test_large_items_are_read_although_one_answer_holds_no_more_than_16_mb(store: StateStore) -> None:
    body = b'"' + b"x" * 380_000 + b'"'
    store.put_over([item(f"{n}", body) for n in range(46)])
    returned = store.get_many(KIND, [f"{n}" for n in range(46)])
    assert len(returned) == 46
    assert {each.body for each in returned.values()} == {body}


# The stream


def test_the_stream_holds_every_change_of_an_item_in_order(streamed: Streamed) -> None:
    store = streamed.store
    store.write([Put(item(body=b"1"))])
    store.write([Put(item(body=b"2", version=1))])
    store.write([Delete(item(version=2))])
    store.write([Put(item(body=b"3"))])
    assert streamed.changes() == [
        StreamChange(KIND, item().id, b"1", existed=False),
        StreamChange(KIND, item().id, b"2", existed=True),
        StreamChange(KIND, item().id, None, existed=True),
        StreamChange(KIND, item().id, b"3", existed=False),
    ]


def test_the_stream_holds_the_image_before_and_after(streamed: Streamed) -> None:
    store = streamed.store
    store.write([Put(replace(item(body=b'"old"'), expires_at=1_760_000_000))])
    store.write([Put(item(body=b'"new"', version=1))])
    store.write([Delete(item(version=2))])
    key = {"kind": {"S": partition_key(KIND, item().id)}, "id": {"S": item().id}}
    old = {**key, "body": {"S": '"old"'}, "version": {"N": "1"}, "expires_at": {"N": "1760000000"}}
    new = {**key, "body": {"S": '"new"'}, "version": {"N": "2"}}
    records = [record["dynamodb"] for record in streamed.event()["Records"]]
    assert [each["Keys"] for each in records] == [key] * 3
    assert [(each.get("OldImage"), each.get("NewImage")) for each in records] == [(None, old), (old, new), (new, None)]
    assert [r["eventName"] for r in streamed.event()["Records"]] == ["INSERT", "MODIFY", "REMOVE"]


def test_the_stream_holds_every_item_of_a_transaction_and_none_of_a_rejected_one(streamed: Streamed) -> None:
    store = streamed.store
    store.write([Put(item("a")), Put(item("b")), Put(item("c", kind="offence"))])
    with pytest.raises(Conflict):
        store.write([Put(item("d")), Put(item("a"))])
    changed = {(change.kind, change.id) for change in streamed.changes()}
    assert changed == {(KIND, "a"), (KIND, "b"), ("offence", "c")}


def test_items_keep_their_own_order_in_the_stream(streamed: Streamed) -> None:
    existing = {id: item(id) for id in ("a", "b", "c")}
    for number in range(12):
        id = "abc"[number % 3]
        streamed.store.write([Put(replace(existing[id], body=b"%d" % number))])
        existing[id] = replace(existing[id], version=existing[id].version + 1)
    changes = streamed.changes()
    for start, id in enumerate("abc"):
        assert [change.body for change in changes if change.id == id] == [b"%d" % n for n in range(start, 12, 3)]


@pytest.mark.parametrize("streamed", ATOMIC, indirect=True)  # moto reports it
def test_writing_the_same_again_is_no_change(streamed: Streamed) -> None:
    again = Item(kind=Detection.kind, id="log@1/000000000001/burst/cloudfront", body=b"{}", expires_at=1_760_000_000)
    streamed.store.put_over([again])
    streamed.store.put_over([again])
    assert len(streamed.changes()) == 1


def test_a_heartbeat_is_a_change_each_minute(streamed: Streamed) -> None:
    for at in (60, 120):
        beat = Heartbeat(at=at)
        State(streamed.store).overwrite(beat)
    assert [Heartbeat.from_json(change.body or b"").at for change in streamed.changes()] == [60, 120]


def test_an_item_that_the_store_expires_is_no_change(streamed: Streamed) -> None:
    put(streamed.store, "expired", "lifted")
    streamed.store.write([Delete(item("expired", version=1)), Delete(item("lifted", version=1))])
    event = streamed.event()
    for record in event["Records"]:
        if record["eventName"] == "REMOVE" and record["dynamodb"]["Keys"]["id"] == {"S": "expired"}:
            # The mark of a removal by TTL, which only AWS's own DynamoDB sets.
            record["userIdentity"] = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert [c.id for c in state_changes(event) if c.body is None] == ["lifted"]


# What only DynamoDB has


def test_an_item_expires_by_a_number_of_epoch_seconds(tables: Tables) -> None:
    store = StateTable(tables.client, tables.state)
    store.put_over([replace(item("a"), expires_at=1_760_000_000), item("b")])
    stored = {each["id"]["S"]: each for each in tables.client.scan(TableName=tables.state)["Items"]}
    assert stored["a"]["expires_at"] == {"N": "1760000000"}
    assert "expires_at" not in stored["b"]


def test_a_body_is_text_that_an_operator_can_read(tables: Tables) -> None:
    rules = StoredRules(text='[[rule]]\nname = "größe"\n')
    State(StateTable(tables.client, tables.state)).overwrite(rules, id="active")
    (stored,) = tables.client.scan(TableName=tables.state)["Items"]
    assert "größe" in stored["body"]["S"]


@pytest.mark.parametrize(
    "typed",
    [
        {},
        {"body": {"M": {"network": {"S": "192.0.2.7/32"}}}, "expires_at": {"S": "never"}},
        {"body": {"B": b"{}"}, "version": {"S": "1"}},
        {"body": {"NULL": True}, "version": {"NULL": True}, "expires_at": {"N": "1.5"}},
    ],
)
def test_an_item_typed_by_hand_is_read_replaced_and_removed_like_another(tables: Tables, typed: dict[str, Any]) -> None:
    store = StateTable(tables.client, tables.state)
    kind = "allow"
    attributes = {"kind": {"S": kind}, "id": {"S": "a"}, **typed}
    tables.client.put_item(TableName=tables.state, Item=attributes)
    read = store.get(kind, "a")
    assert read == item("a", b"", kind=kind)
    assert list(store.query(kind)) == list(store.get_many(kind, ["a"]).values()) == [read]
    store.write([Put(item("a", b"new", kind=kind)), Put(item("b", kind=kind))])
    assert store.get(kind, "a") == item("a", b"new", version=1, kind=kind)
    tables.client.put_item(TableName=tables.state, Item=attributes)
    store.write([Delete(read)])
    assert store.get(kind, "a") is None


def put_as_version_0_2(tables: Tables, id: str, body: str = "{}", version: int = 1, kind: str = KIND) -> None:
    attributes = {"kind": {"S": kind}, "id": {"S": id}, "body": {"S": body}, "version": {"N": str(version)}}
    tables.client.put_item(TableName=tables.state, Item=attributes)


def places(tables: Tables, id: str) -> list[str]:
    return sorted(i["kind"]["S"] for i in tables.client.scan(TableName=tables.state)["Items"] if i["id"]["S"] == id)


def test_items_of_a_spread_kind_share_the_load_of_their_reads_and_writes(tables: Tables) -> None:
    store = StateTable(tables.client, tables.state)
    for kind in SPREAD_KINDS:
        put(store, *(f"192.0.2.{n}/32" for n in range(80)), kind=kind)
    keys = Counter(i["kind"]["S"] for i in tables.client.scan(TableName=tables.state)["Items"])
    assert len(keys) == PARTS * len(SPREAD_KINDS)
    assert max(keys.values()) < 3 * 80 / PARTS


def test_what_version_0_2_has_stored_is_read_and_changed_in_its_place(tables: Tables) -> None:
    store = StateTable(tables.client, tables.state)
    put_as_version_0_2(tables, "b", version=7)
    put(store, "a", "c")
    read = store.get(KIND, "b")
    assert read == item("b", version=7)
    assert store.get_many(KIND, "bcd") == {"b": read, "c": item("c", version=1)}
    for limit in (None, 1, 2, 9):
        assert ids(store.query(KIND, limit=limit)) == ["a", "b", "c"][:limit]
        assert ids(store.query(KIND, limit=limit, descending=True)) == ["c", "b", "a"][:limit]
    state = State(store)
    block = Block(network="192.0.2.7/32", blocked_at=1, until=2)
    put_as_version_0_2(tables, block.id, block.to_json().decode(), version=3)
    stored = state.get(Block, block.id)
    assert stored is not None
    with pytest.raises(Conflict):
        store.write([Put(replace(stored.item, version=2))])
    state.write([state.put(structs.replace(block, until=9), over=stored)])
    assert places(tables, block.id) == [KIND]
    again = state.get(Block, block.id)
    assert again is not None
    assert (again.version, again.record.until) == (4, 9)
    state.write([state.delete(again)])
    assert places(tables, block.id) == []


def test_what_version_0_2_has_stored_is_moved_by_deleting_and_putting_it(tables: Tables) -> None:
    store = StateTable(tables.client, tables.state)
    for id in ("a", "b", "c"):
        put_as_version_0_2(tables, id, version=5)
    assert ids(store.unspread(KIND, 2)) == ["a", "b"]
    for old in store.unspread(KIND, 9):
        store.write([Delete(old), Put(replace(old, key="", version=0))])
    assert store.unspread(KIND, 9) == []
    assert places(tables, "a") == [partition_key(KIND, "a")]
    assert store.get(KIND, "a") == item("a", version=1)


def test_of_an_item_in_both_places_the_one_in_its_own_counts(tables: Tables) -> None:
    store = StateTable(tables.client, tables.state)
    put_as_version_0_2(tables, "a", '"old"')
    put_as_version_0_2(tables, "a", '"new"', kind=partition_key(KIND, "a"))
    new = item("a", b'"new"', version=1)
    assert store.get(KIND, "a") == store.get_many(KIND, ["a"])["a"] == new
    assert list(store.query(KIND)) == list(store.query(KIND, descending=True)) == [new]


def test_once_everything_is_moved_a_read_looks_in_one_place(tables: Tables) -> None:
    store = StateTable(tables.client, tables.state)
    store.get(KIND, "a")
    with calls_of(tables.client) as calls:
        store.get(KIND, "a")
        store.get_many(KIND, ["a", "b"])
    assert [name for name, _ in calls] == ["GetItem", "BatchGetItem"]
    assert len(calls[1][1]["RequestItems"][tables.state]["Keys"]) == 2


def test_an_item_too_large_for_dynamodb_is_rejected(tables: Tables) -> None:
    store = StateTable(tables.client, tables.state)
    with pytest.raises(Unavailable, match="write block a: ValidationException"):
        store.put_over([item("a", b'"' + b"x" * 410_000 + b'"')])
    assert store.get(KIND, "a") is None


def test_every_read_is_strongly_consistent(tables: Tables) -> None:
    # No DynamoDB on one machine ever answers with anything old.
    store = StateTable(tables.client, tables.state)
    with calls_of(tables.client) as calls:
        store.get(KIND, "a")
        store.get_many(KIND, ["a"])
        list(store.query(KIND))
    assert {name for name, _ in calls} == {"GetItem", "BatchGetItem", "Query"}
    requests = [params["RequestItems"][tables.state] if "RequestItems" in params else params for _, params in calls]
    assert all(request["ConsistentRead"] for request in requests)
