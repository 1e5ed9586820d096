"""Rules: how many requests a client may make within a window, and what must be counted to enforce that.

A *meter* describes a count: rules that count the same requests of the same clients share a meter if its slots fit all
of them. ``rules_toml`` reads rules from TOML and checks them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Protocol, TypeVar

from chalicelib.core.durations import DAY_S, HOUR_S
from chalicelib.core.measures import Measure
from chalicelib.core.rates import Rate
from chalicelib.core.refusals import REFUSAL_COLUMNS
from chalicelib.core.responses import BLOCKED, Response
from chalicelib.core.scope import EVERYTHING, Scope

SHORTEST_WINDOW_S = 1
"""Shortest window: logs give times in milliseconds, and a window needs at least ten slots."""
LONGEST_WINDOW_S = 3600
"""Longest window that is not a quota: a container reads the tallies of a whole window before it evaluates, and keeps
them in memory."""
LONGEST_QUOTA_S = 31 * DAY_S
"""Longest window of a quota, which is counted from roll-ups (``core.roll_ups``). The shortest is a day."""
QUOTA_SLOT_S = 900
"""Length of a slot of roll-ups; the slots of other rules are shorter."""
_QUOTA_SLOTS_S = (QUOTA_SLOT_S, HOUR_S, 3 * HOUR_S, 6 * HOUR_S)
"""Lengths of a quota's slots. Each divides a day and all longer ones."""
FEWEST_QUOTA_SLOTS = 96
"""Fewest slots in the window of a quota: those of a day."""
LARGEST_LIMIT = 1_000_000_000
"""Largest limit: more requests than any client makes within a window."""
LONGEST_BLOCK_S = 366 * DAY_S
"""Longest block: a year."""
BLOCK_S = 600
"""Length of a block if a rule names none."""
QUOTA_BLOCK_S = DAY_S
"""Length of a block for a quota that names none. The requests made before a block do not count after it, so a shorter
block would give the client its quota again."""
EXACT_MS = 1
"""Slot length of an exact rule: logs give times in milliseconds."""
LARGEST_FOLD = 20
"""Most slots of a meter that may make up one slot of a rule: beyond that a meter of the rule's own uses less memory.
Slots of ``EXACT_MS`` serve all rules: a client's requests hardly ever share one, so a second meter saves nothing."""
DEFAULT_RESOLUTION = 100
FEWEST_MEMBERS = 4
"""Fewest members that make a network guilty: with fewer, one household would be enough."""

NETWORKS = "[networks]"
"""Stands for the rule in blocks of guilty networks: no rule can have this name."""

TOPIC_BYTES = 8
"""Length of a topic; that of refusals is one byte longer."""
REFUSALS = b"r"
"""Last byte of the topic of refusals, after the topic of all requests."""


def refusals_topic(topic: bytes) -> bytes:
    """Returns the topic of the refusals among the requests of ``topic``."""
    return topic + REFUSALS


def is_of_refusals(topic: bytes) -> bool:
    return len(topic) > TOPIC_BYTES


def quota_resolution(window_s: int) -> int:
    """Returns the slots in the window of a quota, of whole days: about a hundred, as of other rules.

    >>> [quota_resolution(days * DAY_S) for days in (1, 2, 7, 12, 30, 31)]
    [96, 192, 168, 96, 120, 124]
    """
    return window_s // max(slot for slot in _QUOTA_SLOTS_S if slot * FEWEST_QUOTA_SLOTS <= window_s)


class Action(StrEnum):
    BLOCK = "block"
    COUNT = "count"
    """Records which clients would be blocked, and blocks none."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Longer blocks for repeated offences.

    Each offence within ``memory_s`` of the last block's end multiplies the block length by ``factor``, up to ``max_s``.
    A factor of 1 keeps the length: only the responses climb.
    """

    factor: int
    max_s: int
    memory_s: int


