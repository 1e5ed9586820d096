"""Publish: makes the IP sets equal to the list of networks to block (docs/state-protocol.md, G6).

For each update it (a) reads the tokens and contents of all sets, (b) reads the list from the state table, and (c)
replaces one set that differs, under its token; then it starts again at (a), until nothing differs. Because the token is
read before the list, a publisher with an older list fails if one with a newer list has written in between. If the newer
list required no write, the older one is written, and the last round, which reads everything again, corrects it.

No other function calls WAF, so none uses up AWS's quota of one update and five reads per second, and none waits for it.
The list that publish reads after waiting includes all changes made during the wait.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import CAPACITY, IpSet, Wanted, plan, wanted
from chalicelib.core.state import Allow, Block, Heartbeat, Pause
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, IpSets, StreamChange, Throttled, Unavailable
from chalicelib.reports import PublishReport

PACE_S = 1.1
"""Seconds between updates: AWS accepts one UpdateIPSet per second and account."""

MOST_ROUNDS = 40
READ_RETRIES = 5
"""Most retries of a throttled read of one IP set, ``PACE_S`` apart."""

Addresses = frozenset[Network]


class SetsRead(NamedTuple):
    """The contents and tokens of the IP sets that could be read; the reasons for the others; the throttled attempts."""

    published: Mapping[IpSet, Addresses]
    tokens: Mapping[IpSet, str]
    failed: Mapping[IpSet, str]
    throttled: int


class SetsCompared(NamedTuple):
    """The list at one moment, and the new contents of each set that differs from it."""

    wanted: Wanted
    fill: dict[int, float]
    """Share of the capacity that is used, by family."""
    changes: Mapping[IpSet, Addresses]


class Publish:
    """One container's publisher."""

    def __init__(
        self,
        *,
        state: State,
        ip_sets: IpSets,
        sets: Sequence[IpSet],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """``sets``: all configured sets; ``clock`` returns epoch seconds; ``sleep`` waits for a number of seconds."""
        self._state = state
        self._ip_sets = ip_sets
        self._sets = sets
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0

    def run(self, changes: Sequence[StreamChange]) -> PublishReport | None:
        """Publishes if ``changes`` require it, and returns None otherwise. Raises only what the state store raises.

        The sweep's heartbeat requires it every minute, which repairs failures and changes by others to the IP sets.
        """
        causes = [c for c in changes if c.kind in (Block.kind, Allow.kind) or c.id in (Pause.id, Heartbeat.id)]
        if not causes:
            return None
        self._keep_pace()
        report = self._settle()
        new = [Block.read(c.id, c.body) for c in causes if c.kind == Block.kind and c.body and not c.existed]
        arrivals = [block.evidence.arrived_ms for block in new if isinstance(block, Block) and block.evidence]
        if arrivals and report.updates:
            report.time_to_block_ms = int(self._clock() * 1000) - min(arrivals)
        return report

    def _settle(self) -> PublishReport:
        """Reads and updates in rounds, until nothing differs."""
        report = PublishReport()
        failed: dict[IpSet, str] = {}
        after = 0
        while report.rounds < MOST_ROUNDS:
            report.rounds += 1
            read = self._read([ip_set for ip_set in self._sets if ip_set not in failed])
            failed |= read.failed
            report.throttled += read.throttled
            report.wanted, report.fill, changes = self._compare(read.published)
            if not changes:
                break
            if self._keep_pace():
                continue
            # Round-robin, so that a set that changes all the time does not delay the others.
            ip_set = next(s for s in (*self._sets[after:], *self._sets[:after]) if s in changes)
            after = self._sets.index(ip_set) + 1
            self._free_at = self._clock() + PACE_S
            try:
                self._ip_sets.update(ip_set, changes[ip_set], read.tokens[ip_set])
                report.updates += 1
            except Conflict:
                report.conflicts += 1
            except Throttled:
                report.throttled += 1
            except Unavailable as exc:
                failed[ip_set] = str(exc)
        else:
            failed |= dict.fromkeys(changes, f"still differed after {MOST_ROUNDS} rounds")
        report.failures = [f"{ip_set.name}: {reason}" for ip_set, reason in failed.items()]
        return report

    def _read(self, sets: Sequence[IpSet]) -> SetsRead:
        """Reads ``sets``. A throttled read is retried, because there may be more sets than reads per second."""
        published, tokens, failed, throttled = {}, {}, {}, 0
        for ip_set in sets:
            for attempt in range(READ_RETRIES + 1):
                try:
                    published[ip_set], tokens[ip_set] = self._ip_sets.get(ip_set)
                    break
                except Unavailable as exc:
                    if not isinstance(exc, Throttled) or attempt == READ_RETRIES:
                        failed[ip_set] = str(exc)
                        break
                    throttled += 1
                    self._sleep(PACE_S)
        return SetsRead(published, tokens, failed, throttled)

    def _compare(self, published: Mapping[IpSet, Addresses]) -> SetsCompared:
        """Compares the sets with the list at this moment."""
        now = int(self._clock())
        blocks = [] if self._state.pause().released else self._state.records(Block)
        rooms = {family: CAPACITY * sum(s.family == family for s in published) for family in (4, 6)}
        listed = wanted(blocks, self._state.allowlist(now), rooms, now)
        changes: dict[IpSet, Addresses] = {}
        for family, networks in listed.networks.items():
            changes |= plan(networks, {s: old for s, old in published.items() if s.family == family})
        fill = {family: len(listed.networks[family]) / room for family, room in rooms.items() if room}
        return SetsCompared(listed, fill, changes)

    def _keep_pace(self) -> bool:
        """Waits until the next update may be sent. Returns whether it waited."""
        missing = self._free_at - self._clock()
        if missing <= 0:
            return False
        self._sleep(missing + 0.001)
        return True
