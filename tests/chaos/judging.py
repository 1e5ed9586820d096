"""Checks that must hold after every run, regardless of its mishaps."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from chalicelib.core.ipsets import rooms_of
from chalicelib.core.responses import hardness
from chalicelib.core.rules import RuleSet
from chalicelib.core.state import Allow, Block
from chalicelib.pipeline.stored import State
from chalicelib.ports import Item
from sluice.local.stores import StateChange
from tests.support.damaged import DAMAGED, HELD
from tests.support.simulation.ingesting import Made, Violation, judge_counts, judge_detections, offenders
from tests.support.simulation.publishing import difference, published_by, wanted_networks

if TYPE_CHECKING:
    from tests.chaos.pipeline import Chaos

MANUAL_BLOCK = "203.0.113.0/24"


BLOCKED_AND_DAMAGED = frozenset(item.id for item in DAMAGED.values() if item.kind == Block.kind)
"""Ids of blocks that never could be read: they are no networks of clients."""


def _block(item: Item | None) -> Block | None:
    """Returns the block in an item, unless it cannot be read."""
    block = Block.read(item.id, item.body) if item else None
    return block if isinstance(block, Block) else None


class Judge:
    """Watches the blocks of one run."""

    def __init__(self, rules: RuleSet, most_skew_s: float) -> None:
        self._rules = rules
        self._most_skew_s = most_skew_s
        self._phase: Sequence[Made] = ()
        self._in_force: set[str] = set()
        """Networks with a block at some moment of the phase."""
        self._ever_allowed: set[str] = set()

    def begin(self, requests: Sequence[Made], chaos: "Chaos") -> None:
        self._phase = requests
        self._in_force = {item.id for item in chaos.state.query(Block.kind)} - BLOCKED_AND_DAMAGED

    def saw(self, changes: Sequence[StateChange], now: float) -> None:
        """Raises Violation for a block that was lifted early by every clock."""
        for change in changes:
            item = change.new or change.old
            assert item is not None
            if item.kind == Allow.kind:
                self._ever_allowed |= {HELD.get(item.id, item.id)} - {"office", " "}
            if item.kind != Block.kind or item.id in BLOCKED_AND_DAMAGED:
                continue
            self._in_force.add(item.id)
            before = _block(change.old)
            after = _block(change.new)
            if before and not change.new and before.ends_at > now + self._most_skew_s:
                raise Violation(f"the block of {before.network} was lost {before.ends_at - now:.0f} s before its end")
            if before and after:
                self._not_softened(before, after, now)

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
            for name in offenders(rule, self._phase):
                network = ip_network(name)
                containing = {network.supernet(new_prefix=length) for length in range(network.prefixlen + 1)}
                if covers.isdisjoint(containing) and not any(map(network.overlaps, exempt)):
                    raise Violation(f"{name} broke {rule.name} and was never blocked")
        self._published(chaos)

    def end(self, chaos: "Chaos") -> None:
        """Checks the state once all blocks but the manual one have expired."""
        left = {block.network for block in State(chaos.state).records(Block)}
        if left != {MANUAL_BLOCK}:
            raise Violation(f"only {MANUAL_BLOCK} is to be left, found {sorted(left)}")
        self._published(chaos)

    def _published(self, chaos: "Chaos") -> None:
        now = chaos.schedule.now
        sets = chaos.config.ip_sets
        rooms = rooms_of(sets)
        expected, published = wanted_networks(chaos.state, now, rooms), published_by(chaos.waf, sets)
        # A publisher whose clock is wrong sees a block end too early or too late.
        ends = [end for block in State(chaos.state).records(Block) for end in block.ends.values()]
        moments = [now, *(end for end in ends if abs(end - now) <= self._most_skew_s)]
        if all(wanted_networks(chaos.state, moment, rooms) != published for moment in moments):
            raise Violation(difference(published, expected))
