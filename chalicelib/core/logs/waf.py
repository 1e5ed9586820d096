"""AWS WAF log records: JSON, bare or inside the gzip'd envelope of a CloudWatch Logs subscription.

Only ``timestamp`` and ``httpRequest.clientIp`` are required. Any other field may be absent, and is treated as absent if
it is unreadable, so that no client can send a request that is not counted. Headers and labels stay encoded until a rule
examines them.
Sources: AWS WAF Developer Guide, "Log fields"; CloudWatch Logs User Guide, "Subscription filters".
"""

import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from chalicelib.core.addresses import AddressMemo, NetworkSet
from chalicelib.core.logs.cloudfront import lines_of
from chalicelib.core.logs.requests import (
    COLUMNS,
    FORWARDED_FOR,
    Column,
    Malformed,
    Reason,
    Requests,
    Source,
    Text,
    host_name,
)

LARGEST_ENVELOPE = 16 << 20
"""Most bytes that an envelope may unpack to: 16 times what CloudWatch Logs accepts in one call."""

ABSENT = msgspec.Raw(b"null")


class HttpRequest(msgspec.Struct, rename="camel", gc=False):
    client_ip: str
    request_id: str | None = None
    http_method: str | None = None
    uri: str | None = None
    country: str | None = None
    host: str | None = None
    headers: msgspec.Raw = ABSENT


class Record(msgspec.Struct, rename="camel", gc=False):
    timestamp: int
    http_request: HttpRequest
    action: str | None = None
    response_code_sent: int | None = None
    labels: msgspec.Raw = ABSENT


class LogEvent(msgspec.Struct, gc=False):
    message: str


class Envelope(msgspec.Struct, rename="camel", gc=False):
    message_type: str
    log_events: list[LogEvent] = []


class Header(msgspec.Struct):
    name: str | None = None
    value: str | None = None


class Label(msgspec.Struct):
    name: str | None = None


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions that a msgspec decoder raises for bad input."""

_envelopes = msgspec.json.Decoder(Envelope)
_headers = msgspec.json.Decoder(list[Header] | None)
_labels = msgspec.json.Decoder(list[Label] | None)


def header(raw: bytes, name: str) -> str:
    """Returns the values of one header, joined by commas as HTTP allows; empty if absent or unreadable.

    ``name``: in lower case.
    """
    try:
        headers = _headers.decode(raw) or ()
    except UNREADABLE:
        return ""
    return ",".join(h.value for h in headers if h.value is not None and h.name and h.name.lower() == name)


def _label_names(raw: bytes) -> tuple[str, ...]:
    try:
        return tuple(label.name for label in _labels.decode(raw) or () if label.name)
    except UNREADABLE:
        return ()


def _plain(cell: object) -> str:
    return "" if cell is None else str(cell)


def _host(cell: tuple[str | None, bytes]) -> str:
    host, headers = cell
    return host_name(host or header(headers, "host"))


class _Reading(NamedTuple):
    """The way from a record to a column's cell and its text."""

    fields: tuple[str, ...]
    """Fields of Record or HttpRequest that the cell is made of."""
    cell: Callable[[Record], Any]
    text: Callable[[Any], Text]


def _header_cell(record: Record) -> bytes:
    return bytes(record.http_request.headers)


def _host_cell(record: Record) -> tuple[str | None, bytes]:
    host = record.http_request.host
    return host, b"" if host else _header_cell(record)


_READ = {
    "host": _Reading(("host", "headers"), _host_cell, _host),
    "path": _Reading(("uri",), attrgetter("http_request.uri"), _plain),
    "method": _Reading(("http_method",), attrgetter("http_request.http_method"), _plain),
    "status": _Reading(("response_code_sent",), attrgetter("response_code_sent"), _plain),
    "country": _Reading(("country",), attrgetter("http_request.country"), lambda cell: cell or "-"),
    "user_agent": _Reading(("headers",), _header_cell, lambda cell: header(cell, "user-agent")),
    "waf_action": _Reading(("action",), attrgetter("action"), _plain),
    "waf_label": _Reading(("labels",), lambda record: bytes(record.labels), _label_names),
    FORWARDED_FOR: _Reading(("headers",), _header_cell, lambda cell: header(cell, "x-forwarded-for")),
}


@cache
def _decoder(columns: frozenset[str]) -> "msgspec.json.Decoder[Record]":
    """Returns a decoder that skips the fields that no column needs, which saves objects and time."""
    needed = {"client_ip", "request_id", "timestamp", "http_request"}
    needed.update(chain.from_iterable(_READ[name].fields for name in columns))
    narrow: dict[type, type] = {}
    for whole in (HttpRequest, Record):
        fields: list[tuple[Any, ...]] = []
        for field in msgspec.structs.fields(whole):
            if field.name in needed:
                default = () if field.default is msgspec.NODEFAULT else (field.default,)
                fields.append((field.name, narrow.get(field.type, field.type), *default))
        narrow[whole] = msgspec.defstruct(whole.__name__, fields, rename="camel", gc=False)
    return msgspec.json.Decoder(narrow[Record])


