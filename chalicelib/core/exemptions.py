"""The networks that the allowlist exempts from all or some rules.

They include the networks that a damaged entry may mean: it is safer to spare these than to block them by mistake.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from chalicelib.core.addresses import Network, NetworkSet, Span, pack, parse_network
from chalicelib.core.state.allowlist import Allow

WIDEST = {4: 16, 6: 32}
"""Shortest prefix, by IP version, that is assumed for an address with a prefix that does not exist."""

_NETWORK = re.compile(r'"network"\s*:\s*"([^"]{1,100})"')
"""The field of the JSON body, also if the rest of the body is damaged."""


@dataclass(frozen=True, slots=True)
class Exemptions:
    """The networks that are not blocked at one moment."""

    entries: Sequence[Allow]
    """Entries of the allowlist in force, sorted by the text of the network."""
    networks: NetworkSet
    """The networks of entries for all rules, and those that an unreadable entry may mean. They are not published."""
    by_rule: Mapping[str, NetworkSet]
    """The networks of all other entries, by the rules that these name."""

    @classmethod
    def of(cls, entries: Sequence[Allow], meant: Iterable[Network] = ()) -> "Exemptions":
        """Returns the networks that ``entries`` exempt, and ``meant``: those that unreadable entries may mean."""
        by_rule: dict[str, list[Network]] = {}
        for entry in entries:
            for rule in entry.rules:
                by_rule.setdefault(rule, []).append(entry.network_value())
        exempt = NetworkSet([*(entry.network_value() for entry in entries if not entry.rules), *meant])
        return cls(entries, exempt, {rule: NetworkSet(networks) for rule, networks in by_rule.items()})

    @property
    def whole(self) -> list[Allow]:
        """The entries for all rules."""
        return [entry for entry in self.entries if not entry.rules]

    def spares(self, span: Span, rule: str) -> bool:
        """Returns whether ``rule`` must not block ``span``: all of it is exempt from every rule, or part of it from
        this one, because nothing is carved out for a single rule."""
        return self.networks.covers(span) or (rule in self.by_rule and self.by_rule[rule].meets(span))


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
