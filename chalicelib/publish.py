"""Publishing: the IP sets are made equal to the wanted list (design 4.3, G6).

For each update: (a) all lock tokens and contents are read, then (b) the wanted list, then (c) one set that differs is
replaced under its token; and again from (a), until nothing differs. A token read before the list makes a publisher
that holds an older list fail, if a newer one has written since. If the newer one had nothing to write, the older one's
write goes through; the last round, which reads everything again after it, takes it back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chalicelib.core.addresses import Network, NetworkSet
from chalicelib.core.ipsets import CAPACITY, IpSet, Wanted, plan, wanted
from chalicelib.core.state import Allow, Block, Pause
from chalicelib.ports import Conflict, IpSets, StateStore, Unavailable

PACE_S = 1.1
"""Between updates: AWS takes one UpdateIPSet a second for a whole account."""

MOST_ROUNDS = 40


@dataclass(slots=True)
class PublishReport:
    updates: int = 0
    conflicts: int = 0
    failures: list[str] = field(default_factory=list)
    """IP sets that could not be read or written, and why; the next sweep tries them again."""
    wanted: Wanted = field(default_factory=lambda: Wanted({}))
    capacity: dict[int, int] = field(default_factory=dict)
    """Networks that fit, by family."""
    blocks: int = 0
    """Blocks in force."""
    unsettled: bool = False
    """Things kept changing; the last round may not have published everything."""


class Pace:
    """Keeps updates apart. ``clock`` gives seconds, ``sleep`` waits for some."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0

    def wait(self) -> bool:
        """Whether it had to wait."""
        missing = self._free_at - self._clock()
        if missing <= 0:
            return False
        self._sleep(missing)
        return True

    def spend(self) -> None:
        self._free_at = self._clock() + PACE_S


class Publish:
    """Makes the IP sets equal to the wanted list."""

    def __init__(
        self, *, state: StateStore, ip_sets: IpSets, sets: Sequence[IpSet], clock: Callable[[], float], pace: Pace
    ) -> None:
        """``sets``: every configured set; ``clock``: epoch seconds."""
        self._state = state
        self._ip_sets = ip_sets
        self._sets = sets
        self._clock = clock
        self._pace = pace

    def __call__(self) -> PublishReport:
        """Raises only what the state store raises."""
        report = PublishReport()
        report.capacity = {family: CAPACITY * sum(s.family == family for s in self._sets) for family in (4, 6)}
        failed: dict[IpSet, str] = {}
        turn = 0
        for _ in range(MOST_ROUNDS):
            published, tokens = self._read(failed)
            changes = self._changes(published, report)
            # Round-robin: a family that changes all the time must not keep the others waiting.
            due = [s for s in (*self._sets[turn:], *self._sets[:turn]) if s in changes]
            if not due:
                break
            if self._pace.wait():
                continue
            ip_set = due[0]
            turn = (self._sets.index(ip_set) + 1) % len(self._sets)
            self._pace.spend()
            try:
                self._ip_sets.update(ip_set, changes[ip_set], tokens[ip_set])
                report.updates += 1
            except Conflict:
                report.conflicts += 1
            except Unavailable as exc:
                failed[ip_set] = str(exc)
        else:
            report.unsettled = True
        report.failures = [f"{ip_set.name}: {why}" for ip_set, why in failed.items()]
        return report

    def _read(self, failed: dict[IpSet, str]) -> tuple[dict[IpSet, frozenset[Network]], dict[IpSet, str]]:
        published, tokens = {}, {}
        for ip_set in self._sets:
            if ip_set in failed:
                continue
            try:
                published[ip_set], tokens[ip_set] = self._ip_sets.get(ip_set)
            except Unavailable as exc:
                failed[ip_set] = str(exc)
        return published, tokens

    def _changes(
        self, published: dict[IpSet, frozenset[Network]], report: PublishReport
    ) -> dict[IpSet, frozenset[Network]]:
        now = int(self._clock())
        pause = self._state.get(Pause.kind, Pause.id)
        released = pause is not None and (read := Pause.read(pause.body)).paused and read.release
        blocks = [] if released else [Block.read(item.body) for item in self._state.query(Block.kind)]
        report.blocks = sum(block.until > now for block in blocks)
        rooms = {family: CAPACITY * sum(s.family == family for s in published) for family in (4, 6)}
        report.wanted = wanted(blocks, allowlist(self._state, now), rooms, now)
        changes: dict[IpSet, frozenset[Network]] = {}
        for family in (4, 6):
            ours = {s: networks for s, networks in published.items() if s.family == family}
            changes |= plan(report.wanted.networks[family], ours)
        return changes


def allowlist(state: StateStore, now: int) -> NetworkSet:
    """The networks on the allowlist at ``now``, as stored this moment."""
    entries = (Allow.read(item.body) for item in state.query(Allow.kind))
    return NetworkSet(entry.parsed() for entry in entries if entry.holds(now))
