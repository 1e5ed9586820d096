"""60 requests of each of two clients in each shard, one of them half an hour late; another client throughout."""

from collections.abc import Iterator

from tests.support.scenario_lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(60):
        for client, path in (("203.0.113.9", "/search"), ("203.0.113.11", "/login")):
            yield request(number / 2, client, shard=0, cs_uri_stem=path)
            yield request(number / 2 + 0.1, client, shard=1, arrives=1800, cs_uri_stem=path)
    for number in range(120):
        yield request(15 * number, "198.51.100.7", shard=0)
