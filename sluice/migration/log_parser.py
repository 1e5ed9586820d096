"""The log parser of "Security Automations for AWS WAF": its configuration files, and what it counts.

It counts the requests of each address per calendar minute, and per log object, and blocks an address whose count
*reaches* the threshold. A window of 60 seconds contains each calendar minute, because its slots begin with the minute;
so a rule whose limit is one less than the threshold finds every address that the parser blocks, and also those whose
requests are spread over two minutes or two objects.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.migration.old_stack import Document
from sluice.migration.outcomes import Draft, Outcomes, accepts, below, block_for, faults, row
from sluice.migration.plan import Fate, Row, RuleLine, inline, toml

UNREAD = "not a key that the parser reads"

ERROR_CODES = ("400", "401", "403", "404", "405")
"""Codes that the stack writes into its file, and that its Athena query always counts."""


@dataclass(frozen=True, slots=True)
class ParserFile:
    """One of the parser's two kinds of configuration file."""

    name: str
    threshold: str
    """Key of the threshold."""
    stem: str
    """Start of the names of its rules."""
    notes: tuple[str, ...] = ()


def counted(
    limit: int, origin: str, period: int, period_origin: str, scope: Sequence[RuleLine] = ()
) -> tuple[RuleLine, ...]:
    """Returns the lines of a rule that counts as the parser does; ``period`` is in minutes."""
    return (
        RuleLine("limit", toml(limit), f"{origin}: the old stack blocks at that count, Sluice above the limit"),
        RuleLine("window", toml("60s"), "any 60 seconds; there, calendar minutes, and each log object by itself"),
        RuleLine("action", toml("count"), "Block there"),
        RuleLine("block_for", toml(block_for(period)), f"{period_origin} = {period} minutes"),
        RuleLine("extend", toml(value=True), "as there: being over the threshold again starts the period again"),
        *scope,
    )


def file_outcomes(file: ParserFile, conf: Document) -> Outcomes:
    """Yields the rules of a configuration file, which has an object ``general``, and a row for every key in it."""
    general: Mapping[str, Any] = conf["general"]
    known = {file.threshold, "blockPeriod", "ignoredSufixes", *(("errorCodes",) if _has_codes(file) else ())}
    for name, value in general.items():
        if name not in known:
            yield row(f"{file.name} general.{name}", value, Fate.BY_HAND, UNREAD)
    for name, value in conf.items():
        if name not in ("general", "uriList"):
            yield row(f"{file.name} {name}", value, Fate.BY_HAND, UNREAD)
    codes: list[str] = []
    if _has_codes(file):
        listed = general.get("errorCodes", list(ERROR_CODES))
        codes = _valid("status", listed)
        yield from _list_rows(
            f"{file.name} general.errorCodes", listed, codes, "scope.status", "a status code in quotes"
        )
        if not codes:
            return
    ignored = general.get("ignoredSufixes", [])
    suffixes = _valid("path_suffix", ignored)
    setting = f"{file.name} general.ignoredSufixes"
    if isinstance(ignored, list) and "" in ignored:
        yield row(setting, ignored, Fate.BY_HAND, "every path has the ending '', so the old parser counts nothing")
        return
    if "ignoredSufixes" in general:
        yield from _list_rows(setting, ignored, suffixes, "scope.not.path_suffix", "an ending that a path can have")
    yield from _general_rule(file, general, codes, suffixes)
    yield from _path_rules(file, conf.get("uriList", {}), general.get("blockPeriod", 240), codes, suffixes)


def _has_codes(file: ParserFile) -> bool:
    return file.threshold == "errorThreshold"


