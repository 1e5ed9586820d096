"""Feeds over HTTPS, from servers that are not trusted: content, time and redirects are bounded.

The addresses that a name stands for are checked, and one of these is connected to, so that no name leads into a private
network. Proxies of the environment are not used: they would look names up themselves.
"""

import re
import socket
import ssl
import time
from collections.abc import Callable
from functools import cached_property
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from typing import NamedTuple, cast
from urllib.parse import urljoin, urlsplit

from chalicelib.core.addresses import NetworkSet, Span, pack
from chalicelib.core.feeds import INSIDE
from chalicelib.core.printable import printable
from chalicelib.ports import Unavailable

MOST_BYTES = 1 << 20
"""Most bytes of an answer, its headers included: a list of 50,000 IPv4 networks has as many."""
DEADLINE_S = 10.0
"""Seconds until an answer is complete, all redirects included. A look-up of a name may take longer."""
MOST_REDIRECTS = 3
REDIRECTS = frozenset((301, 302, 303, 307, 308))
PORT = 443
PLAIN = re.compile(r"[!-~]{1,2000}")
"""Form of an address: printable ASCII, so that nothing in it begins another line of the request."""
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")


class _Answer(NamedTuple):
    status: int
    location: str
    content: bytes


class HttpsFeeds:
    """A reader of feeds."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        context: ssl.SSLContext | None = None,
        port: int = PORT,
        inside: NetworkSet = INSIDE,
    ) -> None:
        """``clock`` returns seconds. ``context``: by default, one that trusts the authorities of the system.

        ``inside``: networks that are not connected to.
        """
        self._clock = clock
        self._given = context
        self._port = port
        self._inside = inside

    def read(self, url: str) -> bytes:
        """Returns the content at an https address, at most ``MOST_BYTES``.

        Raises Unavailable, whose message names the server and not the rest of the address, which may hold a key.
        """
        ends_at = self._clock() + DEADLINE_S
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._answer(url, ends_at)
            if answer.status not in REDIRECTS:
                if answer.status != 200:
                    raise Unavailable(f"{_server(url)} answers with status {answer.status}")
                return answer.content
            url = urljoin(url, answer.location)
        raise Unavailable(f"{_server(url)}: more than {MOST_REDIRECTS} redirects")

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return self._given or ssl.create_default_context()

    def _answer(self, url: str, ends_at: float) -> _Answer:
        """Returns the answer of one server."""
        host, target = self._parts(url)
        try:
            with (
                socket.create_connection((self._address(host), self._port), self._left_s(ends_at)) as plain,
                self._context.wrap_socket(plain, server_hostname=host) as server,
            ):
                server.settimeout(self._left_s(ends_at))
                server.sendall(
                    f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
                    "User-Agent: sluice\r\nConnection: close\r\n\r\n".encode()
                )
                return _parsed(self._received(server, ends_at))
        except (OSError, HTTPException, ValueError) as exc:
            raise Unavailable(f"{host}: {printable(str(exc)) or type(exc).__name__}") from exc

    def _parts(self, url: str) -> tuple[str, str]:
        """Returns the host of an address, and what to ask it for. Raises Unavailable."""
        try:
            parts = urlsplit(url if PLAIN.fullmatch(url) else "")
            is_plain = parts.scheme == "https" and HOST.fullmatch(parts.netloc) is not None
        except ValueError:
            is_plain = False
        if not is_plain:
            raise Unavailable(f"{_server(url)}: not an address such as https://example.com/list.json, without a port")
        return parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _address(self, host: str) -> str:
        """Returns an address of a host. Raises Unavailable if it has none, or any within ``inside``."""
        addresses = [str(each[4][0]) for each in socket.getaddrinfo(host, self._port, type=socket.SOCK_STREAM)]
        for address in addresses:
            if self._inside.meets(_span(address)):
                raise Unavailable(f"{host}: its address {address} is not of the Internet: it is private or reserved")
        return addresses[0]

    def _received(self, server: ssl.SSLSocket, ends_at: float) -> bytes:
        """Returns everything that a server sends until it closes the connection. Raises Unavailable for too much."""
        received = bytearray()
        while True:
            server.settimeout(self._left_s(ends_at))
            chunk = server.recv(65536)
            if not chunk:
                return bytes(received)
            received += chunk
            if len(received) > MOST_BYTES:
                raise Unavailable(f"{server.server_hostname}: the answer has more than {MOST_BYTES:,} bytes")

    def _left_s(self, ends_at: float) -> float:
        left_s = ends_at - self._clock()
        if left_s <= 0:
            raise TimeoutError(f"no complete answer within {DEADLINE_S:.0f} seconds")
        return left_s


class _Received(NamedTuple):
    """The bytes that were received, in place of a socket."""

    received: bytes

    def makefile(self, mode: str) -> BytesIO:  # noqa: ARG002 - HTTPResponse passes it
        return BytesIO(self.received)


def _parsed(received: bytes) -> _Answer:
    """Returns the answer. Raises HTTPException, also if it is cut off."""
    response = HTTPResponse(cast("socket.socket", _Received(received)))
    response.begin()
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise HTTPException(f"the answer is encoded as {encoding}, which was not asked for")
    return _Answer(response.status, response.headers.get("Location", ""), response.read())


def _span(address: str) -> Span:
    """Returns the span of one address; of an IPv4-mapped IPv6 address, that of the IPv4 address."""
    packed = pack(address.partition("%")[0])
    if packed is None:
        raise ValueError(f"{address} is not an address")
    number = int.from_bytes(packed)
    return 4 if len(packed) == 4 else 6, number, number


def _server(url: str) -> str:
    """Returns the part of an address that names the server, for messages."""
    return printable(url.partition("://")[2].partition("/")[0].rpartition("@")[2][:100] or url[:20])
