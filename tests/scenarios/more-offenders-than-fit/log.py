"""One request from each of 10,001 addresses."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(10_001):
        client = str(IPv4Address("10.0.0.0") + 2 * number)
        yield request(number / 1000, client, cs_uri_stem="/wp-admin/setup.php", arrives=10)
