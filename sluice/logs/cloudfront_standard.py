"""CloudFront standard logs: W3C lines under a ``#Fields`` header (versions 1 and 2), and the JSON of version 2.

Version 1 knows whole seconds only; version 2 may hold ``timestamp(ms)``, which then counts. ``cs(Host)`` is the
distribution's own name here, ``x-host-header`` what the viewer asked for. Values are URL-encoded once.
Source: CloudFront Developer Guide, "Standard log file fields".
"""

from collections.abc import Callable, Collection, Sequence
from itertools import compress, repeat
from operator import itemgetter
from typing import Any

import msgspec

from chalicelib.core.addresses import AddressMemo, NetworkSet
from chalicelib.core.logs.cloudfront import READ, time_ms
from chalicelib.core.logs.forwarded import clients_behind
from chalicelib.core.logs.requests import Column, Malformed, Reason, Requests, Source, Text
from chalicelib.core.logs.waf import WRONG
from sluice.logs.columns import TimeMemo, split_all, utc_ms

HEADER = b"#Fields:"

VERSION_1 = (
    *("date", "time", "x-edge-location", "sc-bytes", "c-ip", "cs-method", "cs(Host)", "cs-uri-stem", "sc-status"),
    *("cs(Referer)", "cs(User-Agent)", "cs-uri-query", "cs(Cookie)", "x-edge-result-type", "x-edge-request-id"),
    *("x-host-header", "cs-protocol", "cs-bytes", "time-taken", "x-forwarded-for", "ssl-protocol", "ssl-cipher"),
    *("x-edge-response-result-type", "cs-protocol-version", "fle-status", "fle-encrypted-fields", "c-port"),
    *("time-to-first-byte", "x-edge-detailed-result-type", "sc-content-type", "sc-content-len", "sc-range-start"),
    "sc-range-end",
)
"""The fields of a version 1 log, for files whose header has been cut off."""

FIELDS = {
    "host": ("x-host-header", "cs(Host)"),
    "path": ("cs-uri-stem",),
    "method": ("cs-method",),
    "status": ("sc-status",),
    "country": ("c-country",),
    "user_agent": ("cs(User-Agent)",),
}
"""A scope's column: the fields that hold it, the best first."""

STAMP, CLIENT, FORWARDED = "timestamp(ms)", "c-ip", "x-forwarded-for"


def fields_of(header: bytes) -> tuple[str, ...]:
    """The names in a ``#Fields`` line.

    >>> fields_of(b"#Fields: date time c-ip")
    ('date', 'time', 'c-ip')
    """
    return tuple(header[len(HEADER) :].decode("utf-8", "replace").split())


class StandardLines:
    """Reads W3C lines under one header."""

    def __init__(self, fields: Sequence[str], wanted: Collection[str], trusted: NetworkSet) -> None:
        """``wanted``: the scopes' columns that will be asked for; a line is split no further than they need."""
        self._tabs = len(fields) - 1
        at = {name: index for index, name in enumerate(fields)}
        self._usable = CLIENT in at and (STAMP in at or ("date" in at and "time" in at))
        """Whether the header names a time and a client; without them every line is malformed."""
        self._at = at
        self._columns = {name: next((at[f] for f in FIELDS[name] if f in at), None) for name in FIELDS}
        self._trusted = trusted if FORWARDED in at else NetworkSet(())
        needed = [self._columns[name] for name in wanted if name in FIELDS]
        needed += [at.get(name) for name in (CLIENT, *((STAMP,) if STAMP in at else ("date", "time")))]
        if self._trusted:
            needed.append(at[FORWARDED])
        self._deepest = max((index for index in needed if index is not None), default=0)
        self._addresses = AddressMemo()
        self._begins_with_time = tuple(fields[:2]) == ("date", "time")
        self._times = TimeMemo(time_ms if STAMP in at else lambda text: utc_ms(text.replace(b"\t", b" ", 1)))

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        if not self._usable:
            nothing = Requests(Source.STANDARD, [], [], lambda name: None)  # noqa: ARG005
            return nothing, [Malformed.of(Reason.FIELDS, line) for line in lines]
        malformed: list[Malformed] = []
        counts = list(map(bytes.count, lines, repeat(b"\t")))
        if counts.count(self._tabs) != len(lines):
            fits = [count == self._tabs for count in counts]
            malformed += [Malformed.of(Reason.FIELDS, line) for line, fit in zip(lines, fits, strict=True) if not fit]
            lines = list(compress(lines, fits))
        rows = split_all(lines, b"\t", self._deepest + 1)
        peers = self._addresses.pack_all(map(itemgetter(self._at[CLIENT]), rows))
        clients = peers
        if self._trusted:
            read, via = READ["user_agent"][1], self._at[FORWARDED]
            clients = clients_behind(peers, (read(row[via]) for row in rows), self._trusted)

        def columns(name: str) -> Column | None:
            index = self._columns.get(name)
            return None if index is None else Column(list(map(itemgetter(index), rows)), READ[name][1])

        times = self._times_of(lines, rows)
        requests, invalid = Requests.of_valid(
            Source.STANDARD, times, clients, columns, peers=peers, piece=lines.__getitem__
        )
        return requests, malformed + invalid

    def _times_of(self, lines: list[bytes], rows: list[list[bytes]]) -> list[int | None]:
        if STAMP in self._at:
            return self._times.read_all(map(itemgetter(self._at[STAMP]), rows))
        if self._begins_with_time:
            return self._times.read_all(map(itemgetter(slice(0, 19)), lines))
        date, time = self._at["date"], self._at["time"]
        return self._times.read_all([row[date] + b"\t" + row[time] for row in rows])


