"""fail2ban's jails as rules: ``jail.conf``, ``jail.local`` and the files of ``jail.d``, read in this order. Pure.

The grammar is that of Python's ``configparser`` as fail2ban uses it (its manual page jail.conf(5)): ``[DEFAULT]``,
interpolation of ``%(name)s``, later files over earlier ones, several values over several lines. A jail becomes a rule
if its filter reads an HTTP server's log and matches what a scope can say: a status, the start or the end of a path.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser, Error, InterpolationError
from dataclasses import dataclass
from ipaddress import ip_network

from chalicelib.core.durations import format_duration
from chalicelib.core.rules import LONGEST_BLOCK_S, LONGEST_WINDOW_S
from chalicelib.core.wording import plural
from sluice.migration.outcomes import Draft, Outcomes, composed, faults, row
from sluice.migration.plan import Fate, Import, Plan, Row, RuleLine, inline, toml

SECONDS = {
    "ye": 31557600,
    "year": 31557600,
    "years": 31557600,
    "yr": 31557600,
    "yy": 31557600,
    "mo": 2629800,
    "mon": 2629800,
    "month": 2629800,
    "months": 2629800,
    "we": 604800,
    "w": 604800,
    "week": 604800,
    "weeks": 604800,
    "ww": 604800,
    "da": 86400,
    "d": 86400,
    "day": 86400,
    "days": 86400,
    "dd": 86400,
    "ho": 3600,
    "h": 3600,
    "hour": 3600,
    "hours": 3600,
    "hh": 3600,
    "mi": 60,
    "m": 60,
    "min": 60,
    "minute": 60,
    "minutes": 60,
    "mm": 60,
    "se": 1,
    "s": 1,
    "sec": 1,
    "second": 1,
    "seconds": 1,
    "ss": 1,
}
"""Seconds of fail2ban's units, by its abbreviations (``fail2ban-client --str2sec``)."""

DEFAULTS = {"bantime": "10m", "findtime": "10m", "maxretry": "5", "enabled": "false"}
"""Values of the ``jail.conf`` that fail2ban ships."""

_TERM = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpFilter:
    """The scope that comes closest to what a filter of fail2ban matches, and the remaining difference."""

    scope: tuple[tuple[str, Sequence[str]], ...] = ()
    difference: str = ""


AUTH = HttpFilter((("status", ("401",)),), "the filter reads the server's error log; a failed log-in answers 401")
PROBES = HttpFilter((("status", ("404", "403")),), "the filter knows certain paths; the rule counts all missing ones")
SCRIPTS = HttpFilter(
    (("status", ("403", "404")), ("path_suffix", (".php", ".asp", ".exe", ".pl", ".cgi"))),
    "the filter reads the server's error log; scripts that are missing answer 404",
)
REFUSED = HttpFilter((("status", ("503", "429")),), "the filter reads the error log; nginx answers 503 over its limit")

HTTP_FILTERS = {
    "apache-auth": AUTH,
    "nginx-http-auth": AUTH,
    "lighttpd-auth": AUTH,
    "traefik-auth": AUTH,
    "apache-noscript": SCRIPTS,
    "apache-botsearch": PROBES,
    "nginx-botsearch": PROBES,
    "nginx-bad-request": HttpFilter((("status", ("400",)),), ""),
    "nginx-forbidden": HttpFilter((("status", ("403",)),), ""),
    "nginx-limit-req": REFUSED,
    "apache-overflows": HttpFilter((("status", ("400", "414")),), "requests that are too long or malformed"),
    "apache-nohome": HttpFilter((("status", ("404",)), ("path_prefix", ("/~",))), "home directories that are missing"),
    "php-url-fopen": HttpFilter((("path_suffix", (".php",)),), "the rule sees no query: it counts all of .php"),
}
"""Filters of fail2ban that match requests of an HTTP server, and what a rule can say instead."""

BY_HAND = {
    "apache-badbots": "set scope.user_agent to the bots of the filter",
    "apache-fakegooglebot": "it asks DNS; allowlist Google's networks, and limit all other clients that claim to be it",
    "apache-modsecurity": "keep the web application firewall; AWS WAF's managed groups do the same",
    "apache-shellshock": "AWSManagedRulesUnixRuleSet refuses such requests at once",
    "recidive": "escalate lets the blocks of a rule grow with each offence; this jail counts the bans of all others",
    "apache-pass": "lets in a client that makes a secret request: add its network with sluice allow instead",
}
"""Filters about HTTP that become a rule only by a decision of the operator."""

READ = frozenset(
    ("enabled", "filter", "bantime", "findtime", "maxretry", "ignoreip", "bantime.increment", "bantime.factor")
) | {"bantime.maxtime", "bantime.rndtime", "bantime.formula", "bantime.multipliers", "bantime.overalljails"}
"""Keys that are looked at; all others say how fail2ban reads logs and acts on one machine."""


class JailError(ValueError):
    """A file that is not a valid jail.conf."""


