"""Each guarantee, broken on purpose: a named check has to notice the violation.

``BREAKS`` is the table: guarantee, what is broken, the check that notices, and its message. The same check
passes on the unbroken code.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace as replace_struct

from chalicelib.bootstrap import PARTS, Parts
from chalicelib.core.addresses import NetworkSet
from chalicelib.core.breaker import Limits
from chalicelib.core.decisions import Decision, Outcome, Standing, decide
from chalicelib.core.ipsets import CAPACITY, IpSet, next_contents, rooms_of, wanted
from chalicelib.core.logs.batch_decoder import BatchDecoder
from chalicelib.core.logs.requests import COLUMNS, Decoded
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.networks import network_block
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.detections import Detection, Offender
from chalicelib.core.state.publishing import Guilty, Heartbeat
from chalicelib.core.view import View
from chalicelib.pipeline.enforce import Enforce
from chalicelib.pipeline.ingest import Batch, Ingest
from chalicelib.pipeline.log_writer import BatchTally, LogWriter
from chalicelib.pipeline.publish import Addresses, Publish, SetsCompared
from chalicelib.pipeline.rule_breakers import PlannedBlock, RuleBreakers, Verdict
from chalicelib.pipeline.stored import State, Stored
from chalicelib.pipeline.sweep import Sweep
from chalicelib.pipeline.tally_logs import Tail
from chalicelib.ports import PartReceipt, StreamChange, Throttled, Unavailable
from chalicelib.reports import EnforceReport, IngestReport, SweepReport
from tests.chaos.mishaps import KEY_THROTTLED, OUTAGE_S, Mishap
from tests.chaos.pipeline import RULES, SHORT_BLOCK_S, Chaos
from tests.support.clock import Clock
from tests.support.known import remember
from tests.support.simulation.broken_duties import (
    AnnouncesTooEarly,
    AppendsWithoutCondition,
    ForgetsReceipts,
    IgnoresSequenceNumbers,
    LeavesGaps,
    NeverAdoptsNewLogs,
    StartsWithAnEmptyView,
    StoresItsPositionTooEarly,
)
from tests.support.simulation.broken_publishers import ReadsTheListFirst, SendsTheOldListAgain
from tests.support.simulation.ingesting import Violation
from tests.support.simulation.ports import LedgerTallyLogs
from tests.support.simulation.publishing import Publishing
from tests.support.state import NOW, Store, detection, new_enforcer, stream_changes

SEEDS = 300
"""Most runs until a broken guarantee is noticed."""

MOST_PUBLISHERS = 3000

DECIDE = "chalicelib.pipeline.enforce.decide"
BLOCK_OF_NETWORK = "chalicelib.pipeline.network_blocks._block"

# What notices


def the_chaos(parts: Parts = PARTS, *, logs: type[LedgerTallyLogs] = LedgerTallyLogs, first: int = 0) -> None:
    """Runs the whole pipeline. ``first``: the first seed, which saves those that do not contain what it takes."""
    for seed in range(first, first + SEEDS):
        Chaos(seed, parts=parts, logs=logs()).play()


def the_throttled_keys(parts: Parts) -> None:
    """Runs the whole pipeline while some keys of the state table are throttled, and nothing else happens."""
    for seed in range(1, SEEDS):
        Chaos(seed, mishaps=[Mishap(KEY_THROTTLED, phase=0, at=5.0, lasts=OUTAGE_S, number=seed)], parts=parts).play()


def the_late_edge() -> None:
    """Runs the whole pipeline with short blocks and an edge that is a minute late, and nothing else happens."""
    rules = parse_rules(RULES.format_map(dict.fromkeys(("burst", "sustained", "network"), f"{SHORT_BLOCK_S}s")))
    with patch("tests.chaos.pipeline.EDGES_S", (60.0,)):
        for seed in range(SEEDS):
            chaos = Chaos(seed, mishaps=[], rules=rules)
            if not chaos.most_skew_s:
                chaos.play()


def the_lack_of_time(parts: Parts) -> None:
    """Runs the whole pipeline where enforce has time for one offender per invocation, and nothing else happens."""
    with patch("tests.chaos.pipeline.ITEM_S", 20.0):
        for seed in range(SEEDS):
            chaos = Chaos(seed, mishaps=[], parts=parts)
            if chaos.busy:
                chaos.play()


def the_publishers(publisher: type[Publish], *, says: str = "") -> None:
    """Runs the simulation of publishers until it raises Violation."""
    for seed in range(MOST_PUBLISHERS):
        try:
            Publishing(seed, publisher=publisher, actions=4).play()
        except Violation as exc:
            if says in str(exc):
                raise


def the_bill(parts: Parts = PARTS, aggregate: str = "{}") -> None:
    """Measures floods from new addresses and from one IPv6 network, in write units of the tally table."""
    random = Random(1)
    spread = [str(IPv4Address(number)) for number in random.sample(range(0x01000000, 0xE0000000), 4_000)]
    rotating = [str(IPv6Address((0x20010DB8 << 96) + random.getrandbits(64))) for _ in range(4_000)]
    for addresses, most in ((spread, len(spread) // 60), (rotating, 1)):
        chaos = Chaos(
            0, parts=parts, rules=parse_rules(f'[[rule]]\nname="r"\nlimit=9\nwindow="10s"\naggregate={aggregate}')
        )
        services = chaos._services(0.0)
        now = chaos.schedule.now
        lines = [f"{now - random.uniform(0, 8):.3f}\t{address}\t200\t-".encode() for address in addresses]
        numbers = list(map(str, range(1, len(lines) + 1)))
        services.ingest.run(Batch("logs/shardId-0", numbers, lines, [now] * len(lines)), int(now * 1000))
        units = sum(-(-(len(item.body or b"") + 200) // 1024) for item in chaos.ledger.appended)
        assert units <= most, f"{units} write units for {len(addresses)} addresses, more than {most}"


def the_breaker(enforcer: type[Enforce] = Enforce) -> None:
    """Detects that three in a hundred of the known clients are offenders at once."""
    store, clock = Store(), Clock()
    regulars = [str(IPv4Address(0x0A000000 + number)) + "/32" for number in range(100)]
    remember(store, regulars, NOW)
    enforce = new_enforcer(store, clock, enforcer=enforcer, limits=Limits(share=2, pace=1_000_000))
    enforce.run(stream_changes(detection(*regulars[:3])))
    assert not store.blocks(), f"{len(store.blocks())} known clients were blocked at once"


# What is broken


class LimitsAreEstimates(View):
    def __init__(self, rules: RuleSet, *, sample_rate: int, **bounds: Any) -> None:
        super().__init__(rules, sample_rate=sample_rate // 2, **bounds)


class WindowsAreTooLong(View):
    def __init__(self, rules: RuleSet, *, sample_rate: int, **bounds: Any) -> None:
        longer = tuple(replace(r, window_s=2 * r.window_s, resolution=2 * r.resolution) for r in rules.rules)
        super().__init__(replace(rules, rules=longer), sample_rate=sample_rate, **bounds)
        self.rules = rules


class WritesEachClientApart(LogWriter):
    def append(self, tail: Tail, added: BatchTally, now_ms: int, receipt: PartReceipt | None = None) -> None:
        for counted in added.tally:
            for key, slots in counted.clients().items():
                super().append(
                    tail, replace(added, tally=[MeterTally.of(counted.source, counted, {key: slots})]), now_ms
                )


class IgnoresTheAllowlist(Publish):
    def _compare(self, published: Mapping[IpSet, Addresses]) -> SetsCompared:
        blocks = self._state.records(Block)
        nobody = NetworkSet(())
        listed = wanted(blocks, nobody, rooms_of(published), int(self._clock()))
        changes = next_contents(listed.networks, published, nobody)
        return super()._compare(published)._replace(changes=changes)


class IgnoresTheRoom(Publish):
    def _compare(self, published: Mapping[IpSet, Addresses]) -> SetsCompared:
        with patch("chalicelib.core.ipsets.CAPACITY", CAPACITY):
            return super()._compare(published)


class NeverLifts(Sweep):
    def run(self) -> SweepReport:
        self._state.overwrite(Heartbeat(at=int(self._clock())))
        return SweepReport()


class LiftsAnHourEarly(Sweep):
    def __init__(self, *, state: State, clock: Callable[[], float], history_s: int) -> None:
        super().__init__(state=state, clock=lambda: clock() + 3600, history_s=history_s)


class StopsAtBadLines(BatchDecoder):
    def parts(
        self, records: Sequence[bytes], columns: frozenset[str] = COLUMNS, *, start: int = 0
    ) -> Iterator[Decoded]:
        for part in super().parts(records, columns, start=start):
            for piece in part.malformed:
                raise ValueError(f"malformed: {piece.reason}")
            yield part


class DropsTheBatchWithTheLine(BatchDecoder):
    def parts(
        self, records: Sequence[bytes], columns: frozenset[str] = COLUMNS, *, start: int = 0
    ) -> Iterator[Decoded]:
        for part in super().parts(records, columns, start=start):
            yield replace(part, requests=()) if part.malformed else part


class SwallowsErrors(Ingest):
    def run(self, batch: Batch, now_ms: int) -> IngestReport:
        try:
            return super().run(batch, now_ms)
        except Unavailable:
            return IngestReport()


class JudgesNothing(RuleBreakers):
    def judge(self, blocks: Iterable[PlannedBlock], now: int) -> Verdict:
        return Verdict()


class HasNoBreaker(Enforce):
    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self._breakers = JudgesNothing(how["state"], how["limits"])


class StopsAtUnreadableRecords(Enforce):
    def run(self, changes: Sequence[StreamChange]) -> EnforceReport:
        report = super().run(changes)
        for record in report.unreadable:
            raise ValueError(f"unreadable: {record.id}")
        return report


class LetsThrottledBatchesGo(Enforce):
    def run(self, changes: Sequence[StreamChange]) -> EnforceReport:
        try:
            return super().run(changes)
        except Throttled:
            return EnforceReport()


class DecidesAllBeforeItWrites(Enforce):
    def run(self, changes: Sequence[StreamChange]) -> EnforceReport:
        with patch("chalicelib.pipeline.enforce.OFFENDERS_PER_SLICE", sys.maxsize):
            return super().run(changes)


def decides_nothing_about_the_blocked(
    detection: Detection, offender: Offender, standing: Standing, **how: Any
) -> Decision:
    """Takes an offence for known as long as a block of the client is stored, whatever its rule and its end."""
    if standing.block is not None:
        return Decision(Outcome.KNOWN, standing)
    return decide(detection, offender, standing, **how)


def decides_by_the_block_in_force(
    detection: Detection, offender: Offender, standing: Standing, *, now: int, **how: Any
) -> Decision:
    """Takes an offence for known while another rule's block is in force."""
    block = standing.block
    if block is not None and block.in_force(now) and block.rule != detection.terms.name:
        return Decision(Outcome.KNOWN, standing)
    return decide(detection, offender, standing, now=now, **how)


