"""The counting parts of a stack of "Security Automations for AWS WAF": HTTP flood, scanners and probes, bad bots."""

import json
import re
from collections.abc import Iterator, Sequence

from sluice.migration.log_parser import ERROR_CODES, ParserFile, counted, file_outcomes
from sluice.migration.old_stack import OldStack
from sluice.migration.outcomes import Draft, LogBucket, Outcomes, accepts, below, block_for, faults, row
from sluice.migration.plan import Fate, RuleLine, inline, toml

FLOOD, SCANNERS, BAD_BOTS = (
    "ActivateHttpFloodProtectionParam",
    "ActivateScannersProbesProtectionParam",
    "ActivateBadBotProtectionParam",
)
RATE_BASED, LAMBDA, ATHENA, OFF = (
    "yes - AWS WAF rate based rule",
    "yes - AWS Lambda log parser",
    "yes - Amazon Athena log parser",
    "no",
)
WORDS = {
    RATE_BASED: "AWS WAF's rate-based rule",
    LAMBDA: "the Lambda log parser",
    ATHENA: "the Athena log parser",
    OFF: "a protection that is switched off",
}

USED_BY = {
    "RequestThreshold": (RATE_BASED, ATHENA),
    "WAFBlockPeriod": (ATHENA,),
    "RequestThresholdByCountryParam": (ATHENA,),
    "HTTPFloodAthenaQueryGroupByParam": (ATHENA,),
    "AthenaQueryRunTimeScheduleParam": (ATHENA,),
    "TimeWindowThresholdParam": (RATE_BASED,),
    "WAFRuleKeysTypeParam": (RATE_BASED,),
    "CustomHeaderNameParam": (RATE_BASED,),
}
"""Kinds of HTTP flood protection on which a parameter has an effect. The Lambda log parser reads its file instead."""

BY_COUNTRY = "RequestThresholdByCountryParam"
WAF_LATENESS = "--set LATENESS_S=900"
STANDARD_LATENESS = "--set RETENTION_S=93600 --set LATENESS_S=3600"
PARTITIONED = "AWSLogs-Partitioned/"
"""Prefix to which the stack moves logs for Athena."""


SCOPES = {"CloudFront": "CLOUDFRONT", "ALB": "REGIONAL"}
"""Scope of the web ACL for each value of EndpointType."""


def is_alb(old: OldStack) -> bool:
    return old.parameters.get("EndpointType") == "ALB"


def flood_outcomes(old: OldStack) -> Outcomes:
    """Yields what becomes of the HTTP flood protection."""
    kind = old.parameters.get(FLOOD, LAMBDA if old.waf_log_conf else OFF)
    if kind not in WORDS:
        yield row(FLOOD, kind, Fate.BY_HAND, "not a value that the template accepts")
        return
    yield row(FLOOD, kind, Fate.UNUSED if kind == OFF else Fate.RULE, WORDS[kind])
    scanned = old.parameters.get(SCANNERS) == ATHENA
    for setting, kinds in USED_BY.items():
        value = old.parameters.get(setting, "")
        if value and kind not in kinds and not (scanned and setting == "WAFBlockPeriod"):
            reason = "waf_log_conf holds the numbers in force" if kind == LAMBDA else f"without effect on {WORDS[kind]}"
            yield row(setting, value, Fate.UNUSED, reason)
    if kind == RATE_BASED:
        yield from _rate_based(old)
    elif kind == ATHENA:
        yield from _athena(old)
    elif kind == LAMBDA and old.waf_log_conf is None:
        yield row("waf_log_conf", "missing", Fate.BY_HAND, f"{old.name}-waf_log_conf.json is needed: its thresholds")
    elif kind == LAMBDA:
        yield from file_outcomes(ParserFile("waf_log_conf", "requestThreshold", "http-flood"), old.waf_log_conf)
    if kind != LAMBDA and old.waf_log_conf is not None:
        yield row("waf_log_conf", old.waf_log_conf, Fate.UNUSED, f"the stack does not read it for {WORDS[kind]}")
    if kind in (LAMBDA, ATHENA):
        yield from _waf_log_bucket(old)


