"""Publish: makes the IP sets equal to the list of networks to block (docs/state-protocol.md, G6).

For each update it (a) reads the tokens of all sets, and the contents of those that it does not know, (b) brings the
list up to date, and (c) replaces one set that differs, under its token; then it starts again at (a), until nothing
differs. Because the token is read before the list, a publisher with an older list fails if one with a newer list has
written in between. If the newer list required no write, the older one is written, and the last round corrects it.

What is remembered costs neither calls nor units: the contents of a set belong to its token, and the blocks follow the
stream (``followed_blocks``). The allowlist and the pause are read in each round.

No other function calls WAF, so none uses up AWS's quota of one update and five reads per second, and none waits for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import uuid4

from chalicelib.core.addresses import Network, NetworkSet
from chalicelib.core.ipsets import BlockList, IpSet, SetGroup, Wanted, next_contents, rooms_of
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import Heartbeat, Recall
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.followed_blocks import FollowedBlocks
from chalicelib.pipeline.network_blocks import NetworkNotes
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.tally_logs import TimeLeft, unlimited
from chalicelib.ports import Conflict, IpSets, StreamChange, Throttled, Unavailable
from chalicelib.reports import PublishReport

PACE_S = 1.1
"""Seconds between updates: AWS accepts one UpdateIPSet per second and account."""

DELIVERY_S = 0.25
"""Seconds until Lambda delivers the next changes: it polls a table's stream four times per second."""

MOST_ROUNDS = 40
"""Most rounds in a row that lead to no update."""

ENOUGH_S = 30
"""Seconds after which a set that has been updated may differ again: the next delivery is about what has changed."""

LEAST_LEFT_S = 20
"""Time that an invocation must have left to begin another round."""

NEW_S = 300
"""Greatest age of a block whose time to block is measured. One decided earlier was moved, and is not new."""

READ_RETRIES = 5
"""Most retries of a throttled read of one IP set, ``PACE_S`` apart."""

CONTROLS = frozenset((Pause.id, Heartbeat.id, Recall.id))
"""Control records that require a publish."""

Addresses = frozenset[Network]


class SetRead(NamedTuple):
    """The contents of an IP set, and the token that belongs to them."""

    addresses: Addresses
    token: str


class SetsRead(NamedTuple):
    """The contents and tokens of the IP sets that could be read; the reasons for the others; the throttled attempts."""

    published: Mapping[IpSet, Addresses]
    tokens: Mapping[IpSet, str]
    failed: Mapping[IpSet, str]
    throttled: int


class SetsCompared(NamedTuple):
    """The list at one moment, and the new contents of each set that differs from it."""

    wanted: Wanted
    fill: dict[SetGroup, float]
    """Share of the capacity that is used, by group."""
    changes: Mapping[IpSet, Addresses]
    allowlist: NetworkSet