@dataclass(frozen=True, slots=True)
class Meter:
    """A count: the requests in ``scope`` per client network, in slots of ``slot_ms`` milliseconds."""

    scope: Scope
    ipv4_prefix: int
    ipv6_prefix: int
    slot_ms: int
    measure: Measure = Measure.REQUESTS
    """The unit of the count: requests in scope, sums of amounts, or different values."""
    by: tuple[str, ...] = ()
    """Columns; a client's requests are counted separately for each combination of their values (``client_groups``)."""
    of_refusals: bool = False
    """True if only the requests in scope are counted that were answered as refusals (``core.refusals``)."""
    topic: bytes = field(init=False, repr=False, compare=False)
    """Digest of scope and prefixes, and of any measure but the number of requests and any columns that group them: the
    same in every process and version as long as their ``repr`` is. ``REFUSALS`` follows it if only refusals are
    counted."""

    def __post_init__(self) -> None:
        counted = repr((self.scope, self.ipv4_prefix, self.ipv6_prefix)).encode()
        if self.measure is not Measure.REQUESTS:
            counted += f" {self.measure}".encode()
        if self.by:
            counted += f" by {','.join(self.by)}".encode()
        digest = blake2b(counted, digest_size=TOPIC_BYTES).digest()
        object.__setattr__(self, "topic", refusals_topic(digest) if self.of_refusals else digest)

    def refusals(self) -> "Meter":
        """Returns the meter of those requests of this meter that were answered as refusals."""
        return replace(self, of_refusals=True)

    @property
    def keyed_by(self) -> tuple[str, ...]:
        """Columns whose values are part of the keys under which requests are counted (``client_groups``)."""
        return (self.measure.column,) if self.measure.is_distinct and self.measure.column else self.by

    @property
    def prefixes(self) -> tuple[int, int]:
        """Prefix lengths of IPv4 and of IPv6 clients."""
        return self.ipv4_prefix, self.ipv6_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A limit, and the action for clients that exceed it."""

    name: str
    limit: int
    """Requests allowed within one window; the next one is over the limit. Of a bucket, its burst."""
    window_s: int
    """Length of a window; for a bucket, the longest interval that is examined."""
    action: Action = Action.BLOCK
    block_for_s: int = BLOCK_S
    resolution: int = DEFAULT_RESOLUTION
    """Slots per window. More slots are more exact (G2 holds for spans of window - window / resolution) and use more
    memory. With slots of ``EXACT_MS`` the rule is exact: G2 holds for every span shorter than the window."""
    ipv4_prefix: int = 32
    """Bits of an IPv4 address that make up a client: 24 counts each /24 as one client."""
    ipv6_prefix: int = 64
    by: tuple[str, ...] = ()
    """Columns, in alphabetical order: the limit applies to a client's requests with the same values in them."""
    scope: Scope = EVERYTHING
    rate: Rate | None = None
    """Requests allowed on top of ``limit`` in proportion to time, which makes the rule a token bucket (``buckets``)."""
    measure: Measure = Measure.REQUESTS
    """The unit of ``limit``: requests, bytes, for time milliseconds, or different values of a column."""
    escalate: Escalation | None = None
    extend: bool = False
    """True if requests made while blocked extend the block."""
    respond: tuple[Response, ...] = BLOCKED
    """The response to the first remembered offence, the second, and so on, never a softer one; the last one stays."""
    paused_until: int = 0
    """First second at which a paused rule blocks again; until then, it only counts. 0 if it is not paused. Epoch
    seconds."""
    meter: Meter = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Stored, because making a meter hashes its scope.
        slot_ms = QUOTA_SLOT_S * 1000 if self.is_quota else self.slot_ms
        meter = Meter(self.scope, self.ipv4_prefix, self.ipv6_prefix, slot_ms, self.measure, self.by)
        object.__setattr__(self, "meter", meter)

    @property
    def slot_ms(self) -> int:
        return self.window_s * 1000 // self.resolution

    @property
    def is_quota(self) -> bool:
        """True if the window is longer than ``LONGEST_WINDOW_S``, so that the rule is evaluated from roll-ups."""
        return self.window_s > LONGEST_WINDOW_S

    @property
    def prefixes(self) -> tuple[int, int]:
        return self.meter.prefixes

    def action_at(self, time_ms: int) -> Action:
        """Returns the action at the epoch millisecond ``time_ms``: while paused, the rule only counts.

        >>> paused = Rule(name="burst", limit=50, window_s=5, paused_until=10)
        >>> paused.action_at(9999), paused.action_at(10_000)
        (<Action.COUNT: 'count'>, <Action.BLOCK: 'block'>)
        """
        return Action.COUNT if time_ms < self.paused_until * 1000 else self.action


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTerms:
    """Conditions on which a network is blocked because rules have blocked clients in it (``networks``)."""

    members: int = 8
    """Clients of a /24, /64's of a /56, or /56's of a /48 that make it guilty."""
    innocents: int = 2
    """Most known clients, blocked by no rule, that a guilty network may hold."""
    ipv4: int = 16
    """Prefix length of the widest IPv4 network, up to 24."""
    ipv6: int = 48
    """Prefix length of the widest IPv6 network, up to 48."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedTerms:
    """A feed to read, and what its networks meet (``feeds``)."""

    name: str
    url: str
    """An https address."""
    respond: Response | None = None
    """The response to its networks' requests; None: they are allowed, that is, never blocked."""
    most: int = 1000
    """Most networks that are used, once they are merged; a longer list is rejected."""

    @property
    def title(self) -> str:
        """The feed's table in the TOML, which no rule can be named like."""
        return f"[feeds.{self.name}]"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Valid rules, and what must be counted for them."""

    rules: tuple[Rule, ...]
    text: str = ""
    version: str = ""
    networks: NetworkTerms | None = None
    """Conditions on which networks are blocked; None if only clients are."""
    feeds: tuple[FeedTerms, ...] = ()
    """Lists of networks that are read every hour, in order of name."""

    @property
    def longest_window_ms(self) -> int:
        return max((rule.window_s for rule in self.rules), default=0) * 1000

    def windows(self) -> "RuleSet":
        """Returns the rule set without its quotas: what is evaluated from the tally logs alone."""
        return replace(self, rules=tuple(rule for rule in self.rules if not rule.is_quota))

    def quotas(self) -> "RuleSet":
        """Returns the rule set with its quotas alone."""
        return replace(self, rules=tuple(rule for rule in self.rules if rule.is_quota))

    def columns(self) -> frozenset[str]:
        """Returns the columns that counting examines: those of scopes and measures, and those that reveal refusals."""
        measured = {rule.measure.column for rule in self.rules if rule.measure.column}
        return REFUSAL_COLUMNS.union(measured, *((*rule.scope.columns(), *rule.by) for rule in self.rules))

    def meters(self) -> list[Meter]:
        """Returns meters that together serve every rule; a rule that a finer meter serves has none of its own."""
        meters: list[Meter] = []
        for rule in sorted(self.rules, key=lambda rule: rule.slot_ms):
            if not any(_serves(meter, rule.meter) for meter in meters):
                meters.append(rule.meter)
        return meters


def _serves(meter: Meter, other: Meter) -> bool:
    fold, rest = divmod(other.slot_ms, meter.slot_ms)
    # Roll-ups fold the counts of quotas, whatever their slots: a meter of their own would only lengthen the tallies.
    any_fold = meter.slot_ms == EXACT_MS or other.slot_ms == QUOTA_SLOT_S * 1000
    return meter.topic == other.topic and rest == 0 and (fold <= LARGEST_FOLD or any_fold)


class Slotted(Protocol):
    """A meter, or a count made by one."""

    @property
    def slot_ms(self) -> int: ...


_Slotted = TypeVar("_Slotted", bound=Slotted)


def serving(slot_ms: int, meters: Iterable[_Slotted]) -> _Slotted | None:
    """Returns the meter from which to evaluate a rule with slots of ``slot_ms``, or None if no meter fits.

    It is the coarsest whose slots divide the rule's. ``meters`` are of the rule's topic.
    """
    fitting = [meter for meter in meters if slot_ms % meter.slot_ms == 0]
    return max(fitting, key=lambda meter: meter.slot_ms, default=None)
