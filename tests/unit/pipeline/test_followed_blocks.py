"""The publisher's list of blocks: what it reads, and when it reads everything."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pytest

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.ipsets import CAPACITY, SetGroup
from chalicelib.core.known_clients import Digest, KnownClients
from chalicelib.core.responses import Response
from chalicelib.core.rules import NetworkTerms
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.publishing import Heartbeat, Publisher
from chalicelib.pipeline import followed_blocks
from chalicelib.pipeline.followed_blocks import (
    LONGEST_GAP_S,
    MOST_NOTED,
    NOTED_AHEAD_S,
    REREAD_S,
    TRIES,
    FollowedBlocks,
)
from chalicelib.pipeline.stored import State
from chalicelib.ports import Contended, Item, StreamChange, Unavailable
from tests.support.clock import Clock
from tests.support.state import NOW, Store

A, B, C = "192.0.2.1/32", "192.0.2.4/32", "2001:db8::/64"

ROOMS = {SetGroup(Response.BLOCK, family): CAPACITY for family in (4, 6)}


class Counting(Store):
    """A store that counts the reads of all blocks, and of single ones."""

    def __init__(self) -> None:
        super().__init__()
        self.scans = 0
        self.keys: list[str] = []
        self.broken = False

    def query(self, kind: str, **others: Any) -> Iterator[Item]:
        self.scans += kind == Block.kind
        if self.broken:
            raise Unavailable("the state table")
        return super().query(kind, **others)

    def get_many(self, kind: str, ids: Collection[str]) -> Mapping[str, Item]:
        if kind == Block.kind:
            self.keys += ids
        return super().get_many(kind, ids)


class Following:
    def __init__(self, store: Counting | None = None, clock: Clock | None = None) -> None:
        self.store = store or Counting()
        self.clock = clock or Clock()
        self.blocks = FollowedBlocks(State(self.store), self.clock)

    def beside(self) -> "Following":
        """Returns another container's list."""
        return Following(self.store, self.clock)

    def hears(self, *networks: str) -> None:
        self.blocks.follow(StreamChange(Block.kind, network, b"whatever", existed=True) for network in networks)

    def beat(self, after_s: float = 60) -> None:
        self.clock.sleep(after_s)
        beat = Heartbeat(at=int(self.clock.now))
        self.blocks.follow([StreamChange(Heartbeat.kind, Heartbeat.id, beat.to_json(), existed=True)])

    def networks(self) -> list[str]:
        wanted = self.blocks.current().wanted(
            NetworkSet(()), {SetGroup(Response.BLOCK, family): CAPACITY for family in (4, 6)}, int(self.clock.now)
        )
        return sorted(str(network) for networks in wanted.networks.values() for network in networks)

    def noted(self) -> Publisher:
        self.blocks.current()
        self.blocks.note()
        return State(self.store).control(Publisher).record


def test_all_blocks_are_read_once_and_then_only_those_that_change() -> None:
    following = Following()
    following.store.block(A)
    assert following.networks() == [A]
    following.store.block(B)
    following.hears(B)
    assert following.networks() == [A, B]
    del following.store._items[Block.kind][A]
    following.hears(A, B)
    assert following.networks() == [B]
    assert following.networks() == [B]
    assert following.store.scans == 1
    assert sorted(following.store.keys) == [A, B, B]


def test_what_is_stored_counts_and_not_what_the_stream_says_which_may_be_old() -> None:
    following = Following()
    following.networks()
    older = Block(network=A, blocked_at=NOW, until=NOW + 5)
    following.store.block(A, until=NOW + 900)
    following.blocks.follow(
        [StreamChange(Block.kind, A, older.to_json(), False), StreamChange(Block.kind, A, None, True)]
    )
    following.clock.sleep(10)
    assert following.networks() == [A]


def test_a_block_that_becomes_unreadable_leaves_the_list() -> None:
    following = Following()
    following.store.block(A)
    assert following.networks() == [A]
    following.store.put_over([Item(kind=Block.kind, id=A, body=b'{"network":"192.0.2.1/32"}')])
    following.hears(A)
    assert following.networks() == []


@pytest.mark.parametrize("id", ["192.0.2.77/30", "192.0.2.31", "2001:DB8::/64", "office", " "])
def test_a_record_under_the_id_of_no_network_changes_neither_blocks_nor_guilty_clients(id: str) -> None:
    following = Following()
    following.blocks.guilty()
    members = sorted(f"192.0.2.{31 * number}/32" for number in range(8))
    for member in members:
        following.store.block(member)
    assert following.networks() == members
    following.store.put_over([Item(kind=Block.kind, id=id, body=b'{"network":"192.0.2.31"}')])
    following.hears(id)
    assert following.networks() == members
    guilty = following.blocks.guilty()
    assert guilty is not None
    networks = guilty.networks(NetworkTerms(), KnownClients(Digest().plus([b"aaaa"])), NOW)
    assert [(each.network, each.members.number) for each in networks] == [("192.0.2.0/24", 8)]


