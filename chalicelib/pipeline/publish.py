"""Publishing: makes the IP sets equal to the wanted list (docs/state-protocol.md, G6).

For each update: (a) all lock tokens and contents are read, then (b) the wanted list, then (c) one set that differs is
replaced under its token; and again from (a), until nothing differs. A token read before the list makes a publisher
that holds an older list fail, if a newer one has written since. If the newer one had nothing to write, the older one's
write goes through; the last round, which reads everything again after it, takes it back.

Only the publish function talks to WAF, so nobody else spends AWS's quota of one update and five reads a second, and
nothing else waits for it. What changes while it waits is in the list that it reads afterwards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from chalicelib.core.addresses import Network
from chalicelib.core.ipsets import CAPACITY, IpSet, Wanted, plan, wanted
from chalicelib.core.state import Allow, Block, Heartbeat, Pause
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, IpSets, StreamChange, Throttled, Unavailable

PACE_S = 1.1
"""Between updates: AWS takes one UpdateIPSet a second for a whole account."""

MOST_ROUNDS = 40
READ_TRIES = 5


@dataclass(slots=True)
class PublishReport:
    updates: int = 0
    conflicts: int = 0
    throttled: int = 0
    failures: list[str] = field(default_factory=list)
    """IP sets that could not be read or written, and why; the next sweep has them tried again."""
    rounds: int = 0
    wanted: Wanted = field(default_factory=lambda: Wanted({}))
    fill: dict[int, float] = field(default_factory=dict)
    """Published networks over those that fit, by family."""
    time_to_block_ms: int | None = None
    """From the arrival of the oldest record behind a new block to the end of the publish."""


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
        """``sets``: every configured set; ``clock``: epoch seconds; ``sleep`` waits for some."""
        self._state = state
        self._ip_sets = ip_sets
        self._sets = sets
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0

    def __call__(self, changes: Sequence[StreamChange]) -> PublishReport | None:
        """Publishes if ``changes`` call for it. Raises only what the state store raises.

        The sweep's heartbeat calls for it every minute, so that what somebody else did to the IP sets, and what
        failed, is mended.
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
        """Rounds of reading and updating, until nothing differs."""
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
            # Round-robin: a set that changes all the time must not keep the others waiting.
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
        """One set; a throttled read goes on where it stopped, as there may be more sets than reads in a second."""
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
        """What has to be in the sets that differ from what is wanted at this moment."""
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
        """Waits until the next update may be sent; whether there was anything to wait for."""
        missing = self._free_at - self._clock()
        if missing <= 0:
            return False
        self._sleep(missing + 0.001)
        return True
