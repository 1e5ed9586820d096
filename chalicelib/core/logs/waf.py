"""AWS WAF log records: JSON objects.

Only ``timestamp`` and ``httpRequest.clientIp`` are required. Any other field may be absent, and is treated as absent if
it is unreadable, so that no client can send a request that is not counted. Headers and labels stay encoded until a rule
examines them.
Source: AWS WAF Developer Guide, "Log fields".
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from chalicelib.core.addresses import AddressMemo
from chalicelib.core.logs.columns import pack_all
from chalicelib.core.logs.json_values import UNREADABLE, plain_text
from chalicelib.core.logs.log_format import DecodeOptions, ObjectFormat
from chalicelib.core.logs.requests import (
    FORWARDED_FOR,
    Cells,
    Column,
    Malformed,
    Reason,
    Requests,
    Source,
    Text,
    host_name,
)

ABSENT = msgspec.Raw(b"null")

CLOUDFRONT = "CF"
"""``httpSourceName`` of a request that a CloudFront distribution received."""


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
    client_asn: int | None = None
    ja3_fingerprint: str | None = None
    ja4_fingerprint: str | None = None
    http_source_name: str | None = None
    labels: msgspec.Raw = ABSENT


class Header(msgspec.Struct):
    name: str | None = None
    value: str | None = None


class Label(msgspec.Struct):
    name: str | None = None


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


def header_names(raw: bytes) -> tuple[str, ...]:
    """Returns the names of all headers in lower case; none if they are absent or unreadable."""
    try:
        return tuple(h.name.lower() for h in _headers.decode(raw) or () if h.name)
    except UNREADABLE:
        return ()


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
    "asn": _Reading(("client_asn",), attrgetter("client_asn"), _plain),
    "header_names": _Reading(("headers",), _header_cell, header_names),
    "ja3": _Reading(("ja3_fingerprint",), attrgetter("ja3_fingerprint"), _plain),
    "ja4": _Reading(("ja4_fingerprint",), attrgetter("ja4_fingerprint"), _plain),
    "referer": _Reading(("headers",), _header_cell, lambda cell: header(cell, "referer")),
    FORWARDED_FOR: _Reading(("headers",), _header_cell, lambda cell: header(cell, "x-forwarded-for")),
}


@cache
def _decoder(columns: frozenset[str]) -> "msgspec.json.Decoder[Record]":
    """Returns a decoder that skips the fields that no column needs, which saves objects and time."""
    needed = {"client_ip", "request_id", "timestamp", "http_request", "http_source_name"}
    needed.update(chain.from_iterable(_READ[name].fields for name in columns if name in _READ))
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
    """A reader of AWS WAF records."""

    def __init__(self, options: DecodeOptions) -> None:
        self._trusted = options.trusted
        self._available = (options.columns | {FORWARDED_FOR}) if options.trusted else options.columns
        self._addresses = AddressMemo()
        decoder = _decoder(self._available)
        self.read = decoder.decode
        self.read_lines = decoder.decode_lines

    def salvage(self, members: Mapping[str, Any], text: bytes) -> Record | Reason:  # noqa: ARG002
        try:
            request = members["httpRequest"]
            time, address = members["timestamp"], request["clientIp"]
        except (KeyError, TypeError):  # a missing key, or another type where an object belongs
            return Reason.FIELDS
        if isinstance(time, float) and time.is_integer():
            time = int(time)
        if type(time) is not int:
            return Reason.TIMESTAMP
        if not isinstance(address, str):
            return Reason.ADDRESS
        status, asn = members.get("responseCodeSent"), members.get("clientAsn")
        return Record(
            timestamp=time,
            http_request=HttpRequest(
                client_ip=plain_text(address),
                request_id=_text(request.get("requestId")),
                http_method=_text(request.get("httpMethod")),
                uri=_text(request.get("uri")),
                country=_text(request.get("country")),
                host=_text(request.get("host")),
                headers=_raw(request.get("headers")),
            ),
            action=_text(members.get("action")),
            response_code_sent=status if type(status) is int else None,
            client_asn=asn if type(asn) is int else None,
            ja3_fingerprint=_text(members.get("ja3Fingerprint")),
            ja4_fingerprint=_text(members.get("ja4Fingerprint")),
            http_source_name=_text(members.get("httpSourceName")),
            labels=_raw(members.get("labels")),
        )

    def requests(self, records: Sequence[Record]) -> tuple[Requests, list[Malformed]]:
        times: list[int | None] = [record.timestamp for record in records]
        if min(times, default=0) < 0:  # type: ignore[type-var, operator]
            times = [record.timestamp if record.timestamp >= 0 else None for record in records]

        def columns(name: str) -> Column | None:
            if name not in self._available or name not in _READ:
                return None
            reading = _READ[name]
            return Column(Cells(records, reading.cell), reading.text)

        return Requests.of_valid(
            Source.WAF,
            times,
            pack_all([record.http_request.client_ip for record in records], self._addresses),
            columns,
            # Behind a load balancer or an API, the id derives from a header that the client may write, so it identifies
            # nothing there.
            [r.http_request.request_id or "" if r.http_source_name == CLOUDFRONT else "" for r in records],
            trusted=self._trusted,
            piece=lambda row: records[row].http_request.client_ip.encode("utf-8", "replace"),
        )


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _text(value: object) -> str | None:
    """Returns ``value`` with lone surrogates replaced, or None if it is not text."""
    return plain_text(value) if isinstance(value, str) else None


WAF = ObjectFormat("AWS WAF", Source.WAF, ("httpRequest",), WafRecords)
