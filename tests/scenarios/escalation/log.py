"""Bursts of 11 requests, each long after the previous block."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for start in (0, 200, 400, 600):
        for number in range(11):
            yield request(start + number / 10, "203.0.113.9", arrives=start + 2)
