"""Time from a readable record in Kinesis to the update of the IP set, as the demonstration reports it."""

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from ipaddress import IPv4Address, IPv4Network, ip_network
from random import Random
from typing import NamedTuple

from msgspec.structs import replace

from bench.clocks import WorkingClock
from bench.earlier import against_earlier
from bench.limits import Limits
from bench.measure import Figure
from bench.publishing import blocks, sets_for
from bench.units import MeteredStore
from chalicelib.core.addresses import Network, NetworkSet
from chalicelib.core.ipsets import IpSet, next_contents, rooms_of, wanted
from chalicelib.pipeline.stored import State
from sluice.commands.demo import DEMO_RULES
from sluice.demo.demonstration import Demonstration, percentiles
from sluice.local.cloud import LocalCloud
from sluice.local.loop import Clock, Loop, SimulatedClock, WallClock
from tests.support.records import cloudfront

SECONDS = 40.0
SEEDS = (1, 2, 3, 4)
"""Seeds of the demonstration. Most of its blocks are in four updates, so one run depends on the phases of the polls."""
START = 1_760_000_000.0

BOTNET = 10_000
BOTNET_S = 10.0
WARM_S = 30.0
"""Seconds before the botnet begins, in which the publisher reads all blocks."""

BOTNET_RULES = """
[[rule]]
name = "burst"
limit = 1
window = "30s"
block_for = "1h"
"""


class Conditions(NamedTuple):
    """The conditions under which the demonstration is measured."""

    name: str
    clock: Callable[[], Clock]
    how: str
    p50: float | None = None
    p99: float | None = None
    """Budgets, in seconds."""
    blocked: int = 0
    """Blocks in force from the beginning."""
    lasting_s: int | None = None
    """See ``fill``."""
    seeds: Collection[int] = SEEDS


WORKING = "CPU of the handlers, one after the other, DynamoDB's calls and limits"
IN_FORCE = Conditions("50,000 blocks in force", lambda: WorkingClock(START), WORKING, p50=1.5, p99=2.5, blocked=50_000)
CONDITIONS = (
    Conditions("clock that jumps", lambda: SimulatedClock(START), "work takes no time: polling and AWS's pace alone"),
    Conditions(
        "wall clock", lambda: WallClock(time.time(), 1.0), "work included, on this machine", p99=2.0, seeds=SEEDS[:1]
    ),
    IN_FORCE,
    Conditions(
        "50,000 blocks of ten minutes in force, of which 83 end in each second",
        lambda: SimulatedClock(START),
        "work takes no time; DynamoDB's calls and limits",
        blocked=50_000,
        lasting_s=600,
        seeds=SEEDS[1:],
    ),
)


def figures() -> Iterator[Figure]:
    for conditions in CONDITIONS:
        seconds = [each for seed in conditions.seeds for each in demonstrated(conditions, seed)]
        measured = percentiles(seconds)
        runs = "" if len(conditions.seeds) == 1 else f" in {len(conditions.seeds)} runs, each with its phases of polls"
        for percentile, budget in (("p50", conditions.p50), ("p99", conditions.p99)):
            value = measured[percentile]
            assert value is not None
            yield Figure(
                f"time to block, {percentile}, {conditions.name}",
                value,
                "s",
                budget,
                f"{len(seconds):,} blocks of the demonstration of {SECONDS:.0f} s{runs}; {conditions.how}",
            )
        if conditions is IN_FORCE:
            ours = {
                name: (f"time to block, {name}, {conditions.name}", value) for name, value in measured.items() if value
            }
            yield from against_earlier("time_to_block", conditions.blocked, ours, how=" s")
    yield from botnet()


def demonstrated(conditions: Conditions, seed: int) -> list[float]:
    """Returns the seconds to block in one run of the demonstration."""
    clock = conditions.clock()
    with clock.timing(Loop, LocalCloud) if isinstance(clock, WorkingClock) else nullcontext():
        demonstration = Demonstration(
            clock, rules=DEMO_RULES.read_text(), seed=seed, seconds=SECONDS, shards=2, containers=2
        )
        if conditions.blocked:
            fill(demonstration.cloud, conditions.blocked, conditions.lasting_s)
        demonstration.run()
    assert not demonstration.summary()["failures"]
    return demonstration.latency.seconds


