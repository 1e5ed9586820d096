"""Guilty networks that ``[networks]`` in the rules would have blocked in production.

They follow from the blocks that rules make, once a minute, by ``core.networks``, as in Lambda. Clients are known by the
log itself, as far as it covers the days before. Blocks of networks change no breach: requests that they would have
refused count for the rules, which in production they would not.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from chalicelib.core.addresses import (
    Network,
    NetworkSet,
    network_of,
    network_span,
    parse_network,
    span_of,
    supernets,
)
from chalicelib.core.known_clients import KnownClients
from chalicelib.core.logs.requests import Source
from chalicelib.core.networks import GuiltyClients, network_block
from chalicelib.core.responses import Response
from chalicelib.core.rules import Action, NetworkTerms
from chalicelib.core.sampling import Sampling
from chalicelib.core.state.blocks import Block, Members
from sluice.replay.breaches import BlockPeriod, BlocksByMinute, Breach, minute_after
from sluice.replay.breaker_model import LogMemory
from sluice.replay.strips import Strip


@dataclass(frozen=True, slots=True)
class NetworkPeriod:
    """A time in which a guilty network meets one response."""

    since: int
    until: int
    """First second (epoch) after it."""
    response: Response


@dataclass(frozen=True, slots=True)
class NetworkBlocks:
    """A guilty network, and when it would have been blocked."""

    network: Network
    members: Members
    """Those for which it would have been blocked last, or for longer."""
    periods: tuple[NetworkPeriod, ...]
    """In order, without overlaps."""
    refused: int = 0
    """Requests made while it is blocked that neither a rule nor a wider guilty network refuses."""

    @property
    def blocked_for_s(self) -> int:
        return sum(period.until - period.since for period in self.periods)


@dataclass(slots=True)
class _Course:
    """The members of one network, and its blocks so far."""

    members: Members
    periods: list[NetworkPeriod] = field(default_factory=list)

    def follow(self, block: Block, now: int) -> None:
        """Continues with ``block``, which is made or prolonged at the epoch second ``now``."""
        assert block.members is not None
        self.members = block.members
        kept = [period for period in self.periods if period.since < now]
        if kept and kept[-1].until > now:
            kept[-1] = NetworkPeriod(kept[-1].since, now, kept[-1].response)
        since = now
        for response, end in block.ends.items():
            if end <= since:
                continue
            if kept and kept[-1].until == since and kept[-1].response is response:
                since = kept.pop().since
            kept.append(NetworkPeriod(since, end, response))
            since = end
        self.periods = kept


def blocked_networks(
    blocks: BlocksByMinute, terms: NetworkTerms, memory: LogMemory, trusted: Sequence[Network]
) -> list[NetworkBlocks]:
    """Returns the guilty networks in order of time, without the number of their requests.

    ``trusted``: proxies. A network with any of them is not blocked.
    """
    due = {minute: list(changed.values()) for minute, changed in blocks.items()}
    proxies = NetworkSet(trusted)
    guilty = GuiltyClients()
    latest: dict[str, Block] = {}
    courses: dict[str, _Course] = {}
    known: KnownClients | None = None
    now = min(due, default=0)

    def follow(block: Block) -> None:
        latest[block.network] = block
        guilty.replace(block.network, block)
        due.setdefault(minute_after(block.ends_at - 1), []).append(block)

    while due:
        changed = due.pop(now, [])
        for block in changed:
            if block.in_force(now):
                follow(block)
            elif latest.get(block.network) == block:
                del latest[block.network]
                guilty.replace(block.network, None)
        known_before, known = known, memory.at(now)
        if changed or known is not known_before:
            for each in list(guilty.unblocked(terms, known, now)):
                made = network_block(each, latest.get(each.network), now)
                if made is not None and not proxies.meets(span_of(made.network)):
                    courses.setdefault(made.network, _Course(each.members)).follow(made, now)
                    follow(made)
        now += 60
    networks = [
        NetworkBlocks(parse_network(name), course.members, tuple(course.periods)) for name, course in courses.items()
    ]
    return sorted(networks, key=lambda each: (each.periods[0].since, network_span(each.network)))


def with_refused(
    networks: Sequence[NetworkBlocks],
    strips: Iterable[Strip],
    breaches: Iterable[Breach],
    exempt: Callable[[bytes], bool],
    sampling: Sampling,
) -> list[NetworkBlocks]:
    """Returns ``networks`` with the number of requests in ``strips`` that they would have refused.

    ``exempt`` tells whether a client is allowlisted.
    """
    times = {each.network: _refusing(each.periods) for each in networks}
    own: dict[Network, list[tuple[int, int]]] = {}
    """When rules refuse the requests of each client."""
    for breach in breaches:
        if sampling.of(breach.source).applied(breach.rule).action is Action.BLOCK:
            own.setdefault(breach.network, []).extend(_refusing(breach.periods))
    refused: Counter[tuple[Network, Source]] = Counter()
    clients: dict[bytes, _Client] = {}
    for strip in strips:
        for packed, ms in zip(strip.clients, strip.times, strict=True):
            client = clients.get(packed)
            if client is None:
                wider = (address := network_of(packed, 32, 128), *supernets(address))
                within = [] if exempt(packed) else [each for each in reversed(wider) if each in times]
                blocked = [span for each in wider for span in own.get(each, ())] if within else []
                client = clients[packed] = _Client([(each, times[each]) for each in within], blocked)
            if client.networks and not _covers(client.blocked, ms // 1000):
                network = next((each for each, spans in client.networks if _covers(spans, ms // 1000)), None)
                if network is not None:
                    refused[network, strip.source] += 1
    made: Counter[Network] = Counter()
    for (network, source), number in refused.items():
        made[network] += sampling.of(source).made(number)
    return [replace(each, refused=made[each.network]) for each in networks]


class _Client(NamedTuple):
    """Where and when requests of a client are refused. Times are epoch seconds, the second one exclusive."""

    networks: list[tuple[Network, list[tuple[int, int]]]]
    """The guilty networks that it is in, the widest first, and when each is blocked; none if it is allowlisted."""
    blocked: list[tuple[int, int]]
    """When it is blocked by rules."""


def _refusing(periods: Iterable[NetworkPeriod | BlockPeriod]) -> list[tuple[int, int]]:
    return [(period.since, period.until) for period in periods if period.response is Response.BLOCK]


def _covers(spans: Iterable[tuple[int, int]], second: int) -> bool:
    return any(since <= second < until for since, until in spans)
