"""The base of all records of the state table, and the types of their fields."""

from contextlib import suppress
from typing import Annotated, Any, ClassVar, Self

import msgspec

from chalicelib.core.addresses import Network, parse_network, require_network

LATEST_S = 253_402_300_799
"""The end of the year 9999, the last that a date can have. Epoch seconds."""

Seconds = Annotated[int, msgspec.Meta(ge=0, le=LATEST_S)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=LATEST_S * 1000)]
LARGEST_COUNT = 2**53
Number = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]
"""A count that every reader of JSON reads exactly."""
PrefixLength = Annotated[int, msgspec.Meta(ge=1, le=128)]

LONGEST_REASON = 200
"""Most characters of the reason why a record cannot be read: it may quote what is stored."""


class Unreadable(msgspec.Struct, frozen=True):
    """A stored record that this version cannot read. Readers skip and report it."""

    kind: str
    id: str
    reason: str
    """The reason why it cannot be read."""


MOST_UNREADABLE = 100
"""Most unreadable records that are listed."""


class StateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of one kind."""

    kind: ClassVar[str]

    @property
    def id(self) -> str:
        """The id under which the record is stored. Kinds without one are stored under an id that the caller chooses."""
        raise NotImplementedError(f"the caller chooses the id of a {self.kind} record")

    def belongs_under(self, id: str) -> bool:
        """Returns whether the record can be stored under ``id``."""
        return id == self.id

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def read(cls, id: str, body: bytes) -> Self | Unreadable:
        """Returns the record that is stored under ``id``."""
        if not body:
            return Unreadable(cls.kind, id, "it has no body")
        try:
            record = cls.from_json(body)
            reason = None if record.belongs_under(id) else "its id does not match its content"
        except (msgspec.DecodeError, RecursionError) as exc:
            reason = str(exc)[:LONGEST_REASON]
        return record if reason is None else Unreadable(cls.kind, id, reason)

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Raises msgspec.DecodeError or RecursionError if ``body`` is not such a record."""
        return msgspec.json.decode(body, type=cls)


class NetworkRecord(StateRecord, frozen=True, kw_only=True):
    """A record about a network; the network is its id."""

    network: str

    def __post_init__(self) -> None:
        require_network(self.network)

    @property
    def id(self) -> str:
        return self.network

    def network_value(self) -> Network:
        return parse_network(self.network)


class Control(StateRecord, frozen=True, kw_only=True):
    """A record that exists once, under a fixed id."""

    kind: ClassVar[str] = "control"
    id: ClassVar[str]

    @classmethod
    def salvaged(cls, body: bytes) -> Self:
        """Returns as much as can be read of a damaged record: the other fields have their defaults."""
        values: dict[str, Any] = {}
        with suppress(msgspec.DecodeError, RecursionError):
            values = msgspec.json.decode(body, type=dict[str, Any])
        kept = {}
        for each in msgspec.structs.fields(cls):
            if each.name in values:
                with suppress(msgspec.ValidationError):
                    kept[each.name] = msgspec.convert(values[each.name], each.type)
        return cls(**kept)
