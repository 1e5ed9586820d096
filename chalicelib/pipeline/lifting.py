"""Lifting blocks: a block is deleted and, in the same transaction, its end is noted in its network's history."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from chalicelib.core.decisions import DEFAULT_MEMORY_S, Standing, ended
from chalicelib.core.durations import DAY_S
from chalicelib.core.events import end_event
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.events import HISTORY_S
from chalicelib.pipeline.recording import recorded
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Write

CLIENTS_PER_WRITE = 49
"""Most clients per transaction: DynamoDB accepts 100 items. Each client has two, its block and its history, and one
records the events of all."""


class Lifted(NamedTuple):
    """The outcome of ``lift``."""

    blocks: list[Block]
    """Blocks that were lifted."""
    conflicts: int
    """Blocks that were left as they are because they changed in the meantime."""


def lift(
    state: State, blocks: Sequence[Stored[Block]], now: int, *, history_s: int = HISTORY_S, by: str = ""
) -> Lifted:
    """Lifts blocks in as many transactions as necessary; ``now``: epoch seconds. Raises what the store raises.

    ``history_s``: how long the events are kept. ``by``: the operator who lifts them.
    """
    lifted: list[Block] = []
    conflicts = 0
    starts = range(0, len(blocks), CLIENTS_PER_WRITE)
    chunks = deque(blocks[start : start + CLIENTS_PER_WRITE] for start in starts)
    while chunks:
        chunk = chunks.popleft()
        ids = [block.id for block in chunk]
        # A new block is stored together with a history. So a block that is still the same after the history was read
        # belongs to it, even if its version is that of one that has been deleted in the meantime.
        histories = state.get_many(History, ids)
        current = state.get_many(Block, ids)
        same = [each for each in chunk if each.id in current and current[each.id].record == each.record]
        conflicts += len(chunk) - len(same)
        if not (chunk := [current[block.id] for block in same]):
            continue
        try:
            ends = [end_event(block.record, ended_at(block.record, now), by) for block in chunk]
            state.write([*writes_to_lift(chunk, histories, now), *recorded(ends, now * 1000, history_s)])
        except Conflict:
            # One of them was extended or lifted in the meantime. The half without it still ends on time.
            if len(chunk) == 1:
                conflicts += 1
            else:
                half = len(chunk) // 2
                chunks.extendleft((chunk[half:], chunk[:half]))
        else:
            lifted += [block.record for block in chunk]
    return Lifted(lifted, conflicts)


def writes_to_lift(
    blocks: Iterable[Stored[Block]], histories: Mapping[str, Stored[History]], now: int, *, forget: bool = False
) -> list[Write]:
    """Returns the writes that lift ``blocks``, two per block. ``histories``: those of their networks, by network.

    A block whose time is over ended then. One that is lifted earlier ends now, and the requests made so far are
    forgiven. ``forget`` also removes all offences.
    """
    writes: list[Write] = []
    for block in blocks:
        stored = histories.get(block.id)
        history = ended(Standing(_history(block.id, stored), block.record), ended_at(block.record, now))
        if block.record.in_force(now):
            history = _forgiven(history, now)
        writes += [State.delete(block), _put(replace(history, rules={}) if forget else history, stored)]
    return writes


def ended_at(block: Block, now: int) -> int:
    """Returns when a block that is lifted at ``now`` ended."""
    return min(block.ends_at, now)


def write_to_forget(network: str, stored: Stored[History] | None, now: int) -> Write:
    """Returns the write that forgives the requests that a network has made so far, and removes its offences."""
    return _put(replace(_forgiven(_history(network, stored), now), rules={}), stored)


def history_kept_until(history: History, stored: Stored[History] | None, memory_s: int = DEFAULT_MEMORY_S) -> int:
    """Returns the epoch second from which the store may remove ``history``: a day after rules forget it, or later.

    While the window of a quota still holds the requests of an offence, it would be punished again if it were forgotten.
    """
    pasts = history.rules.values()
    last = max([history.ended_at, history.forgiven_at, *(past.until for past in pasts)])
    needed_s = max([memory_s, *(past.evidence.window_s for past in pasts)])
    return max(last + needed_s + DAY_S, (stored and stored.item.expires_at) or 0)


def _forgiven(history: History, now: int) -> History:
    # Requests of this second are forgiven as well.
    return replace(history, forgiven_at=now + 1)


def _history(network: str, stored: Stored[History] | None) -> History:
    return stored.record if stored else History(network=network)


def _put(history: History, stored: Stored[History] | None) -> Write:
    return State.put(history, over=stored, expires_at=history_kept_until(history, stored))