def fail2ban_plan(files: Mapping[str, str]) -> Plan:
    """Returns the plan for ``files``, texts by name, in the order in which fail2ban reads them.

    Raises JailError for a file that is not a valid jail.conf, and if there is no jail.
    """
    parser = _parsed(files)
    return composed(f"fail2ban ({', '.join(files)})", [*_default_outcomes(parser), *_jails(parser)])


def _parsed(files: Mapping[str, str]) -> ConfigParser:
    parser = ConfigParser(strict=False, inline_comment_prefixes=(";",))
    for name, text in files.items():
        try:
            parser.read_string(text, name)
        except Error as exc:
            raise JailError(f"{name} is not a valid jail.conf: {exc.message}") from exc
    if not parser.sections() and not parser.defaults():
        raise JailError(f"{', '.join(files)}: there is no jail; a jail begins with its name in brackets")
    return parser


def _default_outcomes(parser: ConfigParser) -> Outcomes:
    """Yields what becomes of those keys in ``[DEFAULT]`` that belong to no single jail: the exempt networks, and keys
    that are not used."""
    defaults = parser.defaults()
    if "ignoreip" in defaults:
        yield from _ignored("DEFAULT", defaults["ignoreip"])
    others = ", ".join(sorted(set(defaults) - READ))
    if others:
        yield row("[DEFAULT]", others, Fate.UNUSED, "how fail2ban reads logs and acts on its machine")


def _jails(parser: ConfigParser) -> Outcomes:
    for jail in parser.sections():
        if jail in ("INCLUDES", "Init", "Definition"):
            value = ", ".join(f"{key} = {text}" for key, text in _own(parser, jail).items())
            yield row(f"[{jail}]", value, Fate.BY_HAND, "not read: name the files that it refers to as well")
        elif not _is_true(_value(parser, jail, "enabled") or DEFAULTS["enabled"]):
            yield row(f"[{jail}]", "enabled = false", Fate.UNUSED, "not enabled")
        else:
            yield from _jail(parser, jail)


def _jail(parser: ConfigParser, jail: str) -> Outcomes:
    written = (_raw(parser, jail, "filter") or jail).replace("%(__name__)s", jail)
    name = written.partition("[")[0].strip()
    http = HTTP_FILTERS.get(name)
    if http is None:
        reason = "not a known filter for HTTP: keep fail2ban for it, or write a rule"
        yield row(f"[{jail}]", f"filter = {name}", Fate.BY_HAND, BY_HAND.get(name, reason))
        return
    yield row(f"[{jail}]", f"filter = {name}", Fate.RULE, http.difference or "the rule matches the same requests")
    own = _own(parser, jail)
    if "ignoreip" in own:
        yield from _ignored(jail, own["ignoreip"] or "")
    others = ", ".join(sorted(set(own) - READ))
    if others:
        yield row(f"[{jail}] others", others, Fate.UNUSED, "how fail2ban reads logs and acts on its machine")
    texts = {key: _value(parser, jail, key) or DEFAULTS[key] for key in ("maxretry", "findtime", "bantime")}
    wrong = [*faults(f"[{jail}] maxretry", texts["maxretry"], 1)]
    times = {key: seconds_of(texts[key]) for key in ("findtime", "bantime")}
    wrong += [
        row(f"[{jail}] {key}", texts[key], Fate.BY_HAND, "not a time such as 600, 10m or 1d 12h")
        for key, seconds in times.items()
        if seconds is None or (key == "findtime" and seconds < 1)
    ]
    yield from wrong
    findtime, bantime = times["findtime"], times["bantime"]
    if wrong or findtime is None or bantime is None:
        return
    limit, window = int(texts["maxretry"]) - 1, min(findtime, LONGEST_WINDOW_S)
    block_for = LONGEST_BLOCK_S if bantime < 0 else min(max(1, bantime), LONGEST_BLOCK_S)
    yield row(f"[{jail}] maxretry", texts["maxretry"], Fate.RULE, f"{jail}: limit = {limit}")
    if window == findtime:
        yield row(f"[{jail}] findtime", texts["findtime"], Fate.RULE, f"{jail}: window = {format_duration(window)}")
    else:
        longest = f"{format_duration(LONGEST_WINDOW_S)}, the longest below a day"
        detail = f"{jail}: window = {longest}; lower the limit if {texts['maxretry']} in it are too many"
        yield row(f"[{jail}] findtime", texts["findtime"], Fate.BY_HAND, detail)
    endless = ", the longest block" if bantime < 0 else ""
    detail = f"{jail}: block_for = {format_duration(block_for)}{endless}"
    yield row(f"[{jail}] bantime", texts["bantime"], Fate.RULE, detail)
    lines = [
        RuleLine(
            "limit", toml(limit), f"maxretry = {texts['maxretry']}: fail2ban bans at that, Sluice above the limit"
        ),
        RuleLine("window", toml(format_duration(window)), f"findtime = {texts['findtime']}"),
        RuleLine("action", toml("count"), "a ban there"),
        RuleLine("block_for", toml(format_duration(block_for)), f"bantime = {texts['bantime']}"),
    ]
    if http.scope:
        table = [(key, toml(list(values))) for key, values in http.scope]
        lines.append(RuleLine("scope", inline(table), f"filter = {name}"))
    for outcome in _growth(parser, jail, block_for):
        if isinstance(outcome, RuleLine):
            lines.append(outcome)
        else:
            yield outcome
    yield Draft(jail, tuple(lines), (f"Jail {jail}: {http.difference}.",) if http.difference else ())