def _general_rule(file: ParserFile, general: Mapping[str, Any], codes: list[str], suffixes: list[str]) -> Outcomes:
    setting, period_setting = f"{file.name} general.{file.threshold}", f"{file.name} general.blockPeriod"
    threshold, period = general.get(file.threshold), general.get("blockPeriod", 240)
    wrong = [*faults(setting, threshold, 0), *faults(period_setting, period, 0)]
    yield from wrong
    if wrong:
        return
    limit, minutes = below(int(str(threshold))), int(str(period))
    yield row(setting, threshold, Fate.RULE, f"{file.stem}: limit = {limit} in any 60 seconds")
    yield row(period_setting, period, Fate.RULE, f"{file.stem}: block_for = {block_for(minutes)}")
    table = [("status", toml(codes))] if codes else []
    table += [("not", inline([("path_suffix", toml(suffixes))]))] if suffixes else []
    origins = [*(["general.errorCodes"] if codes else []), *(["general.ignoredSufixes"] if suffixes else [])]
    scope = [RuleLine("scope", inline(table), " and ".join(origins))] if table else []
    yield Draft(file.stem, counted(limit, f"{setting} = {threshold}", minutes, period_setting, scope), file.notes)


def _path_rules(
    file: ParserFile, uris: Document, general_period: object, codes: list[str], suffixes: list[str]
) -> Outcomes:
    if not isinstance(uris, dict):
        yield row(f"{file.name} uriList", uris, Fate.BY_HAND, "not an object of paths")
        return
    for uri, entry in uris.items():
        setting = f"{file.name} uriList {uri}"
        if not isinstance(entry, dict) or not accepts(f"path = {toml([uri])}"):
            yield row(setting, entry, Fate.BY_HAND, "not a path that starts with '/', with an object of its threshold")
        elif suffixes and uri.endswith(tuple(suffixes)):
            detail = "ends like one of ignoredSufixes, so the old parser never counts it"
            yield row(setting, entry, Fate.UNUSED, detail)
        else:
            table = [*([("status", toml(codes))] if codes else []), ("path", toml([uri]))]
            yield from _path_rule(
                file, setting, uri, entry, general_period, RuleLine("scope", inline(table), "uriList")
            )


def _path_rule(
    file: ParserFile, setting: str, uri: str, entry: Mapping[str, Any], general_period: object, scope: RuleLine
) -> Outcomes:
    for name, value in entry.items():
        if name not in (file.threshold, "blockPeriod"):
            yield row(f"{setting} {name}", value, Fate.BY_HAND, UNREAD)
    threshold, period = entry.get(file.threshold), entry.get("blockPeriod", general_period)
    wrong = [*faults(f"{setting} {file.threshold}", threshold, 0), *faults(f"{setting} blockPeriod", period, 0)]
    yield from wrong
    if wrong:
        return
    limit, minutes = below(int(str(threshold))), int(str(period))
    yield row(f"{setting} {file.threshold}", threshold, Fate.RULE, f"limit = {limit} in any 60 seconds")
    if "blockPeriod" in entry:
        detail = f"block_for = {block_for(minutes)}"
        if period != general_period:
            detail += f"; the old parser blocks for general.blockPeriod, {general_period} minutes, instead"
        yield row(f"{setting} blockPeriod", period, Fate.RULE, detail)
    origin = f"{setting} {file.threshold} = {threshold}"
    yield Draft(f"{file.stem}-{uri}", counted(limit, origin, minutes, f"{setting} blockPeriod", [scope]), file.notes)


def _valid(key: str, values: Document) -> list[str]:
    """Returns the values that a key of a scope accepts."""
    listed = values if isinstance(values, list) else []
    return [value for value in listed if isinstance(value, str) and accepts(f"{key} = {toml([value])}")]


def _list_rows(setting: str, listed: Document, valid: list[str], becomes: str, form: str) -> Iterator[Row]:
    if not isinstance(listed, list):
        yield row(setting, listed, Fate.BY_HAND, f"not a list in which each value is {form}")
        return
    for value in listed:
        if value not in valid:
            yield row(setting, value, Fate.BY_HAND, f"not {form}, so the old parser never matches it")
    if valid:
        yield row(setting, valid, Fate.RULE, becomes)
    elif not listed:
        yield row(setting, listed, Fate.UNUSED, "empty")
