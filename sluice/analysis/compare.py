"""Two ways of limiting, side by side: whom only one of them blocks, and who is blocked sooner by which."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from chalicelib.core.addresses import Network, supernets
from sluice.analysis.aws_waf_model import Model
from sluice.analysis.summary import offenders
from sluice.replay.engine import Result


@dataclass(frozen=True, slots=True)
class Blocked:
    """A network that one side blocks."""

    network: Network
    at: int
    """Epoch seconds: the first second in which it is refused."""
    refused: int
    """Requests made while blocked."""
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One way of limiting."""

    name: str
    blocked: dict[Network, Blocked]
    modelled: bool = False
    """Not decided by Sluice's own code, but by a model of somebody else's."""

    @property
    def refused(self) -> int:
        return sum(one.refused for one in self.blocked.values())


@dataclass(frozen=True, slots=True)
class Both:
    """A network that both sides block, or that one blocks as part of a wider one."""

    first: Blocked
    second: Blocked

    @property
    def sooner_s(self) -> int:
        """How much sooner the first side blocks; negative if it is later."""
        return self.second.at - self.first.at


@dataclass(frozen=True, slots=True)
class Comparison:
    first: Side
    second: Side
    only_first: list[Blocked]
    only_second: list[Blocked]
    both: list[Both]

    @property
    def median_sooner_s(self) -> float | None:
        return median(pair.sooner_s for pair in self.both) if self.both else None


def side_of(name: str, result: Result) -> Side:
    """What a rule set blocks; rules that only count are taken at their word."""
    blocked: dict[Network, Blocked] = {}
    for offender in offenders(result):
        if offender.stays:
            before = blocked.get(offender.network)
            one = Blocked(offender.network, offender.stays[0].since, offender.refused, (offender.rule.name,))
            blocked[offender.network] = one if before is None else _joined(before, one)
    return Side(name, blocked)


def _joined(one: Blocked, other: Blocked) -> Blocked:
    return Blocked(
        one.network,
        min(one.at, other.at),
        # Blocks of two rules may overlap where one of them only counts: the larger figure holds for certain.
        max(one.refused, other.refused),
        tuple(sorted({*one.rules, *other.rules})),
    )


def side_of_model(name: str, model: Model) -> Side:
    blocked = {r.network: Blocked(r.network, r.since, r.requests, ("rate-based",)) for r in model.refused}
    return Side(name, blocked, modelled=True)


def compare(first: Side, second: Side) -> Comparison:
    """Networks match if they are the same, or one is part of the other."""
    pairs, only_first = _matched(first.blocked.values(), second.blocked)
    matched = {other.network for _, other in pairs}
    rest = [one for one in second.blocked.values() if one.network not in matched]
    more, only_second = _matched(rest, first.blocked)
    both = [Both(one, other) for one, other in pairs] + [Both(other, one) for one, other in more]
    covered = {pair.first.network for pair in both}
    return Comparison(
        first,
        second,
        _busiest(one for one in only_first if one.network not in covered),
        _busiest(only_second),
        sorted(both, key=lambda pair: -pair.sooner_s),
    )


def _matched(
    some: Iterable[Blocked], others: dict[Network, Blocked]
) -> tuple[list[tuple[Blocked, Blocked]], list[Blocked]]:
    """Those of ``some`` that ``others`` hold, or that are part of one of ``others``; and the rest."""
    pairs, rest = [], []
    for one in some:
        covering = (others.get(network) for network in (one.network, *supernets(one.network)))
        other = next((blocked for blocked in covering if blocked is not None), None)
        if other is None:
            rest.append(one)
        else:
            pairs.append((one, other))
    return pairs, rest


def _busiest(some: Iterable[Blocked]) -> list[Blocked]:
    return sorted(some, key=lambda one: (-one.refused, one.at, str(one.network)))
