"""99 requests up to the edge of a minute, 99 from there on."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(-99, 99):
        yield request(60 + number / 99, "203.0.113.9")
