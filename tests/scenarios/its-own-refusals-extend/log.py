"""A flood of 20 requests a second for 50 seconds; once the client is in the IP set they are refused, and logged."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(1000):
        at = number / 20
        yield request(at, "203.0.113.9", sc_status="429" if at > 5 else "200")
