"""The record of the prefix lengths of all blocks. A block is stored after its length is named there.

Lengths are only ever added, so what a container has read once stays true.
"""

from collections.abc import Collection

from chalicelib.core.state.blocks import Block, BlockLengths
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Contended, Item, Write

TRIES = 5


def read_lengths(state: State) -> Stored[BlockLengths]:
    """Returns the stored lengths; those of all blocks if none can be read, as after an upgrade."""
    stored = state.find(BlockLengths, BlockLengths.id)
    if isinstance(stored, Stored):
        return stored
    lengths = BlockLengths().with_blocks(state.records(Block))
    return Stored(lengths, Item(kind=BlockLengths.kind, id=BlockLengths.id, body=b""))


def writes_for(stored: Stored[BlockLengths], blocks: Collection[Block]) -> list[Write]:
    """Returns the writes after which the lengths of ``blocks`` are named; none if they are already."""
    lengths = stored.record.with_blocks(blocks)
    return [] if stored.version and lengths is stored.record else [State.put(lengths, over=stored)]


def name_lengths(state: State, blocks: Collection[Block]) -> BlockLengths:
    """Stores the lengths of ``blocks``, and returns all lengths. Raises Contended."""
    for _ in range(TRIES):
        stored = read_lengths(state)
        writes = writes_for(stored, blocks)
        try:
            if writes:
                state.write(writes)
        except Conflict:
            continue
        return stored.record.with_blocks(blocks)
    raise Contended(f"the record of prefix lengths was changed concurrently {TRIES} times in a row")