def test_a_publisher_that_does_not_lead_reads_everything_because_it_may_have_missed_a_change() -> None:
    following = Following()
    other = following.beside()
    following.networks()
    following.store.block(A)
    other.hears(A)
    assert other.networks() == [A]
    following.store.block(B)
    following.hears(B)
    assert following.networks() == [A, B]
    assert following.store.scans == 3
    other.hears(C)
    assert other.networks() == [A, B]
    assert following.store.scans == 4


def test_the_lead_is_taken_before_the_blocks_are_read() -> None:
    """What the former leader receives after the new one has read must make it look again."""
    following = Following()
    leaders: list[str] = []
    query = following.store.query

    def watching(kind: str, **others: Any) -> Iterator[Item]:
        if kind == Block.kind:
            leaders.append(State(following.store).control(Publisher).record.name)
        return query(kind, **others)

    following.store.query = watching  # type: ignore[method-assign]
    following.networks()
    assert leaders == [following.blocks._name]


def test_a_read_that_fails_is_no_list() -> None:
    following = Following()
    following.store.block(A)
    following.store.broken = True
    with pytest.raises(Unavailable):
        following.networks()
    following.store.broken = False
    assert following.networks() == [A]


def test_changes_that_could_not_be_read_are_read_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    following = Following()
    following.networks()
    following.store.block(A)
    following.hears(A)
    with monkeypatch.context() as broken:
        broken.setattr(following.store, "get_many", lambda *_: (_ for _ in ()).throw(Unavailable("the state table")))
        with pytest.raises(Unavailable):
            following.networks()
    assert following.networks() == [A]
    assert following.store.scans == 1


def test_a_race_for_the_lead_ends() -> None:
    following = Following()
    following.store.lost = TRIES - 1
    following.networks()
    following.blocks.forget()
    following.store.lost = TRIES
    with pytest.raises(Contended):
        following.networks()


@pytest.mark.parametrize(
    ("gaps", "scans"),
    [
        pytest.param([60, 60, 60], 1, id="heartbeats in step"),
        pytest.param([60, LONGEST_GAP_S], 1, id="a late heartbeat"),
        pytest.param([60, LONGEST_GAP_S + 1], 2, id="lost heartbeats"),
        pytest.param([60, 0], 2, id="the same heartbeat again"),
        pytest.param([60, -60], 2, id="an older heartbeat"),
        pytest.param([60] * 10, 2, id="ten minutes"),
    ],
)
def test_everything_is_read_again_after_a_gap_in_the_stream_and_every_ten_minutes(
    gaps: list[float], scans: int
) -> None:
    assert REREAD_S == 600
    following = Following()
    following.networks()
    following.store.block(A, until=NOW + 9000)  # and the stream loses it
    for gap in gaps:
        following.beat(gap)
        seen = following.networks()
    assert (following.store.scans, seen) == (scans, [A] if scans > 1 else [])


def test_each_heartbeat_is_answered_with_what_the_sweep_needs() -> None:
    following = Following()
    following.store.block(A, until=NOW + 60 + NOTED_AHEAD_S)
    following.store.block(B, until=NOW + 60)
    following.store.block(C, until=NOW + 61 + NOTED_AHEAD_S)
    following.beat()
    record = following.noted()
    assert (record.at, record.blocks, record.ending) == (NOW + 60, 2, (B, A))
    writes = len(following.store.changes)
    following.noted()
    assert len(following.store.changes) == writes, "without news nothing is stored"
    following.store.block(A, until=NOW + 9)
    following.hears(A)
    assert following.noted().ending == (A, B)


def test_at_most_five_thousand_blocks_are_noted_the_soonest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_NOTED == 5000
    monkeypatch.setattr(followed_blocks, "MOST_NOTED", 2)
    following = Following()
    for number, network in enumerate((C, B, A)):
        following.store.block(network, until=NOW + number)
    following.beat()
    assert following.noted().ending == (C, B)


def test_a_publisher_that_lost_the_lead_notes_nothing() -> None:
    following = Following()
    following.beat()
    following.networks()
    other = following.beside()
    other.networks()
    following.blocks.note()
    record = State(following.store).control(Publisher).record
    assert (record.name, record.at) == (other.blocks._name, 0)


def test_a_note_that_loses_to_a_new_leader_leaves_it_the_lead() -> None:
    following = Following()
    following.beat()
    following.networks()
    other = following.beside()
    following.store.meddle = other.networks
    following.blocks.note()
    assert State(following.store).control(Publisher).record.name == other.blocks._name
