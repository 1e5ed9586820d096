"""Every other request goes into the other shard."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(120):
        yield request(number / 4, "203.0.113.9", shard=number % 2)
