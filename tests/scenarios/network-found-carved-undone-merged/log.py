"""Three fleets, and an operator who allows a customer and releases a network."""

from collections.abc import Iterator
from itertools import chain

from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State
from sluice.local.cloud import LocalCloud
from tests.support.known import remember
from tests.support.scenario_lines import START, Arrival, request

NETWORK = "203.0.113.0/24"
MEMBERS = [f"203.0.113.{number}" for number in range(0, 240, 30)]
CARVED = {
    *("203.0.113.0/26", "203.0.113.64/27", "203.0.113.96/30", "203.0.113.101/32", "203.0.113.102/31"),
    *("203.0.113.104/29", "203.0.113.112/28", "203.0.113.128/25"),
}
"""The network without 203.0.113.100."""


def arrivals() -> Iterator[Arrival]:
    later = [*(f"198.51.100.{number}" for number in range(0, 250, 50)), *(f"192.0.2.{n}" for n in (1, 100, 200))]
    for at, clients in ((0, MEMBERS), (600, later)):
        yield from chain.from_iterable((request(at, each), request(at + 1, each)) for each in clients)


def happen(cloud: LocalCloud) -> None:
    state = State(cloud.state)
    remember(cloud.state, ["8.8.8.8"], START)

    def allow() -> None:
        assert published(cloud) == {NETWORK}, "found"
        state.overwrite(Allow(network="203.0.113.100/32", comment="a customer", by="operator", added_at=START + 200))

    def release() -> None:
        assert published(cloud) == CARVED, "carved"
        block = state.get(Block, NETWORK)
        assert block is not None
        lift(state, [block], START + 500, by="operator")

    def look() -> None:
        assert published(cloud) == {f"{member}/32" for member in MEMBERS}, "undone"

    for at, what in ((200, allow), (500, release), (590, look)):
        cloud.loop.at(START + at, what)


def published(cloud: LocalCloud) -> set[str]:
    return {address for addresses in cloud.waf.published().values() for address in addresses}
