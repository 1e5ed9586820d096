"""Parsing and matching of the networks and durations that callers send."""

from collections.abc import Iterable, Mapping

from chalicelib.admin.errors import Fault, Invalid, fault
from chalicelib.core.addresses import Network, parse_network, supernets
from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.state.allowlist import Allow

Widest = Mapping[int, int]
"""The shortest prefix length that is accepted without force, by IP version, 4 and 6."""


def read_network(text: str, place: str, field: str = "network") -> Network:
    """Returns the network in ``text``. Raises Invalid."""
    network = try_network(text, place, field)
    if isinstance(network, Fault):
        raise Invalid(network)
    return network


def try_network(text: str, place: str, field: str) -> Network | Fault:
    try:
        return parse_network(text)
    except ValueError as exc:
        return fault(place, field, text, str(exc))


def try_duration(text: str, field: str, shortest_s: int, longest_s: int) -> int | Fault:
    """Returns a duration in the request's body, in seconds, or its fault; both bounds are inclusive."""
    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        return fault("body", field, text, str(exc))
    if not shortest_s <= seconds <= longest_s:
        return fault("body", field, text, f"{format_duration(shortest_s)} .. {format_duration(longest_s)}")
    return seconds


def covering(network: Network) -> list[str]:
    """Returns the names of ``network`` and all wider ones, narrowest first: the ids of their blocks and histories."""
    return [str(network), *map(str, supernets(network))]


def overlapping(entries: Iterable[Allow], network: Network) -> list[Allow]:
    return [entry for entry in entries if entry.network_value().overlaps(network)]