class Publish:
    """One container's publisher."""

    def __init__(
        self,
        *,
        state: State,
        ip_sets: IpSets,
        sets: Sequence[IpSet],
        rules: Callable[[int], RulesInUse],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        warn: Callable[[Mapping[SetGroup, float], int], None] = lambda *_: None,
    ) -> None:
        """``sets``: all configured sets; ``rules`` returns those in use at a time in ms; ``clock`` returns epoch
        seconds; ``sleep`` waits for a number of seconds. ``warn`` gets the share of each group's capacity that is used,
        and the time in epoch seconds."""
        self._state = state
        self._ip_sets = ip_sets
        self._sets = sets
        self._clock = clock
        self._sleep = sleep
        self._warn = warn
        self._free_at = 0.0
        self._queue = list(sets)
        """The sets, the least recently updated first."""
        self._was_pressing = False
        """True if the set that was updated last gained a network, or lost one that overlapped the allowlist."""
        self._blocks = FollowedBlocks(state, clock)
        self._networks = NetworkNotes(state, rules)
        self._known: dict[IpSet, SetRead] = {}
        self._fruitless = 0
        """Rounds in a row that led to no update, although something differed."""
        self._arrivals: list[int] = []
        self._updates = 0
        """Times of arrival behind the blocks that are not published yet, and the updates since."""

    def run(
        self, changes: Sequence[StreamChange], time_left: TimeLeft = unlimited, *, waits: bool = True
    ) -> PublishReport | None:
        """Publishes if ``changes`` require it; returns None if nothing was compared. ``time_left`` returns seconds.

        Without ``waits``, it does not wait for AWS's pace: it stores a ``Recall`` and ends. The stream delivers that
        with everything that has changed meanwhile, from all of its shards, and the next update holds all of it.

        Raises Contended and what the state store raises. The sweep's heartbeat requires it every minute, which repairs
        failures and changes by others to the IP sets.
        """
        causes = [c for c in changes if c.kind in (Block.kind, Allow.kind) or c.id in CONTROLS]
        if not causes:
            return None
        self._blocks.follow(causes)
        self._networks.follow(causes)
        self._arrivals += _arrivals(causes, since=int(self._clock()) - NEW_S)
        if not waits and self._missing_s() > DELIVERY_S:
            self._recall()
            return None
        self._keep_pace()
        report = self._settle(time_left, waits=waits)
        self._blocks.note()
        now = int(self._clock())
        self._networks.note(self._blocks, now, report.wanted.surplus(rooms_of(self._sets)))
        self._warn(report.fill, now)
        if not report.recalled:
            if self._arrivals and self._updates:
                report.time_to_block_ms = int(self._clock() * 1000) - min(self._arrivals)
            self._arrivals, self._updates = [], 0
        return report

    def _settle(self, time_left: TimeLeft, *, waits: bool) -> PublishReport:
        """Reads and updates in rounds, until nothing differs or it has been long enough."""
        report = PublishReport()
        failed: dict[IpSet, str] = {}
        updated: set[IpSet] = set()
        reads_all = not self._blocks.known
        begun = self._clock()
        while True:
            report.rounds += 1
            read = self._read([ip_set for ip_set in self._sets if ip_set not in failed])
            failed |= read.failed
            report.throttled += read.throttled
            compared = self._compare(read.published)
            report.wanted, report.fill, changes, _ = compared
            if not changes:
                self._was_pressing = False
                break
            self._fruitless += 1
            if self._fruitless >= MOST_ROUNDS or time_left() < LEAST_LEFT_S:
                why = f"still differed after {report.rounds} rounds"
                failed |= {ip_set: why for ip_set in changes if ip_set not in updated}
                break
            if self._clock() > begun + ENOUGH_S and changes.keys() <= updated:
                break
            if not waits and self._missing_s() > DELIVERY_S:
                self._recall()
                report.recalled = True
                break
            if self._keep_pace():
                if reads_all:
                    self._blocks.forget()  # and so includes what has changed during the wait
                continue
            ip_set = self._next(compared, read.published)
            match self._update(ip_set, changes[ip_set], read.tokens[ip_set]):
                case None:
                    report.updates += 1
                    updated.add(ip_set)
                case Conflict():
                    report.conflicts += 1
                    self._blocks.forget()
                case Throttled():
                    report.throttled += 1
                case refusal:
                    failed[ip_set] = str(refusal)
        if not report.recalled:
            self._fruitless = 0
        report.failures = [f"{ip_set.name}: {reason}" for ip_set, reason in failed.items()]
        return report

    def _read(self, sets: Sequence[IpSet]) -> SetsRead:
        """Reads those of ``sets`` whose contents are not known.

        A throttled read is retried, because there may be more sets than reads per second.
        """
        try:
            latest = self._ip_sets.tokens(sets) if self._known else {}
        except Unavailable:
            latest = {}  # Reading each set gives the same result, with more calls.
        published, tokens, failed, throttled = {}, {}, {}, 0
        for ip_set in sets:
            known = self._known.get(ip_set)
            for attempt in range(READ_RETRIES + 1):
                try:
                    if known is None or latest.get(ip_set) != known.token:
                        known = self._known[ip_set] = SetRead(*self._ip_sets.get(ip_set))
                    published[ip_set], tokens[ip_set] = known
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
        blocks = self._blocks.current()
        if self._state.pause(now).released:
            blocks = BlockList()
        rooms = rooms_of(published)
        allowlist = self._state.allowlist(now)
        # What belongs in a group of which no set can be read has to wait, and is left where it is meanwhile.
        listed = blocks.wanted(allowlist, rooms_of(self._sets) | rooms, now)
        fill = {group: len(listed.covers[group]) / room for group, room in rooms.items()}
        return SetsCompared(listed, fill, next_contents(listed.networks, published, allowlist), allowlist)

    def _next(self, compared: SetsCompared, published: Mapping[IpSet, Addresses]) -> IpSet:
        """Returns the set to update, and notes that it is its turn.

        While blocks end all the time, every set has networks to release. So that a new block does not wait for all of
        them, sets that gain a network, or lose one that overlaps the allowlist, take turns with the others, each kind
        in the order of their last updates.
        """
        pressing = {
            ip_set
            for ip_set, networks in compared.changes.items()
            if networks - published[ip_set] or any(map(compared.allowlist.overlaps, published[ip_set] - networks))
        }
        others = compared.changes.keys() - pressing
        is_turn_of_others = bool(others) and (self._was_pressing or not pressing)
        ip_set = next(s for s in self._queue if s in (others if is_turn_of_others else pressing))
        self._queue.remove(ip_set)
        self._queue.append(ip_set)
        self._was_pressing = not is_turn_of_others
        return ip_set

    def _update(self, ip_set: IpSet, addresses: Addresses, token: str) -> Conflict | Unavailable | None:
        """Replaces a set's addresses, and remembers them. Returns the reason if it was rejected."""
        self._free_at = self._clock() + PACE_S
        try:
            token = self._ip_sets.update(ip_set, addresses, token)
        except (Conflict, Unavailable) as rejection:
            return rejection
        self._known[ip_set] = SetRead(addresses, token)
        self._updates += 1
        self._fruitless = 0
        return None

    def _missing_s(self) -> float:
        """Returns the seconds until the next update may be sent; not positive if it may be sent now."""
        return self._free_at - self._clock()

    def _keep_pace(self) -> bool:
        """Waits until the next update may be sent. Returns whether it waited."""
        missing = self._missing_s()
        if missing <= 0:
            return False
        self._sleep(missing + 0.001)
        return True

    def _recall(self) -> None:
        """Causes another invocation. What is left to do may be in memory only: the next leader reads everything."""
        self._state.overwrite(Recall(nonce=uuid4().hex))


def _arrivals(changes: Sequence[StreamChange], since: int) -> list[int]:
    """Returns when the records behind new blocks arrived, in epoch milliseconds."""
    new = [Block.read(c.id, c.body) for c in changes if c.kind == Block.kind and c.body and not c.existed]
    return [b.evidence.arrived_ms for b in new if isinstance(b, Block) and b.evidence and b.blocked_at >= since]
