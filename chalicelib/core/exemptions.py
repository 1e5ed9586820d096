"""The networks that a damaged allowlist entry may mean. They are not blocked, rather than blocked by mistake."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from chalicelib.core.addresses import Network, pack, parse_network

WIDEST = {4: 16, 6: 32}
"""Shortest prefix, by IP version, that is taken for the meaning of an address with a prefix that does not exist."""

_NETWORK = re.compile(r'"network"\s*:\s*"([^"]{1,100})"')
"""The field of the JSON body, also if the rest of the body is damaged."""


def networks_meant(id: str, body: bytes) -> Iterator[Network]:
    """Yields the networks that the id and the body of an unreadable allowlist entry name, as far as they name any.

    The id of an entry that was ever in force is its network. So an entry that names none has never protected a client,
    and exempts none.

    >>> list(networks_meant("office", b'{"network": "192.0.2.77/24", "added_at": "today"}'))
    [IPv4Network('192.0.2.0/24')]
    """
    for text in (id, *_NETWORK.findall(body.decode(errors="replace"))):
        network = _network_meant(text)
        if network is not None:
            yield network


def _network_meant(text: str) -> Network | None:
    """Returns the network that ``text`` may mean; None if it contains no address.

    Host bits are ignored. If the prefix does not exist, the network is the widest that begins with the address.

    >>> str(_network_meant("192.0.2.0/33")), str(_network_meant("192.0.2.7/")), _network_meant("office")
    ('192.0.2.0/23', '192.0.2.7/32', None)
    """
    try:
        return parse_network(text)
    except ValueError:
        pass
    address, _, length = text.partition("/")
    packed = pack(address.strip())
    if packed is None:
        return None
    version, bits = (4, 32) if len(packed) == 4 else (6, 128)
    number = int.from_bytes(packed)
    zeros = (number & -number).bit_length() - 1 if number else bits
    prefix = max(WIDEST[version], bits - zeros)
    if length.strip().isdecimal() and int(length) <= bits:
        prefix = int(length)
    kind = IPv4Network if version == 4 else IPv6Network
    return kind((packed, prefix), strict=False)
