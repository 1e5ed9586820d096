"""A container that remembers decoded blocks shows what a new one would."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.admin import listed_blocks
from chalicelib.admin.listed_blocks import ListedBlocks
from chalicelib.core.addresses import NetworkSet, parse_network
from chalicelib.core.ipsets import GROUPS
from chalicelib.core.responses import Response
from chalicelib.core.state.blocks import Block
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item
from sluice.local.stores import MemoryStateStore

NOW = 1_760_000_000
ALLOWED = NetworkSet([parse_network("192.0.2.6/31")])
ROOMS = dict.fromkeys(GROUPS, 2)


class Copies(MemoryStateStore):
    """A store that returns new objects with each query, as DynamoDB's does."""

    def query(self, kind: str, **limits: Any) -> Iterator[Item]:
        return map(replace, super().query(kind, **limits))


def block(host: int, until: int, comment: str = "", response: Response = Response.BLOCK) -> Block:
    ends = {Response.BLOCK: NOW + until, response: NOW + until + 2}
    return Block.with_ends(ends, network=f"192.0.2.{host}/32", blocked_at=NOW, comment=comment)


blocks = st.builds(block, st.integers(0, 7), st.integers(1, 6), st.sampled_from(["", "a"]), st.sampled_from(Response))
changes = st.lists(blocks | st.tuples(st.sampled_from(["delete", "damage"]), st.integers(0, 7)), max_size=6)


@given(st.lists(st.tuples(changes, st.integers(0, 2)), max_size=8), st.sampled_from([MemoryStateStore, Copies]))
def test_after_any_changes_a_container_lists_and_plans_what_a_new_one_does(
    steps: list[tuple[list[Block | tuple[str, int]], int]], of: type[MemoryStateStore]
) -> None:
    state, now = State(of()), NOW
    listed = ListedBlocks(state)
    for changed, passed in steps:
        now += passed
        for change in changed:
            if isinstance(change, Block):
                state.overwrite(change)  # its version begins at 1 again
            elif change[0] == "damage":
                state.store.put_over([Item(kind="block", id=f"192.0.2.{change[1]}/32", body=b"{}")])
            elif stored := state.get(Block, f"192.0.2.{change[1]}/32"):
                state.write([state.delete(stored)])
        new = ListedBlocks(state)
        assert sorted(listed.in_force(now)) == sorted(new.in_force(now))
        assert [listed.block(each) for each in listed.in_force(now)] == [
            each for each in map(listed.block, listed.in_force(now)) if each.in_force(now)
        ]
        wanted, of_new = listed.wanted(ALLOWED, ROOMS, now), new.wanted(ALLOWED, ROOMS, now)
        assert replace(wanted, covers={}) == replace(of_new, covers={})
        assert wanted.networks == of_new.networks


@pytest.mark.parametrize("of", [MemoryStateStore, Copies])
def test_a_call_decodes_only_blocks_that_have_changed(
    of: type[MemoryStateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(of())
    listed = ListedBlocks(state)
    state.overwrite(*(block(host, 600) for host in range(50)))
    assert len(listed.in_force(NOW)) == 50
    state.overwrite(block(3, 600, "again"), block(70, 600))
    decoded: list[str] = []
    decode = Block.from_json

    def noting(body: bytes) -> Block:
        decoded.append(decode(body).network)
        return decode(body)

    monkeypatch.setattr(Block, "from_json", noting)
    assert len(listed.in_force(NOW)) == 51
    assert decoded == ["192.0.2.3/32", "192.0.2.70/32"]


def test_a_prolonged_block_is_listed_after_its_earlier_end() -> None:
    state = State(MemoryStateStore())
    listed = ListedBlocks(state)
    for until in (60, 120):
        state.overwrite(block(1, until))
        listed.in_force(NOW)
    assert [each.ends_at for each in listed.in_force(NOW + 90)] == [NOW + 122]
    assert listed.in_force(NOW + 122) == []


tables = st.dictionaries(st.sampled_from("abcdefghijklmnop"), st.sampled_from([b"1", b"2"]))


@given(tables, tables)
def test_differences_are_the_added_changed_and_removed_items(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    lists = [[Item(kind="block", id=id, body=table[id]) for id in sorted(table)] for table in (before, after)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listed_blocks, "STRETCH", 2)
        differ = [(id, item and item.body) for id, item in listed_blocks.differences(*lists)]
    changed = sorted(id for id in before.keys() | after.keys() if before.get(id) != after.get(id))
    assert differ == [(id, after.get(id)) for id in changed]


def test_a_new_container_decodes_each_block_once_to_list_and_to_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = Block.from_json

    def noted(body: bytes) -> Block:
        decoded.append(body)
        return decode(body)

    state = State(MemoryStateStore())
    state.overwrite(*(block(host, 60) for host in range(8)))
    monkeypatch.setattr(Block, "from_json", noted)
    listed = ListedBlocks(state)
    assert len(listed.in_force(NOW)) == 8
    assert listed.wanted(NetworkSet([]), ROOMS, NOW).blocks == 8
    assert len(decoded) == len(set(decoded)) == 8