def _waf_log_bucket(old: OldStack) -> Outcomes:
    bucket = old.outputs.get("WafLogBucket")
    if bucket:
        yield row("WafLogBucket", bucket, Fate.SOURCE, f"sluice setup --bucket {bucket} --prefix AWSLogs/")
        yield LogBucket(bucket, "AWSLogs/", WAF_LATENESS)
    else:
        yield row(
            "WafLogBucket", "unknown", Fate.BY_HAND, "the output of describe-stacks names the bucket of WAF's logs"
        )


def _rate_based(old: OldStack) -> Outcomes:
    threshold, minutes = (
        old.parameters.get("RequestThreshold", "100"),
        old.parameters.get("TimeWindowThresholdParam", "5"),
    )
    wrong = [*faults("RequestThreshold", threshold, 10), *faults("TimeWindowThresholdParam", minutes, 1)]
    yield from wrong
    if wrong:
        return
    window = f"{int(minutes)}m"
    yield row(
        "RequestThreshold", threshold, Fate.RULE, f"http-flood: limit = {int(threshold)} in any {minutes} minutes"
    )
    if "TimeWindowThresholdParam" in old.parameters:
        yield row("TimeWindowThresholdParam", minutes, Fate.RULE, f"http-flood: window = {window}")
    notes = []
    keys, header = old.parameters.get("WAFRuleKeysTypeParam", "IP"), old.parameters.get("CustomHeaderNameParam")
    by = _columns(keys.removeprefix("IP").removeprefix("+"))
    if by is None:
        notes.append(
            f"WAFRuleKeysTypeParam = {keys}: the old rule counts each of these separately; here a client's add up."
        )
        yield row("WAFRuleKeysTypeParam", keys, Fate.BY_HAND, "http-flood counts all requests of a client together")
    elif "WAFRuleKeysTypeParam" in old.parameters:
        yield row("WAFRuleKeysTypeParam", keys, Fate.RULE, f"http-flood counts per {' and '.join(['client', *by])}")
    if header:
        yield row("CustomHeaderNameParam", header, Fate.BY_HAND, "rules cannot count per value of this header")
    lines = (
        RuleLine("limit", toml(int(threshold)), f"RequestThreshold = {threshold}: the next request is over it in both"),
        RuleLine("window", toml(window), "AWS WAF estimates a rate every few seconds; here the count is exact"),
        RuleLine("action", toml("count"), "Block there"),
        RuleLine("block_for", toml(window), "the old rule blocks for as long as the rate is over the threshold"),
        RuleLine("extend", toml(value=True), "as there: requests count even while they are refused"),
        *_aggregate(by, f"WAFRuleKeysTypeParam = {keys}"),
    )
    yield Draft("http-flood", lines, tuple(notes))


def _athena(old: OldStack) -> Outcomes:
    threshold, period = old.parameters.get("RequestThreshold", "100"), old.parameters.get("WAFBlockPeriod", "240")
    schedule = old.parameters.get("AthenaQueryRunTimeScheduleParam", "5")
    wrong = [
        *faults("RequestThreshold", threshold, 0),
        *faults("WAFBlockPeriod", period, 0),
        *faults("AthenaQueryRunTimeScheduleParam", schedule, 1),
    ]
    yield from wrong
    if wrong:
        return
    every, minutes = int(schedule), int(period)
    if "AthenaQueryRunTimeScheduleParam" in old.parameters:
        detail = f"http-flood: the old query divides thresholds by it, {every}, to get those of a minute"
        yield row("AthenaQueryRunTimeScheduleParam", schedule, Fate.RULE, detail)
    yield row("WAFBlockPeriod", period, Fate.RULE, f"block_for = {block_for(minutes)}")
    notes = []
    group_by = old.parameters.get("HTTPFloodAthenaQueryGroupByParam", "None")
    by = _columns(group_by)
    if by is None:
        notes.append(
            f"{group_by}: the old query counts each of a client's separately; here a client's requests add up."
        )
        yield row(
            "HTTPFloodAthenaQueryGroupByParam", group_by, Fate.BY_HAND, "http-flood counts a client's requests together"
        )
    elif "HTTPFloodAthenaQueryGroupByParam" in old.parameters:
        detail = f"http-flood counts per {' and '.join(['client', *by])}"
        yield row("HTTPFloodAthenaQueryGroupByParam", group_by, Fate.RULE, detail)
    by_country = _country_thresholds(old.parameters.get(BY_COUNTRY, ""))
    if by_country is None:
        yield row(BY_COUNTRY, old.parameters[BY_COUNTRY], Fate.BY_HAND, 'not of the form {"TR":50,"ER":150}')
        by_country = {}

    def draft(stem: str, number: float, origin: str, scope: str) -> Draft:
        line = [*_aggregate(by, f"HTTPFloodAthenaQueryGroupByParam = {group_by}")]
        line += [RuleLine("scope", scope, "WAF's logs have the country")] if scope else []
        origin = f"{origin}, divided by {every} minutes"
        return Draft(stem, counted(below(number / every), origin, minutes, "WAFBlockPeriod", line), tuple(notes))

    for country, number in by_country.items():
        detail = f"http-flood-{country}: limit = {below(number / every)} in any 60 seconds"
        yield row(f"{BY_COUNTRY} {country}", number, Fate.RULE, detail)
        yield draft(f"http-flood-{country}", number, f"{BY_COUNTRY} {country} = {number}", _in([country]))
    limit = below(int(threshold) / every)
    yield row("RequestThreshold", threshold, Fate.RULE, f"http-flood: limit = {limit} in any 60 seconds")
    others = inline([("not", _in(list(by_country)))]) if by_country else ""
    yield draft("http-flood", int(threshold), f"RequestThreshold = {threshold}", others)


