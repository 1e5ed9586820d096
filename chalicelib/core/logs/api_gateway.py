"""Access logs of API Gateway: JSON objects, in the format that Sluice asks for (``FORMAT``).

API Gateway puts values into the format without escaping them, so a quote in a path or a User-Agent header ends a value
early. What precedes the first such value is certain: the time, the client and the id. So these are read even if the
rest cannot be; if a key occurs twice, its first value counts; and an object is never searched for others within it.
Sources: API Gateway Developer Guide, "Set up CloudWatch logging for REST APIs" and "Variables for access logging".
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from chalicelib.core.addresses import AddressMemo
from chalicelib.core.logs.cloudfront import time_ms
from chalicelib.core.logs.columns import lines_of, url_path
from chalicelib.core.logs.json_values import Flat, flat_bytes, salvaged
from chalicelib.core.logs.log_format import DecodeOptions, ObjectFormat
from chalicelib.core.logs.requests import Column, Malformed, Reason, Requests, Source, host_name

FORMAT = (
    '{"sluice":1,"requestTimeEpoch":"$context.requestTimeEpoch","ip":"$context.identity.sourceIp",'
    '"extendedRequestId":"$context.extendedRequestId","httpMethod":"$context.httpMethod","path":"$context.path",'
    '"status":"$context.status","host":"$context.domainName","userAgent":"$context.identity.userAgent",'
    '"wafResponseCode":"$context.wafResponseCode"}'
)
"""The format of a REST API's access log; an HTTP API has no ``wafResponseCode``."""

KEY = "requestTimeEpoch"

_FOREIGN = frozenset(("httpRequest", "messageType", "request_line"))
"""Keys of formats that precede this one."""

_OPENING = re.compile(r"\s*\{")
_MEMBER = re.compile(r'\s*"(\w+)"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)\s*(,|\})')
_ALLOWED, _BLOCKED = "WAF_ALLOW", "WAF_BLOCK"


class ApiRecord(msgspec.Struct, gc=False, rename="camel"):
    request_time_epoch: Flat = None
    ip: str | None = None
    http_method: str | None = None
    path: str | None = None
    status: Flat = None
    host: str | None = None
    user_agent: str | None = None
    waf_response_code: str | None = None


def _leading(text: str) -> tuple[dict[str, Any], bool]:
    """Returns the members at the start of ``text``, and whether they are all of it.

    >>> _leading('{"sluice":1,"ip":"192.0.2.1","userAgent":"a","ip":"192.0.2.2"}')
    ({'sluice': '1', 'ip': '192.0.2.1', 'userAgent': 'a'}, True)
    >>> _leading('{"ip":"192.0.2.1","userAgent":"a "b" c","wafResponseCode":"-"}')
    ({'ip': '192.0.2.1'}, False)
    """
    members: dict[str, Any] = {}
    opening = _OPENING.match(text)
    at, closes = (opening.end(), False) if opening else (0, True)
    while not closes and (member := _MEMBER.match(text, at)):
        key, value, end = member.groups()
        members.setdefault(key, _unquoted(value))
        at, closes = member.end(), end == "}"
    return members, closes and not text[at:].strip()


def _unquoted(value: str) -> str:
    if "\\" not in value:
        return value.strip('"')
    try:
        return str(json.loads(value, strict=False))
    except ValueError:
        return value[1:-1]


def rescue(text: bytes | str) -> ApiRecord | None:
    """Returns what the leading members of ``text`` say of a request; None if they name no time and no client."""
    members, _ = _leading(text if isinstance(text, str) else text.decode("utf-8", "replace"))
    return salvaged(ApiRecord, members) if KEY in members and "ip" in members else None


def _plain(cell: Flat) -> str:
    return "" if cell is None or cell == "-" else str(cell)


def _waf_action(cell: str | None) -> str:
    return "ALLOW" if cell == _ALLOWED else "BLOCK" if cell == _BLOCKED else ""


_READ: dict[str, tuple[str, Callable[[Any], str]]] = {
    "host": ("host", lambda cell: host_name(_plain(cell))),
    "path": ("path", lambda cell: url_path(_plain(cell))),
    "method": ("http_method", _plain),
    "status": ("status", _plain),
    "user_agent": ("user_agent", _plain),
    "waf_action": ("waf_response_code", _waf_action),
}
"""For each column: the field that holds it, and how to read it."""


class ApiRecords:
    """A reader of API Gateway's log records."""

    def __init__(self, options: DecodeOptions) -> None:
        self._trusted = options.trusted
        self._addresses = AddressMemo()

    def read(self, text: bytes | str) -> ApiRecord:
        members, is_whole = _leading(text if isinstance(text, str) else text.decode())
        if not is_whole or KEY not in members or not _FOREIGN.isdisjoint(members):
            raise msgspec.ValidationError("not a whole record of API Gateway")
        return salvaged(ApiRecord, members)

    def read_lines(self, text: bytes | str) -> list[ApiRecord]:
        if isinstance(text, str):
            raise msgspec.ValidationError("an event holds one record; what follows it is the text of its client")
        return [self.read(line) for line in lines_of(text)]

    def salvage(self, members: Mapping[str, Any], text: bytes) -> ApiRecord | Reason:  # noqa: ARG002
        return rescue(text) or Reason.FIELDS

    def requests(self, records: Sequence[ApiRecord]) -> tuple[Requests, list[Malformed]]:
        clients = [flat_bytes(record.ip) for record in records]

        def columns(name: str) -> Column | None:
            if name not in _READ:
                return None
            field, text = _READ[name]
            return Column(list(map(attrgetter(field), records)), text)

        return Requests.of_valid(
            Source.API_GATEWAY,
            [time_ms(flat_bytes(record.request_time_epoch)) for record in records],
            self._addresses.pack_all(clients),
            columns,
            trusted=self._trusted,
            piece=clients.__getitem__,
        )


API_GATEWAY = ObjectFormat("API Gateway", Source.API_GATEWAY, (KEY,), ApiRecords, rescue)
