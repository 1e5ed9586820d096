"""Groups of a client's requests, each of which a rule counts by itself: those of one path, for example.

A rule that groups requests counts under keys of 16 bytes: eight for the client, and eight for a digest of the values
that the requests of the group share. So views, tallies and stores hold groups as they hold clients, and a version that
does not know such a rule skips its topic. Two groups of a client have the same key with a probability of 2**-64.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from chalicelib.core.logs.requests import Requests
from chalicelib.core.scope import Scope

GROUPED_BY = ("country", "host", "method", "path", "user_agent")
"""Columns by which a rule can group requests."""

LONGEST_IPV6_PREFIX = 64
"""Longest prefix of the IPv6 clients of a rule that groups requests."""

CLIENT_BYTES = 8
_IPV4 = b"\xff" * 4
"""Prefix of an IPv4 address in a key. No client's IPv6 address begins with it: ff00::/8 is multicast (RFC 4291,
section 2.7)."""


def group_digests(
    by: Sequence[str], scope: Scope, requests: Requests, rows: Sequence[int] | None
) -> list[bytes] | None:
    """Returns for each of ``rows``, or for all rows if None, a digest of 8 bytes of its values in the columns ``by``.

    Returns None if the log lacks one of the columns. Paths are compared as ``scope`` compares them.
    """
    values = []
    for name in by:
        column = requests.columns(name)
        if column is None:
            return None
        cells = column.cells if rows is None else [column.cells[row] for row in rows]
        form = scope.path_form if name == "path" else str
        texts = {cell: form(str(column.text(cell))) for cell in set(cells)}
        values.append([texts[cell] for cell in cells])
    groups = list(zip(*values, strict=True))
    digests = {group: group_digest(group) for group in set(groups)}
    return [digests[group] for group in groups]


def group_keys(clients: Iterable[bytes], digests: Iterable[bytes]) -> list[bytes]:
    """Returns the key of each client's group. IPv6 clients are cut to at most ``LONGEST_IPV6_PREFIX``.

    >>> keys = group_keys([bytes([192, 0, 2, 7]), bytes(range(8)) + bytes(8)], [b"--path--", b"--path--"])
    >>> [client_of(key).hex() for key in keys]
    ['c0000207', '00010203040506070000000000000000']
    """
    return [client_head(client) + digest for client, digest in zip(clients, digests, strict=True)]


def client_head(client: bytes) -> bytes:
    """Returns the first ``CLIENT_BYTES`` bytes of the keys of a client's groups."""
    return _IPV4 + client if len(client) == 4 else client[:CLIENT_BYTES]


def client_of(key: bytes) -> bytes:
    """Returns the client of a group, from the group's key."""
    return key[4:CLIENT_BYTES] if key.startswith(_IPV4) else key[:CLIENT_BYTES] + bytes(CLIENT_BYTES)


def ungrouped(key: bytes) -> bytes:
    """Returns the client of an IPv4 client's group; returns any other key, of a client or a group, unchanged."""
    return key[4:CLIENT_BYTES] if len(key) == 16 and key.startswith(_IPV4) else key


def group_digest(values: tuple[str, ...]) -> bytes:
    """Returns eight bytes that stand for the ``values`` of a group; the same in every process and version."""
    # ``repr`` distinguishes ("a", "b") from ("a, b",).
    return blake2b(repr(values).encode(), digest_size=16 - CLIENT_BYTES).digest()
