"""120 requests each of an attacker and of the office."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(120):
        yield request(number / 100, "203.0.113.9", arrives=2)
        yield request(number / 100, "198.51.100.7", arrives=2)
