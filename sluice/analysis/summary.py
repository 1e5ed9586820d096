"""A replay's result in figures: by rule, and by client and rule. What ``--json`` prints and the tables show."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from chalicelib.core.addresses import Network
from chalicelib.core.rules import Rule
from sluice.replay.engine import Result
from sluice.replay.verdicts import Stay, Verdict

ALLOWLISTED = "allowlisted"


@dataclass(frozen=True, slots=True)
class Offender:
    """A client and a rule whose limit it exceeded in one log at least; of several logs, all are added up."""

    rule: Rule
    network: Network
    action: str
    """What the rule does about it: ``block``, ``count``, or nothing as it is ``allowlisted``."""
    first_ms: int
    peak: int
    peak_span_ms: tuple[int, int]
    requests: int
    over: int
    refused: int
    stays: tuple[Stay, ...]

    @property
    def blocked_for_s(self) -> int:
        """How long it would have been blocked; of a rule that only counts, would be if it blocked."""
        return sum(stay.until - stay.since for stay in self.stays)


@dataclass(frozen=True, slots=True)
class RuleFigures:
    rule: Rule
    offenders: int
    blocked: int
    """Offenders with a block of this rule's: the others were blocked already, or are allowlisted."""
    over: int
    """Requests that found their window full."""
    refused: int
    """Requests made while blocked by this rule."""
    share: float
    """Of all requests, ``refused``; 0 .. 1."""


def offenders(result: Result) -> list[Offender]:
    """The busiest first: by how many times the limit their peak is."""
    together: dict[tuple[str, Network], list[Verdict]] = {}
    for verdict in result.verdicts:
        together.setdefault((verdict.rule.name, verdict.network), []).append(verdict)
    found = [_offender(verdicts) for verdicts in together.values()]
    found.sort(key=lambda o: (-o.peak / (o.rule.limit + 1), o.first_ms, o.rule.name, str(o.network)))
    return found


def _offender(verdicts: list[Verdict]) -> Offender:
    highest = max(verdicts, key=lambda verdict: verdict.peak)
    rule = highest.rule
    return Offender(
        rule=rule,
        network=highest.network,
        action=ALLOWLISTED if highest.allowlisted else str(rule.action),
        first_ms=min(verdict.first_ms for verdict in verdicts),
        peak=highest.peak,
        peak_span_ms=(highest.peak_first_ms, highest.peak_last_ms),
        requests=sum(verdict.requests for verdict in verdicts),
        over=sum(verdict.over for verdict in verdicts),
        refused=sum(verdict.refused for verdict in verdicts),
        stays=tuple(sorted((s for v in verdicts for s in v.stays), key=lambda stay: stay.since)),
    )


def by_rule(result: Result, found: Iterable[Offender]) -> Iterator[RuleFigures]:
    """The rules in their own order, also those that nobody broke."""
    every = list(found)
    for rule in result.rules.rules:
        mine = [offender for offender in every if offender.rule == rule]
        refused = sum(offender.refused for offender in mine)
        yield RuleFigures(
            rule,
            len(mine),
            sum(bool(offender.stays) for offender in mine),
            sum(offender.over for offender in mine),
            refused,
            refused / result.seen.requests if result.seen.requests else 0.0,
        )


def seconds(ms: int | None) -> float | None:
    """Epoch seconds, to the millisecond.

    >>> seconds(1760000000123), seconds(None)
    (1760000000.123, None)
    """
    return None if ms is None else ms / 1000


def result_json(result: Result) -> dict[str, Any]:
    """One object; times are epoch seconds."""
    found = offenders(result)
    return {
        "requests": result.seen.requests,
        "malformed": {str(reason): number for reason, number in sorted(result.seen.malformed.items())},
        "first": seconds(result.seen.first_ms),
        "last": seconds(result.seen.last_ms),
        "sources": {str(source): number for source, number in sorted(result.seen.sources.items())},
        "rules": [rule_json(figures) for figures in by_rule(result, found)],
        "offenders": [offender_json(offender) for offender in found],
    }


def rule_json(figures: RuleFigures) -> dict[str, Any]:
    rule = figures.rule
    return {
        "name": rule.name,
        "action": str(rule.action),
        "limit": rule.limit,
        "window_s": rule.window_s,
        "offenders": figures.offenders,
        "blocked": figures.blocked,
        "requests_over": figures.over,
        "refused": figures.refused,
        "share": round(figures.share, 6),
    }


def offender_json(offender: Offender) -> dict[str, Any]:
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
        "blocks": [{"from": stay.since, "until": stay.until, "offence": stay.offence} for stay in offender.stays],
    }
