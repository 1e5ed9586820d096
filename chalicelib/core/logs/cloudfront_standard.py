"""CloudFront standard logs: lines of versions 1 and 2, and the JSON objects of version 2.

A ``#Fields`` line alone decides how the lines under it are read: it names the columns, and their names show the kind of
log. Values are separated by TABs or, in version 2, by another delimiter that was chosen. Lines without a header are in
the order of version 1, which is also the order of version 2 unless its fields were selected; AWS has only ever appended
fields to it.

Version 1 holds times in whole seconds; version 2 may hold ``timestamp(ms)``, which then takes precedence. ``cs(Host)``
is the distribution's own name, and ``x-host-header`` the host that the viewer requested. Values are URL-encoded once.
Source: CloudFront Developer Guide, "Standard log file fields".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

import msgspec
from msgspec import field

from chalicelib.core.addresses import AddressMemo, pack
from chalicelib.core.logs.cloudfront import READ, REALTIME_ONLY, time_ms
from chalicelib.core.logs.columns import complete_lines, pack_all
from chalicelib.core.logs.framing import W3C_HEADER
from chalicelib.core.logs.json_values import Flat, flat_bytes, salvaged
from chalicelib.core.logs.log_format import DecodeOptions, LineFormat, ObjectFormat
from chalicelib.core.logs.requests import (
    BYTES,
    FORWARDED_FOR,
    TIME_TAKEN,
    Cells,
    Column,
    Malformed,
    Reason,
    Requests,
    Source,
)
from chalicelib.core.logs.times import TimeMemo, utc_ms

VERSION_1 = (
    *("date", "time", "x-edge-location", "sc-bytes", "c-ip", "cs-method", "cs(Host)", "cs-uri-stem", "sc-status"),
    *("cs(Referer)", "cs(User-Agent)", "cs-uri-query", "cs(Cookie)", "x-edge-result-type", "x-edge-request-id"),
    *("x-host-header", "cs-protocol", "cs-bytes", "time-taken", "x-forwarded-for", "ssl-protocol", "ssl-cipher"),
    *("x-edge-response-result-type", "cs-protocol-version", "fle-status", "fle-encrypted-fields", "c-port"),
    *("time-to-first-byte", "x-edge-detailed-result-type", "sc-content-type", "sc-content-len", "sc-range-start"),
    "sc-range-end",
)
"""Fields of version 1. A line has those that existed when it was written, and may have others that were added later."""

FEWEST = VERSION_1.index("sc-status") + 1
"""Fewest fields of a line without a header. A line that is not cut off has at least one more."""

COMMON_FIELDS = VERSION_1.index("sc-content-type") + 1
"""Fields of version 1 up to the last that holds a column. Lines of different lengths are cut or filled up to it."""

FIELDS = {
    "host": ("x-host-header", "cs(Host)"),
    "path": ("cs-uri-stem",),
    "method": ("cs-method",),
    "status": ("sc-status",),
    "country": ("c-country",),
    "user_agent": ("cs(User-Agent)",),
    "asn": ("asn",),
    "content_type": ("sc-content-type",),
    "referer": ("cs(Referer)",),
    BYTES: ("sc-bytes",),
    TIME_TAKEN: ("time-taken",),
    FORWARDED_FOR: ("x-forwarded-for",),
}
"""Fields that hold each column, in order of preference."""

T = TypeVar("T")

STAMP, SECONDS, CLIENT, ID = "timestamp(ms)", "timestamp", "c-ip", "x-edge-request-id"
MOMENT = "date\ttime"
TIMES = ((STAMP,), (SECONDS,), (MOMENT,), ("date", "time"))
"""Fields that hold the time, in order of preference."""

DELIMITERS = (b"\t", b" ", b",", b";", b"|")
"""Delimiters tried, besides the one between the names in the header."""

FREE = frozenset(
    ("cs-method", "cs(Host)", "cs-uri-stem", "cs(Referer)", "cs(User-Agent)", "cs-uri-query", "cs(Cookie)")
) | {"x-host-header", "x-forwarded-for", "sc-content-type", "r-host", "viewer-request-log-data"}
"""Fields in which a client may write a delimiter other than TAB and blank, which CloudFront encodes."""

NEITHER_TAB_NOR_LINE_END = bytes(sorted({*range(256)} - {*b"\t\n"}))

_NAME = re.compile(r"[\w()-]+")
_DATE = re.compile(rb"\d{4}-\d\d-\d\d([\t ,;|])\d\d:\d\d:\d\d\1", re.ASCII)


@lru_cache(128)
def fields_of(header: bytes) -> tuple[str, ...]:
    """Returns the field names in a ``#Fields`` line.

    >>> fields_of(b"#Fields: date time c-ip"), fields_of(b"#Fields: timestamp(ms),c-ip,cs(Host)")
    (('date', 'time', 'c-ip'), ('timestamp(ms)', 'c-ip', 'cs(Host)'))
    """
    return tuple(_NAME.findall(header[len(W3C_HEADER) :].decode("utf-8", "replace")))


@lru_cache(128)
def _delimiters(header: bytes) -> tuple[bytes, ...]:
    """Returns the delimiters that lines under ``header`` may have, the likeliest first."""
    between = re.search(rb"[\w)]([^\w()\s-]{1,5})[\w]", header[len(W3C_HEADER) :])
    return DELIMITERS if between is None else (between[1], *DELIMITERS)


class StandardLines:
    """A decoder of lines separated by TABs whose fields are known."""

    def __init__(self, fields: Sequence[str], options: DecodeOptions) -> None:
        self._shape = b"\t" * (len(fields) - 1) + b"\n"
        names, cells = _with_moments(fields)
        at = {name: index for index, name in enumerate(names) if name}
        times = next((t for t in TIMES if all(name in at for name in t)), ())
        self._usable = CLIENT in at and times != ()
        """The header names a time and a client; without them every line is malformed."""
        self._trusted = options.trusted
        is_realtime = not REALTIME_ONLY.isdisjoint(at)
        self.source = Source.CLOUDFRONT if is_realtime else Source.STANDARD
        holders = {name: (field,) for name, (field, _) in READ.items()} if is_realtime else FIELDS
        field_of = {name: next((field for field in holders[name] if field in at), "") for name in holders}
        examined = {*options.columns, FORWARDED_FOR} if self._trusted else options.columns
        needed = sorted({at[n] for n in (CLIENT, ID, *times, *(field_of.get(e, "") for e in examined)) if n in at})
        # A pattern copies the needed cells alone, which is faster than splitting each line.
        for index in needed:
            cells[index] = f"({cells[index]})"
        self._rows = re.compile("\t".join(cells[: max(needed, default=0) + 1]) + ".*+\n").findall
        """Returns the needed cells of each line of a text in which every line has all fields."""
        cell = {names[index]: itemgetter(group) for group, index in enumerate(needed)}
        self._columns = {name: cell[field] for name, field in field_of.items() if field in cell}
        self._id = cell.get(ID)
        if self._usable:
            self._client = cell[CLIENT]
            self._time = itemgetter(*(needed.index(at[name]) for name in times))
        self._addresses = AddressMemo()
        self._times = TimeMemo(_latin(time_ms) if times in ((STAMP,), (SECONDS,)) else _moment_ms)

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        """Decodes lines, or one text of many lines with line ends; a text with an unfit line is malformed as a
        whole."""
        malformed: list[Malformed] = []
        uncut = len(lines) == 1 and lines[0].endswith(b"\n")
        if not self._usable or (uncut and not self._fits(lines[0])):
            unfit = [Malformed.of(Reason.FIELDS, text, self.source) for text in lines]
            return Requests(self.source, [], [], lambda _: None), unfit
        if not uncut:
            tabs = len(self._shape) - 1
            complete = [line.count(b"\t") == tabs for line in lines]
            lines, malformed = complete_lines(lines, complete, self._with_other_fields)
        text = lines[0] if uncut else b"\n".join((*lines, b""))
        # Latin-1 has a character for each byte; addresses are converted from text.
        rows = self._rows(text.decode("latin-1"))

        def columns(name: str) -> Column | None:
            cell = self._columns.get(name)
            return None if cell is None else Column(Cells(rows, cell), _latin(READ[name][1]))

        cut = cache(lambda: text.split(b"\n"))
        requests, invalid = Requests.of_valid(
            self.source,
            self._times.parse_all(map(self._time, rows)),
            pack_all(list(map(self._client, rows)), self._addresses),
            columns,
            list(map(self._id, rows)) if self._id else (),
            trusted=self._trusted,
            piece=lambda row: cut()[row],
        )
        return requests, malformed + invalid

    def _with_other_fields(self, line: bytes) -> Malformed:
        return Malformed.of(Reason.FIELDS, line, self.source, (line.count(b"\t") + 1, len(self._shape)))

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


def with_tabs(line: bytes, header: bytes) -> bytes | None:
    """Returns a line with TABs for its delimiters; None if it does not fit ``header`` or, without one, version 1.

    A line with TABs needs as many fields as the header has names. With any other delimiter, it must also have a time
    and an address in their places; a value in which the client wrote the delimiter is put together again if it is
    certain which one it is; otherwise it counts as absent, so that the request is still counted.

    >>> with_tabs(b"2025-10-09 08:53:20 192.0.2.1 /a", b"#Fields: date time c-ip cs-uri-stem")
    b'2025-10-09\\t08:53:20\\t192.0.2.1\\t/a'
    >>> with_tabs(b"1760000000123,192.0.2.1,/a,b,200", b"#Fields: timestamp(ms) c-ip cs-uri-stem sc-status")
    b'1760000000123\\t192.0.2.1\\t/a,b\\t200'
    """
    dated = _DATE.match(line)
    if not header and dated is None:
        return None
    for delimiter in _delimiters(header) if header or dated is None else (dated[1],):
        number = line.count(delimiter) + 1
        names = fields_of(header) if header else VERSION_1[: max(number, FEWEST)]
        if delimiter == b"\t":
            if number == len(names) or (not header and number > FEWEST):
                return line
        elif number >= len(names) > 1:
            cells = _aligned(line.replace(b"\t", b" ").split(delimiter), names, delimiter)
            if cells is not None and _is_plausible(cells, names):
                return b"\t".join(cells)
    return None


def _aligned(cells: list[bytes], names: Sequence[str], delimiter: bytes) -> list[bytes] | None:
    """Returns one cell for each name, although values that clients write may hold delimiters; None if none of them
    can."""
    extra = len(cells) - len(names)
    if not extra:
        return cells
    free = [index for index, name in enumerate(names) if name in FREE]
    if not free:
        return None
    first, last = free[0], free[-1]
    if first == last:
        middle = [delimiter.join(cells[first : first + extra + 1])]
    else:
        middle = [_certain(names[at], cells[at : at + extra + 1]) for at in range(first, last + 1)]
    return [*cells[:first], *middle, *cells[last + extra + 1 :]]


def _certain(name: str, cells: Sequence[bytes]) -> bytes:
    """Returns the cell of a field that a request needs, if exactly one of ``cells`` can be its value; otherwise
    ``-``."""
    is_readable = _READABLE.get(name)
    readable = set(filter(is_readable, set(cells))) if is_readable else ()
    return readable.pop() if len(readable) == 1 else b"-"


_ADDRESS = re.compile(rb"\d+\.\d+\.\d+\.\d+|[\da-f]*:[\da-f:.]*", re.ASCII | re.IGNORECASE)
"""The form of an address. A client can write thousands of cells, and most must cost less than reading an address."""

_READABLE: dict[str, Callable[[bytes], object]] = {
    CLIENT: lambda cell: _ADDRESS.fullmatch(cell) and pack(cell),
    STAMP: time_ms,
    SECONDS: time_ms,
    "date": re.compile(rb"\d{4}-\d\d-\d\d", re.ASCII).fullmatch,
    "time": re.compile(rb"\d\d:\d\d:\d\d", re.ASCII).fullmatch,
}
"""For each field that a request needs: the test of whether a cell can be its value."""


def _is_plausible(cells: Sequence[bytes], names: Sequence[str]) -> bool:
    cell = dict(zip(names, cells, strict=True))
    stamp = cell.get(STAMP, cell.get(SECONDS))
    time = time_ms(stamp) if stamp else utc_ms(cell.get("date", b"") + b" " + cell.get("time", b""))
    status = cell.get("sc-status", b"-")
    return time is not None and pack(cell.get(CLIENT, b"")) is not None and (status.isdigit() or status == b"-")


class HeadedLines:
    """A decoder of lines under a ``#Fields`` line."""

    def __init__(self, header: bytes, options: DecodeOptions) -> None:
        self._header = header
        self._tabs = len(fields_of(header)) - 1
        self._lines = StandardLines(fields_of(header), options)

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        if len(lines) > 1 or not lines[0].endswith(b"\n"):
            lines = [x if x.count(b"\t") == self._tabs else with_tabs(x, self._header) or x for x in lines]
        return self._lines.decode(lines)


