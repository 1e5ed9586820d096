"""CloudFront standard logs: W3C lines under a ``#Fields`` header (versions 1 and 2), and the JSON of version 2.

Version 1 holds times in whole seconds; version 2 may hold ``timestamp(ms)``, which then takes precedence. ``cs(Host)``
is the distribution's own name, and ``x-host-header`` the host that the viewer requested. Values are URL-encoded once.
Source: CloudFront Developer Guide, "Standard log file fields".
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
from msgspec import field

from chalicelib.core.addresses import AddressMemo, NetworkSet
from chalicelib.core.logs.cloudfront import READ, time_ms
from chalicelib.core.logs.requests import FORWARDED_FOR, Column, Malformed, Reason, Requests, Source, Text
from chalicelib.core.logs.waf import UNREADABLE
from sluice.logs.columns import TimeMemo, complete_lines, pack_all, utc_ms
from sluice.logs.files import W3C_HEADER
from sluice.logs.log_format import DecodeOptions, LogFormat

VERSION_1 = (
    *("date", "time", "x-edge-location", "sc-bytes", "c-ip", "cs-method", "cs(Host)", "cs-uri-stem", "sc-status"),
    *("cs(Referer)", "cs(User-Agent)", "cs-uri-query", "cs(Cookie)", "x-edge-result-type", "x-edge-request-id"),
    *("x-host-header", "cs-protocol", "cs-bytes", "time-taken", "x-forwarded-for", "ssl-protocol", "ssl-cipher"),
    *("x-edge-response-result-type", "cs-protocol-version", "fle-status", "fle-encrypted-fields", "c-port"),
    *("time-to-first-byte", "x-edge-detailed-result-type", "sc-content-type", "sc-content-len", "sc-range-start"),
    "sc-range-end",
)
"""Fields of a version 1 log, assumed for files without a header."""

FIELDS = {
    "host": ("x-host-header", "cs(Host)"),
    "path": ("cs-uri-stem",),
    "method": ("cs-method",),
    "status": ("sc-status",),
    "country": ("c-country",),
    "user_agent": ("cs(User-Agent)",),
    FORWARDED_FOR: ("x-forwarded-for",),
}
"""Fields that hold each column, in order of preference."""

T = TypeVar("T")

STAMP, CLIENT = "timestamp(ms)", "c-ip"
MOMENT = "date\ttime"

NEITHER_TAB_NOR_LINE_END = bytes(sorted({*range(256)} - {*b"\t\n"}))


def fields_of(header: bytes) -> tuple[str, ...]:
    """Returns the field names in a ``#Fields`` line.

    >>> fields_of(b"#Fields: date time c-ip")
    ('date', 'time', 'c-ip')
    """
    return tuple(header[len(W3C_HEADER) :].decode("utf-8", "replace").split())


class StandardLines:
    def __init__(self, fields: Sequence[str], options: DecodeOptions) -> None:
        self._shape = b"\t" * (len(fields) - 1) + b"\n"
        names, cells = _with_moments(fields)
        at = {name: index for index, name in enumerate(names)}
        times = next((t for t in ((STAMP,), (MOMENT,), ("date", "time")) if all(name in at for name in t)), ())
        self._usable = CLIENT in at and times != ()
        """The header names a time and a client; without them every line is malformed."""
        self._trusted = options.trusted
        field_of = {name: next((field for field in FIELDS[name] if field in at), "") for name in FIELDS}
        examined = {*options.columns, FORWARDED_FOR} if self._trusted else options.columns
        needed = sorted({at[n] for n in (CLIENT, *times, *(field_of.get(e, "") for e in examined)) if n in at})
        # A pattern copies the needed cells alone, which is faster than splitting each line.
        for index in needed:
            cells[index] = f"({cells[index]})"
        self._rows = re.compile("\t".join(cells[: max(needed, default=0) + 1]) + ".*+\n").findall
        """Returns the needed cells of each line of a text in which every line has all fields."""
        cell = {names[index]: itemgetter(group) for group, index in enumerate(needed)}
        self._columns = {name: cell[field] for name, field in field_of.items() if field in cell}
        if self._usable:
            self._client = cell[CLIENT]
            self._time = itemgetter(*(needed.index(at[name]) for name in times))
        self._addresses = AddressMemo()
        self._times = TimeMemo(_latin(time_ms) if STAMP in at else _moment_ms)

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        """Decodes lines, or one text of many lines with line ends; a text with an unfit line is malformed as one."""
        malformed: list[Malformed] = []
        uncut = len(lines) == 1 and lines[0].endswith(b"\n")
        if not self._usable or (uncut and not self._fits(lines[0])):
            unfit = [Malformed.of(Reason.FIELDS, text, Source.STANDARD) for text in lines]
            return Requests(Source.STANDARD, [], [], lambda _: None), unfit
        if not uncut:
            tabs = len(self._shape) - 1
            complete = [line.count(b"\t") == tabs for line in lines]
            lines, malformed = complete_lines(lines, complete, self._with_other_fields)
        text = lines[0] if uncut else b"\n".join((*lines, b""))
        # Latin-1 has a character for each byte; addresses are converted from text.
        rows = self._rows(text.decode("latin-1"))

        def columns(name: str) -> Column | None:
            cell = self._columns.get(name)
            return None if cell is None else Column(list(map(cell, rows)), _latin(READ[name][1]))

        cut = cache(lambda: text.split(b"\n"))
        requests, invalid = Requests.of_valid(
            Source.STANDARD,
            self._times.parse_all(map(self._time, rows)),
            pack_all(list(map(self._client, rows)), self._addresses),
            columns,
            trusted=self._trusted,
            piece=lambda row: cut()[row],
        )
        return requests, malformed + invalid

    def _with_other_fields(self, line: bytes) -> Malformed:
        return Malformed.of(Reason.FIELDS, line, Source.STANDARD, (line.count(b"\t") + 1, len(self._shape)))

    def _fits(self, text: bytes) -> bool:
        """Tests whether every line of ``text`` has all fields."""
        shape = text.translate(None, NEITHER_TAB_NOR_LINE_END)
        return shape == self._shape * (len(shape) // len(self._shape)) and b"\r" not in text


def _with_moments(fields: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the fields and a pattern for each. ``date`` followed by ``time`` is one field, which is copied once."""
    names, cells = list(fields), ["[^\t]*+"] * (len(fields) - 1) + [".*+"]
    for index, pair in enumerate(pairwise(fields)):
        if pair == ("date", "time"):
            names[index : index + 2] = [MOMENT]
            cells[index : index + 2] = ["\t".join(cells[index : index + 2])]
            break
    return names, cells


