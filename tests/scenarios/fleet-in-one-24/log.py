"""Four requests from each of a hundred addresses within eight seconds."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(400):
        yield request(number / 50, f"203.0.113.{number % 100}")
