"""Checks that must hold after every run, regardless of its mishaps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from chalicelib.core.addresses import NetworkSet, span_of
from chalicelib.core.breaker import FEWEST_HIT
from chalicelib.core.decisions import PROPAGATION_S, PUNISHED, Outcome, Standing, refusals
from chalicelib.core.detections import QUIET_MS
from chalicelib.core.ipsets import rooms_of
from chalicelib.core.logs.requests import Source
from chalicelib.core.responses import hardness
from chalicelib.core.rules import NETWORKS, Rule, RuleSet
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import MANUAL, Block, History, Past
from chalicelib.core.state.breakers import RuleBreaker
from chalicelib.core.state.detections import SERVED_WITHIN_LIMIT, Detection, Offender
from chalicelib.core.tally import RETENTION_S
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item
from sluice.local.stores import StateChange
from tests.chaos.adding_up import TrendJudge
from tests.chaos.recording import EventJudge
from tests.support.damaged import DAMAGED, HELD
from tests.support.simulation.ingesting import Made, Violation, judge_counts, judge_detections, masked, offenders
from tests.support.simulation.publishing import difference, published_by, wanted_networks

if TYPE_CHECKING:
    from tests.chaos.pipeline import Chaos

MANUAL_BLOCK = "203.0.113.0/24"
MOST_SKEW_S = 3.0
"""Clocks further apart than this may end short blocks before they began."""

MOST_LATE_S = 60
"""Seconds after its end within which a block is released (G7)."""

BLOCKED_AND_DAMAGED = frozenset(item.id for item in DAMAGED.values() if item.kind == Block.kind)
"""Ids of blocks that never could be read: they are no networks of clients."""


def _block(item: Item | None) -> Block | None:
    """Returns the block in an item, unless it cannot be read."""
    block = Block.read(item.id, item.body) if item else None
    return block if isinstance(block, Block) else None


def client_of(made: Made, rule: Rule) -> str:
    """Returns the network that a rule counts a request for."""
    return f"{masked(made.client, rule.ipv4_prefix)}/{rule.ipv4_prefix}"


def _may_refuse(chaos: "Chaos", network: str, at_ms: int) -> bool:
    """Returns whether the stored records of a network say that Sluice may have refused its requests then."""
    history, block = State(chaos.state).get(History, network), State(chaos.state).get(Block, network)
    standing = Standing(history.record if history else History(network=network), block.record if block else None)
    return any(span.meets(at_ms, at_ms) for span in refusals(standing, Source.CLOUDFRONT, PROPAGATION_S))


def _last_decision(chaos: "Chaos", network: str, rule: Rule) -> Past | None:
    history = State(chaos.state).get(History, network)
    return history.record.rules.get(rule.name) if history else None


def _came_too_late(past: Past | None, now: float) -> bool:
    """Returns whether an offence was so old when it was decided about, as after an outage, that it was only noted."""
    return past is not None and past.outcome == Outcome.STALE and past.evidence.last_ms < (now - RETENTION_S) * 1000


def _detected(changes: Iterable[StateChange]) -> Iterator[tuple[Detection, Offender]]:
    for item in (change.new for change in changes if change.new is not None and change.new.kind == Detection.kind):
        detection = Detection.read(item.id, item.body)
        if isinstance(detection, Detection):
            yield from ((detection, offender) for offender in detection.offenders)


def _latest_offences(detected: Iterable[tuple[Detection, Offender]]) -> Mapping[tuple[str, str], int]:
    """Returns when the last detected offence by served requests began, in milliseconds, by rule and network."""
    begins_ms: dict[tuple[str, str], int] = {}
    for detection, offender in detected:
        if offender.served_since_ms != SERVED_WITHIN_LIMIT:
            key = detection.terms.name, offender.network
            begins_ms[key] = max(begins_ms.get(key, 0), offender.served_since_ms or offender.since_ms)
    return begins_ms


class Judge:
    """Watches the blocks of one run."""

    def __init__(self, rules: RuleSet, most_skew_s: float) -> None:
        self._rules = rules
        self._most_skew_s = most_skew_s
        self._served: list[Made] = []
        self._unexplained: set[str] = set()
        """Clients that were refused though no block was in force, or had been shortly before: by what a mishap left."""
        self.damaged: set[str] = set()
        """Networks whose records a mishap has damaged."""
        self._phase: Sequence[Made] = ()
        self._earlier: set[str] = set()
        """Clients that made requests in an earlier phase, and may be known since."""
        self._stops: list[RuleBreaker] = []
        """Rules at the moments of the phase at which they were stopped."""
        self._in_force: set[str] = set()
        """Networks with a block at some moment of the phase."""
        self._ever_allowed: set[str] = set()
        self._blocks: dict[str, Block] = {}
        """The blocks that are stored and can be read."""
        self.undone: dict[str, int] = {}
        """Guilty networks whose blocks an operator has lifted, and when (epoch seconds)."""
        self._events = EventJudge()
        self._trends = TrendJudge()
        self._phases = 0

    def begin(self, requests: Sequence[Made], chaos: "Chaos") -> None:
        self._earlier |= {made.client for made in self._phase}
        self._phase = requests
        self._served, self._stops = [], []
        self._in_force = {item.id for item in chaos.state.query(Block.kind)} - BLOCKED_AND_DAMAGED

    def logged(self, made: Made, chaos: "Chaos") -> None:
        """Notes a request that is logged, and whether it was served."""
        if not made.refused:
            self._served.append(made)
            return
        names = {client_of(made, rule) for rule in self._rules.rules}
        if not any(_may_refuse(chaos, name, made.time_ms) for name in names):
            self._unexplained |= names

    def saw(self, changes: Sequence[StateChange], now: float) -> None:
        """Raises Violation for a block that was lifted early by every clock."""
        self._events.saw(changes)
        self._trends.saw(changes)
        for change in changes:
            item = change.new or change.old
            assert item is not None
            if item.kind == RuleBreaker.kind and change.new is not None:
                breaker = RuleBreaker.read(item.id, item.body)
                self._stops += [breaker] if isinstance(breaker, RuleBreaker) and breaker.stopped_at else []
            if item.kind == Allow.kind:
                self._ever_allowed |= {HELD.get(item.id, item.id)} - {"office", " "}
            if item.kind != Block.kind or item.id in BLOCKED_AND_DAMAGED:
                continue
            self._in_force.add(item.id)
            before = _block(change.old)
            after = _block(change.new)
            self._blocks.pop(item.id, None)
            if after:
                self._blocks[item.id] = after
            is_undone = before and before.rule == NETWORKS and self.undone.get(item.id) == int(now)
            if after and not before and after.rule == NETWORKS:
                self._not_forgiven(after, now)
            if before and not change.new and before.ends_at > now + self._most_skew_s and not is_undone:
                raise Violation(f"the block of {before.network} was lost {before.ends_at - now:.0f} s before its end")
            if before and after:
                self._not_softened(before, after, now)

    def _not_forgiven(self, block: Block, now: float) -> None:
        """Raises Violation if a guilty network is blocked again for clients blocked when an operator lifted it.

        So it is if any of them still is, by every clock. If its history was damaged, that it was lifted is not known.
        """
        if block.network in self.damaged:
            return
        network, undone_at = NetworkSet([ip_network(block.network)]), self.undone.get(block.network, 0)
        for client in self._blocks.values():
            is_member = client.rule not in (MANUAL, NETWORKS) and network.covers(span_of(client.network))
            was_blocked = is_member and client.refuses_from <= undone_at
            if was_blocked and client.ends_at > now + self._most_skew_s:
                raise Violation(
                    f"{block.network} was blocked again for {client.network}, which an operator had forgiven"
                )

    def _not_softened(self, before: Block, after: Block, now: float) -> None:
        """Raises Violation if a client's response was softened, or cut short, while it was in force by every clock."""
        moments = {end - 1 for end in before.ends.values() if end > now + self._most_skew_s}
        for moment in moments:
            was, is_now = before.response_at(moment), after.response_at(moment)
            if was is not None and (is_now is None or hardness(is_now) < hardness(was)):
                left = moment + 1 - now
                raise Violation(f"the block of {before.network} was cut short: {was} for {left:.0f} s, now {is_now}")

    def phase(self, chaos: "Chaos") -> None:
        """Checks the state after a phase, once the mishaps are over."""
        judge_counts(self._rules, chaos.run.made, chaos.ledger.appended)
        judge_detections(self._rules, chaos.run.made, chaos.changes)
        covers = {ip_network(name) for name in self._in_force}
        exempt = [ip_network(name) for name in self._ever_allowed]
        for rule in self._rules.rules:
            for name in offenders(rule, self._served):
                network = ip_network(name)
                containing = {network.supernet(new_prefix=length) for length in range(network.prefixlen + 1)}
                excused = any(map(network.overlaps, exempt)) or self._is_withheld(rule, name)
                too_late = _came_too_late(_last_decision(chaos, name, rule), chaos.schedule.now)
                if covers.isdisjoint(containing) and not (excused or too_late):
                    raise Violation(f"{name} broke {rule.name} and was never blocked")
        self._punished(chaos)
        self._published(chaos)
        damaged = any(mishap.kind == "unreadable records" for mishap in chaos.mishaps)
        self._trends.judge(chaos, lost=damaged or self._phases > 0)
        self._phases += 1

    def _is_withheld(self, rule: Rule, name: str) -> bool:
        """Returns whether the rule was rightly stopped in this phase, with this network among those it would have hit.

        Rightly: more clients of an earlier phase than always pass are within these networks.
        """
        for stop in self._stops:
            if stop.rule == rule.name and name in stop.clients:
                hit = NetworkSet(map(ip_network, stop.clients))
                if sum(hit.covers(span_of(client)) for client in self._earlier) > FEWEST_HIT:
                    return True
        return False

    def _punished(self, chaos: "Chaos") -> None:
        """Checks that what was served counts, also after a punishment, and that what Sluice refused does not."""
        detected = list(_detected(chaos.changes))
        begins_ms = _latest_offences(detected)
        # A log that is evaluated again has the same detection, with what has been merged meanwhile.
        by_served = {(d.id, o.network) for d, o in detected if o.served_since_ms != SERVED_WITHIN_LIMIT}
        not_judged = [ip_network(name) for name in (*self._ever_allowed, *(self.damaged - BLOCKED_AND_DAMAGED))]
        for rule in self._rules.rules:
            names = {client_of(made, rule) for made in self._phase}
            served = offenders(rule, self._served)
            for name in sorted(names):
                if any(map(ip_network(name).overlaps, not_judged)) or self._is_withheld(rule, name):
                    continue
                last = _last_decision(chaos, name, rule)
                past = last if last is not None and last.outcome in PUNISHED else None
                if past is None and name in served and not _came_too_late(last, chaos.schedule.now):
                    raise Violation(f"{name} broke {rule.name} by requests that were served, and was never punished")
                if past is None or self._most_skew_s > MOST_SKEW_S:
                    continue
                if begins_ms.get((rule.name, name), 0) >= past.until * 1000:
                    raise Violation(f"{name} was detected to break {rule.name} after {past.until}, and not punished")
                # What begins earlier may have been taken for one with the last offence that was reported.
                quiet_until_ms = (past.until + rule.window_s) * 1000 + QUIET_MS
                if name in offenders(rule, [m for m in self._served if m.time_ms >= quiet_until_ms]):
                    raise Violation(f"{name} broke {rule.name} again after {past.until}, and was not punished again")
                begun_ms = min(made.time_ms for made in self._phase)
                is_explained = not self._most_skew_s and name not in self._unexplained
                is_by_served = name in served and (past.evidence.detection, name) in by_served
                if is_explained and past.evidence.last_ms >= begun_ms and not is_by_served:
                    raise Violation(f"{name} was punished under {rule.name} for requests that Sluice refused")

    def end(self, chaos: "Chaos") -> None:
        """Checks the state once all blocks but the manual one have expired."""
        left = {block.network for block in State(chaos.state).records(Block)}
        if left != {MANUAL_BLOCK}:
            raise Violation(f"only {MANUAL_BLOCK} is to be left, found {sorted(left)}")
        self._events.judge(self.damaged)
        self._published(chaos)

    def _published(self, chaos: "Chaos") -> None:
        now = chaos.schedule.now
        sets = chaos.config.ip_sets
        rooms = rooms_of(sets)
        expected, published = wanted_networks(chaos.state, now, rooms), published_by(chaos.waf, sets)
        # A publisher whose clock is wrong sees a block end too early or too late; one may have looked before its end.
        ends = [end for block in State(chaos.state).records(Block) for end in block.ends.values()]
        moments = [now, *(end for end in ends if abs(end - now) <= self._most_skew_s)]
        moments += [end - 1 for end in ends if 0 <= now - end <= MOST_LATE_S]
        if all(wanted_networks(chaos.state, moment, rooms) != published for moment in moments):
            raise Violation(difference(published, expected))
