"""AWS WAF log records: JSON, bare or inside the gzip'd envelope of a CloudWatch Logs subscription.

Only ``timestamp`` and ``httpRequest.clientIp`` are relied upon. Anything else may be absent; what is there and cannot
be read is as if it were absent, so that no client can write a request that is not counted. Headers and labels are left
undecoded until a rule looks.
Sources: AWS WAF Developer Guide, "Log fields"; CloudWatch Logs User Guide, "Subscription filters".
"""

import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec

from chalicelib.core.addresses import AddressMemo, NetworkSet
from chalicelib.core.logs.cloudfront import lines_of
from chalicelib.core.logs.forwarded import clients_behind
from chalicelib.core.logs.requests import Column, Malformed, Reason, Requests, Source, Text, host_name

LARGEST_ENVELOPE = 16 << 20
"""Bytes an envelope may unpack to: CloudWatch Logs takes in a sixteenth of that at once."""

NOTHING = msgspec.Raw(b"null")


class HttpRequest(msgspec.Struct, rename="camel", gc=False):
    client_ip: str
    request_id: str | None = None
    http_method: str | None = None
    uri: str | None = None
    country: str | None = None
    host: str | None = None
    headers: msgspec.Raw = NOTHING


class Record(msgspec.Struct, rename="camel", gc=False):
    timestamp: int
    http_request: HttpRequest
    action: str | None = None
    response_code_sent: int | None = None
    labels: msgspec.Raw = NOTHING


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


