"""The busiest clients under each rule."""

from typing import Annotated

import msgspec

from chalicelib.admin.answers import RuleCount, TimedAnswer, at_most
from chalicelib.admin.errors import NotFound
from chalicelib.admin.live_counts import LiveCounts
from chalicelib.admin.schemas import TopQuery
from chalicelib.core.addresses import network_of, network_span
from chalicelib.core.allowance import Allowance
from chalicelib.core.latest_window import busiest
from chalicelib.core.logs.requests import Source
from chalicelib.core.portraits import Portrait
from chalicelib.core.rules import Rule
from chalicelib.core.sampling import Sampling
from chalicelib.core.state.blocks import Block
from chalicelib.pipeline.stored import State

MOST_PORTRAITS = 10
"""Most clients of a list whose portraits are returned, the busiest: 200 lists then stay below Lambda's 6 MB."""


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """One of the busiest clients."""

    network: str
    count: int
    """Requests in the window, or what the rule measures of them, or requests above a bucket's rate; scaled up by the
    sample rate."""
    blocked_until: int | None
    """First second at which the block of exactly this network is over; null if there is none. Epoch seconds."""
    allowlisted: bool
    portrait: Portrait | None = None
    """A summary of its requests in the last five minutes, if it is one of the ten busiest and came close to a limit;
    null if unknown."""


class Busiest(RuleCount, frozen=True, kw_only=True):
    """The busiest clients under one rule, as counted in one log."""

    from_ms: int
    """Start of the window, inclusive. Epoch milliseconds."""
    to_ms: int
    """End of the window, exclusive. Epoch milliseconds."""
    clients: Annotated[list[Busy], at_most(100)]
    """Busiest first."""


class Top(TimedAnswer, frozen=True):
    """The busiest clients under each rule."""

    rules: Annotated[list[Busiest], at_most(200)]


def busiest_clients(state: State, live: LiveCounts, query: TopQuery, *, sampling: Sampling, now_ms: int) -> Top:
    """Returns the busiest clients under each rule, or under the one in ``query``; ``live`` must be fresh.

    Raises NotFound for an unknown rule, and for a quota, whose counts are not among the live ones.
    """
    if query.rule in live.quotas:
        raise NotFound(f"Rule {query.rule!r} is a quota. Only the counts of rules with a window up to 1h are live.")
    known = [other.name for other in live.rules.rules]
    if query.rule is not None and query.rule not in known:
        raise NotFound(f"There is no rule {query.rule!r}. Existing rules: {', '.join(known) or 'none'}.")
    now = now_ms // 1000
    exempt = state.exemptions(now)

    def under(rule: Rule, source: Source) -> Busiest:
        window, logged = live.window(rule, now_ms), sampling.of(source)
        allowance = Allowance.of(rule, source, sampling)
        counts = {
            network_of(key, *rule.prefixes): logged.made(count)
            for key, count in busiest(live.view.clients(source, rule), window, query.n, allowance)
        }
        blocks = state.get_many(Block, [str(network) for network in counts])
        until = {id: block.record.until for id, block in blocks.items() if block.record.in_force(now)}
        clients = [
            Busy(
                network=str(network),
                count=count,
                blocked_until=until.get(str(network)),
                allowlisted=exempt.spares(network_span(network), rule.name),
                portrait=live.portrait(str(network), now_ms) if place < MOST_PORTRAITS else None,
            )
            for place, (network, count) in enumerate(counts.items())
        ]
        from_ms, to_ms = window.first * rule.slot_ms, window.end * rule.slot_ms
        return Busiest.under(logged.applied(rule), source, from_ms=from_ms, to_ms=to_ms, clients=clients)

    rules = [under(each, source) for each, source in live.counted() if query.rule in (None, each.name)]
    return Top(now=now, rules=rules)
