"""Application Load Balancer access logs: lines of fields separated by single spaces, texts in quotes; and JSON objects.

The client is written as ``address:port``; IPv6 addresses come with or without brackets. The JSON of the newer, vended
logs has the same values under names, as text. A trace id is never a request id, because it holds what the client sent.
Source: Elastic Load Balancing, "Access logs for your Application Load Balancer".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import field

from chalicelib.core.addresses import AddressMemo, NetworkSet
from chalicelib.core.logs.columns import complete_lines, request_line, split_all, url_host, url_path
from chalicelib.core.logs.json_values import Flat, flat_bytes, salvaged
from chalicelib.core.logs.log_format import DecodeOptions, LineFormat, ObjectFormat
from chalicelib.core.logs.requests import BYTES, TIME_TAKEN, Column, Malformed, Reason, Requests, Source
from chalicelib.core.logs.times import TimeMemo, iso_ms, milliseconds, utc_ms

TIME, CLIENT, STATUS, SENT, UNQUOTED = 1, 3, 8, 11, 12
"""Indices of fields, and the number of fields before the first quote."""
TIMES = slice(5, 8)
"""The times in seconds that the request took in the load balancer, in the target, and back; -1 for one that failed."""

_LINE = re.compile(rb"(?:https?|h2|grpcs?|wss?) \d{4}-\d\d-\d\dT", re.ASCII)


def _address(cell: bytes) -> bytes:
    return cell.rpartition(b":")[0].strip(b"[]")


def _plain(cell: bytes) -> str:
    return "" if cell == b"-" else cell.decode("utf-8", "replace")


def _time_taken(times: Sequence[bytes]) -> str:
    """Returns the sum of times in seconds, in milliseconds.

    >>> _time_taken((b"0.001", b"1.2", b"-1"))
    '1201'
    """
    return str(sum(int(milliseconds(time.decode("latin-1")) or 0) for time in times))


def _waf_action(actions: bytes) -> str:
    """Returns what AWS WAF did, according to the actions executed: the last one is ``waf`` if it refused the request.

    >>> [_waf_action(actions) for actions in (b"waf", b"waf,forward", b"authenticate,forward", b"waf-failed")]
    ['BLOCK', 'ALLOW', '', '']
    """
    names = actions.split(b",")
    return "BLOCK" if names[-1] == b"waf" else "ALLOW" if b"waf" in names else ""


READ: dict[str, tuple[str, Callable[[bytes], str]]] = {
    "method": ("request_line", lambda cell: request_line(cell)[0].strip("-")),
    "host": ("request_line", lambda cell: url_host(request_line(cell)[1])),
    "path": ("request_line", lambda cell: url_path(request_line(cell)[1]).strip("-")),
    "status": ("elb_status_code", _plain),
    "user_agent": ("user_agent", _plain),
    "waf_action": ("actions_executed", _waf_action),
    BYTES: ("sent_bytes", _plain),
}
"""For each column: the field that holds it, and how to read it."""

_QUOTED = {"request_line": 0, "user_agent": 1}
_ACTIONS = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|[^ "]+)(?: (?:"(?:[^"\\]|\\.)*"|[^ "]+)){9} "([^"]*)"')


class BalancerLines:
    """A decoder of lines."""

    def __init__(self, options: DecodeOptions) -> None:
        self._trusted = options.trusted
        self._addresses = AddressMemo()
        self._times = TimeMemo(utc_ms)

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        malformed: list[Malformed] = []
        rows = split_all(lines, b" ", UNQUOTED)
        complete = [len(row) > UNQUOTED and row[UNQUOTED][:1] == b'"' for row in rows]
        if not all(complete):
            rows = list(compress(rows, complete))
            lines, malformed = complete_lines(lines, complete, _incomplete)
        clients = self._addresses.pack_all([_address(row[CLIENT]) for row in rows])

        def columns(name: str) -> Column | None:
            field, text = READ.get(name, ("", _plain))
            if name == BYTES:
                return Column([row[SENT] for row in rows], _plain)
            if name == TIME_TAKEN:
                return Column([tuple(row[TIMES]) for row in rows], _time_taken)
            if field == "elb_status_code":
                return Column([row[STATUS] for row in rows], text)
            return Column([_quoted(row[UNQUOTED], field) for row in rows], text) if field else None

        times = self._times_of([row[TIME] for row in rows])
        requests, invalid = Requests.of_valid(
            Source.BALANCER, times, clients, columns, trusted=self._trusted, piece=lines.__getitem__
        )
        return requests, malformed + invalid

    def _times_of(self, cells: list[bytes]) -> list[int | None]:
        # Times within the same second differ only in the fraction.
        seconds = self._times.parse_all([cell[:19] for cell in cells])
        fractions = [cell[20:23] for cell in cells]
        if b"".join(fractions).isdigit() and all(len(cell) == 27 for cell in cells) and None not in seconds:
            return [second + int(f) for second, f in zip(seconds, fractions, strict=True)]  # type: ignore[operator]
        return list(map(iso_ms, cells))


def _incomplete(line: bytes) -> Malformed:
    return Malformed.of(Reason.FIELDS, line, Source.BALANCER)


def _quoted(rest: bytes, field: str) -> bytes:
    """Returns a field after the unquoted ones; ``-`` if it is absent."""
    if field == "actions_executed":
        match = _ACTIONS.match(rest)
        return match[1] if match else b"-"
    texts = rest.split(b'"', 2 * _QUOTED[field] + 2)
    return texts[2 * _QUOTED[field] + 1] if len(texts) > 2 * _QUOTED[field] + 1 else b"-"


BALANCER = LineFormat(
    "load balancer", lambda line, _: _LINE.match(line) is not None, lambda options, _: BalancerLines(options).decode
)


class BalancerRecord(msgspec.Struct, gc=False):
    elb: str | None
    request_line: str | None
    time: str | None = None
    client_port: str | None = None
    elb_status_code: Flat = None
    user_agent: str | None = None
    actions_executed: str | None = None
    sent_bytes: Flat = None
    request_processing_time: Flat = None
    target_processing_time: Flat = None
    response_processing_time: Flat = None
    waf: None = field(name="httpRequest", default=None)
    envelope: None = field(name="messageType", default=None)
    cloudfront: None = field(name="c-ip", default=None)
    """Keys of formats that precede this one."""


_decoder = msgspec.json.Decoder(BalancerRecord)


class BalancerRecords:
    """A reader of JSON objects."""

    read = _decoder.decode
    read_lines = _decoder.decode_lines

    def __init__(self, options: DecodeOptions) -> None:
        self._trusted: NetworkSet = options.trusted
        self._addresses = AddressMemo()

    def salvage(self, members: Mapping[str, Any], text: bytes) -> BalancerRecord:  # noqa: ARG002
        return salvaged(BalancerRecord, members)

    def requests(self, records: Sequence[BalancerRecord]) -> tuple[Requests, list[Malformed]]:
        clients = [_address(flat_bytes(record.client_port)) for record in records]

        def columns(name: str) -> Column | None:
            if name == TIME_TAKEN:
                return Column([tuple(map(flat_bytes, _times_taken(record))) for record in records], _time_taken)
            if name not in READ:
                return None
            field, text = READ[name]
            return Column([flat_bytes(getattr(record, field)).strip(b'"') for record in records], text)

        return Requests.of_valid(
            Source.BALANCER,
            [iso_ms(flat_bytes(record.time)) for record in records],
            self._addresses.pack_all(clients),
            columns,
            trusted=self._trusted,
            piece=clients.__getitem__,
        )


_times_taken = attrgetter("request_processing_time", "target_processing_time", "response_processing_time")


BALANCER_JSON = ObjectFormat("load balancer (JSON)", Source.BALANCER, ("elb", "request_line"), BalancerRecords)
