"""The time from a readable record to the IP set that blocks its client."""

import pytest

from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.rules import Rule
from chalicelib.core.state.blocks import Block
from sluice.demo.latency import KEPT_S, Latency
from sluice.demo.published import Update
from tests.support.records import cloudfront

START = 1_760_000_000
CLIENT = "192.0.2.7/32"


@pytest.fixture
def latency() -> Latency:
    """Two requests of the client, with a limit of one, readable after half a second each."""
    latency = Latency(BatchDecoder(), [Rule(name="burst", limit=1, window_s=10)])
    for second in (0, 1):
        latency.arrived(START + second + 0.5, cloudfront(timestamp=f"{START + second}.000", c_ip="192.0.2.7"))
    return latency


def block(at: int) -> Block:
    return Block(network=CLIENT, blocked_at=START + at, until=START + 600, rule="burst")


def update(at: float, *addresses: str) -> Update:
    return START + at, "sluice-v4", frozenset(addresses)


def test_it_ends_with_the_first_update_that_holds_the_client(latency: Latency) -> None:
    updates = [update(1.0, "198.51.100.0/24"), update(3.0, CLIENT), update(4.0, CLIENT, "198.51.100.0/24")]
    latency.settle([block(2)], updates)
    assert latency.seconds == [1.5]


def test_a_wider_network_that_was_published_instead_counts(latency: Latency) -> None:
    latency.settle([block(2)], [update(3.0, "192.0.2.6/31")])
    assert latency.seconds == [1.5]


def test_an_update_after_the_measurement_of_its_block_is_measured_next_time(latency: Latency) -> None:
    blocks, updates = [block(2)], [update(1.0, "198.51.100.0/24")]
    latency.settle(blocks, updates)
    assert latency.seconds == []
    updates.append(update(9.0, CLIENT))
    latency.settle(blocks, updates)
    assert latency.seconds == [7.5]
    latency.settle([*blocks, block(700)], [*updates, update(701.0, CLIENT)])
    assert latency.seconds == [7.5], "the first block of a client and rule"


def test_a_block_that_is_never_published_is_forgotten(latency: Latency) -> None:
    latency.settle([block(2)], [])
    latency.arrived(START + 3 + KEPT_S, b"a later record\n")
    latency.settle([block(2)], [])
    latency.settle([block(2)], [update(4 + KEPT_S, CLIENT)])
    assert latency.seconds == []
