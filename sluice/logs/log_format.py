"""A log format's definition: a test that recognises its lines, and a decoder of them."""

from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.requests import Malformed, Requests

Decode = Callable[[list[bytes]], tuple[Requests, list[Malformed]]]
"""A function that decodes lines without line ends into requests and malformed lines."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Options of all decoders; each uses those that its format needs."""

    realtime_fields: tuple[str, ...]
    """Fields of CloudFront real-time lines, in order."""
    columns: frozenset[str]
    """Columns that scopes will look at; decoders may skip all others."""
    trusted: NetworkSet
    """Proxies whose X-Forwarded-For is trusted."""


@dataclass(frozen=True, slots=True, eq=False)
class LogFormat:
    name: str
    recognises: Callable[[bytes, bytes], bool]
    """Called with a line and the ``#Fields`` line in force (empty without one). Must be cheap."""
    decoder: Callable[[DecodeOptions, bytes], Decode]
    """Called with the options and the ``#Fields`` line in force; makes a decoder for any number of calls."""
    has_header: bool = False
    """A ``#Fields`` line describes the lines, so each different ``#Fields`` line has its own decoder."""
    cuts_lines: bool = False
    """The decoder accepts a list whose only element is an uncut text of many lines, which is fastest."""
