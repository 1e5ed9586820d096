"""The owner of a network, from a local table of announced networks, as iptoasn.com publishes one in the public domain.

Each line has the first and the last address, the AS number, a country and a name, separated by tabs. The table stays on
the operator's machine: neither the functions nor the page have one (docs/development/decisions/046-owners.md).
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from chalicelib.core.printable import printable

FORM = "first address, last address, AS number, country and name, separated by tabs"
LONGEST_NAME = 100
LONGEST_LINE = 10_000
"""Bytes."""

NOT_ROUTED = "0"
"""AS number of networks that are not announced."""


class Owner(NamedTuple):
    """A line of the table: the network, and the AS that announces it."""

    first: str
    last: str
    asn: str
    country: str
    name: str

    def __str__(self) -> str:
        if self.asn == NOT_ROUTED:
            return f"not announced: {self.first} to {self.last}"
        return f"AS{self.asn} {self.name} ({self.country}), {self.first} to {self.last}"


def owner_in(file: Path, address: IPv4Address | IPv6Address) -> Owner | None:
    """Returns the owner of an address according to ``file``, which may be packed by gzip; None if it names none.

    Raises ValueError, with the line, for one that is not of the form, and for a packed file that is damaged.
    """
    with _lines(file) as lines:
        for number, content in enumerate(lines, 1):
            if len(content) > LONGEST_LINE:
                raise ValueError(f"{file}, line {number}: longer than {LONGEST_LINE:,} bytes; expected {FORM}")
            line = content.decode("utf-8", "replace")
            fields = line.rstrip("\r\n").split("\t")
            try:
                first, last = map(ip_address, fields[:2])
                asn, country, name = fields[2:5]
            except ValueError:
                raise ValueError(f"{file}, line {number}: {line[:80]!r} is not {FORM}") from None
            if first.version == address.version and int(first) <= int(address) <= int(last):
                return Owner(str(first), str(last), printable(asn), printable(country), printable(name)[:LONGEST_NAME])
    return None


@contextmanager
def _lines(file: Path) -> Iterator[Iterable[bytes]]:
    """Opens the lines of a file. No more of a line is read than shows that it is too long."""
    with file.open("rb") as opened:
        packed = opened.read(2) == b"\x1f\x8b"
        opened.seek(0)
        with gzip.open(opened) if packed else opened as unpacked:
            try:
                yield iter(lambda: unpacked.readline(LONGEST_LINE + 1), b"")
            except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
                raise ValueError(f"{file}: damaged gzip: {exc}") from exc