class VersionOneLines:
    """A decoder of lines without a header, with any number of the fields of version 1 and of others after them."""

    def __init__(self, options: DecodeOptions) -> None:
        self._options = options
        self._decoders: dict[int, StandardLines] = {}

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        if len(lines) > 1 or not lines[0].endswith(b"\n"):
            lines = [with_tabs(line, b"") or line for line in lines]
        widths = {line.partition(b"\n")[0].count(b"\t") + 1 for line in lines}
        if len(widths) > 1:
            cells = [line.split(b"\t", COMMON_FIELDS)[:COMMON_FIELDS] for line in lines]
            lines = [b"\t".join(row + [b"-"] * (COMMON_FIELDS - len(row))) for row in cells]
            widths = {COMMON_FIELDS}
        return self._under(*widths).decode(lines)

    def _under(self, width: int) -> StandardLines:
        if width not in self._decoders:
            names = (*VERSION_1[:width], *[""] * (width - len(VERSION_1)))
            self._decoders = {width: StandardLines(names, self._options)}
        return self._decoders[width]


class StandardRecord(msgspec.Struct, gc=False):
    client: str | None = field(name=CLIENT)
    stamp: Flat = field(name=STAMP, default=None)
    seconds: Flat = field(name=SECONDS, default=None)
    date: str | None = None
    time: str | None = None
    id: str | None = field(name=ID, default=None)
    forwarded_for: str | None = field(name="x-forwarded-for", default=None)
    viewer_host: str | None = field(name="x-host-header", default=None)
    distribution: str | None = field(name="cs(Host)", default=None)
    path: str | None = field(name="cs-uri-stem", default=None)
    method: str | None = field(name="cs-method", default=None)
    status: Flat = field(name="sc-status", default=None)
    country: str | None = field(name="c-country", default=None)
    user_agent: str | None = field(name="cs(User-Agent)", default=None)
    asn: Flat = None
    content_type: str | None = field(name="sc-content-type", default=None)
    referer: str | None = field(name="cs(Referer)", default=None)
    bytes: Flat = field(name="sc-bytes", default=None)
    time_taken: Flat = field(name="time-taken", default=None)
    waf: None = field(name="httpRequest", default=None)
    envelope: None = field(name="messageType", default=None)
    """Keys of formats that precede this one."""

    @property
    def host(self) -> str | None:
        return self.viewer_host or self.distribution


