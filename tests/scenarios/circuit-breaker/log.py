"""40 visitors come on two days. On the second, a new release makes each of them look like an offender."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request

DAY = 86400
VISITORS = [f"203.0.113.{number}" for number in range(40)]


def arrivals() -> Iterator[Arrival]:
    for number, visitor in enumerate(VISITORS):
        yield request(number / 1000, visitor, arrives=1)
        yield request(DAY + number / 1000, visitor, cs_uri_stem="/api/v2/session", arrives=DAY + 1)
    for number in range(30):
        yield request(DAY + 2 + number / 100, "198.51.100.7", arrives=DAY + 3)
