"""Deciding about new offenders with very many blocks in force: the DynamoDB units, and the time, per offender."""

from collections.abc import Iterator, Sequence

from bench.earlier import against_earlier
from bench.measure import Figure, cpu_s
from bench.publishing import NOW, blocks
from bench.units import MeteredStore
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Action
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT, Detection, Offender, Terms
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.stored import State
from chalicelib.ports import StreamChange
from sluice.local.stores import MemoryStateStore
from tests.support.clock import Clock
from tests.support.known import remember
from tests.support.state import new_enforcer

BLOCKS = 100_000


class Deciding:
    """An enforcer with blocks in force, which has handled a detection before."""

    def __init__(self, number: int = BLOCKS, *, first_day: bool = False) -> None:
        """``number``: the blocks. ``first_day``: whether no client is known yet, so that each rule keeps to a pace."""
        self.store = MeteredStore(MemoryStateStore())
        self._state = State(self.store)
        self._state.overwrite(*blocks(number), *map(_history, blocks(number)))
        if not first_day:
            remember(self.store, ["100.64.0.1/32"], NOW)
        self._state.overwrite(Block(network="10.0.0.0/9", blocked_at=NOW - 9, until=NOW + 3600))
        self.clock = Clock(NOW)
        self._enforce = new_enforcer(self.store, self.clock)
        self._number = self._detections = 0
        self.detect(1)

    def detect(self, offenders: int, served_since_ms: int = 0) -> tuple[float, float]:
        """Enforces a detection of new offenders; returns the units read and written per offender."""
        numbers = range(self._number, self._number + offenders)
        self._number += offenders
        networks = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in numbers]
        return self.detect_again(networks, served_since_ms=served_since_ms)

    def detect_again(self, networks: Sequence[str], *, at: int = NOW, served_since_ms: int = 0) -> tuple[float, float]:
        """Does the same with clients that offend at ``at``, in epoch seconds."""
        self.clock.now = at
        self._detections += 1
        at_ms = at * 1000
        detection = Detection(
            id=f"logs/shardId-000000000000@{at_ms}/{self._detections:012d}/burst/cloudfront",
            terms=Terms(name="burst", limit=10, window_s=5, action=Action.BLOCK, block_for_s=600),
            source=Source.CLOUDFRONT,
            offenders=tuple(
                Offender(name, 11, at_ms - 2000, at_ms - 1, at_ms - 2000, served_since_ms) for name in networks
            ),
            detected_ms=at_ms,
            arrived_ms=at_ms,
        )
        self.store.reads = self.store.writes = 0
        report = self._enforce.run([StreamChange(Detection.kind, detection.id, detection.to_json(), False)])
        assert report.outcomes.total() == len(networks)
        return self.store.reads / len(networks), self.store.writes / len(networks)

    def lift(self, network: str) -> None:
        """Lifts the block of a network if it is over."""
        now = int(self.clock.now)
        blocks = self._state.get_many(Block, [network]).values()
        lift(self._state, [block for block in blocks if not block.record.in_force(now)], now)


def _history(block: Block) -> History:
    return History(network=block.network)


def figures() -> Iterator[Figure]:
    deciding = Deciding()
    read_by, written_by = {}, {}
    for offenders, budget in ((1, 4), (2, 4), (1000, 2)):
        read, written_by[offenders] = deciding.detect(offenders)
        read_by[offenders] = read
        yield Figure(
            f"read units per new offender, {offenders:,} in a detection, {BLOCKS:,} blocks",
            read,
            "units",
            budget,
            "reckoned by size; pause, allowlist and breaker are read once per detection",
        )
    for offenders, written in written_by.items():
        yield Figure(
            f"write units per new offender, {offenders:,} in a detection",
            written,
            "units",
            None,
            "block, history and, for up to 49 offenders, one record of events, in a transaction, which costs twice",
        )
    yield Figure(
        "write units per detection in a stage's first day, in addition",
        Deciding(1, first_day=True).detect(1)[1] - written_by[1],
        "units",
        None,
        "the pace of the rule, which stands in for the known clients",
    )
    alone, other = "10.200.0.1/32", "10.200.0.2/32"
    deciding.detect_again([alone])
    for what, at, served_since_ms in (
        ("that continues while it is blocked", NOW + 5, 0),
        ("whose requests are refused", NOW + 6, SERVED_WITHIN_LIMIT),
        ("that offends again after its block was lifted", NOW + 1000, 0),
    ):
        deciding.detect_again([other], at=at)  # another client makes the container note the lengths of blocks
        deciding.lift(alone)
        read, written = deciding.detect_again([alone], at=at, served_since_ms=served_since_ms)
        yield Figure(
            f"read units of a single client {what}, {BLOCKS:,} blocks",
            read,
            "units",
            4,
            f"reckoned by size; {written:.1f} write units",
        )
    deciding.clock.now = NOW
    read, _ = deciding.detect(1000, SERVED_WITHIN_LIMIT)
    yield Figure(
        f"read units per offender whose requests look refused, {BLOCKS:,} blocks",
        read,
        "units",
        4,
        "1,000 in a detection; a wider network is blocked by hand",
    )
    deciding.store.reads = 0
    State(deciding.store).records(Block)
    yield Figure(f"read units of reading all {BLOCKS:,} blocks", deciding.store.reads, "units", None, "the peer")
    decide_s = cpu_s(lambda: deciding.detect(1000), rounds=3)
    yield Figure(
        f"CPU of deciding about 1,000 new offenders, {BLOCKS:,} blocks",
        decide_s,
        "s",
        0.5,
        "without DynamoDB's client; a slice, which is written before the next is read",
    )
    yield from against_earlier(
        "deciding",
        BLOCKS,
        {
            f"reads_{offenders}": (
                f"read units per new offender, {offenders:,} in a detection, {BLOCKS:,} blocks",
                read,
            )
            for offenders, read in read_by.items()
            if offenders != 2
        },
        how=" units",
    )
