"""Rivals that cannot run here, modelled from their documentation."""

from collections import Counter, defaultdict

from bench.rivals.traffic import Limit, Times
from sluice.analysis.aws_waf_model import LONGEST_LAG_S, SHORTEST_LAG_S, RateBasedRule, refused_spans
from tests.support.replay_logs import Hit
from tests.support.security_automations import blocked_by_parser

OBJECT_S = 300
"""AWS WAF writes its log to S3 every five minutes."""


def aws_waf(times: Times, limit: Limit) -> dict[str, int]:
    """Returns when AWS WAF's rate-based rule first refuses each client, by the model of ``sluice compare``."""
    rule = RateBasedRule(limit.requests, limit.window_s)
    lag_s = (SHORTEST_LAG_S + LONGEST_LAG_S) // 2
    spans = {client: refused_spans(Counter(moments), rule, lag_s) for client, moments in times.items()}
    return {client: refused[0][0] for client, refused in spans.items() if refused}


def security_automations(times: Times, limit: Limit) -> dict[str, int]:
    """Returns when the log parser of AWS's retiring solution first finds each client, in the object that shows it.

    It counts each object by itself and by minutes of the clock, whatever ``limit.window_s``.
    """
    objects: defaultdict[int, list[Hit]] = defaultdict(list)
    for client, moments in times.items():
        for at in moments:
            objects[at // OBJECT_S].append(Hit(at * 1000, client))
    conf = {"general": {"requestThreshold": limit.requests + 1}}
    first: dict[str, int] = {}
    for number, hits in sorted(objects.items()):
        for client in blocked_by_parser(conf, [hits], "requestThreshold"):
            first.setdefault(client, (number + 1) * OBJECT_S)
    return first