class WafRecords:
    def __init__(self, trusted: NetworkSet | None = None) -> None:
        self._trusted = trusted
        self._always = frozenset((FORWARDED_FOR,) if trusted else ())
        self._addresses = AddressMemo()

    def decode(
        self, texts: Sequence[bytes | str], examined: frozenset[str] = COLUMNS
    ) -> tuple[Requests, list[Malformed]]:
        """Returns the requests of ``texts``, JSON records of one or more lines each, and the other pieces.

        ``examined``: the columns that rules examine; others may be missing from the result.
        """
        available = examined | self._always
        records, malformed = _decode_all(texts, _decoder(available))
        times: list[int | None] = [record.timestamp for record in records]
        if records and min(record.timestamp for record in records) < 0:
            times = [record.timestamp if record.timestamp >= 0 else None for record in records]

        def columns(name: str) -> Column | None:
            if name not in available:
                return None
            reading = _READ[name]
            return Column(list(map(reading.cell, records)), reading.text)

        requests, invalid = Requests.of_valid(
            Source.WAF,
            times,
            self._addresses.pack_all([record.http_request.client_ip for record in records]),
            columns,
            [record.http_request.request_id or "" for record in records],
            trusted=self._trusted,
            piece=lambda row: records[row].http_request.client_ip.encode("utf-8", "replace"),
        )
        return requests, malformed + invalid


def _decode_all(
    texts: Sequence[bytes | str], decoder: "msgspec.json.Decoder[Record]"
) -> tuple[list[Record], list[Malformed]]:
    # Texts are decoded one by one only if one of them is bad. The decoder treats a line end as a space, so a text that
    # is not one record may still hold several, one per line.
    with suppress(*UNREADABLE):
        return list(map(decoder.decode, texts)), []
    if len(texts) == 1:  # part of a log file, with many lines: to split it first would take twice as long
        with suppress(*UNREADABLE):
            return decoder.decode_lines(texts[0]), []
    records, malformed = [], []
    for text in texts:
        whole = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        with suppress(*UNREADABLE):
            records.append(decoder.decode(whole))
            continue
        for piece in lines_of((whole,)) or (whole,):
            record = _read(piece, decoder)
            if isinstance(record, Reason):
                malformed.append(Malformed.of(record, piece, Source.WAF))
            else:
                records.append(record)
    return records, malformed


def _read(text: bytes, decoder: "msgspec.json.Decoder[Record]") -> Record | Reason:
    """Returns the readable part of a record, or the reason why it is not a request."""
    with suppress(*UNREADABLE):
        return decoder.decode(text)
    try:
        record = json.loads(text.decode("utf-8", "replace"))
        request = record["httpRequest"]
        time, address = record["timestamp"], request["clientIp"]
        headers, labels = (_raw(value) for value in (request.get("headers"), record.get("labels")))
    except (KeyError, TypeError, AttributeError):  # a missing key, or another type where an object belongs
        return Reason.FIELDS
    except (ValueError, RecursionError):
        return Reason.JSON if text.strip() else Reason.EMPTY
    if type(time) is not int:
        return Reason.TIMESTAMP
    if not isinstance(address, str):
        return Reason.ADDRESS
    status = record.get("responseCodeSent")
    return Record(
        timestamp=time,
        http_request=HttpRequest(
            client_ip=address,
            request_id=_text(request.get("requestId")),
            http_method=_text(request.get("httpMethod")),
            uri=_text(request.get("uri")),
            country=_text(request.get("country")),
            host=_text(request.get("host")),
            headers=headers,
        ),
        action=_text(record.get("action")),
        response_code_sent=status if type(status) is int else None,
        labels=labels,
    )


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _text(value: object) -> str | None:
    """Returns ``value`` with lone surrogates replaced, or None if it is not text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def open_envelope(packed: bytes) -> list[str] | Malformed:
    """Returns the messages of a CloudWatch Logs envelope; none for a control message.

    At most ``LARGEST_ENVELOPE`` bytes are unpacked, to bound the cost of a decompression bomb.
    """
    inflate = zlib.decompressobj(wbits=31)
    try:
        text = inflate.decompress(packed, LARGEST_ENVELOPE)
    except zlib.error:
        return Malformed.of(Reason.GZIP, packed)
    if not inflate.eof:
        reason = Reason.TOO_LARGE if inflate.unconsumed_tail else Reason.GZIP
        return Malformed.of(reason, packed)
    return messages_of(text)


def messages_of(text: bytes) -> list[str] | Malformed:
    """Returns the messages of an unpacked envelope; none for a control message."""
    try:
        envelope = _envelopes.decode(text)
    except UNREADABLE:
        return Malformed.of(Reason.ENVELOPE, text)
    if envelope.message_type == "CONTROL_MESSAGE":
        return []
    if envelope.message_type != "DATA_MESSAGE":
        return Malformed.of(Reason.ENVELOPE, text)
    return [event.message for event in envelope.log_events]
