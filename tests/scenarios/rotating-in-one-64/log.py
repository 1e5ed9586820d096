"""200 addresses of one /64, in upper case."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(200):
        yield request(number / 10, f"2001:DB8:0:7:{number:x}::{number * 77:04x}")
