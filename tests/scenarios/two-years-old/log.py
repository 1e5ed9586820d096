"""300 lines of one second two years ago, and 60 current ones."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request

TWO_YEARS_S = 2 * 365 * 86400


def arrivals() -> Iterator[Arrival]:
    for number in range(300):
        yield request(number / 300 - TWO_YEARS_S, "203.0.113.9", arrives=number / 100)
    for number in range(60):
        yield request(number / 20, "203.0.113.9")
