"""The circuit breakers of the rules, and what they need: clients known from before, and offenders that wait."""

from typing import Annotated, ClassVar

import msgspec

from chalicelib.core.state.records import Control, Number, Seconds, StateRecord


class Breaker(Control, frozen=True, kw_only=True):
    """The circuit breaker."""

    id: ClassVar[str] = "breaker"
    open: bool = False
    """True if rules block no new client until an operator resets it."""
    at: Seconds = 0
    """Time at which it opened or was reset; 0: never. Epoch seconds."""
    would_block: Number = 0
    """Number of new blocks by rules, within a minute, that opened it."""
    ignore_until: Seconds = 0
    """Time until which it stays closed after a reset, because an operator has looked. Epoch seconds."""
    by: str = ""
    """The operator who reset it."""


class Known(StateRecord, frozen=True, kw_only=True):
    """The client networks that were counted in one period (``known_clients``)."""

    kind: ClassVar[str] = "known"
    started_at: Seconds
    """Start of the period."""
    counted_since: Seconds
    """When counting began in this period: later than its start only if the memory of clients began in it."""
    halvings: Annotated[int, msgspec.Meta(ge=0, le=32)] = 0
    """Number of times that one half of all clients was left out, for want of room."""
    ipv4: bytes = b""
    """IPv4 addresses of 4 bytes, in order."""
    ipv6: bytes = b""
    """The first 6 bytes of IPv6 addresses, in order."""

    @property
    def id(self) -> str:
        return f"{self.started_at:010d}"


class RuleBreaker(StateRecord, frozen=True, kw_only=True):
    """The circuit breaker of one rule (``core.breaker``)."""

    kind: ClassVar[str] = "breaker"
    rule: str
    limit: Number = 0
    window_s: Number = 0
    """The rule's limit and window that are judged."""
    rule_set: Number = 0
    """The latest version of the rule set that is known to have them; 0 if none is known."""
    stopped_at: Seconds = 0
    """Time at which the rule was stopped; 0 while it is not. Epoch seconds."""
    would_hit: Number = 0
    """Number of known clients that it would have hit within ten minutes when it was stopped last."""
    known: Number = 0
    """Number of known clients at that time."""
    clients: tuple[str, ...] = ()
    """At most ten of the networks whose known clients it would have hit, the worst first."""
    hits: dict[str, Seconds] = {}
    """Known clients that it has hit in the last ten minutes, or would have, by mark, and when. Epoch seconds."""
    spared_until: Seconds = 0
    """Known clients that have waited since this time or earlier are spared; 0: no client is. Epoch seconds."""
    reset_at: Seconds = 0
    """Time of the last reset by an operator; 0: never. Epoch seconds."""
    ignore_until: Seconds = 0
    """Time until which the rule is not stopped after a reset. Epoch seconds."""
    by: str = ""
    """The operator who reset it."""
    minute: Number = 0
    """The latest minute in which it was paced, counted since the epoch."""
    paced: Number = 0
    """New blocks in this minute; those within one IPv6 /48 count as one."""
    paced_48s: tuple[str, ...] = ()
    """The /48's among them."""

    @property
    def id(self) -> str:
        return self.rule

    @property
    def changed_at(self) -> int:
        return max(self.stopped_at, self.spared_until, self.reset_at)


class Waiting(StateRecord, frozen=True, kw_only=True):
    """A detection with offenders that wait, because their rule is stopped or its pace is used up."""

    kind: ClassVar[str] = "waiting"
    rule: str
    detection: str
    """Id of the detection."""
    since: Seconds
    """When they began to wait. Epoch seconds."""
    worst: Number
    """The highest count of their requests in the window."""
    decided_above: Number | None = None
    """Offenders with a higher count have been decided about; null: none have."""

    def waits(self, count: int) -> bool:
        """Returns whether the detection's offenders with this count may still be waiting."""
        return self.decided_above is None or count <= self.decided_above

    @property
    def id(self) -> str:
        return f"{self.rule}/{self.detection}"
