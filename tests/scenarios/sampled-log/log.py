"""11 lines of one client and ten of another."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(11):
        yield request(number, "203.0.113.9")
    for number in range(10):
        yield request(number, "198.51.100.7")
