"""All log formats, and the names of others. To add one, write a module that defines a format and add it here."""

import re
from dataclasses import replace

from chalicelib.core.logs.api_gateway import API_GATEWAY
from chalicelib.core.logs.cloudfront import REALTIME
from chalicelib.core.logs.cloudfront_standard import STANDARD, STANDARD_JSON
from chalicelib.core.logs.envelope import ENVELOPE
from chalicelib.core.logs.json_fields import json_access_log
from chalicelib.core.logs.load_balancer import BALANCER, BALANCER_JSON
from chalicelib.core.logs.log_format import DecodeOptions, LineFormat, ObjectFormat
from chalicelib.core.logs.requests import COLUMNS, LIVE_SOURCES, MEASURED, Source
from chalicelib.core.logs.waf import WAF
from chalicelib.core.logs.web_server import WEB_SERVER

LINE_FORMATS: tuple[LineFormat, ...] = (BALANCER, WEB_SERVER, STANDARD, REALTIME)
"""The first one that recognises a line decodes it.

A client may write the host with which some web servers begin a line, and with it the start of another format's line,
but not the blanks and quotes that follow; so that format precedes those that look at the start alone. CloudFront
encodes blanks and quotes: no line of its logs is taken for another one.
"""

KEYED_FORMATS: tuple[ObjectFormat, ...] = (WAF, ENVELOPE, STANDARD_JSON, BALANCER_JSON, API_GATEWAY)
JSON_ACCESS_LOG = json_access_log(KEYED_FORMATS)
OBJECT_FORMATS = (*KEYED_FORMATS, JSON_ACCESS_LOG)
"""The first one whose keys an object has reads it."""

_UNREAD = (
    (re.compile(rb"tls \d\.\d \d{4}-\d\d-\d\dT", re.ASCII), "access log of a Network Load Balancer"),
    (re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z \S+ \d+ \d+ TLS", re.ASCII), "connection log of a load balancer"),
    (
        re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z \S+ \S+:\d+ \S+ -?[\d.]+ ", re.ASCII),
        "access log of a Classic Load Balancer",
    ),
    (re.compile(rb"(?:\d+ \d{12} eni-|version account-id )", re.ASCII), "VPC flow log"),
    (re.compile(rb"[0-9a-f]{64} \S+ \[\d\d/[A-Z][a-z]{2}/\d{4}:", re.ASCII), "access log of an S3 bucket"),
    (re.compile(rb"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[[a-z]+\] ", re.ASCII), "error log of nginx"),
    (re.compile(rb"\[[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ [\d:.]+ \d{4}\] \[", re.ASCII), "error log of Apache"),
)
"""First bytes of the lines of logs that are recognised but not read, and the names of those logs."""


def detect(line: bytes, header: bytes = b"") -> LineFormat | None:
    """Returns the format of a line, or None if no format recognises it.

    ``header``: the ``#Fields`` line above it, if there is one; its own format is then tried first.

    >>> detect(b'192.0.2.1 - - [09/Oct/2025:08:53:20 +0000] "GET / HTTP/1.1" 200 5').name
    'nginx/Apache'
    """
    formats = (STANDARD, *LINE_FORMATS) if header else LINE_FORMATS
    return next((log_format for log_format in formats if log_format.recognises(line, header)), None)


def unread_log(line: bytes) -> str | None:
    """Returns the name of the log that a line belongs to, if that log is recognised but not read.

    >>> unread_log(b"2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1 2 ACCEPT OK")
    'VPC flow log'
    """
    return next((name for pattern, name in _UNREAD if pattern.match(line)), None)


def columns_of_logs(options: DecodeOptions) -> dict[Source, frozenset[str]]:
    """Returns the columns that the log of each source can have: those that its decoders offer when they decode nothing.

    A standard log has those that were selected for it, which only the log itself shows.
    """
    names = COLUMNS | MEASURED
    everything = replace(options, columns=names)
    # Under a header, a line has the columns that the header names.
    empty = [each.decoder(everything, b"")([])[0] for each in LINE_FORMATS if not each.has_header]
    empty += [each.reader(everything).requests([])[0] for each in OBJECT_FORMATS if each.source is not None]
    available: dict[Source, frozenset[str]] = dict.fromkeys(LIVE_SOURCES, frozenset())
    for requests in empty:
        has = frozenset(name for name in names if requests.columns(name) is not None)
        available[requests.source] |= has
    return available
