"""Blocks, and the history of each client."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec.structs import replace

from chalicelib.core.addresses import Network
from chalicelib.core.durations import DAY_S
from chalicelib.core.responses import Response, hardness
from chalicelib.core.state.detections import Evidence
from chalicelib.core.state.records import Control, NetworkRecord, Number, PrefixLength, Seconds

MANUAL = "manual"
FEED_AUTHOR = "feed "
"""Start of the names under which feeds allow and block networks. No token has such a name."""


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """The clients that make a network guilty, and the innocents in it."""

    number: Number
    """Clients in it that rules have blocked."""
    named: tuple[str, ...]
    """The first of them, in order of their addresses, at most ten."""
    innocents: tuple[str, ...] = ()
    """Known clients in it that no rule has blocked, at most ten; of an IPv6 client, its /48."""
    merged: bool = False
    """True if fewer clients than the rules ask for sufficed, because the IP sets were nearly full."""


class Block(NetworkRecord, frozen=True, kw_only=True):
    """A network whose requests are refused, or answered by a softer response, until a given time."""

    kind: ClassVar[str] = "block"
    blocked_at: Seconds
    """Time of the block. Epoch seconds."""
    until: Seconds
    """First second at which its requests are no longer refused; 0: only softer responses apply. Epoch seconds."""
    rule: str = MANUAL
    """Name of the rule, or 'manual'."""
    offence: Number = 0
    """Number of the offence against the rule, from 1; 0 for a manual block."""
    evidence: Evidence | None = None
    comment: str = ""
    by: str = ""
    """The operator who made a manual block, or 'feed ' and the name of the feed that lists the network."""
    begun_at: Seconds = 0
    """Time since which the network has been blocked without a gap; 0: since ``blocked_at``. Epoch seconds."""
    softer: dict[Response, Seconds] = {}
    """First second at which each softer response is over, if that is later than all harder ones. Epoch seconds."""
    members: Members | None = None
    """Reason for the block of a guilty network; null for any other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network.endswith("/0"):
            raise ValueError(f"{self.network} is wider than /1, the widest that AWS WAF accepts")
        if Response.BLOCK in self.softer:
            raise ValueError("softer: block is not softer than itself")

    @classmethod
    def with_ends(cls, ends: Mapping[Response, int], **fields: Any) -> Self:
        """Returns a block with these ``ends``: for each response, the first second at which it is over."""
        return cls(until=ends.get(Response.BLOCK, 0), softer=_softer(ends), **fields)

    def with_other_ends(self, ends: Mapping[Response, int]) -> Self:
        """Returns the block with other ``ends``."""
        return replace(self, until=ends.get(Response.BLOCK, 0), softer=_softer(ends))

    @property
    def ends(self) -> dict[Response, int]:
        """The first second, by response, at which it is over; the hardest first."""
        return {Response.BLOCK: self.until, **self.softer} if self.until else dict(self.softer)

    @property
    def ends_at(self) -> int:
        """First second at which no response applies any more. Epoch seconds."""
        return max(self.until, *self.softer.values()) if self.softer else self.until

    @property
    def manual(self) -> bool:
        return self.rule == MANUAL

    @property
    def by_operator(self) -> bool:
        """True if an operator made it."""
        return self.manual and not self.by.startswith(FEED_AUTHOR)

    @property
    def refuses_from(self) -> int:
        return self.begun_at or self.blocked_at

    @property
    def refuses_until(self) -> int:
        """First second at which AWS WAF no longer answers its requests itself; 0 if it never does. Epoch seconds."""
        return max((end for response, end in self.ends.items() if response is not Response.WATCH), default=0)

    def in_force(self, now: int) -> bool:
        return now < self.ends_at

    def response_at(self, now: int) -> Response | None:
        """Returns the response at the epoch second ``now``, the hardest that is not over; None if all are."""
        applying = [response for response, end in self.ends.items() if now < end]
        return max(applying, key=hardness, default=None)


def _softer(ends: Mapping[Response, int]) -> dict[Response, int]:
    return {response: end for response, end in ends.items() if response is not Response.BLOCK}


OUTCOMES = ["blocked", "extended", "counted", "allowlisted", "proxy", "stale"]
"""Outcomes that a client's history keeps."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """The last offence of a client against one rule."""

    offence: Number
    """Number of the offence, from 1."""
    until: Seconds
    """Time until which the client is punished for it, or would have been. Epoch seconds."""
    outcome: Annotated[str, msgspec.Meta(extra_json_schema={"enum": OUTCOMES})]
    evidence: Evidence
    response: Response = Response.BLOCK
    answered_at: Seconds = 0
    """When a response softer than block began; 0 for a block. Epoch seconds."""


class History(NetworkRecord, frozen=True, kw_only=True):
    """A client's past offences, for escalation, and when its requests may have been refused."""

    kind: ClassVar[str] = "offence"
    refused_from: Seconds = 0
    """When the first of its recent blocks that have ended began; 0 if that is unknown. Epoch seconds."""
    ended_at: Seconds = 0
    """When the last of them ended; 0 if none did. Epoch seconds."""
    forgiven_at: Seconds = 0
    """When an operator last lifted a block of it: earlier requests do not count. Epoch seconds."""
    rules: dict[str, Past] = {}


class BlockLengths(Control, frozen=True, kw_only=True):
    """The prefix lengths of the stored blocks, by which the blocks of wider networks are found.

    It may name lengths that no longer occur, but never lacks one that does.
    """

    id: ClassVar[str] = "block-lengths"
    ipv4: dict[PrefixLength, Seconds] = {}
    ipv6: dict[PrefixLength, Seconds] = {}
    """By length, a time after which all such blocks are over. Epoch seconds."""

    def covers(self, blocks: Iterable[Block]) -> bool:
        """Returns whether the lengths of ``blocks`` are named, until their ends."""
        return self.with_blocks(blocks) is self

    def with_blocks(self, blocks: Iterable[Block]) -> "BlockLengths":
        """Returns the lengths with those of ``blocks``; the same object if they are named already.

        Ends are rounded up to a whole day, so that most blocks change nothing.
        """
        families = {4: self.ipv4, 6: self.ipv6}
        for block in blocks:
            network = block.network_value()
            ends = families[network.version]
            if ends.get(network.prefixlen, 0) < block.ends_at:
                end = (block.ends_at // DAY_S + 1) * DAY_S
                families[network.version] = {**ends, network.prefixlen: end}
        if families[4] is self.ipv4 and families[6] is self.ipv6:
            return self
        return BlockLengths(ipv4=families[4], ipv6=families[6])

    def wider(self, network: Network, since: int) -> list[Network]:
        """Returns the networks wider than ``network`` that contain it and may have had a block since ``since``."""
        ends = self.ipv4 if network.version == 4 else self.ipv6
        lengths = [length for length, end in ends.items() if length < network.prefixlen and end > since]
        return [network.supernet(new_prefix=length) for length in lengths]

    def narrower_until(self, network: Network) -> int:
        """Returns a time after which all blocks narrower than ``network`` are over; 0 if there were none."""
        ends = self.ipv4 if network.version == 4 else self.ipv6
        return max((end for length, end in ends.items() if length > network.prefixlen), default=0)
