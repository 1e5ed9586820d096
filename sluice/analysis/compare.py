"""Two ways of limiting, side by side: networks that only one of them blocks, and which of them blocks sooner."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from chalicelib.core.addresses import Network, supernets
from chalicelib.core.rules import NETWORKS
from sluice.analysis.summary import OffenderSummary, offenders
from sluice.replay.breaker_model import Intervention
from sluice.replay.engine import Result


@dataclass(frozen=True, slots=True)
class BlockedNetwork:
    """A blocked client, in the form that ``--json`` prints."""

    client: Network
    blocked_at: int
    """First second (epoch) in which it is refused."""
    refused: int
    """Requests made while blocked."""
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    name: str
    blocked: dict[Network, BlockedNetwork]
    modelled: bool = False
    """True for a model of another product; False for decisions of Sluice's own code."""
    interventions: Sequence[Intervention] = ()
    """Rules that would have been stopped or slowed down in production."""

    @property
    def refused(self) -> int:
        return sum(blocked.refused for blocked in self.blocked.values())


@dataclass(frozen=True, slots=True)
class BlockedByBoth:
    """A network that both sides block, or that one side blocks as part of a wider network."""

    first: BlockedNetwork
    second: BlockedNetwork

    @property
    def sooner_s(self) -> int:
        """Seconds by which the first side blocks sooner; negative if it blocks later."""
        return self.second.blocked_at - self.first.blocked_at


@dataclass(frozen=True, slots=True)
class Comparison:
    first: Side
    second: Side
    only_first: list[BlockedNetwork]
    only_second: list[BlockedNetwork]
    both: list[BlockedByBoth]

    @property
    def median_sooner_s(self) -> float | None:
        return median(pair.sooner_s for pair in self.both) if self.both else None


def side_of(name: str, result: Result) -> Side:
    """Returns the networks that a rule set blocks, guilty ones among them.

    A rule that only counts is taken as if it blocked, but makes no network guilty.
    """
    blocking: dict[Network, list[OffenderSummary]] = {}
    for offender in offenders(result):
        if offender.periods:
            blocking.setdefault(offender.network, []).append(offender)
    blocked = {}
    for network, group in blocking.items():
        since = min(offender.periods[0].since for offender in group)
        # Blocks of two rules may overlap if one of them only counts: only the largest figure is certain.
        refused = max(offender.refused for offender in group)
        blocked[network] = BlockedNetwork(network, since, refused, tuple(sorted(o.rule.name for o in group)))
    for guilty in result.networks:
        own = BlockedNetwork(guilty.network, guilty.periods[0].since, guilty.refused, (NETWORKS,))
        same = blocked.get(own.client)
        if same is not None:
            since = min(own.blocked_at, same.blocked_at)
            own = BlockedNetwork(own.client, since, own.refused + same.refused, (NETWORKS, *same.rules))
        blocked[own.client] = own
    return Side(name, blocked, interventions=result.interventions)


def compare(first: Side, second: Side) -> Comparison:
    """Compares two sides. Networks match if they are equal or one contains the other."""
    both = [BlockedByBoth(a, b) for a, b in _covered(first.blocked.values(), second.blocked)]
    covering = {pair.second.client for pair in both}
    rest = [blocked for blocked in second.blocked.values() if blocked.client not in covering]
    both += [BlockedByBoth(a, b) for b, a in _covered(rest, first.blocked)]
    return Comparison(
        first,
        second,
        _only(first, {pair.first.client for pair in both}),
        _only(second, {pair.second.client for pair in both}),
        sorted(both, key=lambda pair: -pair.sooner_s),
    )


def _covered(
    networks: Iterable[BlockedNetwork], others: dict[Network, BlockedNetwork]
) -> Iterator[tuple[BlockedNetwork, BlockedNetwork]]:
    """Yields each of ``networks`` that one of ``others`` covers, with the narrowest of these."""
    for blocked in networks:
        wider = (blocked.client, *supernets(blocked.client))
        covering = next((network for network in wider if network in others), None)
        if covering is not None:
            yield blocked, others[covering]


def _only(side: Side, in_both: set[Network]) -> list[BlockedNetwork]:
    """Returns the networks that the other side does not block, busiest first."""
    only = (blocked for network, blocked in side.blocked.items() if network not in in_both)
    return sorted(only, key=lambda blocked: (-blocked.refused, blocked.blocked_at, str(blocked.client)))
