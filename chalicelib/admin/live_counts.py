"""The current counts, read from the tally logs. The API's containers only follow the logs and never write to them."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product

from chalicelib.core.latest_window import LatestWindow, latest_window
from chalicelib.core.logs.malformed_counts import MalformedCounts, added
from chalicelib.core.logs.requests import LIVE_SOURCES, Source
from chalicelib.core.portraits import REMEMBERED_MS, Portrait, RecentPortraits, unpack_portraits
from chalicelib.core.rules import Rule, RuleSet
from chalicelib.core.view import View
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.log_reader import LogReader
from chalicelib.ports import (
    Conflict,
    LogItem,
    LogKey,
    LogObject,
    PartReceipt,
    Position,
    Registry,
    TallyLogs,
    Unavailable,
)

FRESH_MS = 2_000
"""Age up to which counts are shown without reading the logs again."""

STALE_MS = 600_000
"""A reader that has been idle for longer starts from scratch, because that is faster than catching up."""

LAG_MS = 60_000
"""Lag of the logs up to which counts are considered current."""

MINUTE_MS = 60_000

SEEN_MS = 900_000
"""Age up to which items are remembered, for the series of requests."""


class Watch:
    """Read-only ``TallyLogs`` that remember the items read, without their tallies. Every write raises Conflict.

    Malformed pieces are added up by minute, which takes the memory of a few counts rather than of one per item.
    """

    def __init__(self, logs: TallyLogs) -> None:
        self._logs = logs
        self.items: dict[LogKey, LogItem] = {}
        self.portraits = RecentPortraits()
        self._malformed: dict[int, MalformedCounts] = {}
        """By the minute in which they were written."""
        self._since_ms = 0

    @property
    def malformed(self) -> MalformedCounts:
        """Returns the counts in the items remembered, to the minute."""
        return added(chain.from_iterable(self._malformed.values()))

    def since(self, since_ms: int) -> None:
        """Forgets items written before ``since_ms``; new logs are read back to that time."""
        self._since_ms = since_ms
        self.items = {key: item for key, item in self.items.items() if item.written_ms >= since_ms}
        first = since_ms // MINUTE_MS
        self._malformed = {minute: counts for minute, counts in self._malformed.items() if minute >= first}

    def read(self, keys: Collection[LogKey]) -> tuple[Registry, Mapping[LogKey, LogItem]]:
        registry, items = self._logs.read(keys)
        self._remember(items)
        return registry, items

    def counted_up_to(self, object: LogObject) -> int:
        return self._logs.counted_up_to(object)

    def last(self, log: str) -> tuple[int, LogItem] | None:
        return self._logs.last(log)

    def first(self, log: str, offset: int) -> tuple[int, LogItem] | None:
        return self._logs.first(log, offset)

    def latest(
        self, log: str, written_since_ms: int, before: int, most: int = sys.maxsize
    ) -> Sequence[tuple[int, LogItem]]:
        items = self._logs.latest(log, min(written_since_ms, self._since_ms), before, most)
        self._remember({(log, offset): item for offset, item in items})
        return items

    def append(
        self,
        log: str,
        offset: int,  # noqa: ARG002
        items: Sequence[LogItem],  # noqa: ARG002
        receipt: PartReceipt | None = None,  # noqa: ARG002
    ) -> None:
        raise Conflict(f"append to {log}: this reader does not write")

    def register(self, shard: str, seen: tuple[str, ...], logs: tuple[str, ...]) -> None:  # noqa: ARG002
        raise Conflict(f"register {shard}: this reader does not write")

    def position(self) -> Position | None:
        return self._logs.position()

    def store_position(self, position: Position) -> None:  # noqa: ARG002
        raise Conflict("store the position: this reader does not write")

    def _remember(self, items: Mapping[LogKey, LogItem]) -> None:
        for key, item in items.items():
            if item.written_ms >= self._since_ms and not item.closes and key not in self.items:
                self.items[key] = replace(item, body=b"", malformed=(), portraits=b"")
                if item.portraits and item.written_ms >= self._since_ms + SEEN_MS - REMEMBERED_MS:
                    self.portraits.add(unpack_portraits(item.portraits), item.last_slot_ms)
                if item.malformed:
                    minute = item.written_ms // MINUTE_MS
                    self._malformed[minute] = added((*self._malformed.get(minute, ()), *item.malformed))


class LiveCounts:
    """The counts as one container sees them, at most a few seconds old. Those of quotas are not among them."""

    def __init__(
        self, logs: TallyLogs, rules: Callable[[int], RulesInUse], new_view: Callable[[RuleSet], View]
    ) -> None:
        """``rules`` returns the rules in use at a time in ms."""
        self._logs = logs
        self._rules = rules
        self._new_view = new_view
        self._watch = Watch(logs)
        self._reader = self._new_reader()
        self._looked_ms = 0
        self._sources: list[Source] = []
        self.rules = RuleSet(())
        """The rule set that the counts belong to, without its quotas."""
        self.quotas: tuple[str, ...] = ()
        """Names of the quotas in force."""
        self.view = new_view(self.rules)
        """The counts."""

    def look(self, now_ms: int) -> None:
        """Catches up with the logs, unless the counts are still fresh. Raises what the stores raise."""
        if now_ms - self._looked_ms < FRESH_MS:
            return
        if now_ms - self._looked_ms > STALE_MS:
            self._watch = Watch(self._logs)
            self._reader = self._new_reader()
        # If this call fails halfway, the next one starts from scratch.
        self._looked_ms = 0
        in_force = self._rules(now_ms).rules
        self.rules = in_force.windows()
        self.quotas = tuple(rule.name for rule in in_force.quotas().rules)
        self._watch.since(now_ms - SEEN_MS)
        self.view = self._reader.read(self.rules, now_ms)
        self._sources = [
            source for source in LIVE_SOURCES if any(self.view.has_requests(source, rule) for rule in self.rules.rules)
        ]
        self._looked_ms = now_ms

    @property
    def sources(self) -> list[Source]:
        """The logs from which requests are counted."""
        return self._sources

    def problem(self, now_ms: int) -> str | None:
        """Catches up with the logs. Returns the reason if the logs or the rules cannot be read, else None."""
        try:
            self.look(now_ms)
        except Unavailable as exc:
            return str(exc)
        return None

    def counted(self) -> Iterator[tuple[Rule, Source]]:
        """Yields every rule with each log that requests were read from."""
        return product(self.rules.rules, self._sources)

    def window(self, rule: Rule, now_ms: int) -> LatestWindow:
        """Returns the latest window of ``rule``."""
        return latest_window(
            rule, max((item.last_slot_ms for item in self.counting().values()), default=0), now_ms, LAG_MS
        )

    @property
    def items(self) -> Mapping[LogKey, LogItem]:
        """The items of the last quarter hour, without their tallies."""
        return self._watch.items

    def counting(self) -> Mapping[LogKey, LogItem]:
        """Returns the items with requests; the others hold malformed pieces alone, or continue a split tally."""
        return {key: item for key, item in self.items.items() if item.requests}

    def portrait(self, network: str, now_ms: int) -> Portrait | None:
        """Returns what requests of the last five minutes looked like, in the log with the most; None if unknown."""
        portraits = (self._watch.portraits.portrait(source, network, now_ms) for source in self._sources)
        return max(filter(None, portraits), key=lambda portrait: portrait.requests, default=None)

    @property
    def malformed(self) -> MalformedCounts:
        """Pieces of the last quarter hour that were not requests."""
        return self._watch.malformed

    def _new_reader(self) -> LogReader:
        return LogReader(self._watch, self._new_view, lateness_ms=LAG_MS)
