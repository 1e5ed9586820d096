"""The traffic behind a result: requests over time, and how busy each client was by each rule's measure."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from chalicelib.core.allowance import Allowance
from chalicelib.core.logs.requests import Source
from chalicelib.core.rules import RuleSet
from chalicelib.core.tally import folded
from sluice.replay.breaches import TEN_S, peak
from sluice.replay.counts import Ledger
from sluice.replay.engine import Result, SpooledLog
from sluice.replay.rule_sets import every_request


class TrafficProfile(NamedTuple):
    by_ten_s: Counter[int]
    """Requests by epoch second // 10."""
    peaks: dict[str, Counter[int]]
    """For each rule: clients by their highest count in one window or, of a bucket, their highest level."""


def profiled(log: SpooledLog, rules: RuleSet) -> tuple[Result, TrafficProfile]:
    """Evaluates ``rules`` and profiles the traffic in the same pass. The log must have been read with ``everyone``."""
    profile = TrafficProfile(Counter(), {rule.name: Counter() for rule in rules.rules})
    requests = every_request(rules)

    def ledgers() -> Iterator[Ledger]:
        for ledger in log.ledgers(rules):
            for source in Source:
                made = log.options.sampling.of(source).made
                for _, slots in ledger.clients(source, requests):
                    for ten, number in folded(slots, 1000 * TEN_S // requests.slot_ms).items():
                        profile.by_ten_s[ten] += made(number)
                for rule in rules.rules:
                    allowance = Allowance.of(rule, source, log.options.sampling)
                    highest = (peak(slots, allowance) for _, slots in ledger.clients(source, rule))
                    profile.peaks[rule.name].update(map(made, highest))
            yield ledger

    return log.result(rules, ledgers()), profile
