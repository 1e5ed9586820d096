"""The memory of clients: evaluators note the clients that they have counted, and enforcers ask which were known.

An evaluator reads every tally anyway, so noting its clients costs no read of the tally table. It merges what it has
noted into the period's record every ``STORED_EVERY_S``. If it ends earlier, the clients of those minutes are forgotten,
unless they come again. The memory only spares clients: it causes no detection and no block.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from operator import attrgetter
from typing import NamedTuple

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.client_groups import ungrouped
from chalicelib.core.known_clients import (
    IPV4_BYTES,
    IPV6_BYTES,
    KEPT_S,
    PERIOD_S,
    Digest,
    KnownClients,
    Mark,
    digest_of,
    known_record,
    may_be_noted,
    period_of,
)
from chalicelib.core.meter_tally import MeterTally
from chalicelib.core.state.breakers import Known
from chalicelib.core.tally import Tally
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, Unavailable

STORED_EVERY_S = 600
"""Time between two writes of a period's record: at most 144 per day, each of at most 160 units."""

EXPIRES_AFTER_S = KEPT_S + 3 * PERIOD_S
"""Age of a period's start at which the store may remove its record: half a day after it was last used."""

READ_AGAIN_S = 300
"""Time after which an enforcer that has found no memory looks again."""


class _Family(NamedTuple):
    """The IPv4 or the IPv6 clients of a tally."""

    size: int
    """Bytes of a client."""
    prefix: Callable[[MeterTally], int]

    def column(self, counted: MeterTally) -> bytes:
        """Returns the clients, those of groups included, one after the other."""
        keys = (counted.keys16[at : at + 16] for at in range(0, len(counted.keys16), 16))
        column = b"".join(client for client in map(ungrouped, keys) if len(client) == self.size)
        return counted.keys4 + column if self.size == IPV4_BYTES else column

    def clients(self, column: bytes) -> Iterator[bytes]:
        return (column[at : at + self.size] for at in range(0, len(column), self.size))


_IPV4, _IPV6 = _Family(IPV4_BYTES, attrgetter("ipv4_prefix")), _Family(16, attrgetter("ipv6_prefix"))


class ClientMemory:
    """An evaluator's memory of the clients that it has counted in the current period."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._period = 0
        self._since = 0
        self._noted = Digest()
        self._stored = Digest()
        """The clients noted when they were stored last."""
        self._due_at = 0
        self._memos: dict[tuple[int, int], PrefixMemo] = {}
        """The networks of clients, by the bytes of an address and the prefix."""

    def note(self, tallies: Iterable[Tally], now: int) -> None:
        """Notes the clients of ``tallies``, which were counted at ``now``, and stores them from time to time.

        Never fails: what could not be stored is stored with the next call that is due.
        """
        if period_of(now) != self._period:
            self._store(now)
            self._period, self._since, self._due_at = period_of(now), now, now
            self._noted = self._stored = Digest()
        # All at once: a digest with new marks is a copy.
        self._noted = self._noted.plus(chain.from_iterable(map(self._clients, tallies)))
        if now >= self._due_at:
            self._store(now)

    def _clients(self, tally: Tally) -> Iterator[bytes]:
        """Yields the clients of a tally that may be noted.

        A network stands for a client only if none of its clients was counted by itself.
        """
        ipv4, ipv6 = self._containing(_IPV4, tally), self._containing(_IPV6, tally)
        for counted in tally:
            noted = may_be_noted(counted, self._noted.halvings)
            marks = ipv4.get(counted.ipv4_prefix, set()) | ipv6.get(counted.ipv6_prefix, set())
            yield from (client for client in noted if client[:IPV6_BYTES] not in marks) if marks else noted

    def _containing(self, family: _Family, tally: Tally) -> dict[int, set[Mark]]:
        """Returns the marks, by prefix, of the networks whose clients the tally has as narrower networks, too."""
        columns: dict[int, set[bytes]] = {}
        for counted in tally:
            columns.setdefault(family.prefix(counted), set()).add(family.column(counted))
        ascending = sorted(columns)
        narrower: set[bytes] = set()
        containing = {}
        for wide, narrow in reversed(list(pairwise(ascending))):
            for column in columns[narrow]:
                narrower.update(family.clients(column))
            memo = self._memos.setdefault((family.size, wide), PrefixMemo(min(wide, 32), wide))
            containing[wide] = {network[:IPV6_BYTES] for network in memo.mask_all(list(narrower))}
        return containing

    def _store(self, now: int) -> None:
        self._due_at = now + STORED_EVERY_S
        if self._noted == self._stored:
            return
        try:
            self._merge()
        except (Conflict, Unavailable):
            return
        self._stored = self._noted

    def _merge(self) -> None:
        """Adds what was noted to the period's record. Raises Conflict, and what the store raises."""
        period, since, noted = self._period, self._since, self._noted
        stored = self._state.get(Known, known_record(period, since, Digest()).id)
        if stored is not None:
            since, noted = min(since, stored.record.counted_since), noted.merged(digest_of(stored.record))
        record = known_record(period, since, noted)
        if stored is None or record != stored.record:
            self._state.write([State.put(record, over=stored, expires_at=period + EXPIRES_AFTER_S)])


class Acquaintances:
    """One container's copy of the known clients, read when it is first needed and again in each period."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: KnownClients | None = None
        self._read_at: int | None = None

    def at(self, now: int) -> KnownClients | None:
        """Returns the known clients at ``now``, or None while too little is remembered."""
        if self._read_at is None or not self._current(self._read_at, now):
            self._known, self._read_at = KnownClients.at(self._state.records(Known), now), now
        return self._known

    def _current(self, read_at: int, now: int) -> bool:
        kept_s = READ_AGAIN_S if self._known is None else PERIOD_S
        return period_of(read_at) == period_of(now) and 0 <= now - read_at < kept_s
