"""Tally logs in memory that record every call, fail on demand, and let another container act first."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from chalicelib.core.logs.requests import Source
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.tally import FENCE_S, RETENTION_S, Tally, kept_s, unpack
from chalicelib.core.view import View
from chalicelib.pipeline.log_writer import BatchTally, LogWriter
from chalicelib.pipeline.tally_logs import Tail
from chalicelib.ports import LogItem, LogKey, LogObject, PartReceipt, Position, Registry, Unavailable
from sluice.local.stores import MemoryTallyLogs

NOW = 1_760_000_000_000
HOUR, MINUTE, SECOND = 3_600_000, 60_000, 1000
RETENTION_MS, EXPIRE_MS = RETENTION_S * 1000, kept_s(RETENTION_S) * 1000
"""Ages at which a request is late, and at which an item may be removed, with the default retention."""
DORMANT_MS = EXPIRE_MS - FENCE_S * 1000
"""Age of a log's last item at which the log takes no more items."""
SHARD = "logs/shard-0"
RULES = RuleSet((Rule(name="r", limit=5, window_s=10),))
METER = RULES.rules[0].meter
CLIENT = b"aaaa"


class RecordedLogs(MemoryTallyLogs):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.keys_read: list[list[LogKey]] = []
        self.hidden: set[LogKey] = set()
        """Items that are not visible yet to the next ``hidden_for`` reads."""
        self.hidden_for = 0
        self.read_backwards: list[str] = []
        self.fails: dict[str, int] = {}
        """By method, the number of calls up to the one that fails: 1 for the next."""
        self.down: set[str] = set()
        """Methods of which every call fails."""
        self.answers_lost: set[str] = set()
        """Methods whose next call takes effect and fails nevertheless."""
        self.before: dict[str, Callable[[], object]] = {}
        """By method, what other containers do just before its next call takes effect."""

    def append(self, log: str, offset: int, items: Sequence[LogItem], receipt: PartReceipt | None = None) -> None:
        self._begin("append")
        super().append(log, offset, items, receipt)
        self._end("append")

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        self._begin("read")
        self.keys_read.append(sorted(keys))
        registry, items = super().read(keys)
        hidden: Collection[LogKey] = ()
        if self.hidden_for:
            self.hidden_for -= 1
            hidden = self.hidden
        return registry, {key: item for key, item in items.items() if key not in hidden}

    def counted_up_to(self, object: LogObject) -> int:
        self._begin("counted_up_to")
        return super().counted_up_to(object)

    def last(self, log: str) -> tuple[int, LogItem] | None:
        self._begin("last")
        return super().last(log)

    def first(self, log: str, offset: int) -> tuple[int, LogItem] | None:
        self._begin("first")
        return super().first(log, offset)

    def latest(
        self, log: str, written_since_ms: int, before: int, most: int = sys.maxsize
    ) -> Sequence[tuple[int, LogItem]]:
        self._begin("latest")
        self.read_backwards.append(log)
        return super().latest(log, written_since_ms, before, most)

    def register(self, shard: str, seen: tuple[str, ...], logs: tuple[str, ...]) -> None:
        self._begin("register")
        super().register(shard, seen, logs)
        self._end("register")

    def position(self) -> Position | None:
        self._begin("position")
        return super().position()

    def store_position(self, position: Position) -> None:
        self._begin("store_position")
        super().store_position(position)

    @property
    def registry(self) -> Registry:
        return super().read([])[0]

    @property
    def stored_position(self) -> Position | None:
        return super().position()

    def items(self, log: str) -> list[LogItem]:
        """Returns all items of a log, oldest first."""
        return [item for _, item in reversed(super().latest(log, 0, sys.maxsize))]

    def counted(self) -> int:
        """Returns the number of requests in all logs."""
        return sum(
            number
            for log in chain.from_iterable(self.registry.values())
            for item in self.items(log)
            if item.body is not None
            for part in unpack(item.body)
            for slots in part.clients().values()
            for number in slots.values()
        )

    def lose(self, log: str, offset: int) -> None:
        """Removes an item, as TTL would."""
        del self._logs[log][offset]

    def _begin(self, method: str) -> None:
        self.calls.append(method)
        if method in self.before:
            self.before.pop(method)()
        if method in self.down:
            raise Unavailable(method)
        if method in self.fails:
            self.fails[method] -= 1
            if not self.fails[method]:
                del self.fails[method]
                raise Unavailable(method)

    def _end(self, method: str) -> None:
        if method in self.answers_lost:
            self.answers_lost.remove(method)
            raise Unavailable(f"{method}: no answer")


class Writer:
    """A container that appends tallies of single clients."""

    def __init__(self, logs: RecordedLogs) -> None:
        self.writer = LogWriter(logs)

    def tail(self, now: int, shard: str = SHARD) -> Tail:
        return self.writer.tail(shard, now)

    def count(
        self,
        time: int,
        sequence: int,
        now: int | None = None,
        *,
        shard: str = SHARD,
        client: bytes = CLIENT,
        requests: int = 1,
    ) -> None:
        """Appends requests made at ``time``, at ``now`` or else at once. Raises Conflict."""
        now = time if now is None else now
        self.writer.append(self.tail(now, shard), counting(time, sequence, client, requests), now)


def counting(time: int, sequence: int, client: bytes = CLIENT, requests: int = 1) -> BatchTally:
    """Returns the tally of a batch with requests of one client, all made and arrived at ``time``."""
    return BatchTally(tally(time, client, requests), sequence, requests, time, time, time)


def tally(time: int, client: bytes = CLIENT, requests: int = 1) -> Tally:
    return [MeterTally.of(Source.CLOUDFRONT, METER, {client: {time // METER.slot_ms: requests}})]


def new_view(rules: RuleSet) -> View:
    return View(rules, sample_rate=100, most_entries=100_000)


def seconds_left(*answers: float) -> Callable[[], float]:
    """Returns a clock of an invocation that shows ``answers`` one after the other, and the last one from then on."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]
