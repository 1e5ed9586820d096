"""Parsing and matching of the networks that callers send."""

from collections.abc import Iterable
from dataclasses import dataclass

from chalicelib.admin.errors import Fault, Invalid, fault
from chalicelib.core.addresses import Network, parse_network, supernets
from chalicelib.core.state import Allow


@dataclass(frozen=True, slots=True)
class Widest:
    """The shortest prefixes that are accepted without force."""

    ipv4: int
    ipv6: int

    def refuses(self, network: Network) -> bool:
        return network.prefixlen < self.prefix(network)

    def prefix(self, network: Network) -> int:
        return self.ipv4 if network.version == 4 else self.ipv6


def read_network(text: str, place: str, field: str = "network") -> Network:
    """Raises Invalid."""
    network = try_network(text, place, field)
    if isinstance(network, Fault):
        raise Invalid.of([network])
    return network


def try_network(text: str, place: str, field: str) -> Network | Fault:
    try:
        return parse_network(text)
    except ValueError as exc:
        return fault(place, field, text, str(exc))


def covering(network: Network) -> list[str]:
    """Names of ``network`` and of all wider ones, narrowest first: what blocks and histories are stored under."""
    return [str(network), *map(str, supernets(network))]


def overlapping(entries: Iterable[Allow], network: Network) -> list[Allow]:
    """Returns the entries that overlap ``network``."""
    return [entry for entry in entries if entry.network_value().overlaps(network)]
