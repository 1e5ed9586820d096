"""40 visitors at once."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(40):
        yield request(number / 1000, f"203.0.113.{number}", cs_uri_stem="/api/v2/session", arrives=1)
