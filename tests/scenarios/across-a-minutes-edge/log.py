"""99 requests before the end of a minute, 99 after it."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(-99, 99):
        yield request(60 + number / 99, "203.0.113.9")