class StandardRecord(
    msgspec.Struct,
    gc=False,
    rename={
        "client": CLIENT,
        "stamp": STAMP,
        "forwarded": FORWARDED,
        "host": "x-host-header",
        "distribution": "cs(Host)",
        "path": "cs-uri-stem",
        "method": "cs-method",
        "status": "sc-status",
        "country": "c-country",
        "user_agent": "cs(User-Agent)",
    },
):
    """One request of a version 2 log in JSON."""

    client: str
    stamp: str | int | None = None
    date: str | None = None
    time: str | None = None
    forwarded: str | None = None
    host: str | None = None
    distribution: str | None = None
    path: str | None = None
    method: str | None = None
    status: str | int | None = None
    country: str | None = None
    user_agent: str | None = None


_records = msgspec.json.Decoder(StandardRecord)


class StandardJson:
    """Reads the JSON lines of version 2."""

    def __init__(self, trusted: NetworkSet) -> None:
        self._trusted = trusted
        self._addresses = AddressMemo()
        self._times = TimeMemo(_time_of)

    def decode(self, texts: list[bytes]) -> tuple[Requests, list[Malformed]]:
        malformed: list[Malformed] = []
        texts, records = _decode_all(texts, malformed)
        peers = self._addresses.pack_all([r.client.encode("utf-8", "replace") for r in records])
        clients = peers
        if self._trusted:
            clients = clients_behind(peers, (r.forwarded or "" for r in records), self._trusted)
        times = self._times.read_all([(r.stamp, r.date, r.time) for r in records])

        def columns(name: str) -> Column | None:
            if name not in FIELDS:
                return None
            cells = [getattr(r, name) for r in records]
            if name == "host":
                cells = [cell or r.distribution for cell, r in zip(cells, records, strict=True)]
            return Column(cells, _reader(READ[name][1]))

        requests, invalid = Requests.of_valid(
            Source.STANDARD, times, clients, columns, peers=peers, piece=texts.__getitem__
        )
        return requests, malformed + invalid


def _reader(text: Callable[[bytes], Text]) -> Callable[[Any], Text]:
    return lambda cell: "" if cell is None else text(str(cell).encode("utf-8", "replace"))


def _time_of(cells: tuple[str | int | None, str | None, str | None]) -> int | None:
    stamp, date, time = cells
    if stamp is not None:
        return time_ms(str(stamp).encode("utf-8", "replace"))
    return utc_ms(f"{date} {time}".encode("utf-8", "replace"))


def _decode_all(texts: list[bytes], malformed: list[Malformed]) -> tuple[list[bytes], list[StandardRecord]]:
    try:
        return texts, _records.decode_lines(b"\n".join(texts))
    except WRONG:
        pass
    good, records = [], []
    for text in texts:
        try:
            records.append(_records.decode(text))
            good.append(text)
        except WRONG:
            malformed.append(Malformed.of(Reason.JSON, text))
    return good, records