def fill(cloud: LocalCloud, number: int, lasting_s: int | None = None) -> None:
    """Stores and publishes ``number`` blocks before the beginning, in as many IP sets as they need.

    ``lasting_s``: how long blocks last, so that as many of them end in each second; without it, none ends.
    """
    now = int(cloud.now())
    stored = [
        replace(block, blocked_at=now - 60, until=now + (lasting_s * (at + 1) // number + 1 if lasting_s else 86_400))
        for at, block in enumerate(Random(number).sample(blocks(number), number))
    ]
    State(cloud.state).overwrite(*stored)
    cloud.state.changes.clear()
    sets = [made_set(cloud, f"more-{at}", ip_set.family) for at, ip_set in enumerate(sets_for(number))]
    nobody = NetworkSet(())
    listed = wanted(stored, nobody, rooms_of(sets), now)
    empty: dict[IpSet, frozenset[Network]] = {ip_set: frozenset() for ip_set in sets}
    for ip_set, contents in next_contents(listed.networks, empty, nobody).items():
        cloud.waf._sets[ip_set.id].addresses = sorted(map(str, contents))
    use(cloud, sets)


def made_set(cloud: LocalCloud, name: str, family: int) -> IpSet:
    made = cloud.waf.create_ip_set(Name=name, Scope="CLOUDFRONT", IPAddressVersion=f"IPV{family}", Addresses=[])
    return IpSet(name, made["Summary"]["Id"], family)


def use(cloud: LocalCloud, more: Sequence[IpSet]) -> None:
    """Adds IP sets, and makes the state table as slow as DynamoDB's."""
    four, six = ([s for s in (*cloud.config.ip_sets, *more) if s.family == family] for family in (4, 6))
    cloud.config = dataclasses.replace(cloud.config, ip_sets_v4=tuple(four), ip_sets_v6=tuple(six))
    limits = Limits(cloud.now, cloud.loop.sleep)
    cloud.world = dataclasses.replace(cloud.world, state=MeteredStore(cloud.state, limits.spend))
    cloud.deploy()


def botnet() -> Iterator[Figure]:
    """Figures of 10,000 clients that begin to offend within ten seconds."""
    clock = SimulatedClock(START)
    cloud = LocalCloud(
        clock, rules=BOTNET_RULES, shards=4, containers=4, settings={"BREAKER_BLOCKS_PER_MINUTE": "1000000"}
    )
    fill(cloud, 100_000)
    cloud.start()
    begins = START + WARM_S
    rng = Random(1)
    bots = [str(IPv4Address(0xDF000000 + number)) for number in rng.sample(range(1 << 24), BOTNET)]
    for number, bot in enumerate(bots):
        moment = begins + number * BOTNET_S / BOTNET
        cloud.loop.run(moment)
        for _ in range(2):
            cloud.put(cloudfront(**{"timestamp": f"{moment:.3f}", "c-ip": bot}))
    cloud.loop.run(begins + 3 * BOTNET_S)
    missing, published_at = set(bots), begins
    for moment, _, texts in cloud.waf.updates:
        refused = {str(address) for text in texts if not text.endswith("/32") for address in hosts(text)}
        refused |= {text.removesuffix("/32") for text in texts}
        if missing & refused:
            missing, published_at = missing - refused, moment
    assert not missing, f"{len(missing)} bots were not refused within {3 * BOTNET_S:.0f} s"
    assert not cloud.invocation_failures
    last = Figure(
        f"time until the last of {BOTNET:,} new offenders in {BOTNET_S:.0f} s is published, among 100,000 blocks",
        published_at - begins,
        "s",
        15.0,
        "work takes no time; DynamoDB's calls and its limits of keys and of a new on-demand table, polls, WAF's pace",
    )
    yield last
    how = " s, of those that it has published after a minute"
    yield from against_earlier("botnet", 100_000, {"seconds": (last.name, last.value)}, how=how)


def hosts(text: str) -> Iterator[IPv4Address]:
    """Yields the addresses of a network; none of IPv6, or of a network so wide that bots do not fill it."""
    network = ip_network(text)
    if isinstance(network, IPv4Network) and network.prefixlen >= 24:
        yield from network
