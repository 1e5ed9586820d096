"""Publish: makes the IP sets equal to the wanted list (docs/state-protocol.md, G6).

For each update it (a) reads the tokens and contents of all sets, (b) reads the wanted list, and (c) replaces one set
that differs, under its token; then it starts again at (a), until nothing differs. Because the token is read before the
list, a publisher with an older list fails if one with a newer list has written in between. If the newer list required
no write, the older one is written, and the last round, which reads everything again, corrects it.

Only the publish function calls WAF, so nothing else uses up AWS's quota of one update and five reads per second, and
nothing else waits for it. The list that it reads after waiting includes all changes made during the wait.
"""

from collections.abc import Callable, Mapping, Sequence

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import CAPACITY, IpSet, plan, wanted
from chalicelib.core.state import Allow, Block, Heartbeat, Pause
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, IpSets, StreamChange, Throttled, Unavailable
from chalicelib.reports import PublishReport

PACE_S = 1.1
"""Seconds between updates: AWS accepts one UpdateIPSet per second and account."""

MOST_ROUNDS = 40
READ_TRIES = 5


class Publish:
    """Makes the IP sets equal to the wanted list."""

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

    def __call__(self, changes: Sequence[StreamChange]) -> PublishReport | None:
        """Publishes if ``changes`` require it, and returns None otherwise. Raises only what the state store raises.

        The sweep's heartbeat requires it every minute, which repairs failures and changes by others to the IP sets.
        """
        causes = [c for c in changes if c.kind in (Block.kind, Allow.kind) or c.id in (Pause.id, Heartbeat.id)]
        if not causes:
            return None
        report = PublishReport()
        failed: dict[IpSet, str] = {}
        self._keep_pace()
        self._settle(report, failed)
        report.failures = [f"{ip_set.name}: {why}" for ip_set, why in failed.items()]
        arrivals = [
            block.evidence.arrived_ms
            for cause in causes
            if cause.kind == Block.kind
            and cause.body
            and not cause.existed
            and (block := Block.from_json(cause.body)).evidence
        ]
        if arrivals and report.updates:
            report.time_to_block_ms = int(self._clock() * 1000) - min(arrivals)
        return report

    def _settle(self, report: PublishReport, failed: dict[IpSet, str]) -> None:
        """Reads and updates in rounds, until nothing differs."""
        after = 0
        changes: Mapping[IpSet, frozenset[Network]] = {}
        while report.rounds < MOST_ROUNDS:
            report.rounds += 1
            published, tokens = self._read(report, failed)
            changes = self._changes(published, report)
            if not changes:
                return
            if self._keep_pace():
                continue
            # Round-robin, so that a set that changes all the time does not delay the others.
            ip_set = next(s for s in (*self._sets[after:], *self._sets[:after]) if s in changes)
            after = self._sets.index(ip_set) + 1
            self._free_at = self._clock() + PACE_S
            try:
                self._ip_sets.update(ip_set, changes[ip_set], tokens[ip_set])
                report.updates += 1
            except Conflict:
                report.conflicts += 1
            except Throttled:
                report.throttled += 1
            except Unavailable as exc:
                failed[ip_set] = str(exc)
        failed.update((ip_set, f"still differed after {MOST_ROUNDS} rounds") for ip_set in changes)

    def _read(
        self, report: PublishReport, failed: dict[IpSet, str]
    ) -> tuple[dict[IpSet, frozenset[Network]], dict[IpSet, str]]:
        published, tokens = {}, {}
        for ip_set in self._sets:
            if ip_set in failed:
                continue
            try:
                published[ip_set], tokens[ip_set] = self._get(ip_set, report)
            except Unavailable as exc:
                failed[ip_set] = str(exc)
        return published, tokens

    def _get(self, ip_set: IpSet, report: PublishReport) -> tuple[frozenset[Network], str]:
        """Reads one set. A throttled read is retried, because there may be more sets than reads per second."""
        for _ in range(READ_TRIES):
            try:
                return self._ip_sets.get(ip_set)
            except Throttled:
                report.throttled += 1
                self._sleep(PACE_S)
        return self._ip_sets.get(ip_set)

    def _changes(
        self, published: Mapping[IpSet, frozenset[Network]], report: PublishReport
    ) -> dict[IpSet, frozenset[Network]]:
        """Returns the new contents of the sets that differ from the list wanted at this moment."""
        now = int(self._clock())
        blocks = [] if self._state.pause().released else [block.record for block in self._state.all(Block)]
        rooms = {family: CAPACITY * sum(s.family == family for s in published) for family in (4, 6)}
        report.wanted = wanted(blocks, self._state.allowlist(now), rooms, now)
        report.fill = {f: len(report.wanted.networks[f]) / room for f, room in rooms.items() if room}
        changes: dict[IpSet, frozenset[Network]] = {}
        for family, networks in report.wanted.networks.items():
            changes |= plan(networks, {s: held for s, held in published.items() if s.family == family})
        return changes

    def _keep_pace(self) -> bool:
        """Waits until the next update may be sent. Returns whether it waited."""
        missing = self._free_at - self._clock()
        if missing <= 0:
            return False
        self._sleep(missing + 0.001)
        return True
