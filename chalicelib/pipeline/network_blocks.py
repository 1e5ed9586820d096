"""Blocks of guilty networks (``core.networks``): the publisher, which knows all blocks, finds them, and enforce blocks
them.

The publisher notes only what is not blocked yet, with the sweep's heartbeats. Its record reaches enforce through the
table's stream. What is noted follows from the blocks, so it may be enforced again, or too late, without harm.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain, islice

from chalicelib.core.addresses import NetworkSet, span_of
from chalicelib.core.durations import DAY_S
from chalicelib.core.events import block_event, end_event
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.networks import network_block
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.events import Event
from chalicelib.core.state.publishing import Guilty, GuiltyNetworks, Heartbeat
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.client_memory import Acquaintances
from chalicelib.pipeline.followed_blocks import FollowedBlocks
from chalicelib.pipeline.lifting import history_kept_until
from chalicelib.pipeline.recording import recorded
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, StreamChange, Unavailable, Write

MOST_NOTED = 300
"""Most networks in the publisher's note: at most 340 KB. The others follow a minute later."""

NOTE_VALID_S = 150
"""Greatest age of a note that is enforced, and greatest lead of its clock."""


MERGE_AGAIN_S = 10
"""Least time between two notes while IP sets are nearly full: finding guilty networks takes up to half a second."""


class NetworkNotes:
    """One publisher's notes of guilty networks."""

    def __init__(self, state: State, rules: Callable[[int], RulesInUse]) -> None:
        self._state = state
        self._rules = rules
        self._acquaintances = Acquaintances(state)
        self._due = False
        self._tried_at = 0

    def follow(self, changes: Iterable[StreamChange]) -> None:
        """Causes the next note if a heartbeat is among ``changes``."""
        self._due |= any(change.id == Heartbeat.id for change in changes)

    def note(self, blocks: FollowedBlocks, now: int, surplus: Mapping[SetGroup, int]) -> None:
        """Stores the guilty networks that are not blocked at the epoch second ``now``, if there are any and a note is
        due: after each heartbeat and, while there is a surplus, ``MERGE_AGAIN_S`` after the last.

        ``surplus``: the places in IP sets that merging networks has to save, by group.

        Never fails, because publishing must not depend on it: the next heartbeat causes another note.
        """
        if self._due or (surplus and now - self._tried_at >= MERGE_AGAIN_S):
            self._due, self._tried_at = False, now
            with suppress(Unavailable):
                self._note(blocks, now, surplus)

    def _note(self, blocks: FollowedBlocks, now: int, surplus: Mapping[SetGroup, int]) -> None:
        terms = self._rules(now * 1000).rules.networks
        if terms is None or (guilty := blocks.guilty()) is None:
            return
        known = self._acquaintances.at(now)
        networks = chain(
            guilty.unblocked(terms, known, now), guilty.merges(terms, known, now, surplus, blocks.places_within)
        )
        if noted := tuple(islice(networks, MOST_NOTED)):
            self._state.overwrite(GuiltyNetworks(at=now, networks=noted))


def block_networks(
    state: State, name_lengths: Callable[[list[Block]], None], *, proxies: NetworkSet, history_s: int, now: int
) -> list[Block]:
    """Blocks the noted networks, or prolongs their blocks, and returns these blocks. ``now``: epoch seconds.

    ``name_lengths`` is called before blocks are stored. A network with any of ``proxies`` is not blocked.
    ``history_s``: how long events are kept. What is changed concurrently is left for the next note. Raises what the
    store raises.
    """
    note = state.control(GuiltyNetworks).record
    if abs(now - note.at) > NOTE_VALID_S or not note.networks:
        return []
    names = [each.network for each in note.networks]
    histories = state.get_many(History, names)
    stored = state.get_many(Block, names)
    planned = {
        each.network: block
        for each in note.networks
        if not proxies.meets(span_of(each.network))
        and (block := _block(each, stored.get(each.network), histories.get(each.network), now)) is not None
    }
    name_lengths(list(planned.values()))
    written: list[Block] = []
    for name, block in planned.items():
        former = stored.get(name)
        events = recorded(_events(block, former, now), now * 1000, history_s)
        with suppress(Conflict):
            state.write([*_writes(block, former, histories.get(name)), *events])
            written.append(block)
    return written


def _block(guilty: Guilty, stored: Stored[Block] | None, history: Stored[History] | None, now: int) -> Block | None:
    """Returns the block of a guilty network; None if it is to stay as it is.

    An operator who lifts it forgives the members that were blocked then.
    """
    if history is not None and guilty.since < history.record.forgiven_at:
        return None
    return network_block(guilty, None if stored is None else stored.record, now)


def _events(block: Block, stored: Stored[Block] | None, now: int) -> list[Event]:
    """Returns the events of a new block: before it, the end of a former one; none of a block that is prolonged."""
    if stored is not None and stored.record.in_force(now):
        return []
    ended = [] if stored is None else [end_event(stored.record, stored.record.ends_at)]
    return [*ended, block_event(block)]


def _writes(block: Block, stored: Stored[Block] | None, history: Stored[History] | None) -> Iterable[Write]:
    """Yields the writes of a block and of its history, which is read as well when the block is lifted."""
    yield State.put(block, over=stored)
    record = history.record if history is not None else History(network=block.network)
    kept_until = max(block.ends_at + DAY_S, history_kept_until(record, history))
    yield State.put(record, over=history, expires_at=kept_until)
