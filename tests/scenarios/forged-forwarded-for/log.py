"""120 requests of an attacker with forged headers and one each of 240 visitors, all through the proxy."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(120):
        forged = f"198.51.100.{number},%20203.0.113.9"
        yield request(number / 40, "192.0.2.7", x_forwarded_for=forged)
    for number in range(240):
        yield request(number / 80, "192.0.2.7", x_forwarded_for=f"10.0.0.{number}")
    yield request(1, "192.0.2.7", x_forwarded_for="unknown")
