"""Sweep: once a minute, expired blocks are lifted and the state is measured.

Blocks end here and not through DynamoDB's TTL, which may lag for days. The heartbeat that it stores reaches the
publish function through the table's stream, which then repairs what differs from the wanted list.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from chalicelib.core.state import Block, Breaker, Heartbeat, History, Pause
from chalicelib.pipeline.enforce import CLIENTS_A_WRITE, history_kept_until
from chalicelib.ports import Conflict, Delete, Item, Put, StateStore, Write


@dataclass(slots=True)
class SweepReport:
    lifted: list[Block] = field(default_factory=list)
    conflicts: int = 0
    """Blocks that changed while they were being lifted; the next sweep looks again."""
    blocks: int = 0
    """Blocks in force."""
    breaker_open: bool = False
    paused: bool = False


class Sweep:
    def __init__(self, *, state: StateStore, clock: Callable[[], float]) -> None:
        """``clock``: epoch seconds."""
        self._state = state
        self._clock = clock

    def __call__(self) -> SweepReport:
        report = SweepReport()
        now = int(self._clock())
        stored = list(self._state.query(Block.kind))
        expired = [item for item in stored if Block.from_json(item.body).until <= now]
        for start in range(0, len(expired), CLIENTS_A_WRITE):
            self._lift(expired[start : start + CLIENTS_A_WRITE], now, report)
        report.blocks = len(stored) - len(expired)
        pause = self._state.get(Pause.kind, Pause.id)
        breaker = self._state.get(Breaker.kind, Breaker.id)
        report.paused = pause is not None and Pause.from_json(pause.body).paused
        report.breaker_open = breaker is not None and Breaker.from_json(breaker.body).open
        beat = Heartbeat(at=now, blocks=report.blocks, lifted=len(report.lifted))
        self._state.put_over([Item(kind=beat.kind, id=beat.id, body=beat.to_json())])
        return report

    def _lift(self, blocks: list[Item], now: int, report: SweepReport) -> None:
        histories = self._state.get_many(History.kind, [item.id for item in blocks])
        writes: list[Write] = []
        for item in blocks:
            writes.append(Delete(item))
            writes.append(Put(ended(item.id, histories.get(item.id), now)))
        try:
            self._state.write(writes)
            report.lifted += [Block.from_json(item.body) for item in blocks]
        except Conflict:
            if len(blocks) == 1:
                report.conflicts += 1
                return
            # One of them changed (prolonged, or lifted by an operator); the others end on time all the same.
            half = len(blocks) // 2
            self._lift(blocks[:half], now, report)
            self._lift(blocks[half:], now, report)


def ended(network: str, stored: Item | None, now: int) -> Item:
    """The history of a network whose block ends ``now``: requests made until now may have been refused already.

    A block that is lifted before its time leaves no immunity behind: whoever offends anew is blocked anew.
    """
    history = History.from_json(stored.body) if stored else History(network=network)
    rules = {name: replace(past, until=min(past.until, now)) for name, past in history.rules.items()}
    history = replace(history, ended_at=now, rules=rules)
    kept_until = history_kept_until(history, stored)
    version = stored.version if stored else 0
    return Item(kind=History.kind, id=network, body=history.to_json(), version=version, expires_at=kept_until)