def _moment_ms(cell: str | tuple[str, ...]) -> int | None:
    """Returns the time of a MOMENT, or of the cells of ``date`` and ``time``."""
    return utc_ms((cell.replace("\t", " ") if isinstance(cell, str) else " ".join(cell)).encode("latin-1"))


def _latin(parse: Callable[[bytes], T]) -> Callable[[str], T]:
    """Returns ``parse`` for text that holds each byte as its Latin-1 character."""
    return lambda cell: parse(cell.encode("latin-1"))


class StandardRecord(msgspec.Struct, gc=False):
    client: str = field(name=CLIENT)
    stamp: str | int | None = field(name=STAMP, default=None)
    date: str | None = None
    time: str | None = None
    forwarded_for: str | None = field(name="x-forwarded-for", default=None)
    viewer_host: str | None = field(name="x-host-header", default=None)
    distribution: str | None = field(name="cs(Host)", default=None)
    path: str | None = field(name="cs-uri-stem", default=None)
    method: str | None = field(name="cs-method", default=None)
    status: str | int | None = field(name="sc-status", default=None)
    country: str | None = field(name="c-country", default=None)
    user_agent: str | None = field(name="cs(User-Agent)", default=None)

    @property
    def host(self) -> str | None:
        return self.viewer_host or self.distribution


_records = msgspec.json.Decoder(StandardRecord)


class StandardJson:
    def __init__(self, trusted: NetworkSet) -> None:
        self._trusted = trusted
        self._addresses = AddressMemo()
        self._times = TimeMemo(_time_of)

    def decode(self, texts: list[bytes]) -> tuple[Requests, list[Malformed]]:
        texts, records, malformed = _decode_records(texts)
        peers = self._addresses.pack_all([r.client.encode("utf-8", "replace") for r in records])
        times = self._times.parse_all([(r.stamp, r.date, r.time) for r in records])

        def columns(name: str) -> Column | None:
            return Column([getattr(r, name) for r in records], _reader(READ[name][1])) if name in FIELDS else None

        requests, invalid = Requests.of_valid(
            Source.STANDARD, times, peers, columns, trusted=self._trusted, piece=texts.__getitem__
        )
        return requests, malformed + invalid


def _reader(text: Callable[[bytes], Text]) -> Callable[[Any], Text]:
    return lambda cell: "" if cell is None else text(str(cell).encode("utf-8", "replace"))


def _time_of(cells: tuple[str | int | None, str | None, str | None]) -> int | None:
    stamp, date, time = cells
    if stamp is not None:
        return time_ms(str(stamp).encode("utf-8", "replace"))
    return utc_ms(f"{date} {time}".encode("utf-8", "replace"))


def _decode_records(texts: list[bytes]) -> tuple[list[bytes], list[StandardRecord], list[Malformed]]:
    """Returns the texts that are records, the records, and the other texts as malformed."""
    try:
        return texts, _records.decode_lines(b"\n".join(texts)), []
    except UNREADABLE:
        pass
    good: list[bytes] = []
    records: list[StandardRecord] = []
    malformed = []
    for text in texts:
        try:
            records.append(_records.decode(text))
            good.append(text)
        except UNREADABLE:
            malformed.append(Malformed.of(Reason.JSON, text, Source.STANDARD))
    return good, records, malformed


_DATED = re.compile(rb"\d{4}-\d\d-\d\d\t\d\d:\d\d:\d\d\t", re.ASCII)


STANDARD = LogFormat(
    "CloudFront standard (W3C)",
    lambda line, header: _DATED.match(line) is not None or (header != b"" and b"\t" in line),
    lambda options, header: StandardLines(fields_of(header) if header else VERSION_1, options).decode,
    has_header=True,
    cuts_lines=True,
)
STANDARD_JSON = LogFormat(
    "CloudFront standard (JSON)",
    lambda line, _: line.startswith(b"{") and b'"c-ip"' in line and b'"httpRequest"' not in line,
    lambda options, _: StandardJson(options.trusted).decode,
)