def _growth(parser: ConfigParser, jail: str, block_for: int) -> Iterator[RuleLine | Row]:
    """Yields the line ``escalate`` if bans grow longer, and a row for each key that it takes over or cannot express."""
    if not _is_true(_value(parser, jail, "bantime.increment") or "false"):
        return
    longest, factor = LONGEST_BLOCK_S, 2
    maxtime = _value(parser, jail, "bantime.maxtime")
    if maxtime:
        seconds = seconds_of(maxtime)
        if seconds is None or seconds < 1:
            yield row(f"[{jail}] bantime.maxtime", maxtime, Fate.BY_HAND, "not a time such as 600, 10m or 1d 12h")
        else:
            longest = min(max(seconds, block_for), LONGEST_BLOCK_S)
            yield row(
                f"[{jail}] bantime.maxtime", maxtime, Fate.RULE, f"{jail}: escalate.max = {format_duration(longest)}"
            )
    multipliers = (_value(parser, jail, "bantime.multipliers") or "").split()
    if multipliers:
        steps = [int(step) for step in multipliers if step.isdecimal()]
        factor = min(max(2, steps[1] // max(1, steps[0])), 100) if len(steps) > 1 else 2
        detail = f"{jail}: escalate.factor = {factor}, the first step; each further ban multiplies by it"
        yield row(f"[{jail}] bantime.multipliers", " ".join(multipliers), Fate.BY_HAND, detail)
    for key, detail in (
        ("bantime.factor", "a block grows by escalate.factor alone"),
        ("bantime.formula", "a block grows by escalate.factor alone"),
        ("bantime.rndtime", "blocks end at their time"),
        ("bantime.overalljails", "each rule counts its own offences"),
    ):
        text = _value(parser, jail, key)
        if text:
            yield row(f"[{jail}] {key}", text, Fate.BY_HAND, detail)
    yield row(f"[{jail}] bantime.increment", "true", Fate.RULE, f"{jail}: escalate, by the factor {factor}")
    table = (("factor", toml(factor)), ("max", toml(format_duration(longest))), ("memory", toml("1d")))
    yield RuleLine("escalate", inline(table), "bantime.increment; memory is dbpurgeage, by default a day")


def _ignored(section: str, text: str) -> Outcomes:
    """Yields the networks of an ``ignoreip``, which the allowlist exempts from every rule."""
    setting, number = f"[{section}] ignoreip", 0
    for entry in re.split(r"[\s,]+", text.strip()):
        if not entry or entry.startswith("%("):
            continue
        try:
            network = ip_network(entry, strict=False)
        except ValueError:
            detail = "not an address or a network: the allowlist has no names; add the networks"
            yield row(setting, entry, Fate.BY_HAND, detail)
            continue
        if network.is_loopback:
            yield row(setting, entry, Fate.UNUSED, "no client's address")
            continue
        number += 1
        yield Import(network, None, f"ignoreip of {section}", allowed=True)
    if number:
        detail = "sluice allow" + (
            "" if section == "DEFAULT" else "; exempt from every rule, not from this jail's alone"
        )
        yield row(setting, plural(number, "network"), Fate.ALLOWLIST, detail)


def seconds_of(text: str) -> int | None:
    """Returns a time of fail2ban in seconds; None if it has another form. A negative time means without end.

    >>> seconds_of("600"), seconds_of("1h30m"), seconds_of("1d 12h"), seconds_of("-1"), seconds_of("soon")
    (600, 5400, 129600, -1, None)
    """
    stripped = text.strip().lower()
    if stripped.startswith("-") and stripped[1:].isdecimal():
        return -1
    terms = _TERM.findall(stripped)
    if not terms or _TERM.sub("", stripped).strip() or any(unit and unit not in SECONDS for _, unit in terms):
        return None
    return int(sum(float(number) * SECONDS.get(unit, 1) for number, unit in terms))


def _own(parser: ConfigParser, section: str) -> dict[str, str | None]:
    """Returns the keys of a section that differ from ``[DEFAULT]``, without interpolation."""
    defaults = parser.defaults()
    return {key: text for key, text in parser.items(section, raw=True) if defaults.get(key) != text}


def _raw(parser: ConfigParser, section: str, key: str) -> str | None:
    return parser.get(section, key, raw=True, fallback=None)


def _value(parser: ConfigParser, section: str, key: str) -> str | None:
    """Returns a value after interpolation; as it is written if a name in it is not known."""
    try:
        return parser.get(section, key, vars={"__name__": section}, fallback=None)
    except InterpolationError:
        return _raw(parser, section, key)


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on")
