"""A replay's result in figures, by rule and by offender: what ``--json`` prints and the tables show."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.core.addresses import Network, supernets
from chalicelib.core.durations import format_duration
from chalicelib.core.measures import Measure, amount_text
from chalicelib.core.rules import Rule
from chalicelib.core.rules_diff import allowed
from chalicelib.core.wording import roughly
from sluice.replay.breaches import BlockPeriod, Breach
from sluice.replay.breaker_model import Intervention
from sluice.replay.engine import Result
from sluice.replay.network_model import NetworkBlocks

ALLOWLISTED = "allowlisted"

NETWORK_COLUMNS = ("network", "blocked at", "blocked for", "members", "also seen", "refused besides")
MOST_MEMBERS = 3
"""Most members of a network in a row of a table."""


@dataclass(frozen=True, slots=True)
class OffenderSummary:
    """A client over a rule's limit: its largest peak, and sums of the figures in its breaches, one for each source."""

    rule: Rule
    network: Network
    action: str
    """``block``, ``count``, or ``allowlisted``."""
    first_ms: int
    peak: int
    peak_span_ms: tuple[int, int]
    """First and last millisecond of the slots in the window of the peak."""
    requests: int
    over: int
    refused: int
    periods: tuple[BlockPeriod, ...]

    @property
    def blocked_for_s(self) -> int:
        """Seconds blocked; for a rule that only counts, as if it blocked."""
        return sum(period.until - period.since for period in self.periods)

    def blocked_for(self, *, number: bool = False) -> str:
        """Returns the time blocked in words; with ``number``, also the number of blocks if there are several."""
        text = format_duration(self.blocked_for_s) if self.periods else "-"
        if number and len(self.periods) > 1:
            text += f", {len(self.periods)} blocks"
        return text if self.action == "block" else f"{text} ({self.action})"


@dataclass(frozen=True, slots=True)
class RuleFigures:
    rule: Rule
    offenders: int
    blocked: int
    """Offenders blocked by this rule; the others were blocked already or are allowlisted."""
    over: int
    """Requests that exceeded the limit of their window."""
    refused: int
    """Requests made while blocked by this rule."""
    share: float
    """``refused`` as a share of all requests, 0 to 1."""


def offenders(result: Result) -> list[OffenderSummary]:
    """Returns all offenders, sorted by peak relative to the limit, highest first."""
    breaches: dict[tuple[str, Network], list[Breach]] = {}
    for breach in result.breaches:
        breaches.setdefault((breach.rule.name, breach.network), []).append(breach)
    return sorted(
        map(_offender, breaches.values()),
        key=lambda o: (-o.peak / (o.rule.limit + 1), o.first_ms, o.rule.name, str(o.network)),
    )


def _offender(breaches: list[Breach]) -> OffenderSummary:
    highest = max(breaches, key=lambda breach: breach.peak)
    rule = highest.rule
    return OffenderSummary(
        rule=rule,
        network=highest.network,
        action=ALLOWLISTED if highest.allowlisted else str(rule.action),
        first_ms=min(breach.first_ms for breach in breaches),
        peak=highest.peak,
        peak_span_ms=(highest.peak_first_ms, highest.peak_last_ms),
        requests=sum(breach.requests for breach in breaches),
        over=sum(breach.over for breach in breaches),
        refused=sum(breach.refused for breach in breaches),
        periods=tuple(sorted((p for breach in breaches for p in breach.periods), key=lambda period: period.since)),
    )


def by_rule(result: Result, offenders: Sequence[OffenderSummary]) -> Iterator[RuleFigures]:
    """Yields the figures of each rule, in the order of the rule set; rules without offenders are included."""
    requests = result.stats.requests
    for rule in result.rules.rules:
        own = [offender for offender in offenders if offender.rule.name == rule.name]
        refused = sum(offender.refused for offender in own)
        yield RuleFigures(
            rule=rule,
            offenders=len(own),
            blocked=sum(bool(offender.periods) for offender in own),
            over=sum(offender.over for offender in own),
            refused=refused,
            share=refused / requests if requests else 0.0,
        )


def refused_once(offenders: Iterable[OffenderSummary]) -> int:
    """Returns the requests made by clients while any rule blocked them, or would have if it did not only count.

    A lower bound: blocks by rules that only count may overlap a client's other blocks, so only the largest figure of
    each client is certain; and a network with blocks of its own may contain other such clients.
    """
    blocked: Counter[Network] = Counter()
    largest: dict[Network, int] = {}
    for offender in offenders:
        if offender.action == "block":
            blocked[offender.network] += offender.refused
        largest[offender.network] = max(largest.get(offender.network, 0), offender.refused, blocked[offender.network])
    inside: Counter[Network] = Counter()
    total = 0
    for network in sorted(largest, key=lambda network: -network.prefixlen):
        refused = max(largest[network], inside[network])
        wider = next((each for each in supernets(network) if each in largest), None)
        if wider is None:
            total += refused
        else:
            inside[wider] += refused
    return total


