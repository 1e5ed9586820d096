"""Application Load Balancer access logs: fields separated by single spaces, texts in quotes.

The fourth field holds the client as ``address:port``; IPv6 addresses come with or without brackets.
Source: Elastic Load Balancing, "Access logs for your Application Load Balancer".
"""

import re
from collections.abc import Callable
from itertools import compress
from urllib.parse import urlsplit

from chalicelib.core.addresses import AddressMemo
from chalicelib.core.logs.requests import Column, Malformed, Reason, Requests, Source
from sluice.logs.columns import TimeMemo, complete_lines, request_line, split_all, utc_ms
from sluice.logs.log_format import LogFormat

TIME, CLIENT, STATUS, UNQUOTED = 1, 3, 8, 12
"""Indices of fields, and the number of fields before the first quote."""

_LINE = re.compile(rb"(?:https?|h2|grpcs?|wss?) \d{4}-\d\d-\d\dT", re.ASCII)
_FRACTION = re.compile(rb"\.(\d{3})\d*Z", re.ASCII)


def stamp_ms(cell: bytes) -> int | None:
    """Returns the time of ``2026-01-31T12:00:00.186641Z`` in milliseconds since the epoch, or None if it is not one.

    >>> stamp_ms(b"1970-01-01T00:00:01.186641Z"), stamp_ms(b"1970-01-01T00:00:01")
    (1186, None)
    """
    second, match = utc_ms(cell[:19]), _FRACTION.fullmatch(cell[19:])
    return None if second is None or match is None else second + int(match[1])


def _without_port(cell: bytes) -> bytes:
    return cell.rpartition(b":")[0].strip(b"[]")


def _url_part(part: str) -> Callable[[bytes], str]:
    def read(request: bytes) -> str:
        try:
            return getattr(urlsplit(request_line(request)[1]), part) or ""
        except ValueError:  # clients may send anything, such as an unclosed bracket
            return ""

    return read


_QUOTED: dict[str, tuple[int, Callable[[bytes], str]]] = {
    "method": (0, lambda cell: request_line(cell)[0].strip("-")),
    "host": (0, _url_part("hostname")),
    "path": (0, _url_part("path")),
    "user_agent": (1, lambda cell: "" if cell == b"-" else cell.decode("utf-8", "replace")),
}
"""For each column: the index of the quoted text that holds it, and how to read it."""


class BalancerLines:
    def __init__(self) -> None:
        self._addresses = AddressMemo()
        self._times = TimeMemo(utc_ms)

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        malformed: list[Malformed] = []
        rows = split_all(lines, b" ", UNQUOTED)
        complete = [len(row) > UNQUOTED and row[UNQUOTED][:1] == b'"' for row in rows]
        if not all(complete):
            rows = list(compress(rows, complete))
            lines, malformed = complete_lines(lines, complete, _incomplete)
        clients = self._addresses.pack_all([_without_port(row[CLIENT]) for row in rows])

        def columns(name: str) -> Column | None:
            if name == "status":
                return Column([row[STATUS] for row in rows], lambda cell: cell.decode("ascii", "replace").strip("-"))
            if name not in _QUOTED:
                return None
            index, text = _QUOTED[name]
            return Column([_quoted(row[UNQUOTED], index) for row in rows], text)

        times = self._times_of([row[TIME] for row in rows])
        requests, invalid = Requests.of_valid(Source.BALANCER, times, clients, columns, piece=lines.__getitem__)
        return requests, malformed + invalid

    def _times_of(self, cells: list[bytes]) -> list[int | None]:
        # Times within the same second differ only in the fraction.
        seconds = self._times.parse_all([cell[:19] for cell in cells])
        fractions = [cell[20:23] for cell in cells]
        if b"".join(fractions).isdigit() and all(len(cell) == 27 for cell in cells) and None not in seconds:
            return [second + int(f) for second, f in zip(seconds, fractions, strict=True)]  # type: ignore[operator]
        return list(map(stamp_ms, cells))


def _incomplete(line: bytes) -> Malformed:
    return Malformed.of(Reason.FIELDS, line, Source.BALANCER)


def _quoted(rest: bytes, index: int) -> bytes:
    parts = rest.split(b'"', 2 * index + 2)
    return parts[2 * index + 1] if len(parts) > 2 * index + 1 else b"-"


BALANCER = LogFormat("load balancer", lambda line, _: _LINE.match(line) is not None, lambda *_: BalancerLines().decode)