_COLUMNS = {"uri": "path", "country": "country", "http method": "method"}
"""Column of a rule for each key by which the old stack groups a client's requests."""


def _columns(keys: str) -> list[str] | None:
    """Returns the columns by which requests are counted separately; None if one of the ``keys`` has no column.

    >>> _columns("Country and URI"), _columns("None"), _columns("Custom Header")
    (['country', 'path'], [], None)
    """
    names = [key.strip().lower() for key in re.split(r"\+|,|\band\b", keys)]
    columns = [_COLUMNS.get(name) for name in names if name not in ("", "none")]
    return None if None in columns else sorted(filter(None, columns))


def _aggregate(by: Sequence[str] | None, origin: str) -> Iterator[RuleLine]:
    if by:
        yield RuleLine("aggregate", inline([("by", toml(list(by)))]), f"{origin}: as there, each is counted separately")


def _in(countries: list[str]) -> str:
    return inline([("country", toml(countries))])


def _country_thresholds(text: str) -> dict[str, float] | None:
    """Returns the threshold of each country; None if ``text`` cannot be read.

    >>> _country_thresholds('{"TR":50}'), _country_thresholds(""), _country_thresholds("TR=50")
    ({'TR': 50}, {}, None)
    """
    try:
        thresholds = json.loads(text or "{}")
    except ValueError:
        return None
    if not isinstance(thresholds, dict) or not all(
        accepts(f"country = {toml([country])}") and isinstance(number, int | float) and number >= 0
        for country, number in thresholds.items()
    ):
        return None
    return thresholds


