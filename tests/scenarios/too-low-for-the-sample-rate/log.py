"""One log-in of one client, and one request for /.env of another."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    yield request(0, "198.51.100.7", cs_uri_stem="/login")
    yield request(1, "203.0.113.9", cs_uri_stem="/.env")
