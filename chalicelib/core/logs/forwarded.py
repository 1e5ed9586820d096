"""The client behind trusted proxies.

The left-most ``X-Forwarded-For`` address is not trusted just because it is left-most: the client may have written it.
Each trusted proxy appends the address it was called from, so the right-most address that is not a trusted proxy cannot
be forged.
"""

from chalicelib.core.addresses import NetworkSet, pack

HOPS = 32
"""Most addresses examined, from the right, because a long header must cost little. Real chains are far shorter."""


def client_behind(peer: bytes, forwarded: str, trusted: NetworkSet) -> bytes | None:
    """Returns the client's packed address, or None if a trusted proxy called but named no valid client.

    ``peer`` is the packed address the request came from. If it is not a trusted proxy, it is the client, whatever
    ``forwarded`` contains.
    """
    if not trusted.contains(peer):
        return peer
    for hop in reversed(forwarded.rstrip(" \t,").rsplit(",", HOPS)[-HOPS:]):
        if not hop.strip():
            continue  # an empty member of a list means nothing (RFC 9110, 5.6.1)
        address = pack(without_port(hop.strip()).encode("ascii", "replace"))
        if address is None:
            return None
        if not trusted.contains(address):
            return address
    return None


def without_port(text: str) -> str:
    """Removes the port and the brackets that some proxies and servers write.

    >>> without_port("192.0.2.7:1234"), without_port("[2001:db8::1]:80"), without_port("2001:db8::1")
    ('192.0.2.7', '2001:db8::1', '2001:db8::1')
    """
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, _, port = text.partition(":")
    return host if port.isdigit() else text
