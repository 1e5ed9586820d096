"""Allowances: what a rule allows one client in one log, in the rule's slots and in logged requests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from chalicelib.core.buckets import Drain
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Rule
from chalicelib.core.sampling import WHOLE_LOG, Sampling

BOUND_FACTOR = 3
"""Ratio of the lengths of a bucket's bounds. With a smaller one, fewer clients are examined exactly, and each bound
costs a look at every client of a batch."""


class Bound(NamedTuple):
    """A necessary condition of an offence: more than ``limit`` requests within ``slots`` consecutive slots."""

    slots: int
    limit: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most ``limit`` requests in any ``resolution`` consecutive slots or, with a drain, in a token bucket."""

    resolution: int
    limit: int
    drain: Drain | None = None
    distinct: bool = False
    """True if the limit is one of different values (``distinct``)."""

    @classmethod
    def of(cls, rule: Rule, source: Source, sampling: Sampling = WHOLE_LOG) -> Self:
        """Returns what ``rule`` allows in the log ``source``. ``sampling``: that of CloudFront's real-time log."""
        logged, drain = sampling.of(source), None
        if rule.rate is not None:
            precision_ms, percent = source.precision_ms, logged.percent
            drain = Drain.of(rule.rate, rule.slot_ms, precision_ms=precision_ms, percent=percent)
        return cls(rule.resolution, logged.logged(rule.limit), drain, rule.measure.is_distinct)

    def bounds(self) -> Iterator[Bound]:
        """Yields bounds, by ascending length; a client over the limit exceeds at least one of them.

        An interval in which a bucket overflows is no longer than the first bound, or longer than one bound and no
        longer than the next. It fits into a window of the longer one, whose limit is what the bucket allows in the
        shortest interval beyond the other.

        >>> list(Allowance(100, 50).bounds())
        [Bound(slots=100, limit=50)]
        >>> list(Allowance(900, 50, Drain(unit=2, per_slot=1, last=1)).bounds())
        [Bound(slots=100, limit=50), Bound(slots=300, limit=100), Bound(slots=900, limit=200)]
        """
        if self.drain is None:
            yield Bound(self.resolution, self.limit)
            return
        shorter, slots = 0, max(1, self.limit * self.drain.unit // self.drain.per_slot)
        while shorter < self.resolution:
            slots = min(slots, self.resolution)
            yield Bound(slots, self.limit + self.drain.allowed(shorter + 1))
            shorter, slots = slots, slots * BOUND_FACTOR