WRONG = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions that a decoder raises."""

_envelopes = msgspec.json.Decoder(Envelope)
_headers = msgspec.json.Decoder(list[Header] | None)
_labels = msgspec.json.Decoder(list[Label] | None)


def header(raw: msgspec.Raw, name: str) -> str:
    """The values of one header, joined by commas as HTTP allows; empty when it is absent or unreadable."""
    try:
        headers = _headers.decode(raw) or ()
    except WRONG:
        return ""
    return ",".join(h.value for h in headers if h.value is not None and h.name and h.name.lower() == name)


def _label_names(raw: bytes) -> tuple[str, ...]:
    try:
        return tuple(label.name for label in _labels.decode(raw) or () if label.name)
    except WRONG:
        return ()


def _plain(cell: object) -> str:
    return "" if cell is None else str(cell)


def _country(cell: str | None) -> str:
    return cell or "-"


def _host(cell: tuple[str | None, bytes]) -> str:
    host, headers = cell
    return host_name(host or header(msgspec.Raw(headers), "host"))


_READ: dict[str, tuple[Callable[[HttpRequest], Any] | None, Callable[[Record], Any] | None, Callable[[Any], Text]]] = {
    "host": (lambda r: (r.host, b"" if r.host else bytes(r.headers)), None, _host),
    "path": (attrgetter("uri"), None, _plain),
    "method": (attrgetter("http_method"), None, _plain),
    "status": (None, attrgetter("response_code_sent"), _plain),
    "country": (attrgetter("country"), None, _country),
    "user_agent": (lambda r: bytes(r.headers), None, lambda cell: header(msgspec.Raw(cell), "user-agent")),
    "waf_action": (None, attrgetter("action"), _plain),
    "waf_label": (None, lambda r: bytes(r.labels), _label_names),
}
"""For each column: how to read its cell from the request or from the record, and how to render it as text."""

_FIELDS = {
    "host": ("host", "headers"),
    "path": ("uri",),
    "method": ("http_method",),
    "status": ("response_code_sent",),
    "country": ("country",),
    "user_agent": ("headers",),
    "waf_action": ("action",),
    "waf_label": ("labels",),
}
"""Fields that each column is read from."""

COLUMNS = frozenset(_FIELDS)
"""Every column that a scope can name."""


@cache
def _decoder(columns: frozenset[str]) -> "msgspec.json.Decoder[Record]":
    """Decodes records with no more fields than ``columns`` need: fewer objects, less time."""
    needed = {"client_ip", "request_id", "timestamp", "http_request", *chain.from_iterable(map(_FIELDS.get, columns))}  # type: ignore[arg-type]
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
    """Reads WAF log records."""

    def __init__(self, trusted: NetworkSet | None = None) -> None:
        self._trusted = trusted or NetworkSet(())
        self._always = frozenset(("user_agent",)) if self._trusted else frozenset()  # for X-Forwarded-For
        self._addresses = AddressMemo()

    def decode(
        self, texts: Sequence[bytes | str], wanted: frozenset[str] = COLUMNS
    ) -> tuple[Requests, list[Malformed]]:
        """``texts``: JSON records, one or more lines each; ``wanted``: the columns that will be asked for."""
        malformed: list[Malformed] = []
        records = _decode_all(texts, _decoder(wanted | self._always), malformed)
        times: list[int | None] = [record.timestamp for record in records]
        if records and min(record.timestamp for record in records) < 0:
            times = [time if time is not None and time >= 0 else None for time in times]
        inner = [record.http_request for record in records]
        peers = self._addresses.pack_all([request.client_ip for request in inner])
        clients = peers
        if self._trusted:
            forwarded = (header(request.headers, "x-forwarded-for") for request in inner)
            clients = clients_behind(peers, forwarded, self._trusted)

        def columns(name: str) -> Column | None:
            if name not in wanted:
                return None
            of_request, of_record, text = _READ[name]
            return Column(list(map(of_request, inner) if of_request else map(of_record, records)), text)  # type: ignore[arg-type]

        requests, invalid = Requests.of_valid(
            Source.WAF,
            times,
            clients,
            columns,
            [request.request_id or "" for request in inner],
            peers=peers,
            piece=lambda row: inner[row].client_ip.encode("utf-8", "replace"),
        )
        return requests, malformed + invalid


def _decode_all(
    texts: Sequence[bytes | str], decoder: "msgspec.json.Decoder[Record]", malformed: list[Malformed]
) -> list[Record]:
    # Only if one of them is wrong is each looked at by itself. To the decoder a line end is a space; what is wrong as
    # one record may hold several, one per line.
    with suppress(*WRONG):
        return list(map(decoder.decode, texts))
    if len(texts) == 1:  # a block of a log, of many lines: cutting it apart first would take as long again
        with suppress(*WRONG):
            return decoder.decode_lines(texts[0])
    good = []
    for text in texts:
        whole = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        for piece in (whole,) if _is_record(whole, decoder) else lines_of((whole,)) or (whole,):
            record = _read(piece, decoder)
            if isinstance(record, Reason):
                malformed.append(Malformed.of(record, piece))
            else:
                good.append(record)
    return good


def _is_record(text: bytes, decoder: "msgspec.json.Decoder[Record]") -> bool:
    try:
        decoder.decode(text)
    except WRONG:
        return False
    return True


def _read(text: bytes, decoder: "msgspec.json.Decoder[Record]") -> Record | Reason:
    """A record, or what can be read of one that is not as it should be, or why that is not enough."""
    with suppress(*WRONG):
        return decoder.decode(text)
    try:
        record = json.loads(text.decode("utf-8", "replace"))
        request = record["httpRequest"]
        time, address = record["timestamp"], request["clientIp"]
        headers, labels = (_raw(value) for value in (request.get("headers"), record.get("labels")))
    except (KeyError, TypeError, AttributeError):  # no such key, or no object where one should be
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
    """``value`` if it is text, with half surrogates replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def open_envelope(packed: bytes) -> list[str] | Malformed:
    """The messages of a CloudWatch Logs envelope; none for a control message.

    Unpacks no more than ``LARGEST_ENVELOPE`` bytes: a bomb costs that much and no more.
    """
    inflate = zlib.decompressobj(wbits=31)
    try:
        text = inflate.decompress(packed, LARGEST_ENVELOPE)
    except zlib.error:
        return Malformed.of(Reason.GZIP, packed)
    if not inflate.eof:
        reason = Reason.TOO_LARGE if inflate.unconsumed_tail else Reason.GZIP
        return Malformed.of(reason, packed)
    try:
        envelope = _envelopes.decode(text)
    except WRONG:
        return Malformed.of(Reason.ENVELOPE, text)
    if envelope.message_type == "CONTROL_MESSAGE":
        return []
    if envelope.message_type != "DATA_MESSAGE":
        return Malformed.of(Reason.ENVELOPE, text)
    return [event.message for event in envelope.log_events]
