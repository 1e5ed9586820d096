"""Splitting of lines into columns, shared by the formats whose values are not all in JSON.

All work is on columns: the lines of a text are split in one call, and a cell is decoded only if a rule examines it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import compress, repeat
from operator import not_
from socket import AF_INET, inet_pton
from urllib.parse import urlsplit

from chalicelib.core.addresses import AddressMemo
from chalicelib.core.logs.requests import Malformed

Rows = list[list[bytes]]


def pack_all(texts: Sequence[str], memo: AddressMemo) -> list[bytes | None]:
    """Returns ``memo.pack_all(texts)``."""
    # Converting IPv4 addresses takes less time than searching a large memo, which misses the processor's cache.
    with suppress(OSError, ValueError):
        return list(map(inet_pton, repeat(AF_INET), texts))
    return memo.pack_all(texts)


def split_all(lines: Sequence[bytes], separator: bytes, times: int) -> Rows:
    """Splits each line at its first ``times`` separators."""
    return list(map(bytes.split, lines, repeat(separator), repeat(times)))


def lines_of(text: bytes) -> list[bytes]:
    """Returns the lines of a text, without line ends and without empty lines."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return [line for line in text.split(b"\n") if line]


def complete_lines(
    lines: Sequence[bytes], complete: Sequence[bool], malformed: Callable[[bytes], Malformed]
) -> tuple[list[bytes], list[Malformed]]:
    """Returns the lines that have all their fields, and what ``malformed`` returns for each of the others."""
    return list(compress(lines, complete)), list(map(malformed, compress(lines, map(not_, complete))))


def request_line(text: bytes) -> list[str]:
    """Returns the method, URL and version in a request line, each empty if absent."""
    return [*text.decode("utf-8", "replace").split(" ", 2), "", ""][:3]


def url_path(url: str) -> str:
    """Returns the path of a request's target, which may be an absolute URL; without query and fragment.

    >>> url_path("/login?x=1"), url_path("http://www.example.com/login?x=1"), url_path("http://www.example.com?x=/")
    ('/login', '/login', '/')
    """
    path = url.partition("?")[0].partition("#")[0]
    return "/" + path.partition("://")[2].partition("/")[2] if _is_absolute(url) else path


def url_host(url: str) -> str:
    """Returns the host of an absolute URL, in lower case and without its port; empty for a path.

    >>> url_host("https://WWW.example.com.:443/"), url_host("/login"), url_host("http://[2001:db8::1]:80/"), url_host("http://[")
    ('www.example.com', '', '2001:db8::1', '')
    """
    try:
        return (urlsplit(url).hostname or "").rstrip(".") if _is_absolute(url) else ""
    except ValueError:  # clients may send anything, such as an unclosed bracket
        return ""


def _is_absolute(url: str) -> bool:
    return "://" in url and not url.startswith("/")
