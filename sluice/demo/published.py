"""The networks in the IP sets, kept up to date with each update."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from chalicelib.core.addresses import span_of

Update = tuple[float, str, frozenset[str]]
"""Time, name and new addresses of an update of an IP set."""


class Published:
    """The networks in the IP sets. An update costs as much as it changes."""

    def __init__(self) -> None:
        self._sets: dict[str, frozenset[str]] = {}
        self._networks: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        """By length of an address and host bits: the networks without these bits, and the number of sets with each."""

    def apply(self, update: Update) -> None:
        _, name, addresses = update
        before = self._sets.get(name, frozenset())
        self._sets[name] = addresses
        self._add(addresses - before, 1)
        self._add(before - addresses, -1)

    def contains(self, client: bytes) -> bool:
        """Returns whether a network contains the packed address."""
        number, length = int.from_bytes(client, "big"), len(client)
        return any(
            of_length == length and number >> host_bits in networks
            for (of_length, host_bits), networks in self._networks.items()
        )

    def _add(self, addresses: Iterable[str], sets: int) -> None:
        for version, first, last in map(span_of, addresses):
            host_bits = (last - first).bit_length()
            networks, network = self._networks[4 if version == 4 else 16, host_bits], first >> host_bits
            networks[network] += sets
            if not networks[network]:
                del networks[network]
