"""One request each of 10,001 addresses."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from tests.scenarios.lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(10_001):
        yield request(number / 1000, str(IPv4Address("10.0.0.0") + 2 * number), cs_uri_stem="/wp-admin/setup.php")
