# The imports are those of another tree, in its order of modules.
# mypy: ignore-errors
# ruff: noqa: I001
"""The units and times of commit 0dbc2e3, into whose tree ``bench.earlier`` copies this file to run it there.

``python -m bench.earlier_work deciding|publishing|time_to_block|botnet BLOCKS`` prints an object of numbers as JSON.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address, ip_network
from random import Random
from typing import Any

from msgspec.structs import replace

from bench.clocks import WorkingClock
from bench.limits import ITEM_S, READ_BYTES, WRITE_BYTES, Limits
from bench.publishing import NOW, Publishing, blocks, sets_for
from chalicelib.core.addresses import NetworkSet
from chalicelib.core.ipsets import CAPACITY, IpSet, plan, wanted
from chalicelib.core.requests import Source
from chalicelib.core.rules import Action
from chalicelib.core.state import Detection, Offender, Terms
from chalicelib.edges.state_table import attributes_of
from chalicelib.enforce import Enforce
from chalicelib.ports import Change, Item
from sluice.commands.demo import DEMO_RULES
from sluice.demo.run import Demonstration
from sluice.local.cloud import LocalCloud
from sluice.local.loop import Loop, SimulatedClock
from sluice.local.memory import MemoryStateStore
from tests.unit.core.records import cloudfront

BREAKER_OFF = 1_000_000
ROUNDS = 2

START = 1_760_000_000.0
DEMONSTRATION_S = 40.0
BOTNET, BOTNET_S = 10_000, 10.0
WARM_S = 30.0
PATIENCE_S = 60.0
"""Seconds after which the botnet's blocks are counted."""

BOTNET_RULES = """
[[rule]]
name = "burst"
limit = 1
window = "30s"
block_for = "1h"
"""


