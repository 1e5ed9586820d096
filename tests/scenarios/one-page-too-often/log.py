"""Sixty pages for .1, thirty times the same for .9."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(60):
        yield request(number / 2, "203.0.113.1", cs_uri_stem=f"/page/{number}")
    for number in range(30):
        path = "/price" if number % 3 else "//price"
        yield request(number, "203.0.113.9", shard=number % 2, cs_uri_stem=path)
