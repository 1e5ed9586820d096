"""Traffic that attacks the service itself: floods from many addresses, and gzip bombs."""

import gzip
from collections.abc import Iterator
from ipaddress import IPv6Address

from tests.support.target import NOW

PER_BATCH = 10_000
PREFIX = 0x20010DB8 << 96
"""2001:db8::/32, the addresses for documentation."""


def batches(addresses: Iterator[int], number: int) -> Iterator[list[bytes]]:
    """Yields batches of ten seconds each, with a request from the next IPv6 address in every line."""
    tail = b"\t200\tGET\twww.example.com\t/\t-\t-\t-\n"
    for batch in range(number):
        start = NOW * 1000 + (batch - 1) * 10_000
        yield [
            b"%d.%03d\t%s%s" % (*divmod(start + at, 1000), str(IPv6Address(next(addresses))).encode(), tail)
            for at in range(PER_BATCH)
        ]


def bomb(event: bytes, size: int) -> bytes:
    """Returns a CloudWatch Logs envelope that unpacks to about ``size`` bytes of log events."""
    events = b",".join([event] * (size // (len(event) + 1)))
    return gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":[' + events + b"]}", 9, mtime=0)