def seconds(ms: int | None) -> float | None:
    """Converts milliseconds to seconds.

    >>> seconds(1760000000123), seconds(None)
    (1760000000.123, None)
    """
    return None if ms is None else ms / 1000


def result_json(result: Result) -> dict[str, Any]:
    """Returns the result as a JSON object; times are epoch seconds."""
    everyone = offenders(result)
    stats = result.stats
    return {
        "requests": stats.requests,
        "malformed": {str(reason): number for reason, number in sorted(stats.malformed.items())},
        "first": seconds(stats.first_ms),
        "last": seconds(stats.last_ms),
        "sources": {str(source): number for source, number in sorted(stats.sources.items())},
        "rules": [rule_json(figures) for figures in by_rule(result, everyone)],
        "offenders": [offender_json(offender) for offender in everyone],
        "networks": [network_json(each) for each in result.networks],
        "breaker": [intervention_json(each) for each in result.interventions],
    }


def network_json(blocked: NetworkBlocks) -> dict[str, Any]:
    """Returns a guilty network that would have been blocked as a JSON object; times are epoch seconds."""
    return {
        "network": str(blocked.network),
        "members": blocked.members.number,
        "named": blocked.members.named,
        "innocents": blocked.members.innocents,
        "refused": blocked.refused,
        "blocked_for_s": blocked.blocked_for_s,
        "blocks": [{"from": p.since, "until": p.until, "response": p.response} for p in blocked.periods],
    }


def intervention_json(intervention: Intervention) -> dict[str, Any]:
    """Returns what a circuit breaker would have done as a JSON object; times are epoch seconds."""
    return {
        "rule": intervention.rule,
        "stopped": intervention.stopped,
        "at": intervention.at,
        "blocks": intervention.blocks,
        "would_hit": intervention.would_hit,
        "known": intervention.known,
        "last_block_at": intervention.last_at or None,
    }


def terms_json(rule: Rule) -> dict[str, Any]:
    """Returns the terms that every figure of a rule begins with."""
    terms = {"name": rule.name, "action": str(rule.action), "limit": rule.limit, "window_s": rule.window_s}
    if rule.rate is not None:
        terms["rate"] = str(rule.rate)
    return terms if rule.measure is Measure.REQUESTS else {**terms, "measure": str(rule.measure)}


def rule_json(figures: RuleFigures) -> dict[str, Any]:
    return {
        **terms_json(figures.rule),
        "offenders": figures.offenders,
        "blocked": figures.blocked,
        "requests_over": figures.over,
        "refused": figures.refused,
        "share": round(figures.share, 6),
    }


def offender_json(offender: OffenderSummary) -> dict[str, Any]:
    return {
        "client": str(offender.network),
        "rule": offender.rule.name,
        "action": offender.action,
        "first_offence_at": seconds(offender.first_ms),
        "peak": offender.peak,
        "peak_from": seconds(offender.peak_span_ms[0]),
        "peak_to": seconds(offender.peak_span_ms[1]),
        "requests": offender.requests,
        "requests_over": offender.over,
        "refused": offender.refused,
        "blocked_for_s": offender.blocked_for_s,
        "blocks": [
            {"from": p.since, "until": p.until, "offence": p.offence, "response": p.response} for p in offender.periods
        ],
    }


def network_cells(blocked: NetworkBlocks, format_time: Callable[[int], str]) -> tuple[str, ...]:
    """Returns a guilty network's row for a table, under ``NETWORK_COLUMNS``. ``format_time``: of epoch milliseconds."""
    members = blocked.members
    named = members.named[:MOST_MEMBERS]
    more = members.number - len(named)
    return (
        str(blocked.network),
        format_time(blocked.periods[0].since * 1000),
        roughly(blocked.blocked_for_s),
        f"{members.number}: {', '.join(named)}" + (f" and {more} more" if more > 0 else ""),
        ", ".join(members.innocents) or "-",
        f"{blocked.refused:,}",
    )


def rule_cells(figures: RuleFigures) -> list[str]:
    """Returns a rule's row for a table: name, limit, action, then the figures."""
    rule = figures.rule
    return [
        rule.name,
        allowed(rule),
        str(rule.action),
        f"{figures.offenders:,}",
        f"{figures.blocked:,}",
        amount_text(rule.measure, figures.over),
        f"{figures.refused:,}",
        f"{figures.share:.2%}",
    ]
