"""300 requests in ten seconds."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(300):
        yield request(number / 30, "203.0.113.9")
