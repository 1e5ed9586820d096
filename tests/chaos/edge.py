"""The edge: it refuses the networks of the IP sets, as they were some seconds before."""

from collections.abc import Collection, Sequence
from ipaddress import ip_address, ip_network


class Edge:
    """AWS WAF where clients meet it, ``late_s`` seconds behind the updates, in both directions."""

    def __init__(
        self, updates: Sequence[tuple[float, str, frozenset[str]]], sets: Collection[str], late_s: float
    ) -> None:
        """``updates``: time, name of the IP set, and its new addresses, in order of time; the sequence may grow.

        ``sets``: names of those whose networks are refused.
        """
        self._updates = updates
        self._sets = sets
        self._late_s = late_s

    def refuses(self, client: str, at: float) -> bool:
        """Returns whether a request that ``client`` makes ``at``, in epoch seconds, is refused."""
        held: dict[str, frozenset[str]] = {}
        for time, name, addresses in self._updates:
            if time > at - self._late_s:
                break
            if name in self._sets:
                held[name] = addresses
        address = ip_address(client)
        return any(address in ip_network(network) for addresses in held.values() for network in addresses)