_decoder = msgspec.json.Decoder(StandardRecord)


class StandardRecords:
    """A reader of the JSON objects of version 2."""

    read = _decoder.decode
    read_lines = _decoder.decode_lines

    def __init__(self, options: DecodeOptions) -> None:
        self._trusted = options.trusted
        self._addresses = AddressMemo()
        self._times = TimeMemo(_time_of)

    def salvage(self, members: Mapping[str, Any], text: bytes) -> StandardRecord:  # noqa: ARG002
        return salvaged(StandardRecord, members)

    def requests(self, records: Sequence[StandardRecord]) -> tuple[Requests, list[Malformed]]:
        clients = [flat_bytes(record.client) for record in records]

        def columns(name: str) -> Column | None:
            if name not in FIELDS:
                return None
            text = READ[name][1]
            return Column(
                list(map(attrgetter(name), records)), lambda cell: "" if cell is None else text(flat_bytes(cell))
            )

        return Requests.of_valid(
            Source.STANDARD,
            self._times.parse_all([(r.stamp, r.seconds, r.date, r.time) for r in records]),
            self._addresses.pack_all(clients),
            columns,
            [record.id or "" for record in records],
            trusted=self._trusted,
            piece=clients.__getitem__,
        )


def _time_of(cells: tuple[Flat, Flat, str | None, str | None]) -> int | None:
    *stamps, date, time = cells
    times = (time_ms(flat_bytes(stamp)) for stamp in stamps if stamp is not None)
    return next((t for t in times if t is not None), None) or utc_ms(f"{date} {time}".encode("utf-8", "replace"))


STANDARD = LineFormat(
    "CloudFront standard (lines)",
    lambda line, header: with_tabs(line, header) is not None,
    lambda options, header: (HeadedLines(header, options) if header else VersionOneLines(options)).decode,
    has_header=True,
    cuts_lines=True,
)
STANDARD_JSON = ObjectFormat("CloudFront standard (JSON)", Source.STANDARD, (CLIENT,), StandardRecords)
