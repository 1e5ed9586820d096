"""The busiest clients under each rule."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from chalicelib.admin.answers import LogName, TimedAnswer, at_most
from chalicelib.admin.errors import NotFound
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.schemas import TopQuery
from chalicelib.core.addresses import Network, NetworkSet, network_of
from chalicelib.core.latest_window import busiest
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import Action, Rule
from chalicelib.core.state import Block
from chalicelib.pipeline.stored import State


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """One of the busiest clients."""

    network: str
    count: int
    """Requests in the window."""
    blocked_until: int | None
    """First second at which it is no longer blocked. Epoch seconds."""
    allowlisted: bool


class Busiest(msgspec.Struct, frozen=True, kw_only=True):
    """The busiest clients under one rule, as counted in one log."""

    rule: str
    source: LogName
    limit: int
    window_s: int
    action: Action
    from_ms: int
    """Start of the window, inclusive. Epoch milliseconds."""
    to_ms: int
    """End of the window, exclusive. Epoch milliseconds."""
    clients: Annotated[list[Busy], at_most(100)]
    """Busiest first."""


class Top(TimedAnswer, frozen=True):
    """The busiest clients under each rule."""

    rules: Annotated[list[Busiest], at_most(200)]


def busiest_clients(state: State, live: LiveCounts, query: TopQuery, *, sample_rate: int, now_ms: int) -> Top:
    """Returns the busiest clients under each rule, or under one; ``live`` must be fresh.

    Raises NotFound for an unknown rule.
    """
    known = [other.name for other in live.rules.rules]
    if query.rule is not None and query.rule not in known:
        raise NotFound(f"There is no rule {query.rule!r}. Existing rules: {', '.join(known) or 'none'}.")
    allowlist = state.allowlist(now_ms // 1000)

    def under(rule: Rule, source: Source) -> Busiest:
        window = live.window(rule, now_ms)
        counts = {
            network_of(key, *rule.prefixes): count * 100 // sample_rate
            for key, count in busiest(live.view.clients(source, rule), window, query.n)
        }
        return Busiest(
            rule=rule.name,
            source=source,
            limit=rule.limit,
            window_s=rule.window_s,
            action=rule.action,
            from_ms=window.first * rule.slot_ms,
            to_ms=window.end * rule.slot_ms,
            clients=_clients(state, counts, allowlist, now_ms // 1000),
        )

    rules = [under(each, source) for each, source in live.counted() if query.rule in (None, each.name)]
    return Top(now=now_ms // 1000, rules=rules)


def _clients(state: State, counts: Mapping[Network, int], allowlist: NetworkSet, now: int) -> list[Busy]:
    blocks = state.get_many(Block, [str(network) for network in counts])
    until = {id: block.record.until for id, block in blocks.items() if block.record.in_force(now)}
    return [
        Busy(
            network=str(network),
            count=count,
            blocked_until=until.get(str(network)),
            allowlisted=allowlist.overlaps(network),
        )
        for network, count in counts.items()
    ]
