"""The publisher's list of the blocks, kept in memory and brought up to date by the state table's stream.

The stream only says *which* records have changed; they are read again, so a change that is delivered twice or late can
do no harm. Changes reach one publisher each. So one of them at a time *leads*: its name is in the ``Publisher`` record.
A publisher that does not find its own name there may have missed a change that another received. It takes the lead,
and only then reads all blocks. Hence a leader has seen every change that any publisher has received.

A change that no publisher receives would be missed. Therefore everything is read again if the sweep's heartbeats, which
arrive in the same way, show a gap or a repetition, and ``REREAD_S`` after the last time in any case.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from uuid import uuid4

from msgspec.structs import replace

from chalicelib.core.addresses import Span, require_network
from chalicelib.core.ipsets import BlockList, SetGroup
from chalicelib.core.networks import GuiltyClients
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.publishing import Heartbeat, Publisher
from chalicelib.pipeline.stored import State, Stored
from chalicelib.ports import Conflict, Contended, StreamChange

REREAD_S = 600
"""Longest time for which the list relies on the stream."""

LONGEST_GAP_S = 150
"""Longest time between two heartbeats, of which there is one per minute. After a longer one, changes may be lost."""

NOTED_AHEAD_S = 120
"""Time within which blocks end that the ``Publisher`` record names: until the sweep after the next."""

MOST_NOTED = 5000
"""Most networks in the ``Publisher`` record: about 100 KB, and what one sweep lifts."""

TRIES = 5


class FollowedBlocks:
    """The list of one container."""

    def __init__(self, state: State, clock: Callable[[], float]) -> None:
        """``clock``: epoch seconds."""
        self._state = state
        self._clock = clock
        self._name = uuid4().hex
        self._list: BlockList | None = None
        self._guilty: GuiltyClients | None = None
        """The same blocks, sorted by network; None until they are asked for."""
        self._is_asked_for_guilty = False
        self._changed: set[str] = set()
        """Networks whose records have changed since they were last read."""
        self._read_at = 0.0
        self._beat_at: int | None = None
        self._noted_until = 0
        """Blocks that end before this time are named in the record."""
        self._note_due = False

    @property
    def known(self) -> bool:
        """True if the list is in memory; if not, all blocks will be read."""
        return self._list is not None

    def forget(self) -> None:
        """Causes all blocks to be read the next time."""
        self._list = None

    def follow(self, changes: Iterable[StreamChange]) -> None:
        """Notes changes from the stream. It reads nothing."""
        for change in changes:
            if change.kind == Block.kind:
                with suppress(ValueError):  # a record under another id cannot be read, and is in no list
                    require_network(change.id)
                    self._changed.add(change.id)
            elif change.id == Heartbeat.id and change.body is not None:
                heartbeat = Heartbeat.read(change.id, change.body)
                if isinstance(heartbeat, Heartbeat):
                    self._follow_heartbeat(heartbeat.at)

    def current(self) -> BlockList:
        """Returns the list with every change that any publisher had received when this was called.

        Raises Contended and what the state store raises.
        """
        stored = self._state.control(Publisher)
        if self._list is None or stored.record.name != self._name:
            self._list = None
            self._take_the_lead(stored)
            self._changed.clear()
            records = self._state.records(Block)
            self._list = BlockList(records)
            self._guilty = GuiltyClients(records) if self._is_asked_for_guilty else None
            self._read_at = self._clock()
        elif self._changed:
            blocks = {network: stored.record for network, stored in self._state.get_many(Block, self._changed).items()}
            for network in self._changed:
                self._list.replace(network, blocks.get(network))
                if self._guilty is not None:
                    self._guilty.replace(network, blocks.get(network))
            self._changed.clear()
            self._note_due |= any(block.ends_at <= self._noted_until for block in blocks.values())
        return self._list

    def guilty(self) -> GuiltyClients | None:
        """Returns the clients that rules have blocked; None if they are not known yet: they are read the next time."""
        self._is_asked_for_guilty = True
        if self._guilty is None:
            self.forget()
        return self._guilty if self.known else None

    def places_within(self, group: SetGroup, span: Span) -> int:
        """Returns how many networks of ``group``, as they were last wanted, lie within ``span``; 0 if unknown."""
        return self._list.places_within(group, span) if self._list is not None else 0

    def note(self) -> None:
        """Stores for the sweep which blocks end soon and how many are in force, if that may have changed.

        Nothing is stored if another publisher leads, which will note them itself.
        """
        stored = self._state.control(Publisher) if self._note_due else None
        if self._list is None or stored is None or stored.record.name != self._name:
            return
        now = int(self._clock())
        until = now + NOTED_AHEAD_S
        ending = self._list.ending(until, MOST_NOTED)
        record = Publisher(name=self._name, at=now, blocks=self._list.in_force(now), ending=ending)
        with suppress(Conflict):  # another has just taken the lead
            self._state.write([State.put(record, over=stored)])
        self._noted_until, self._note_due = until, False

    def _follow_heartbeat(self, at: int) -> None:
        """Forgets the list if heartbeats were lost or repeated, or if it is old."""
        in_step = self._beat_at is None or 0 < at - self._beat_at <= LONGEST_GAP_S
        if not in_step or self._clock() >= self._read_at + REREAD_S:
            self.forget()
        self._beat_at = at
        self._note_due = True

    def _take_the_lead(self, stored: Stored[Publisher]) -> None:
        for _ in range(TRIES):
            try:
                self._state.write([State.put(replace(stored.record, name=self._name), over=stored)])
            except Conflict:
                stored = self._state.control(Publisher)
            else:
                return
        raise Contended(f"{TRIES} times in a row, another publisher took the lead")
