"""The notes that the publisher and the sweep leave for each other and for enforce."""

from typing import Annotated, ClassVar

import msgspec

from chalicelib.core.addresses import require_network
from chalicelib.core.responses import Response
from chalicelib.core.state.blocks import Members
from chalicelib.core.state.records import Control, Number, Seconds, Unreadable


class Heartbeat(Control, frozen=True, kw_only=True):
    """The last sweep."""

    id: ClassVar[str] = "heartbeat"
    at: Seconds = 0
    blocks: Number = 0
    """Blocks in force."""
    most_blocks: Number = 0
    """Most blocks in force at a sweep since the quarter hour began."""
    most_before: Number = 0
    """The same of the quarter hour before."""
    lifted: Number = 0
    unreadable: tuple[Unreadable, ...] = ()
    """The first 100 records that cannot be read, by kind and id."""
    inspected: dict[str, str] = {}
    """For each kind, the id up to which it has been searched for such records; empty to begin again."""


class Publisher(Control, frozen=True, kw_only=True):
    """The publisher that follows the stream, and what it notes for the sweep."""

    id: ClassVar[str] = "publisher"
    name: str = ""
    """Name of the container that leads: the only one that may rely on its memory of the blocks."""
    at: Seconds = 0
    """When the following was noted. Epoch seconds."""
    blocks: Number = 0
    """Blocks in force."""
    ending: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...] = ()
    """Networks whose blocks are over by then or end within two minutes, at most 5,000, the soonest first."""


class Recall(Control, frozen=True, kw_only=True):
    """A publisher's call to itself: there is more to publish as soon as AWS accepts it."""

    id: ClassVar[str] = "recall"
    nonce: str = ""
    """Different each time, because the stream does not report a record that is rewritten unchanged."""


class Guilty(msgspec.Struct, frozen=True, kw_only=True):
    """A guilty network (``core.networks``)."""

    network: str
    ends: dict[Response, Seconds]
    """First second at which it is no longer guilty enough for each response. Epoch seconds."""
    since: Seconds
    """Time since which the first of its members has been blocked. Epoch seconds."""
    members: Members

    def __post_init__(self) -> None:
        require_network(self.network)


class GuiltyNetworks(Control, frozen=True, kw_only=True):
    """The networks that the publisher, which knows all blocks, has found guilty. Enforce blocks them."""

    id: ClassVar[str] = "guilty"
    at: Seconds = 0
    """When it found them. Epoch seconds."""
    networks: tuple[Guilty, ...] = ()
    """At most 300, those with the most members first."""
