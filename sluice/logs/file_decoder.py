"""From a block of a log file to requests: the format is told from the lines themselves, of every block anew.

A block is decoded as what its first recognisable line is. Only if some of its lines do not fit is each line looked at
by itself, so that files with several formats in them cost time and nothing else.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Protocol

import msgspec

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.logs.cloudfront import CloudFrontLines, time_ms
from chalicelib.core.logs.requests import Decoded, Malformed, Reason, Requests
from chalicelib.core.logs.waf import WRONG, Envelope, WafRecords
from sluice.logs import cloudfront_standard as standard
from sluice.logs import load_balancer as balancer
from sluice.logs import web_server as webserver

ENVELOPES = b'}{"messageType":'
"""Where Data Firehose has put two CloudWatch envelopes one after the other, with nothing between them."""

SNIFFED_LINES = 200
LATEST_MS = 10**14
"""In the year 5138. AWS WAF's times are numbers of any size, and clients do not make them; later ones are damage."""

MOST_HEADERS = 100
"""Different ``#Fields`` lines that are remembered."""

STRUCTURAL = frozenset(
    (Reason.FIELDS, Reason.JSON, Reason.TIMESTAMP, Reason.ENCODING, Reason.TOO_LARGE, Reason.ENVELOPE)
)
"""Reasons that a line of another format gives."""

Decode = Callable[[list[bytes]], tuple[Requests, list[Malformed]]]


class LogFormat(StrEnum):
    """A log format."""

    REALTIME = "CloudFront real-time"
    STANDARD = "CloudFront standard (W3C)"
    STANDARD_JSON = "CloudFront standard (JSON)"
    WAF = "AWS WAF"
    ENVELOPE = "CloudWatch envelope of AWS WAF"
    BALANCER = "load balancer"
    WEB_SERVER = "nginx/Apache"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of one file, one after the other."""

    text: bytes
    header: bytes = b""
    """The ``#Fields`` line in force where the block begins."""


_DATED = re.compile(rb"\d{4}-\d\d-\d\d\t\d\d:\d\d:\d\d\t", re.ASCII)
_envelopes = msgspec.json.Decoder(Envelope)


def kind_of(line: bytes, header: bytes = b"") -> LogFormat | None:
    """The format of a line, by its looks; None if it looks like none.

    >>> kind_of(b'{"timestamp":1,"httpRequest":{"clientIp":"192.0.2.1"}}')
    <LogFormat.WAF: 'AWS WAF'>
    """
    if line[:1] == b"{":
        return _json_kind(line)
    first = line.partition(b"\t")[0]
    if time_ms(first) is not None and (b"." in first or standard.STAMP.encode() not in header):
        return LogFormat.REALTIME
    if _DATED.match(line) or (header and b"\t" in line):
        return LogFormat.STANDARD
    if balancer.LINE.match(line):
        return LogFormat.BALANCER
    return LogFormat.WEB_SERVER if webserver.LINE.fullmatch(line) else None


def _json_kind(line: bytes) -> LogFormat:
    if line.startswith(b'{"messageType":'):
        return LogFormat.ENVELOPE
    return LogFormat.STANDARD_JSON if b'"c-ip"' in line and b'"httpRequest"' not in line else LogFormat.WAF


class ChunkDecoder(Protocol):
    """Turns a block into requests."""

    def decode(self, block: Chunk) -> Decoded: ...


