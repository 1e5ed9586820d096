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
from operator import attrgetter
from typing import Any

import msgspec

from chalicelib.core.addresses import AddressMemo, NetworkSet
from chalicelib.core.cloudfront import lines_of
from chalicelib.core.forwarded import client_behind
from chalicelib.core.requests import Column, Malformed, Reason, Requests, Source, Text, host_name

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
"""What a decoder raises."""

_records = msgspec.json.Decoder(Record)
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


_READ: dict[str, tuple[Callable[[Record], Any], Callable[[Any], Text]]] = {
    "host": (lambda r: (r.http_request.host, b"" if r.http_request.host else bytes(r.http_request.headers)), _host),
    "path": (attrgetter("http_request.uri"), _plain),
    "method": (attrgetter("http_request.http_method"), _plain),
    "status": (attrgetter("response_code_sent"), _plain),
    "country": (attrgetter("http_request.country"), _country),
    "user_agent": (lambda r: bytes(r.http_request.headers), lambda cell: header(msgspec.Raw(cell), "user-agent")),
    "waf_action": (attrgetter("action"), _plain),
    "waf_label": (lambda r: bytes(r.labels), _label_names),
}


class WafRecords:
    """Reads WAF log records."""

    def __init__(self, trusted: NetworkSet | None = None) -> None:
        self._trusted = trusted or NetworkSet(())
        self._addresses = AddressMemo()

    def decode(self, texts: Sequence[bytes]) -> tuple[Requests, list[Malformed]]:
        """``texts``: JSON records, one or more lines each."""
        malformed: list[Malformed] = []
        records = _decode_all(texts, malformed)
        times: list[int] = [record.timestamp for record in records]
        peers = self._addresses.pack_all([record.http_request.client_ip for record in records])
        clients = peers if not self._trusted else list(map(self._client, peers, records))
        ids = [record.http_request.request_id or "" for record in records]

        def columns(name: str) -> Column | None:
            if name not in _READ:
                return None
            cell, text = _READ[name]
            return Column(list(map(cell, records)), text)

        requests = Requests(Source.WAF, times, clients, columns, ids)  # type: ignore[arg-type]
        if None not in clients and (not times or (min(times) >= 0)):
            return requests, malformed
        keep = []
        for record, client, peer in zip(records, clients, peers, strict=True):
            keep.append(client is not None and record.timestamp >= 0)
            if not keep[-1]:
                reason = (
                    Reason.TIMESTAMP if record.timestamp < 0 else Reason.ADDRESS if peer is None else Reason.FORWARDED
                )
                malformed.append(Malformed(reason, record.http_request.client_ip.encode("utf-8", "replace")))
        return requests.select(keep), malformed

    def _client(self, peer: bytes | None, record: Record) -> bytes | None:
        return peer and client_behind(peer, header(record.http_request.headers, "x-forwarded-for"), self._trusted)


def _decode_all(texts: Sequence[bytes], malformed: list[Malformed]) -> list[Record]:
    # Only if one of them is wrong is each looked at by itself. To the decoder a line end is a space; what is wrong as
    # one record may hold several, one a line.
    with suppress(*WRONG):
        return list(map(_records.decode, texts))
    good = []
    for text in texts:
        for piece in (text,) if _is_record(text) else lines_of((text,)) or (text,):
            record = _read(piece)
            if isinstance(record, Record):
                good.append(record)
            else:
                malformed.append(Malformed(record, piece[: Malformed.SAMPLE_BYTES]))
    return good


def _is_record(text: bytes) -> bool:
    try:
        _records.decode(text)
    except WRONG:
        return False
    return True


def _read(text: bytes) -> Record | Reason:
    """A record, or what can be read of one that is not as it should be, or why that is not enough."""
    with suppress(*WRONG):
        return _records.decode(text)
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


def open_envelope(packed: bytes) -> list[bytes] | Malformed:
    """The messages of a CloudWatch Logs envelope; none for a control message.

    Unpacks no more than ``LARGEST_ENVELOPE`` bytes: a bomb costs that much and no more.
    """
    inflate = zlib.decompressobj(wbits=31)
    try:
        text = inflate.decompress(packed, LARGEST_ENVELOPE)
    except zlib.error:
        return Malformed(Reason.GZIP, packed[: Malformed.SAMPLE_BYTES])
    if not inflate.eof:
        reason = Reason.TOO_LARGE if inflate.unconsumed_tail else Reason.GZIP
        return Malformed(reason, packed[: Malformed.SAMPLE_BYTES])
    try:
        envelope = _envelopes.decode(text)
    except WRONG:
        return Malformed(Reason.ENVELOPE, text[: Malformed.SAMPLE_BYTES])
    if envelope.message_type == "CONTROL_MESSAGE":
        return []
    if envelope.message_type != "DATA_MESSAGE":
        return Malformed(Reason.ENVELOPE, text[: Malformed.SAMPLE_BYTES])
    return [event.message.encode("utf-8", "surrogatepass") for event in envelope.log_events]