class MeteredStore:
    """A state store that counts units, and calls ``spend`` with the reads, the writes and the items of each call."""

    def __init__(self, store: Any, spend: Callable[..., object] = lambda *_: None) -> None:
        self._store = store
        self._spend = spend
        self.reads = self.writes = self.items = 0

    def get(self, kind: str, id: str) -> Any:
        return self.get_many(kind, [id]).get(id)

    def get_many(self, kind: str, ids: Any) -> Any:
        items = self._store.get_many(kind, ids)
        self._count(kind, sum(-(-_size(items[id]) // READ_BYTES) if id in items else 1 for id in set(ids)), len(items))
        return items

    def query(self, kind: str, **bounds: Any) -> Any:
        items = list(self._store.query(kind, **bounds))
        self._count(kind, max(1, -(-sum(map(_size, items)) // READ_BYTES)), len(items))
        return iter(items)

    def put_over(self, items: Any) -> None:
        for item in items:
            self._count_writes({item.kind: _writes(item)})
            self._store.put_over([item])

    def write(self, writes: Any) -> None:
        units: dict[str, float] = {}
        for each in writes:
            units[each.item.kind] = units.get(each.item.kind, 0) + _writes(each.item) * (1 + (len(writes) > 1))
        self._count_writes(units)
        self._store.write(writes)

    def _count(self, kind: str, reads: float, items: int) -> None:
        self.reads += reads
        self.items += items
        self._spend({kind: reads}, {}, items)

    def _count_writes(self, units: dict[str, float]) -> None:
        self.writes += sum(units.values())
        self._spend({}, units, 1)


def _size(item: Item) -> int:
    """Returns the size that DynamoDB charges for."""
    texts = ((name, next(iter(value.values()))) for name, value in attributes_of(item).items())
    return sum(len(name) + len(text.encode()) for name, text in texts)


def _writes(item: Item) -> int:
    return -(-_size(item) // WRITE_BYTES)


def deciding(number: int) -> dict[str, float]:
    """Units read per new offender, and CPU, of a detection of one, and of 1,000, with ``number`` blocks in force."""
    memory = MemoryStateStore()
    memory.put_over([Item(kind=b.kind, id=b.network, body=b.body()) for b in blocks(number)])
    store = MeteredStore(memory)
    enforce = Enforce(state=store, clock=lambda: float(NOW), breaker_blocks_per_minute=BREAKER_OFF)
    figures: dict[str, float] = {}
    begin = 0
    for offenders in (1, 1, 1000):  # the first is left out
        numbers = range(begin, begin + offenders)
        begin += offenders
        networks = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in numbers]
        detection = Detection(
            id=f"logs/shardId-000000000000@{NOW * 1000}/{begin:012d}/burst/cloudfront",
            terms=Terms(name="burst", limit=10, window_s=5, action=Action.BLOCK, block_for_s=600),
            source=Source.CLOUDFRONT,
            offenders=tuple(
                Offender(name, 11, NOW * 1000 - 2000, NOW * 1000 - 1, NOW * 1000 - 2000) for name in networks
            ),
            detected_ms=NOW * 1000,
            arrived_ms=NOW * 1000,
        )
        store.reads = store.writes = store.items = 0
        start = time.process_time()
        report = enforce([Change(Detection.kind, detection.id, detection.body(), False)])
        took = time.process_time() - start
        assert len(report.blocks) == offenders
        figures |= {
            f"reads_{offenders}": store.reads / offenders,
            f"writes_{offenders}": store.writes / offenders,
            f"cpu_s_{offenders}": took + ITEM_S * store.items,
        }
    return figures


def publishing(number: int) -> dict[str, float]:
    """Units and CPU of publishing one new block among ``number``."""
    publishing = Publishing(number)
    store = publishing._publish._state = MeteredStore(publishing.state)
    publishing()
    best = float("inf")
    for each in range(ROUNDS):
        store.reads = store.writes = store.items = 0
        start = time.process_time()
        publishing.block_one(each)
        best = min(best, time.process_time() - start + ITEM_S * store.items)
    return {"units": store.reads + store.writes, "cpu_s": best}


def time_to_block(number: int) -> dict[str, float]:
    """Seconds, of the blocks of the demonstration, with ``number`` blocks in force."""
    clock = WorkingClock(START)
    with clock.timing(Loop, LocalCloud):
        demonstration = Demonstration(
            clock, rules=DEMO_RULES.read_text(), seed=1, seconds=DEMONSTRATION_S, shards=2, containers=2
        )
        fill(demonstration.cloud, number)
        demonstration.run()
    summary = demonstration.summary()
    return {**summary["time_to_block_s"], "blocks": len(demonstration.latency.seconds)}


def botnet(number: int) -> dict[str, float]:
    """Seconds until 10,000 clients that offend within ten seconds are published; ``missing`` of them never are."""
    cloud = LocalCloud(
        SimulatedClock(START),
        rules=BOTNET_RULES,
        shards=4,
        containers=4,
        settings={"BREAKER_BLOCKS_PER_MINUTE": str(BREAKER_OFF)},
    )
    fill(cloud, number)
    cloud.start()
    begins = START + WARM_S
    bots = [str(IPv4Address(0xDF000000 + host)) for host in Random(1).sample(range(1 << 24), BOTNET)]
    for index, bot in enumerate(bots):
        moment = begins + index * BOTNET_S / BOTNET
        cloud.loop.run(moment)
        for _ in range(2):
            cloud.put(cloudfront(**{"timestamp": f"{moment:.3f}", "c-ip": bot}))
    cloud.loop.run(begins + PATIENCE_S)
    missing, published_at = set(bots), begins
    for moment, _, texts in cloud.waf.updates:
        refused = {str(address) for text in texts if "." in text for address in ip_network(text)}
        if missing & refused:
            missing, published_at = missing - refused, moment
    return {"seconds": published_at - begins, "missing": len(missing)}


def fill(cloud: LocalCloud, number: int) -> None:
    """Stores and publishes ``number`` blocks before the beginning, and makes the state table as slow as DynamoDB's."""
    now = int(cloud.now())
    stored = [replace(block, blocked_at=now - 60, until=now + 86_400) for block in blocks(number)]
    cloud.state.put_over([Item(kind=b.kind, id=b.network, body=b.body()) for b in stored])
    cloud.state.changes.clear()
    sets = [made_set(cloud, f"more-{at}", ip_set.family) for at, ip_set in enumerate(sets_for(number))]
    rooms = {family: CAPACITY * sum(s.family == family for s in sets) for family in (4, 6)}
    for family, networks in wanted(stored, NetworkSet(()), rooms, now).networks.items():
        for ip_set, contents in plan(networks, {s: frozenset() for s in sets if s.family == family}).items():
            cloud.waf._sets[ip_set.id].addresses = sorted(map(str, contents))
    four, six = ([s for s in (*cloud.config.ip_sets, *sets) if s.family == family] for family in (4, 6))
    cloud.config = dataclasses.replace(cloud.config, ip_sets_v4=tuple(four), ip_sets_v6=tuple(six))
    limits = Limits(cloud.now, cloud.loop.sleep)
    cloud.world = dataclasses.replace(cloud.world, state=MeteredStore(cloud.state, limits.spend))
    cloud.deploy()


def made_set(cloud: LocalCloud, name: str, family: int) -> IpSet:
    made = cloud.waf.create_ip_set(Name=name, Scope="CLOUDFRONT", IPAddressVersion=f"IPV{family}", Addresses=[])
    return IpSet(name, made["Summary"]["Id"], family)


if __name__ == "__main__":
    work: dict[str, Callable[[int], dict[str, float]]] = {
        each.__name__: each for each in (deciding, publishing, time_to_block, botnet)
    }
    print(json.dumps(work[sys.argv[1]](int(sys.argv[2]))))
