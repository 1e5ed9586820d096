"""The memory of clients: evaluators note the clients that they have counted, and enforcers ask which were known.

An evaluator reads every tally anyway, so noting its clients costs no read of the tally table. It merges what it has
noted into the period's record every ``STORED_EVERY_S``. If it ends earlier, the clients of those minutes are forgotten,
unless they come again. The memory only spares clients: it causes no detection and no block.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from chalicelib.core.addresses import PrefixMemo
from chalicelib.core.client_groups import ungrouped
from chalicelib.core.known_clients import (
    KEPT_S,
    PERIOD_S,
    Digest,
    KnownClients,
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
        """The networks of addresses, by the prefixes of rules that count wider networks than others."""

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
        for counted in tally:
            noted = may_be_noted(counted, self._noted.halvings)
            narrower = list(_narrower(counted, tally)) if noted else []
            if narrower:
                prefixes = counted.ipv4_prefix, counted.ipv6_prefix
                containing = set(self._memos.setdefault(prefixes, PrefixMemo(*prefixes)).mask_all(narrower))
                noted = [client for client in noted if client not in containing]
            yield from noted

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


def _narrower(counted: MeterTally, tally: Tally) -> Iterator[bytes]:
    """Yields the clients of ``tally`` that were counted as narrower networks than those of ``counted``."""
    for other in tally:
        is_narrower = {4: other.ipv4_prefix > counted.ipv4_prefix, 16: other.ipv6_prefix > counted.ipv6_prefix}
        if any(is_narrower.values()):
            yield from (client for client in map(ungrouped, other.keys()) if is_narrower[len(client)])


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
