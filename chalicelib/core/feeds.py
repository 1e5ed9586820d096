"""Feeds: lists of networks that others publish, such as a search engine's crawlers or networks known for attacks.

What is published is not trusted: a list may be cut off, replaced by an error page, or contain what must not be in it.
It is used as a whole or not at all.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_network
from itertools import islice
from typing import Any

import msgspec

from chalicelib.core.addresses import Network, NetworkSet, parse_network
from chalicelib.core.printable import printable
from chalicelib.core.wording import plural

NETWORK_KEYS = ("ipv4Prefix", "ipv6Prefix", "ip_prefix", "ipv6_prefix", "cidr")
"""Keys that hold a network in lists of JSON objects: those of the search engines' and AI companies' crawlers, of AWS,
and of Spamhaus DROP."""

WIDEST = {4: 8, 6: 19}
"""Shortest prefix, by IP version, of a network in a feed: registries assign no wider ones."""

MOST_ENTRIES = 20_000
"""Most entries of a list. A megabyte could hold half a million, for which a small function has no time."""

MOST_SKIPPED_PERCENT = 1
"""Greatest share of entries that may be skipped; with more, the list is something else, such as an error page."""

SLACK = 10
"""Networks by which a list may grow or shrink beyond the factors below: short lists change by large factors."""
SHRINKS_TO = 2
"""A list may shrink to one half."""
GROWS_TO = 2
"""A list may grow to twice its networks."""
WIDENS_TO = 4
"""A list may grow to four times the addresses, so that a wide network among many narrow ones is noticed."""
ROOM = {4: 1 << 16, 6: 1 << 96}
"""Addresses, by IP version, by which a list may grow beyond that: an IPv4 /16, an IPv6 /32."""

INSIDE = NetworkSet(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
            # All IPv6 addresses in use are in 2000::/3; 2001::/23 and 2002::/16 contain IPv4 addresses in part.
            *("::/3", "4000::/2", "8000::/1", "2001::/23", "2002::/16"),
        ),
    )
)
"""Addresses that are not of the Internet: private, local, shared, reserved and multicast ones, and IPv6 addresses that
lead to IPv4 ones (IANA's registries of special-purpose addresses)."""


class FeedError(ValueError):
    """A list that cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class PublishedList:
    """The usable content of a list."""

    networks: tuple[Network, ...]
    """In order, IPv4 first; adjacent and contained networks are merged."""
    entries: int
    """Entries of the list, the skipped ones included."""
    skipped: tuple[str, ...] = ()
    """The reason for each skipped entry, with the entry in it."""


def parse_feed(content: bytes) -> PublishedList:
    """Returns the networks in a published list. Raises FeedError if it has none or more than ``MOST_ENTRIES`` entries,
    or if more than one in a hundred of these cannot be used.

    Accepted are text with one network per line, followed by anything after a blank, comma, semicolon or '#'; JSON with
    lists of networks, or of objects with one of ``NETWORK_KEYS``; and lines of such objects. Host bits, networks wider
    than ``WIDEST`` and networks that overlap ``INSIDE`` are skipped.

    >>> published = parse_feed(b"192.0.2.0/25 ; SBL1\\n192.0.2.128/25\\n# end\\n")
    >>> [str(network) for network in published.networks], published.entries
    (['192.0.2.0/24'], 2)
    >>> [str(network) for network in parse_feed(b'{"prefixes": [{"ipv6Prefix": "2001:db8::/64"}]}').networks]
    ['2001:db8::/64']
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise FeedError("it is not UTF-8") from exc
    networks: list[Network] = []
    skipped: list[str] = []
    listed = list(islice(_entries(text), MOST_ENTRIES + 1))
    if len(listed) > MOST_ENTRIES:
        raise FeedError(f"it has more than {MOST_ENTRIES:,} entries")
    for entry in listed:
        try:
            networks.append(_usable(entry))
        except ValueError as exc:
            skipped.append(printable(str(exc)[:200]))
    if len(skipped) * 100 > len(listed) * MOST_SKIPPED_PERCENT:
        raise FeedError(f"{len(skipped):,} of its {len(listed):,} entries cannot be used: {skipped[0]}")
    if not networks:
        raise FeedError("it contains no networks")
    return PublishedList(merged(networks), len(listed), tuple(skipped))


def merged(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Returns the fewest networks with the same addresses, IPv4 first.

    >>> list(map(str, merged(map(parse_network, ["2001:db8::/64", "192.0.2.1", "192.0.2.0"]))))
    ['192.0.2.0/31', '2001:db8::/64']
    """
    families: dict[int, list[Any]] = {4: [], 6: []}
    for network in networks:
        families[network.version].append(network)
    return tuple(network for family in families.values() for network in collapse_addresses(family))


def implausible(networks: Iterable[Network], before: Iterable[Network]) -> str | None:
    """Returns why merged ``networks`` are unlikely to be the next version of ``before``; None if they may be.

    >>> one = [parse_network("192.0.2.0/24")]
    >>> implausible(one, one), implausible([parse_network("128.0.0.0/8")], one)
    (None, 'it grows from 256 to 16,777,216 IPv4 addresses')
    """
    after, earlier = list(networks), list(before)
    if len(after) * SHRINKS_TO + SLACK < len(earlier):
        return f"it shrinks from {plural(len(earlier), 'network')} to {len(after):,}"
    if len(after) > len(earlier) * GROWS_TO + SLACK:
        return f"it grows from {plural(len(earlier), 'network')} to {len(after):,}"
    for version, room in ROOM.items():
        wide, narrow = (
            sum(each.num_addresses for each in all_ if each.version == version) for all_ in (after, earlier)
        )
        if wide > narrow * WIDENS_TO + room:
            return f"it grows from {narrow:,} to {wide:,} IPv{version} addresses"
    return None


def _usable(entry: object) -> Network:
    """Returns the network that an entry names. Raises ValueError."""
    if not isinstance(entry, str):
        raise ValueError(f"{entry!r} is not the text of a network")
    network = parse_network(entry)
    if network.prefixlen < WIDEST[network.version]:
        raise ValueError(f"{network} is wider than /{WIDEST[network.version]}")
    if INSIDE.overlaps(network):
        raise ValueError(f"{network} is not of the Internet: it is private, local or reserved")
    return network


def _entries(text: str) -> Iterator[object]:
    """Yields what should be networks. Raises FeedError if JSON is not valid."""
    if not text.lstrip().startswith(("{", "[")):
        for line in text.splitlines():
            entry = re.split(r"[\s,;#]", line.strip(), maxsplit=1)[0]
            if entry:
                yield entry
        return
    for document in _documents(text):
        yield from _of_document(document)


def _documents(text: str) -> list[object]:
    """Returns the JSON documents in ``text``: one, or one per line."""
    try:
        return [msgspec.json.decode(text)]
    except (msgspec.DecodeError, RecursionError) as exc:
        try:
            return [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
        except (msgspec.DecodeError, RecursionError):
            raise FeedError(f"it is not valid JSON: {exc}") from exc


def _of_document(document: object) -> Iterator[object]:
    """Yields the entries of a document: those of a list, of the lists in an object, or of an object itself."""
    if isinstance(document, list):
        for each in document:
            if isinstance(each, dict):
                yield from _of_object(each)
            else:
                yield each
    elif isinstance(document, dict):
        yield from _of_object(document)
        for value in document.values():
            if isinstance(value, list):
                yield from _of_document(value)


def _of_object(value: dict[Any, Any]) -> Iterator[object]:
    return (value[key] for key in NETWORK_KEYS if key in value)
