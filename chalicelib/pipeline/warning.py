"""Warnings: events about IP sets and logs, recorded at most once per hour by all containers while the cause lasts."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from chalicelib.core.durations import DAY_S
from chalicelib.core.events import full_event, unreadable_event
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.state.events import Event, Warned
from chalicelib.pipeline.log_reader import Unevaluated
from chalicelib.pipeline.recording import recorded
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, Unavailable

EVERY_S = 3600

NEARLY_FULL = 0.8
"""Share of the capacity of a group of IP sets from which a warning is due."""

LINES_S = 300
"""Seconds over which requests and malformed pieces are added up."""

LEAST_MALFORMED = 20
"""Fewest malformed pieces, if they also outnumber the requests of the same span, for which a warning is due."""


class Warnings:
    """The warnings of one container. Recording one never fails, because no other work may depend on it."""

    def __init__(self, state: State, history_s: int) -> None:
        """``history_s``: how long events are kept."""
        self._state = state
        self._history_s = history_s
        self._due: dict[str, int] = {}
        """Time when a warning about each subject is due again, as far as this container knows. Epoch seconds."""
        self._span, self._requests, self._malformed = 0, 0, 0
        """Start of the latest span, and the requests and malformed pieces in it."""

    def full(self, fill: Mapping[SetGroup, float], now: int) -> None:
        """Warns of groups of IP sets that are nearly full. ``fill``: the share of each group's capacity in use."""
        for group, share in fill.items():
            if share >= NEARLY_FULL:
                self._warn(f"full/{group.response}/v{group.family}", full_event(group, int(share * 100)), now)

    def lines(self, items: Iterable[Unevaluated], now: int) -> None:
        """Warns of logs in which malformed pieces outnumber requests. ``items``: those read since the last call."""
        if now - self._span >= LINES_S:
            self._span, self._requests, self._malformed = now, 0, 0
        for item in items:
            self._requests += item.requests
            self._malformed += item.malformed
        if self._malformed >= LEAST_MALFORMED and self._malformed > self._requests:
            self._warn("unreadable", unreadable_event(self._malformed), now)

    def _warn(self, subject: str, event: Event, now: int) -> None:
        if now < self._due.get(subject, 0):
            return
        self._due[subject] = now + EVERY_S
        with suppress(Conflict, Unavailable):  # another container has just warned, or one will in an hour
            stored = self._state.get(Warned, subject)
            if stored is not None and now < stored.record.at + EVERY_S:
                self._due[subject] = stored.record.at + EVERY_S
                return
            warned = State.put(Warned(subject=subject, at=now), over=stored, expires_at=now + DAY_S)
            self._state.write([warned, *recorded([event], now * 1000, self._history_s)])
