"""Access logs of nginx and Apache in common and combined format: ``client - user [time] "request" status …``.

Apache writes quotes within a text as ``\\"``, nginx as ``\\x22``.
Sources: Apache HTTP Server, "Log Files"; nginx, "ngx_http_log_module".
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone

from chalicelib.core.addresses import AddressMemo
from chalicelib.core.logs.requests import Column, Malformed, Reason, Requests, Source
from sluice.logs.columns import TimeMemo, milliseconds, request_line, split_all
from sluice.logs.log_format import LogFormat

_LINE = re.compile(rb"(\S+) \S+ (.*?) ?(\[\d\d?/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d) ([+-]\d{4}\]) (\".*)", re.ASCII)
_TIME = re.compile(rb"\[(\d\d?)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\]", re.ASCII)
_REST = re.compile(rb'"((?:[^"\\]|\\.)*)" (\d{3}|-)(?: (?:\d+|-)(?: "(?:[^"\\]|\\.)*" "((?:[^"\\]|\\.)*))?)?', re.ASCII)
MONTHS = {m: n for n, m in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}

CLIENT, STAMP, ZONE, REST = 0, 3, 4, 5


def stamp_ms(text: bytes) -> int | None:
    """Returns the time in ``[10/Oct/2000:13:55:36 -0700]`` in milliseconds since the epoch, or None if it is not one.

    >>> stamp_ms(b"[01/Jan/1970:01:00:00 +0100]"), stamp_ms(b"[31/Dec/1969:23:30:00 -0030]")
    (0, 0)
    >>> stamp_ms(b"[31/Feb/2026:00:00:00 +0000]") is None
    True
    """
    match = _TIME.fullmatch(text)
    if match is None or match[2] not in MONTHS:
        return None
    day, _, year, hour, minute, second, sign, zone_h, zone_m = match.groups()
    offset = timedelta(hours=int(zone_h), minutes=int(zone_m)) * (-1 if sign == b"-" else 1)
    try:
        date = int(year), MONTHS[match[2]], int(day)
        return milliseconds(datetime(*date, int(hour), int(minute), int(second), tzinfo=timezone(offset)))
    except (ValueError, OverflowError):
        return None


def _words(rest: bytes) -> list[str]:
    match = _REST.match(rest)
    return request_line(match[1] if match else b"")


def _part(number: int) -> Callable[[bytes], str]:
    def read(rest: bytes) -> str:
        match = _REST.match(rest)
        return (match[number] or b"").decode("utf-8", "replace").removesuffix("-") if match else ""

    return read


_READ: dict[str, Callable[[bytes], str]] = {
    "method": lambda rest: _words(rest)[0],
    "path": lambda rest: _words(rest)[1].partition("?")[0],
    "status": _part(2),
    "user_agent": _part(3),
}


class WebServerLines:
    def __init__(self) -> None:
        self._addresses = AddressMemo()
        self._times = TimeMemo(lambda cells: stamp_ms(b" ".join(cells)))

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        malformed: list[Malformed] = []
        rows = split_all(lines, b" ", REST)
        if not all(map(_is_regular, rows)):
            lines, rows, malformed = _split_irregular(lines, rows)
        clients = self._addresses.pack_all([row[CLIENT] for row in rows])
        times = self._times.parse_all([(row[STAMP], row[ZONE]) for row in rows])

        def columns(name: str) -> Column | None:
            return Column([row[REST] for row in rows], _READ[name]) if name in _READ else None

        requests, invalid = Requests.of_valid(Source.WEB_SERVER, times, clients, columns, piece=lines.__getitem__)
        return requests, malformed + invalid


def _is_regular(row: Sequence[bytes]) -> bool:
    return len(row) > REST and row[STAMP][:1] == b"[" and row[ZONE][-1:] == b"]" and row[REST][:1] == b'"'


def _split_irregular(
    lines: list[bytes], rows: list[list[bytes]]
) -> tuple[list[bytes], list[list[bytes]], list[Malformed]]:
    """Splits lines, including those whose user names contain spaces; returns other irregular lines as malformed."""
    good_lines, good_rows, malformed = [], [], []
    for line, row in zip(lines, rows, strict=True):
        if not _is_regular(row):
            match = _LINE.fullmatch(line)
            if match is None:
                malformed.append(Malformed.of(Reason.FIELDS, line, Source.WEB_SERVER))
                continue
            row = [match[1], b"-", match[2], match[3], match[4], match[5]]  # noqa: PLW2901
        good_lines.append(line)
        good_rows.append(row)
    return good_lines, good_rows, malformed


WEB_SERVER = LogFormat(
    "nginx/Apache", lambda line, _: _LINE.fullmatch(line) is not None, lambda *_: WebServerLines().decode
)
