"""Application Load Balancer access logs: fields separated by single spaces, texts in quotes.

The client stands as ``address:port`` in the fourth field; an IPv6 address may or may not be in brackets.
Source: Elastic Load Balancing, "Access logs for your Application Load Balancer".
"""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from chalicelib.core.addresses import AddressMemo
from chalicelib.core.logs.requests import Column, Malformed, Reason, Requests, Source
from sluice.logs.columns import TimeMemo, split_all, utc_ms

TIME, CLIENT, STATUS, UNQUOTED = 1, 3, 8, 12
"""Places of fields; and how many stand before the first quote."""

LINE = re.compile(rb"(?:https?|h2|grpcs?|wss?) \d{4}-\d\d-\d\dT", re.ASCII)
_FRACTION = re.compile(rb"\.(\d{3})\d*Z", re.ASCII)


def stamp_ms(cell: bytes) -> int | None:
    """The time of ``2026-01-31T12:00:00.186641Z``, to the millisecond.

    >>> stamp_ms(b"1970-01-01T00:00:01.186641Z"), stamp_ms(b"1970-01-01T00:00:01")
    (1186, None)
    """
    second, match = utc_ms(cell[:19]), _FRACTION.fullmatch(cell[19:])
    return None if second is None or match is None else second + int(match[1])


def _without_port(cell: bytes) -> bytes:
    return cell.rpartition(b":")[0].strip(b"[]")


def _words(request: bytes) -> list[str]:
    """Method, URL and version of a request line; empty texts for what it lacks."""
    return [*request.decode("utf-8", "replace").split(" ", 2), "", ""][:3]


def _url_part(part: str) -> Callable[[bytes], str]:
    def read(request: bytes) -> str:
        try:
            return getattr(urlsplit(_words(request)[1]), part) or ""
        except ValueError:  # a client may write anything there, such as an unclosed bracket
            return ""

    return read


_QUOTED: dict[str, tuple[int, Callable[[bytes], str]]] = {
    "method": (0, lambda cell: _words(cell)[0].strip("-")),
    "host": (0, _url_part("hostname")),
    "path": (0, _url_part("path")),
    "user_agent": (1, lambda cell: "" if cell == b"-" else cell.decode("utf-8", "replace")),
}
"""A scope's column: which quoted text holds it, and how it is read."""


class BalancerLines:
    """Reads load balancer log lines."""

    def __init__(self) -> None:
        self._addresses = AddressMemo()
        self._times = TimeMemo(utc_ms)

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        malformed: list[Malformed] = []
        rows = split_all(lines, b" ", UNQUOTED)
        if any(len(row) <= UNQUOTED or row[UNQUOTED][:1] != b'"' for row in rows):
            good = []
            for line, row in zip(lines, rows, strict=True):
                if len(row) > UNQUOTED and row[UNQUOTED][:1] == b'"':
                    good.append(line)
                else:
                    malformed.append(Malformed.of(Reason.FIELDS, line))
            lines, rows = good, split_all(good, b" ", UNQUOTED)
        clients = self._addresses.pack_all([_without_port(row[CLIENT]) for row in rows])

        def columns(name: str) -> Column | None:
            if name == "status":
                return Column([row[STATUS] for row in rows], lambda cell: cell.decode("ascii", "replace").strip("-"))
            if name not in _QUOTED:
                return None
            place, text = _QUOTED[name]
            return Column([_quoted(row[UNQUOTED], place) for row in rows], text)

        times = self._times_of([row[TIME] for row in rows])
        requests, invalid = Requests.of_valid(
            Source.BALANCER, times, clients, columns, peers=clients, piece=lines.__getitem__
        )
        return requests, malformed + invalid

    def _times_of(self, cells: list[bytes]) -> list[int | None]:
        # All but the fraction is the same for a second's lines.
        seconds = self._times.read_all([cell[:19] for cell in cells])
        fractions = [cell[20:23] for cell in cells]
        if b"".join(fractions).isdigit() and all(len(cell) == 27 for cell in cells) and None not in seconds:
            return [second + int(f) for second, f in zip(seconds, fractions, strict=True)]  # type: ignore[operator]
        return list(map(stamp_ms, cells))


def _quoted(rest: bytes, place: int) -> bytes:
    parts = rest.split(b'"', 2 * place + 2)
    return parts[2 * place + 1] if len(parts) > 2 * place + 1 else b"-"
