"""A state table with the records that tests of enforce, sweep and publish need."""

from collections.abc import Callable, Sequence

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.breaker import Limits
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Action, Escalation
from chalicelib.core.rules_toml import parse_rules
from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.breakers import Breaker
from chalicelib.core.state.detections import Detection, Offender, Terms
from chalicelib.core.state.operators import Pause
from chalicelib.core.state.publishing import Heartbeat
from chalicelib.core.tally import RETENTION_S
from chalicelib.pipeline.active_rules import RulesInUse
from chalicelib.pipeline.enforce import Enforce
from chalicelib.pipeline.stored import State
from chalicelib.ports import Conflict, Item, StateStore, StreamChange, Write
from sluice.local.stores import MemoryStateStore

NOW = 1_760_000_000
CLIENT = "192.0.2.1/32"


class Store(MemoryStateStore):
    """A store that calls ``meddle`` once, just before the next write, as if a rival were quicker."""

    def __init__(self) -> None:
        super().__init__()
        self.meddle: Callable[[], object] | None = None
        self.lost: int = 0
        self.writes: list[int] = []

    def write(self, writes: Sequence[Write]) -> None:
        if self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle()
        if self.lost:
            self.lost -= 1
            raise Conflict("a rival was quicker")
        self.writes.append(len(writes))
        super().write(writes)

    def put(self, record: Block | Allow | Pause | Breaker | History, id: str) -> None:
        """Replaces whatever is stored, with the next version."""
        stored = self.get(record.kind, id)
        self.put_over([Item(kind=record.kind, id=id, body=record.to_json(), version=stored.version if stored else 0)])

    def block(self, network: str = CLIENT, *, until: int = NOW + 600, rule: str = "burst", at: int = NOW) -> Block:
        block = Block(network=network, blocked_at=at, until=until, rule=rule, offence=1)
        self.put(block, network)
        return block

    def allow(self, network: str, *rules: str, expires_at: int | None = None) -> None:
        self.put(Allow(network=network, expires_at=expires_at, rules=rules), network)

    def blocks(self) -> dict[str, Block]:
        return {block.id: block.record for block in State(self).all(Block)}

    def history(self, network: str = CLIENT) -> History:
        stored = State(self).get(History, network)
        assert stored is not None
        return stored.record


def terms(
    name: str = "burst",
    *,
    action: Action = Action.BLOCK,
    extend: bool = False,
    memory_s: int = 86400,
    block_for_s: int = 600,
    window_s: int = 5,
) -> Terms:
    return Terms(
        name=name,
        limit=10,
        window_s=window_s,
        action=action,
        block_for_s=block_for_s,
        extend=extend,
        escalate=Escalation(factor=2, max_s=max(2000, block_for_s), memory_s=memory_s),
    )


def detection(
    *networks: str,
    at: int = NOW,
    of: Terms | None = None,
    id: str = "log/0/burst/cloudfront",
    served_since_ms: int = 0,
) -> Detection:
    """Returns a detection whose last request was made at ``at``, in epoch seconds, and the first two seconds before."""
    first_ms, last_ms = (at - 2) * 1000, at * 1000
    offenders = tuple(
        Offender(network, 11, first_ms, last_ms, first_ms, served_since_ms) for network in networks or (CLIENT,)
    )
    return Detection(
        id=id,
        terms=of or terms(),
        source=Source.CLOUDFRONT,
        offenders=offenders,
        detected_ms=at * 1000,
        arrived_ms=at * 1000,
    )


RULES = parse_rules('[[rule]]\nname = "burst"\nlimit = 10\nwindow = "5s"\naction = "block"\n')
"""The rule of ``terms``."""

UNREACHED = Limits(share=100, pace=1_000_000)
"""Limits of the breakers that stop no rule."""


def new_enforcer(
    store: StateStore,
    clock: Callable[[], float],
    *,
    enforcer: type[Enforce] = Enforce,
    limits: Limits = UNREACHED,
    stale_after_s: int = RETENTION_S,
    proxies: NetworkSet | None = None,
) -> Enforce:
    return enforcer(
        state=State(store),
        clock=clock,
        limits=limits,
        rules=lambda _: RulesInUse(RULES),
        stale_after_s=stale_after_s,
        proxies=proxies,
    )


def stream_changes(*records: Detection | Block | Allow | Pause | Heartbeat) -> list[StreamChange]:
    return [StreamChange(record.kind, record.id, record.to_json(), False) for record in records]