def scanner_outcomes(old: OldStack) -> Outcomes:
    """Yields what becomes of the protection against scanners and probes."""
    kind = old.parameters.get(SCANNERS, LAMBDA if old.app_log_conf else OFF)
    if kind not in (LAMBDA, ATHENA, OFF):
        yield row(SCANNERS, kind, Fate.BY_HAND, "not a value that the template accepts")
        return
    yield row(SCANNERS, kind, Fate.UNUSED if kind == OFF else Fate.RULE, WORDS[kind])
    difference = "The old stack reads the target's status code; Sluice the load balancer's, which the client receives."
    notes = (difference,) if is_alb(old) else ()
    threshold, period = old.parameters.get("ErrorThreshold", "50"), old.parameters.get("WAFBlockPeriod", "240")
    if kind == ATHENA:
        wrong = [*faults("ErrorThreshold", threshold, 0), *faults("WAFBlockPeriod", period, 0)]
        yield from wrong
        if not wrong:
            limit, codes = (
                below(int(threshold)),
                RuleLine("scope", inline([("status", toml(ERROR_CODES))]), "as in the old query"),
            )
            yield row("ErrorThreshold", threshold, Fate.RULE, f"scanners: limit = {limit} in any 60 seconds")
            if old.parameters.get(FLOOD) != ATHENA:
                yield row("WAFBlockPeriod", period, Fate.RULE, f"scanners: block_for = {block_for(int(period))}")
            lines = counted(limit, f"ErrorThreshold = {threshold}", int(period), "WAFBlockPeriod", [codes])
            yield Draft("scanners", lines, notes)
    elif "ErrorThreshold" in old.parameters:
        reason = "app_log_conf holds the number in force" if kind == LAMBDA else f"without effect on {WORDS[kind]}"
        yield row("ErrorThreshold", threshold, Fate.UNUSED, reason)
    if kind == LAMBDA and old.app_log_conf is None:
        yield row("app_log_conf", "missing", Fate.BY_HAND, f"{old.name}-app_log_conf.json is needed: its thresholds")
    elif kind == LAMBDA:
        yield from file_outcomes(ParserFile("app_log_conf", "errorThreshold", "scanners", notes), old.app_log_conf)
    elif old.app_log_conf is not None:
        yield row("app_log_conf", old.app_log_conf, Fate.UNUSED, f"the stack does not read it for {WORDS[kind]}")
    yield from _app_log_bucket(old, kind)


def _app_log_bucket(old: OldStack, kind: str) -> Outcomes:
    bucket = old.parameters.get("AppAccessLogBucket") or old.outputs.get("AppAccessLogBucket")
    given = old.parameters.get("AppAccessLogBucketPrefixParam")
    if kind == OFF or not bucket:
        if bucket:
            yield row("AppAccessLogBucket", bucket, Fate.UNUSED, f"not read for {WORDS[kind]}")
        elif kind != OFF:
            yield row(
                "AppAccessLogBucket",
                "unknown",
                Fate.BY_HAND,
                "the output of describe-stacks names the bucket of access logs",
            )
        if given:
            yield row("AppAccessLogBucketPrefixParam", given, Fate.UNUSED, "without a bucket that is read")
        return
    prefix = given or ("AWSLogs/" if is_alb(old) else "")
    if given:
        yield row(
            "AppAccessLogBucketPrefixParam", given, Fate.SOURCE, f"sluice setup --bucket {bucket} --prefix {given}"
        )
    detail = f"sluice setup --bucket {bucket}"
    if kind == ATHENA:
        prefix = PARTITIONED
        detail += (
            f" --prefix {PARTITIONED}: the stack moves the objects there; name the original prefix once it is removed"
        )
    yield row("AppAccessLogBucket", bucket, Fate.SOURCE, detail)
    yield LogBucket(bucket, prefix, WAF_LATENESS if is_alb(old) else STANDARD_LATENESS)


def bad_bot_outcomes(old: OldStack) -> Outcomes:
    """Yields what becomes of the honeypot."""
    activated = old.parameters.get(BAD_BOTS)
    if activated is None:
        return
    if activated != "yes":
        yield row(BAD_BOTS, activated, Fate.UNUSED, "switched off")
        return
    endpoint = old.outputs.get("BadBotHoneypotEndpoint", "")
    path = "/" + endpoint.partition("://")[2].partition("/")[2] if "://" in endpoint else endpoint
    if not path.strip("/") or not accepts(f"path_prefix = {toml([path])}"):
        detail = "the honeypot's path is not known: add a rule with limit = 0 and scope = { path_prefix = [PATH] }"
        yield row(BAD_BOTS, activated, Fate.BY_HAND, detail)
        return
    yield row(BAD_BOTS, activated, Fate.RULE, f"bad-bot: limit = 0 on {path}")
    lines = (
        RuleLine("limit", "0", "one request is enough"),
        RuleLine("window", toml("60s")),
        RuleLine("action", toml("count"), "Block there, without end"),
        RuleLine("block_for", toml("7d"), "the old stack never removes an address from this set"),
        RuleLine("scope", inline([("path_prefix", toml([path]))]), f"BadBotHoneypotEndpoint = {endpoint}"),
    )
    note = "Keep the hidden link and the line in robots.txt. If your site's path to the honeypot differs, name that."
    yield Draft("bad-bot", lines, (note,))
