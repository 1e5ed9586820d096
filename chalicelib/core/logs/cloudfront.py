"""CloudFront real-time log lines: TAB-separated fields, one line per Kinesis record.

A line holds only the fields selected in the log configuration, in the order of ``FIELDS``, so it cannot be read
without that selection. ``-`` is an empty value. CloudFront URL-encodes each value once (a ``%`` that the client sent
arrives as ``%25``). Values are decoded once, and only in the columns that a rule examines.
Source: CloudFront Developer Guide, "Use real-time access logs".
"""

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from urllib.parse import unquote

from chalicelib.core.addresses import AddressMemo, NetworkSet
from chalicelib.core.logs.columns import lines_of
from chalicelib.core.logs.log_format import LineFormat
from chalicelib.core.logs.requests import (
    BYTES,
    FORWARDED_FOR,
    TIME_TAKEN,
    Column,
    Malformed,
    Reason,
    Requests,
    Source,
    Text,
    host_name,
)
from chalicelib.core.logs.times import milliseconds

_FIELD_NAMES = """
timestamp c-ip s-ip time-to-first-byte sc-status sc-bytes cs-method cs-protocol cs-host cs-uri-stem cs-bytes
x-edge-location x-edge-request-id x-host-header time-taken cs-protocol-version c-ip-version cs-user-agent cs-referer
cs-cookie cs-uri-query x-edge-response-result-type x-forwarded-for ssl-protocol ssl-cipher x-edge-result-type
fle-encrypted-fields fle-status sc-content-type sc-content-len sc-range-start sc-range-end c-port
x-edge-detailed-result-type c-country cs-accept-encoding cs-accept cache-behavior-path-pattern cs-headers
cs-header-names cs-headers-count primary-distribution-id primary-distribution-dns-name origin-fbl origin-lbl asn
cmcd-encoded-bitrate cmcd-buffer-length cmcd-buffer-starvation cmcd-content-id cmcd-object-duration cmcd-deadline
cmcd-measured-throughput cmcd-next-object-request cmcd-next-range-request cmcd-object-type cmcd-playback-rate
cmcd-requested-maximum-throughput cmcd-streaming-format cmcd-session-id cmcd-stream-type cmcd-startup
cmcd-top-bitrate cmcd-version r-host sr-reason x-edge-mqcs distribution-tenant-id connection-id
viewer-request-log-data viewer-response-log-data
"""

FIELDS = tuple(_FIELD_NAMES.split())
"""Every field, in the order of delivery."""

DEFAULT_FIELDS = (
    *("timestamp", "c-ip", "sc-status", "cs-method", "cs-host", "cs-uri-stem"),
    *("x-edge-request-id", "cs-user-agent", "x-forwarded-for"),
)
"""Fields that hold host, path, method, status and user agent; columns that few rules examine need other fields."""

NEEDED = ("timestamp", "c-ip")

REALTIME_ONLY = frozenset(
    (
        *("c-ip-version", "cs-host", "cs-user-agent", "cs-referer", "cs-cookie", "cs-accept-encoding", "cs-accept"),
        *("cs-headers", "cs-header-names", "cs-headers-count"),
    )
)
"""Fields whose names occur in no standard log."""

_TIME = re.compile(rb"(?:(\d{9,11})(?:\.(\d{1,9}))?|(\d{12,14}))", re.ASCII)


def time_ms(cell: bytes) -> int | None:
    """Returns milliseconds since the epoch for epoch seconds, with decimals or without, or for milliseconds; else None.

    >>> time_ms(b"1760000000.123"), time_ms(b"1760000000123"), time_ms(b"1760000000"), time_ms(b"1_760_000_000.1")
    (1760000000123, 1760000000123, 1760000000000, None)
    """
    match = _TIME.fullmatch(cell)
    if match is None:
        return None
    seconds, decimals, milliseconds = match.groups()
    if milliseconds:
        return int(milliseconds)
    return int(seconds) * 1000 + int(((decimals or b"0") + b"00")[:3])


def times_ms(cells: Sequence[bytes]) -> list[int | None]:
    """Returns ``time_ms`` of every cell.

    >>> times_ms([b"1760000000.123", b"1760000000.9"])
    [1760000000123, 1760000000900]
    """
    # CloudFront writes ten digits, a dot and three digits; cells of this form are checked and converted all at once.
    text = b" ".join(cells)
    count = len(cells)
    if len(text) == 15 * count - 1 and text[10::15] == b"." * count and text[14::15] == b" " * (count - 1):
        digits = text.translate(None, b". ")
        # All 13 digits of all cells remain, so there are no dots or spaces other than those just checked.
        if len(digits) == 13 * count and digits.isdigit():
            return list(map(int, text.replace(b".", b"").split(b" ")))
    return list(map(time_ms, cells))


def unescape(cell: bytes) -> str:
    """Returns the text of a cell, URL-decoded once.

    >>> unescape(b"Mozilla/5.0%20(X11)"), unescape(b"-")
    ('Mozilla/5.0 (X11)', '')
    """
    return "" if cell == b"-" else unquote(cell.decode("utf-8", "replace"))


def _host(cell: bytes) -> str:
    return host_name(unescape(cell))


def _country(cell: bytes) -> str:
    return cell.decode("utf-8", "replace")  # "-", for an unknown country, is a value that rules may name


def _path(cell: bytes) -> str:
    path = cell.partition(b"?")[0].decode("utf-8", "replace")
    if "%" in path:
        return unquote(path)
    return "" if path == "-" else path


