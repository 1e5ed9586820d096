"""The definition of a log format: the test that recognises its lines or objects, and their decoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.requests import COLUMNS, Malformed, Reason, Requests, Source

Decode = Callable[[list[bytes]], tuple[Requests, list[Malformed]]]
"""A function that decodes lines without line ends into requests and malformed lines."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Options of all decoders; each uses those that its format needs."""

    realtime_fields: tuple[str, ...]
    """Fields of CloudFront real-time lines, in order."""
    columns: frozenset[str] = COLUMNS
    """Columns that scopes will look at; decoders may skip all others."""
    trusted: NetworkSet = field(default_factory=lambda: NetworkSet(()))
    """Proxies whose X-Forwarded-For is trusted."""
    json_fields: tuple[tuple[str, str], ...] = ()
    """Pairs of a column and the key that holds it in JSON access logs of other programs; empty if none are read."""


@dataclass(frozen=True, slots=True, eq=False)
class LineFormat:
    """A format of lines."""

    name: str
    recognises: Callable[[bytes, bytes], bool]
    """Called with a line and the ``#Fields`` line in force (empty without one). Must be cheap."""
    decoder: Callable[[DecodeOptions, bytes], Decode]
    """Called with the options and the ``#Fields`` line in force; makes a decoder for any number of calls."""
    has_header: bool = False
    """A ``#Fields`` line describes the lines, so each different ``#Fields`` line has its own decoder."""
    cuts_lines: bool = False
    """The decoder accepts a list whose only element is an uncut text of many lines, which is fastest."""


class ObjectReader(Protocol):
    """A reader of the JSON objects of one format. Its records are of a type of its own."""

    def read(self, text: bytes | str) -> Any:
        """Returns the record in a text that is one object of this format, and of none that precedes it in the list.

        Raises one of ``UNREADABLE`` otherwise, or if a value has an unexpected type.
        """

    def read_lines(self, text: bytes | str) -> list[Any]:
        """Returns the records in a text that holds one object after another; raises like ``read``."""

    def salvage(self, members: Mapping[str, Any], text: bytes) -> Any | Reason:
        """Returns the record in an object, with unreadable values counted as absent, or the reason why it is not a
        record.

        ``members`` is the object that ``text`` spells.
        """

    def requests(self, records: Sequence[Any]) -> tuple[Requests, list[Malformed]]:
        """Returns the requests of the records, and those without a time or a client as malformed."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectFormat:
    """A format of JSON objects."""

    name: str
    source: Source | None
    """None if the objects hold no requests themselves."""
    keys: tuple[str, ...]
    """Keys that an object of this format has, without which ``read`` fails.

    An object that has those of several formats is of the first of them.
    """
    reader: Callable[[DecodeOptions], ObjectReader]
    rescue: Callable[[bytes | str], Any | None] | None = None
    """Returns the record at the start of a text, even if it is not a valid object; None if there is none.

    Only for formats whose writers do not escape values: there, an event holds one object, and whatever follows it was
    written by the client.
    """
