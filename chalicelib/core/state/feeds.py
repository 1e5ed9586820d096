"""Feeds, and the networks of each."""

from typing import ClassVar

from chalicelib.core.addresses import require_network
from chalicelib.core.responses import Response
from chalicelib.core.state.records import Number, Seconds, StateRecord


class Feed(StateRecord, frozen=True, kw_only=True):
    """A feed, as it was checked last."""

    kind: ClassVar[str] = "feed"
    name: str
    url: str
    respond: Response | None = None
    """The response to its networks' requests; null if they are allowed."""
    checked_at: Seconds = 0
    """Time of the last check. Epoch seconds."""
    changed_at: Seconds = 0
    """Time at which the list in use was read first; 0 if none is in use. Epoch seconds."""
    networks: Number = 0
    """Networks in the list in use, the last one that could be used."""
    problem: str = ""
    """The reason why the last check did not lead to a list; empty if it did."""

    @property
    def id(self) -> str:
        return self.name


class FeedNetworks(StateRecord, frozen=True, kw_only=True):
    """The networks of a feed that are in use."""

    kind: ClassVar[str] = "feed-networks"
    name: str
    networks: tuple[str, ...]
    """At most 5,000, and during a check also those of the list before: they fit into an item."""

    def __post_init__(self) -> None:
        for network in self.networks:
            require_network(network)

    @property
    def id(self) -> str:
        return self.name
