"""A publisher's memory and an enforcer over one state table, which block guilty networks."""

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.ipsets import SetGroup
from chalicelib.core.responses import Response
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.publishing import GuiltyNetworks, Heartbeat
from chalicelib.edges.events import state_changes
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.enforce import Enforce
from chalicelib.pipeline.followed_blocks import FollowedBlocks
from chalicelib.pipeline.lifting import lift
from chalicelib.pipeline.network_blocks import NetworkNotes
from chalicelib.pipeline.stored import State
from chalicelib.ports import StreamChange
from sluice.local.events import state_event
from tests.support.clock import Clock
from tests.support.known import remember
from tests.support.state import NOW, UNREACHED, Store, detection

TERMS = "[networks]\n"
RULE = '[[rule]]\nname = "burst"\nlimit = 10\nwindow = "5s"\n'
FLEET = [f"192.0.2.{number}/32" for number in range(0, 240, 30)]
NETWORK = "192.0.2.0/24"


class Site:
    """A publisher's memory and an enforcer over one state table, which remembers clients."""

    def __init__(self, rules: str = TERMS + RULE) -> None:
        self.store = Store()
        self.clock = Clock(NOW)
        self.rules = parse_rules(rules)
        self.room = 10_000
        """Networks that fit into the IP sets."""
        remember(self.store, ["198.51.100.7/32"], NOW)
        self.state = State(self.store)
        self.followed = FollowedBlocks(self.state, self.clock)
        self.notes = NetworkNotes(self.state, lambda _: RulesInUse(self.rules))
        self.enforcer = Enforce(
            state=self.state, clock=self.clock, limits=UNREACHED, rules=lambda _: RulesInUse(self.rules)
        )

    def minute(self) -> list[Block]:
        """Lets the heartbeat arrive, and everything that follows from it; returns the blocks made."""
        self.note()
        self.note()  # The first time, the publisher has yet to read the blocks.
        return self.enforce()

    def note(self, *, beat: bool = True) -> None:
        """Lets the changes arrive and, with ``beat``, the heartbeat."""
        changes = state_changes(state_event(self.store.changes))
        self.store.changes.clear()
        if beat:
            changes = [*changes, StreamChange(Heartbeat.kind, Heartbeat.id, None, True)]
        self.followed.follow(changes)
        self.notes.follow(changes)
        rooms = {SetGroup(Response.BLOCK, 4): self.room}
        surplus = self.followed.current().wanted(NetworkSet(()), rooms, int(self.clock.now)).surplus(rooms)
        self.notes.note(self.followed, int(self.clock.now), surplus)

    def enforce(self) -> list[Block]:
        return self.enforcer.run([StreamChange(GuiltyNetworks.kind, GuiltyNetworks.id, b"{}", True)]).blocks

    def offend(self, *networks: str) -> None:
        of = detection(*networks, at=int(self.clock.now), id=f"log/{self.clock.now}/{networks[0]}")
        self.enforcer.run([StreamChange(of.kind, of.id, of.to_json(), False)])

    def lift(self, network: str = NETWORK) -> None:
        stored = self.state.get(Block, network)
        assert stored is not None
        lift(self.state, [stored], int(self.clock.now))

    def network(self) -> Block | None:
        return self.store.blocks().get(NETWORK)
