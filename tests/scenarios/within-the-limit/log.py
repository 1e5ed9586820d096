"""100 requests a minute, evenly."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(300):
        yield request(number * 0.6, "203.0.113.9")
