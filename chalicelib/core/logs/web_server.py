"""Access logs of nginx and Apache in common and combined format: ``client - user [time] "request" status …``.

The virtual host may precede the client, and the X-Forwarded-For header may follow the User-Agent, as in nginx's
``main`` format. A client may have a port; IPv6 addresses come with or without brackets. Apache writes quotes within a
text as ``\\"``, nginx as ``\\x22``.
Sources: Apache HTTP Server, "Log Files"; nginx, "ngx_http_log_module".
"""

import re
from collections.abc import Callable, Sequence

from chalicelib.core.addresses import AddressMemo, pack
from chalicelib.core.logs.columns import request_line, split_all, url_host, url_path
from chalicelib.core.logs.forwarded import without_port
from chalicelib.core.logs.log_format import DecodeOptions, LineFormat
from chalicelib.core.logs.requests import BYTES, FORWARDED_FOR, Column, Malformed, Reason, Requests, Source, host_name
from chalicelib.core.logs.times import TimeMemo, clf_ms

_LINE = re.compile(
    rb"(\S+) (\S+) (.*?) ?(\[\d\d?/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d) ([+-]\d{4}\]) (\".*)", re.ASCII | re.DOTALL
)
_TEXT = rb'"((?:[^"\\]|\\.)*)"'
_REST = re.compile(
    _TEXT + rb" (\d{3}|-)(?: (\d+|-)(?: " + _TEXT + rb" " + _TEXT + rb"(?: " + _TEXT + rb")?)?)?", re.ASCII
)
REQUEST, STATUS, SENT, REFERER, USER_AGENT, FORWARDED = 1, 2, 3, 4, 5, 6
"""Groups of ``_REST``."""

CLIENT, STAMP, ZONE, REST = 0, 3, 4, 5

Cell = tuple[bytes, bytes]
"""The virtual host, and what follows the time."""


def _part(rest: bytes, group: int) -> bytes:
    match = _REST.match(rest)
    return match[group] or b"" if match else b""


def _text(group: int) -> Callable[[Cell], str]:
    return lambda cell: _plain(_part(cell[1], group))


def _plain(text: bytes) -> str:
    return "" if text == b"-" else text.decode("utf-8", "replace")


def _target(cell: Cell) -> str:
    return request_line(_part(cell[1], REQUEST))[1]


def _host(cell: Cell) -> str:
    return url_host(_target(cell)) or host_name(cell[0].decode("utf-8", "replace"))


_READ: dict[str, Callable[[Cell], str]] = {
    "host": _host,
    "method": lambda cell: request_line(_part(cell[1], REQUEST))[0],
    "path": lambda cell: url_path(_target(cell)),
    "status": _text(STATUS),
    "user_agent": _text(USER_AGENT),
    "referer": _text(REFERER),
    BYTES: _text(SENT),
    FORWARDED_FOR: _text(FORWARDED),
}


class WebServerLines:
    """A decoder of lines."""

    def __init__(self, options: DecodeOptions) -> None:
        self._trusted = options.trusted
        self._addresses = AddressMemo()
        self._times = TimeMemo(lambda cells: clf_ms(b" ".join(cells)))

    def decode(self, lines: list[bytes]) -> tuple[Requests, list[Malformed]]:
        malformed: list[Malformed] = []
        rows = split_all(lines, b" ", REST)
        hosts = [b""] * len(rows)
        if not all(map(_is_regular, rows)):
            lines, rows, hosts, malformed = _split_irregular(lines, rows)
        clients = self._addresses.pack_all([row[CLIENT] for row in rows])
        if None in clients:
            clients = [c or pack(_without_port(row[CLIENT])) for c, row in zip(clients, rows, strict=True)]
        times = self._times.parse_all([(row[STAMP], row[ZONE]) for row in rows])

        def columns(name: str) -> Column | None:
            if name not in _READ:
                return None
            return Column([(host, row[REST]) for host, row in zip(hosts, rows, strict=True)], _READ[name])

        requests, invalid = Requests.of_valid(
            Source.WEB_SERVER, times, clients, columns, trusted=self._trusted, piece=lines.__getitem__
        )
        return requests, malformed + invalid


def _is_regular(row: Sequence[bytes]) -> bool:
    return len(row) > REST and row[STAMP][:1] == b"[" and row[ZONE][-1:] == b"]" and row[REST][:1] == b'"'


def _without_port(client: bytes) -> str:
    return without_port(client.decode("latin-1"))


def _split_irregular(
    lines: list[bytes], rows: list[list[bytes]]
) -> tuple[list[bytes], list[list[bytes]], list[bytes], list[Malformed]]:
    """Splits lines, including those with a virtual host or a user name with spaces; the others are malformed.

    Returns the lines, their rows and virtual hosts, and the malformed ones.
    """
    good_lines, good_rows, hosts, malformed = [], [], [], []
    for line, row in zip(lines, rows, strict=True):
        host = b""
        if not _is_regular(row):
            match = _LINE.fullmatch(line)
            if match is None:
                malformed.append(Malformed.of(Reason.FIELDS, line, Source.WEB_SERVER))
                continue
            first, second, user, stamp, zone, rest = match.groups()
            # The second word is "-" unless a virtual host precedes the client. A client may write its Host header, but
            # not the second word; so an address there is the client, whatever the first one looks like.
            if user and pack(_without_port(second)) is not None:
                host, first = first, second
            row = [first, b"-", user, stamp, zone, rest]  # noqa: PLW2901
        good_lines.append(line)
        good_rows.append(row)
        hosts.append(host)
    return good_lines, good_rows, hosts, malformed


WEB_SERVER = LineFormat(
    "nginx/Apache", lambda line, _: _LINE.fullmatch(line) is not None, lambda options, _: WebServerLines(options).decode
)
