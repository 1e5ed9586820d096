"""60 records, each twice."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    records = [request(number / 60, "203.0.113.9", arrives=2) for number in range(60)]
    yield from records
    yield from records
