"""One request, and none after it."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    yield request(0, "203.0.113.9", cs_uri_stem="/wp-admin/setup.php")