class LogDecoder:
    """Decodes blocks of all formats, mixed as they come."""

    def __init__(self, fields: Sequence[str], wanted: frozenset[str], trusted: NetworkSet) -> None:
        """``fields``: of real-time lines; ``wanted``: the columns that will be asked for."""
        self._wanted, self._trusted = wanted, trusted
        waf = WafRecords(trusted)
        self._standard: dict[bytes, Decode] = {}
        self._decoders: dict[LogFormat, Decode] = {
            LogFormat.REALTIME: CloudFrontLines(fields, trusted).decode,
            LogFormat.STANDARD_JSON: standard.StandardJson(trusted).decode,
            LogFormat.WAF: lambda texts: waf.decode(texts, wanted),
            LogFormat.BALANCER: balancer.BalancerLines().decode,
            LogFormat.WEB_SERVER: webserver.WebServerLines().decode,
        }

    def decode(self, block: Chunk) -> Decoded:
        decoded = self._decoded(block)
        if all(max(requests.times) < LATEST_MS for requests in decoded.requests):
            return decoded
        malformed = list(decoded.malformed)
        sane = [_sane(requests, malformed) for requests in decoded.requests]
        return Decoded(tuple(filter(len, sane)), tuple(malformed))

    def _decoded(self, block: Chunk) -> Decoded:
        text = block.text
        kind = kind_of(text[: text.find(b"\n")], block.header)
        if kind is LogFormat.REALTIME or kind is LogFormat.WAF:
            # Where nothing else is in the block, the core cuts it up itself, which is the fastest.
            requests, wrong = self._decoders[kind]([text])
            if not any(piece.reason in STRUCTURAL for piece in wrong):
                return Decoded((requests,) if requests else (), tuple(wrong))
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        found: list[Requests] = []
        malformed: list[Malformed] = []
        for header, lines in _sections(text, block.header):
            found += filter(len, self._section(lines, header, malformed))
        return Decoded(tuple(found), tuple(malformed))

    def _section(self, lines: list[bytes], header: bytes, malformed: list[Malformed]) -> Iterable[Requests]:
        kind = next((k for line in lines[:SNIFFED_LINES] if (k := kind_of(line, header)) is not None), None)
        requests, wrong = self._decode(kind, lines, header)
        if any(piece.reason in STRUCTURAL for piece in wrong):
            kinds = [kind_of(line, header) for line in lines]
            if set(kinds) != {kind}:
                found = []
                for each in dict.fromkeys(kinds):
                    some, bad = self._decode(each, [x for x, k in zip(lines, kinds, strict=True) if k is each], header)
                    found += some
                    malformed += bad
                return found
        malformed += wrong
        return requests

    def _decode(
        self, kind: LogFormat | None, lines: list[bytes], header: bytes
    ) -> tuple[list[Requests], list[Malformed]]:
        if kind is None:
            return [], [Malformed.of(Reason.FIELDS, line) for line in lines]
        if kind is LogFormat.ENVELOPE:
            texts, wrong = _messages(lines)
            requests, bad = self._decoders[LogFormat.WAF](texts)
            return [requests], wrong + bad
        requests, bad = (self._w3c(header) if kind is LogFormat.STANDARD else self._decoders[kind])(lines)
        return [requests], bad

    def _w3c(self, header: bytes) -> Decode:
        if header not in self._standard:
            if len(self._standard) >= MOST_HEADERS:
                self._standard.clear()
            fields = standard.fields_of(header) if header else standard.VERSION_1
            self._standard[header] = standard.StandardLines(fields, self._wanted, self._trusted).decode
        return self._standard[header]


def _sane(requests: Requests, malformed: list[Malformed]) -> Requests:
    """The requests of times that can be told of."""
    keep = [time < LATEST_MS for time in requests.times]
    malformed += [Malformed(Reason.TIMESTAMP, b"a time far away") for kept in keep if not kept]
    return requests.select(keep)


def _sections(text: bytes, header: bytes) -> Iterable[tuple[bytes, list[bytes]]]:
    """The lines under each ``#Fields`` header; comments and empty lines left out."""
    lines = list(filter(None, text.split(b"\n")))
    if b"#" not in text or not (text.startswith(b"#") or b"\n#" in text):
        if lines:
            yield header, lines
        return
    under: list[bytes] = []
    for line in lines:
        if not line.startswith(b"#"):
            under.append(line)
        elif line.startswith(standard.HEADER):
            if under:
                yield header, under
            header, under = line, []
    if under:
        yield header, under


def _apart(line: bytes) -> list[bytes]:
    """The envelopes in a line."""
    return line.replace(ENVELOPES, b'}\n{"messageType":').split(b"\n")


def _messages(lines: list[bytes]) -> tuple[list[bytes], list[Malformed]]:
    """The log lines in CloudWatch envelopes; control messages hold none."""
    texts: list[bytes] = []
    malformed = []
    for line in chain.from_iterable(map(_apart, lines)):
        try:
            envelope = _envelopes.decode(line)
        except WRONG:
            malformed.append(Malformed.of(Reason.ENVELOPE, line))
            continue
        if envelope.message_type == "DATA_MESSAGE":
            texts += [event.message.encode("utf-8", "surrogatepass") for event in envelope.log_events]
        elif envelope.message_type != "CONTROL_MESSAGE":
            malformed.append(Malformed.of(Reason.ENVELOPE, line))
    return texts, malformed
