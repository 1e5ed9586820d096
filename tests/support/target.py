"""The target of the attacks: one container on memory stores that count its calls and units."""

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chalicelib.bootstrap import Services, World, compose
from chalicelib.config import read_config
from chalicelib.core.logs.cloudfront import DEFAULT_FIELDS
from chalicelib.core.rules import RuleSet
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.view import View
from chalicelib.edges.batch_get import KEYS_PER_READ
from chalicelib.edges.events import state_changes
from chalicelib.edges.state_table import attributes_of
from chalicelib.edges.tally_table import _attributes as attributes_of_tally
from chalicelib.pipeline.ingest import Batch
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item, LogItem, LogKey, PartReceipt, Position, Registry
from chalicelib.reports import EnforceReport, EvaluateReport, IngestReport
from sluice.local.events import state_event
from sluice.local.stores import MemoryStateStore, MemoryTallyLogs
from sluice.local.telemetry import ReportTotals
from tests.support.tables import write_units

NOW = 1_760_000_000
RULES = """
[[rule]]
name = "burst"
limit = 20
window = "5s"

[[rule]]
name = "sustained"
limit = 100
window = "60s"
"""
HONEYPOT = """
[[rule]]
name = "honeypot"
limit = 0
window = "10s"
"""

READ_UNIT = 4096
"""Bytes of a strongly consistent read unit."""

WRITE_UNIT = 1024
"""Bytes of a write unit."""

NUMBER_BYTES = 5
"""Bytes of an offset in the position."""

ITEM_FRAME = 180
"""Bytes of an item besides its body."""


class CountedLogs(MemoryTallyLogs):
    """Memory logs that count calls and units as DynamoDB would."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.write_units = self.read_units = 0
        self.position_units = 0
        """Write units of the evaluator's position, which are not in ``write_units``."""

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        self.calls["append"] += 1
        units = sum(write_units(attributes_of_tally(log, offset + step, item)) for step, item in enumerate(items))
        self.write_units += units if len(items) == 1 else 2 * units
        super().append(log, offset, items, receipt)

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        # A key without an item costs a unit as well.
        registry, items = super().read(keys)
        names = sum(len(shard) + sum(len(log) + 1 for log in logs) for shard, logs in registry.items())
        sizes = [len(items[key].body or b"") + ITEM_FRAME if key in items else 1 for key in set(keys)]
        self.read_units += sum(-(-size // READ_UNIT) for size in (names + 1, *sizes))
        self.calls["read"] += -(-(len(keys) + 1) // KEYS_PER_READ)
        return registry, items

    def latest(
        self, log: str, written_since_ms: int, before: int, most: int = sys.maxsize
    ) -> Sequence[tuple[int, LogItem]]:
        self.calls["latest"] += 1
        return super().latest(log, written_since_ms, before, most)

    def store_position(self, position: Position) -> None:
        self.calls["store_position"] += 1
        self.position_units += -(-sum(len(log) + NUMBER_BYTES for log in position) // WRITE_UNIT) or 1
        super().store_position(position)


class CountedState(MemoryStateStore):
    """Memory state that counts the write units of detections."""

    def __init__(self) -> None:
        super().__init__()
        self.write_units = 0

    def put_over(self, items: Sequence[Item]) -> None:
        self.write_units += sum(write_units(attributes_of(replace(item, version=1))) for item in items)
        super().put_over(items)


@dataclass
class Target:
    """One container of ingest, one of evaluate and one of enforce."""

    rules: str = RULES
    settings: Mapping[str, str] = field(default_factory=dict)
    now: float = NOW
    logs: CountedLogs = field(default_factory=CountedLogs)
    state: CountedState = field(default_factory=CountedState)
    services: Services = field(init=False)
    _sequence: int = 10**55

    def __post_init__(self) -> None:
        stored = StoredRules(text=self.rules)
        State(self.state).overwrite(stored, id=ACTIVE)
        self.state.write_units = 0
        self.services = compose(
            read_config(self.settings),
            World(
                tally_logs=self.logs,
                state=self.state,
                ip_sets=None,  # type: ignore[arg-type] # nothing is published here
                clock=lambda: self.now,
                sleep=lambda seconds: None,
                telemetry=ReportTotals(),
            ),
        )

    def ingest(self, records: Sequence[bytes], shard: str = "logs/0") -> IngestReport:
        sequences = [str(self._sequence + number) for number in range(len(records))]
        self._sequence += len(records)
        return self.services.ingest.run(Batch(shard, sequences, records, [self.now - 1] * len(records)), self.now_ms)

    def evaluate(self) -> EvaluateReport:
        """Evaluates everything that ``ingest`` has appended."""
        return self.services.evaluate.run(self.now_ms)

    def enforce(self) -> EnforceReport:
        """Enforces everything in the state table's stream."""
        report = self.services.enforce.run(state_changes(state_event(self.state.changes)))
        self.state.changes.clear()
        return report

    def blocked(self) -> set[str]:
        """Returns the networks that are blocked once everything has been evaluated and enforced."""
        self.evaluate()
        self.enforce()
        return {item.id for item in self.state.query(Block.kind)}

    @property
    def now_ms(self) -> int:
        return int(self.now * 1000)

    @property
    def view(self) -> View:
        view = self.services.evaluate._reader._view
        assert view is not None
        return view

    @property
    def rule_set(self) -> RuleSet:
        return self.view.rules


def line(
    at: float, client: str, *, agent: str = "-", path: str = "/", status: str = "200", forwarded: str = "-"
) -> bytes:
    """Returns a real-time log line of the default fields."""
    cells = (f"{at:.3f}", client, status, "GET", "www.example.com", path, "-", agent, forwarded)
    assert len(cells) == len(DEFAULT_FIELDS)
    return ("\t".join(cells) + "\n").encode()
