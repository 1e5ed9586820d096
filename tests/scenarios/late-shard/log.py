"""60 requests of one client in each shard; one shard is half an hour late. Somebody else is there all the time."""

from collections.abc import Iterator

from tests.scenarios.lines import Arrival, request


def arrivals() -> Iterator[Arrival]:
    for number in range(60):
        yield request(number / 2, "203.0.113.9", shard=0)
        yield request(number / 2 + 0.1, "203.0.113.9", shard=1, arrives=1800)
    for number in range(120):
        yield request(15 * number, "198.51.100.7", shard=0)