def decides_by_all_requests(detection: Detection, offender: Offender, standing: Standing, **how: Any) -> Decision:
    """Takes refused requests for served ones."""
    return decide(detection, replace_struct(offender, served_since_ms=0), standing, **how)


def decides_as_if_ends_applied_at_once(
    detection: Detection, offender: Offender, standing: Standing, *, propagation_s: int, **how: Any
) -> Decision:
    """Takes what is refused after a block's end for the origin's answers."""
    return decide(detection, offender, standing, propagation_s=0, **how)


def forgives_no_network(
    guilty: Guilty, stored: Stored[Block] | None, history: Stored[History] | None, now: int
) -> Block | None:
    """Blocks a guilty network again although an operator has lifted its block."""
    return network_block(guilty, None if stored is None else stored.record, now)


def patched(target: str, value: object, notices: Callable[[], None]) -> None:
    with patch(target, value):
        notices()


@dataclass(frozen=True)
class Break:
    guarantee: str
    what: str
    noticed_by: Callable[[], None]
    complaint: str


BREAKS = [
    Break("G1", "limits are estimated", lambda: the_chaos(Parts(view=LimitsAreEstimates)), "blocked early"),
    Break("G1", "windows are too long", lambda: the_chaos(Parts(view=WindowsAreTooLong)), "blocked early"),
    Break(
        "G1",
        "refused requests are offences",
        lambda: patched(DECIDE, decides_by_all_requests, partial(the_chaos, first=9)),
        "that Sluice refused",
    ),
    Break(
        "G1",
        "the edge is taken to release at once",
        lambda: patched(DECIDE, decides_as_if_ends_applied_at_once, the_late_edge),
        "that Sluice refused",
    ),
    Break("G2", "new logs are not followed", lambda: the_chaos(Parts(reader=NeverAdoptsNewLogs)), "missed|settled"),
    Break("G2", "merged is taken for evaluated", lambda: the_chaos(Parts(reader=LeavesGaps)), "missed"),
    Break(
        "G2",
        "a successor starts with an empty view",
        lambda: the_chaos(Parts(reader=StartsWithAnEmptyView), first=53),
        "missed",
    ),
    Break(
        "G2",
        "the position is stored before the detections",
        lambda: the_chaos(Parts(evaluate=StoresItsPositionTooEarly), first=27),
        "missed",
    ),
    Break("G2", "detections are taken for stored", lambda: the_chaos(Parts(evaluate=AnnouncesTooEarly)), "missed"),
    Break(
        "G2",
        "an offence is known while a block is stored",
        lambda: patched(DECIDE, decides_nothing_about_the_blocked, the_chaos),
        "and not punished|never punished|not punished again",
    ),
    Break(
        "G2",
        "one rule's block hides the offences against another",
        lambda: patched(DECIDE, decides_by_the_block_in_force, the_chaos),
        "and not punished|never punished|not punished again",
    ),
    Break("G3", "appends have no condition", lambda: the_chaos(logs=AppendsWithoutCondition), "counted|missed|settled"),
    Break(
        "G3",
        "sequence numbers are ignored",
        lambda: the_chaos(Parts(writer=IgnoresSequenceNumbers), first=8),
        "more than once",
    ),
    Break("G3", "receipts are not kept", lambda: the_chaos(logs=ForgetsReceipts), "counted more than once"),
    Break("G4", "a write for each client", lambda: the_bill(Parts(writer=WritesEachClientApart)), "4000 write units"),
    Break("G4", "IPv6 by address", lambda: the_bill(aggregate="{ ipv6 = 128 }"), "write units for 4000 addresses"),
    Break(
        "G5",
        "publish ignores the allowlist",
        lambda: the_publishers(IgnoresTheAllowlist, says="while"),
        "on the allowlist",
    ),
    Break(
        "G6",
        "an old list, a fresh token",
        lambda: the_publishers(SendsTheOldListAgain, says="published"),
        "published|on the allow",
    ),
    Break(
        "G6",
        "the list is read before the token",
        lambda: the_publishers(ReadsTheListFirst),
        "published|on the allow",
    ),
    Break(
        "G6",
        "full sets are overfilled",
        lambda: the_chaos(Parts(publish=IgnoresTheRoom), first=3),
        "wanted but not published|settled",
    ),
    Break("G7", "blocks are not lifted", lambda: the_chaos(Parts(sweep=NeverLifts)), "is to be left"),
    Break("G7", "blocks are lifted early", lambda: the_chaos(Parts(sweep=LiftsAnHourEarly)), "was lost"),
    Break(
        "G7",
        "a network that an operator released is blocked again",
        lambda: patched(BLOCK_OF_NETWORK, forgives_no_network, partial(the_chaos, first=5)),
        "which an operator had forgiven",
    ),
    Break("G8", "a bad line raises", lambda: the_chaos(Parts(decoder=StopsAtBadLines)), "malformed"),
    Break(
        "G8",
        "a bad line costs its batch",
        lambda: the_chaos(Parts(decoder=DropsTheBatchWithTheLine), first=5),
        "not counted",
    ),
    Break("G9", "a failed batch is let go", lambda: the_chaos(Parts(ingest=SwallowsErrors), first=7), "not counted"),
    Break(
        "G9",
        "an unreadable record stops enforce",
        lambda: the_chaos(Parts(enforce=StopsAtUnreadableRecords), first=9),
        "unreadable: |settled",
    ),
    Break(
        "G9",
        "what a throttled key refuses is let go",
        lambda: the_throttled_keys(Parts(enforce=LetsThrottledBatchesGo)),
        "never blocked|not punished|never punished",
    ),
    Break(
        "G9",
        "all is decided before any is written",
        lambda: the_lack_of_time(Parts(enforce=DecidesAllBeforeItWrites)),
        "never blocked|never punished|settled",
    ),
    Break("G9", "there is no breaker", lambda: the_breaker(HasNoBreaker), "blocked at once"),
]
