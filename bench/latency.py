"""Time from a readable record in Kinesis to the update of the IP set, as the demonstration reports it."""

import time
from collections.abc import Iterator

from bench.measure import Figure
from sluice.commands.demo import DEMO_RULES
from sluice.demo.demonstration import Demonstration
from sluice.local.loop import SimulatedClock, WallClock

SECONDS = 40.0


def figures() -> Iterator[Figure]:
    for name, clock, how in (
        ("clock that jumps", SimulatedClock(1_760_000_000.0), "work takes no time: polling and AWS's pace alone"),
        ("wall clock", WallClock(time.time(), 1.0), "work included, on this machine"),
    ):
        demonstration = Demonstration(
            clock, rules=DEMO_RULES.read_text(), seed=1, seconds=SECONDS, shards=2, containers=2
        )
        demonstration.run()
        account = demonstration.summary()
        assert not account["failures"]
        for percentile, budget in (("p50", None), ("p99", 2.0)):
            value = account["time_to_block_s"][percentile]
            yield Figure(
                f"time to block, {percentile}, {name}",
                value,
                "s",
                budget,
                f"{len(demonstration.latency.seconds)} blocks of the demonstration in {SECONDS:.0f} s; {how}",
            )
