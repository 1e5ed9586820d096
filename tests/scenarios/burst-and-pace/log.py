"""A shopper at .1, a script at .2 and a scraper at .9."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for page in range(3):
        for number in range(15):
            yield request(page * 30 + number / 10, "203.0.113.1")
    for number in range(25):
        yield request(5 + number / 50, "203.0.113.2")
    for number in range(60):
        yield request(number, "203.0.113.9")