def _header_names(cell: bytes) -> tuple[str, ...]:
    """Returns the names of headers, each of which ends with a line end. CloudFront cuts them off after 800 bytes."""
    return tuple(unescape(cell).lower().split())


READ: dict[str, tuple[str, Callable[[bytes], Text]]] = {
    "host": ("cs-host", _host),
    "path": ("cs-uri-stem", _path),
    "method": ("cs-method", unescape),
    "status": ("sc-status", unescape),
    "country": ("c-country", _country),
    "user_agent": ("cs-user-agent", unescape),
    "asn": ("asn", unescape),
    "content_type": ("sc-content-type", unescape),
    "header_names": ("cs-header-names", _header_names),
    "referer": ("cs-referer", unescape),
    BYTES: ("sc-bytes", unescape),
    TIME_TAKEN: ("time-taken", lambda cell: milliseconds(unescape(cell))),
    FORWARDED_FOR: ("x-forwarded-for", unescape),
}
"""For each column: the field that holds it, and how to render a cell as text."""


class CloudFrontLines:
    """A decoder of real-time log lines with one selection of fields."""

    def __init__(self, fields: Sequence[str] = DEFAULT_FIELDS, trusted: NetworkSet | None = None) -> None:
        """Accepts ``fields`` in any order; raises ValueError for an unknown, repeated or missing one."""
        fields = [name.strip() for name in fields]
        unknown = [name for name in fields if name not in FIELDS]
        if unknown:
            raise ValueError(f"unknown CloudFront real-time field {unknown[0]!r}")
        if len(set(fields)) != len(fields):
            raise ValueError("a CloudFront real-time field is named twice")
        for name in NEEDED:
            if name not in fields:
                raise ValueError(f"the CloudFront real-time fields lack {name!r}, which Sluice needs")
        self.fields = tuple(sorted(fields, key=FIELDS.index))
        self._at = {name: index for index, name in enumerate(self.fields)}
        self._trusted = trusted
        if trusted and "x-forwarded-for" not in self._at:
            raise ValueError("trusted proxies are set, but the CloudFront real-time fields lack 'x-forwarded-for'")
        self._addresses = AddressMemo()

    def decode(self, records: Sequence[bytes]) -> tuple[Requests, list[Malformed]]:
        """Returns the requests of ``records``, of one or more lines each, and the other pieces in any order."""
        malformed: list[Malformed] = []
        text = _text(records)
        cells = self._cells(text) if text.isascii() and b"\r" not in text else None
        if cells is None:
            lines, malformed = self._well_formed(records)
            cells = self._cells(_text(lines))
            assert cells is not None
        stride = len(self.fields) + 1
        id_at = self._at.get("x-edge-request-id")

        def columns(name: str) -> Column | None:
            field, text = READ.get(name, ("", unescape))
            at = self._at.get(field)
            return None if at is None else Column(cells[at::stride], text)

        requests, invalid = Requests.of_valid(
            Source.CLOUDFRONT,
            times_ms(cells[self._at["timestamp"] :: stride]),
            self._addresses.pack_all(cells[self._at["c-ip"] :: stride]),
            columns,
            cells[id_at::stride] if id_at is not None else (),
            trusted=self._trusted,
            piece=lambda row: b"\t".join(cells[row * stride : (row + 1) * stride - 1]),
        )
        return requests, malformed + invalid

    def _cells(self, text: bytes) -> list[bytes] | None:
        """Returns all cells in one list, with a line end after each line; None unless every line has all fields."""
        # One split for all lines. If every (width + 1)th cell is a line end, and no other, no line is short or long.
        cells = text.replace(b"\n", b"\t\n\t").split(b"\t")
        cells.pop()
        stride = len(self.fields) + 1
        lines, rest = divmod(len(cells), stride)
        if rest or lines != text.count(b"\n") or cells[stride - 1 :: stride].count(b"\n") != lines:
            return None
        return cells

    def _well_formed(self, records: Sequence[bytes]) -> tuple[list[bytes], list[Malformed]]:
        """Returns the lines that have the right number of fields, and the others as malformed."""
        tabs = len(self.fields) - 1
        good, malformed = [], []
        for line in lines_of(b"\n".join(records)):
            reason = _fault(line, tabs)
            if reason is None:
                good.append(line)
            else:
                malformed.append(self._malformed(reason, line))
        return good, malformed

    def _malformed(self, reason: Reason, line: bytes) -> Malformed:
        fields = (line.count(b"\t") + 1, len(self.fields)) if reason is Reason.FIELDS else None
        return Malformed.of(reason, line, Source.CLOUDFRONT, fields)


def _text(records: Sequence[bytes]) -> bytes:
    """Returns the records with a line end after each."""
    # CloudFront ends each record with a line end, so usually none has to be added.
    if set(map(_last, records)) == {b"\n"}:
        return b"".join(records)
    return b"\n".join((*records, b""))


_last = itemgetter(slice(-1, None))


def _fault(line: bytes, tabs: int) -> Reason | None:
    """Returns the reason why a line is malformed; None if it has all fields, whatever bytes are in them."""
    if line.count(b"\t") == tabs:
        return None
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return Reason.ENCODING
    return Reason.FIELDS


def _recognises(line: bytes, header: bytes) -> bool:
    stamp, _, rest = line.partition(b"\t")
    # Standard logs may begin with a time as well, but never with decimals.
    return rest != b"" and time_ms(stamp) is not None and (header == b"" or b"." in stamp)


REALTIME = LineFormat(
    "CloudFront real-time",
    _recognises,
    lambda options, _: CloudFrontLines(options.realtime_fields, options.trusted).decode,
    cuts_lines=True,
)
