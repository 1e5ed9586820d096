"""Mishaps: the list of faults of a run, drawn before it begins, so that a failed run can be repeated with fewer.

A mishap at a *point* strikes the first matching call of any function after its time; the others affect the environment.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from chalicelib.core.state.detections import Detection
from chalicelib.edges.state_table import PARTS, SPREAD_KINDS, partition_key
from chalicelib.ports import Conflict, Throttled, Unavailable
from tests.support.simulation.schedule import Crash, Faults, Schedule

MOST = 14
STATE = "get|query|put|write"
KEY_THROTTLED = "keys throttled"
TALLIES = "append|read|last|latest|register|position|store|how far"

POINTS = {
    "throttled": f"before ({STATE}|{TALLIES})",
    "timed out after the write": "after (append|register|write|put|store|UpdateIPSet)",
    "partial read": "read between|after get several|after last|after latest",
    "lock lost": "before UpdateIPSet",
    "WAF throttled": "before (GetIPSet|UpdateIPSet)",
    "killed": "",
    "killed before it detects": "before put detection",
    "killed before it stores its position": "before store position",
    "frozen": "",
}
"""Kinds that strike a call, and the prefixes of the points they strike."""

OUTAGES = {
    "state table unreachable": f"before ({STATE})",
    "tally table unreachable": f"before ({TALLIES})",
    "bucket unreachable": "before read bucket",
    KEY_THROTTLED: f"before ({STATE})",
}
"""Kinds that strike every call for a while; one of them only the calls for some partition keys of the state table."""

HOT_KEYS = (
    {Detection.kind},
    *({f"{kind}#{part:02}" for kind in SPREAD_KINDS for part in range(first, PARTS, 4)} for first in range(4)),
)
"""Partition keys of the state table that DynamoDB throttles together, and no others."""

WORLD = (
    "given up",
    "delivered twice",
    "notified again",
    "late shard",
    "split",
    "merge",
    "redeployed",
    "IP set edited",
    "IP set deleted",
    "ring lost",
    "ring doubled",
    "rings late",
    "position from the future",
    "position lost",
    "unreadable records",
    "records damaged",
)
LASTING = {
    "frozen": (60, 300, 900, 9000),
    "late shard": (60, 600, 1200),
    "IP set deleted": (30, 300),
    "rings late": (30, 300, 1200),
}
OUTAGE_S = 600
BETWEEN_PHASES = "stream recreated"
KINDS = (*POINTS, *OUTAGES, *WORLD, BETWEEN_PHASES)

ERRORS: dict[str, type[BaseException]] = {
    "throttled": Throttled,
    "timed out after the write": Unavailable,
    "partial read": Unavailable,
    "lock lost": Conflict,
    "WAF throttled": Throttled,
    KEY_THROTTLED: Throttled,
    "killed": Crash,
    "killed before it detects": Crash,
    "killed before it stores its position": Crash,
}
FUNCTIONS = ("container", "import_objects", "evaluate", "enforce", "publish", "sweep")
"""Names of the functions' tasks; those of ingest are its containers."""


@dataclass(frozen=True, slots=True)
class Mishap:
    kind: str
    phase: int
    at: float
    """Seconds after the phase began."""
    function: str = ""
    """The function it strikes; any if empty."""
    lasts: float = 0.0
    number: int = 0
    """Number of the shard, container or IP set, where there are several."""

    def __str__(self) -> str:
        target = f" ({self.function})" if self.function else ""
        length = f", for {self.lasts:.0f} s" if self.lasts else ""
        return f"phase {self.phase}, {self.at:6.1f} s: {self.kind}{target}{length}"


def plan(random: Random, *, phases: int, length_s: float) -> list[Mishap]:
    """Returns the mishaps of a run, in order; outages and late shards keep the lag well under an hour."""
    kinds = random.sample(KINDS, random.randint(1, len(KINDS)))
    planned: list[Mishap] = []
    for _ in range(random.randint(1, MOST)):
        kind = random.choice(kinds)
        lasts = float(random.choice(LASTING[kind])) if kind in LASTING else OUTAGE_S if kind in OUTAGES else 0.0
        if kind in (*OUTAGES, "late shard") and any(kind == other.kind for other in planned):
            continue
        planned.append(
            Mishap(
                kind,
                phase=random.randrange(phases),
                at=random.uniform(0, length_s),
                function=random.choice(FUNCTIONS) if kind in ("killed", "frozen") else "",
                lasts=lasts,
                number=random.randrange(100),
            )
        )
    return sorted(planned, key=lambda mishap: (mishap.phase, mishap.at))


class Mishaps(Faults):
    """The mishaps that strike calls, raised at the points of a schedule."""

    def __init__(self) -> None:
        super().__init__(Random(0), chance=0, most=0)
        self.struck: Counter[str] = Counter()
        self.struck_at = 0.0
        """Time of the last one; its effects begin then, however long it has waited for its call."""
        self.schedule: Schedule
        self._waiting: list[tuple[float, Mishap]] = []
        self._outages: list[tuple[float, Mishap]] = []

    def begin(self, mishaps: Sequence[Mishap], now: float) -> None:
        """Starts the mishaps of a phase that begins ``now``."""
        self._waiting = [(now + mishap.at, mishap) for mishap in mishaps if mishap.kind in POINTS]
        self._outages = [(now + mishap.at, mishap) for mishap in mishaps if mishap.kind in OUTAGES]

    @property
    def over_at(self) -> float:
        """Returns when the last outage ends."""
        return max((begins + mishap.lasts for begins, mishap in self._outages), default=0.0)

    def at(self, point: str) -> BaseException | None:
        now, task = self.schedule.now, self.schedule.running
        assert task is not None
        for begins, mishap in self._outages:
            if begins <= now < begins + mishap.lasts and re.match(OUTAGES[mishap.kind], point):
                if mishap.kind == KEY_THROTTLED and _keys(point).isdisjoint(HOT_KEYS[mishap.number % len(HOT_KEYS)]):
                    continue
                self.struck[mishap.kind] += 1
                return ERRORS.get(mishap.kind, Unavailable)(f"injected {mishap.kind}")
        for waiting in self._waiting:
            begins, mishap = waiting
            if begins > now or not task.name.startswith(mishap.function) or not re.match(POINTS[mishap.kind], point):
                continue
            self._waiting.remove(waiting)
            self.struck[mishap.kind] += 1
            self.struck_at = now
            if mishap.kind == "frozen":
                self.schedule.trace.append(f"{task.name}: {point} !frozen for {mishap.lasts:.0f} s")
                self.schedule.sleep(mishap.lasts)
                return None
            return ERRORS[mishap.kind](f"injected {mishap.kind} {point}")
        return None


def _keys(point: str) -> set[str]:
    """Returns the partition keys of the state table that the call at ``point`` reads or writes.

    >>> sorted(_keys("before write block 192.0.0.1/32 offence 192.0.0.1/32"))
    ['block#04', 'offence#04']
    >>> _keys("before put detection")
    {'detection'}
    """
    call, *words = point.removeprefix("before ").removeprefix("after ").split()
    if call == "write":
        return {partition_key(kind, id) for kind, id in zip(words[::2], words[1::2], strict=False)}
    if words[:1] == ["several"]:
        words = words[1:]
    kind, *ids = words
    if call == "query" and kind in SPREAD_KINDS:
        return {f"{kind}#{part:02}" for part in range(PARTS)}
    return {partition_key(kind, id) for id in ids or [""]}
