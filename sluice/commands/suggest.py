"""``sluice suggest``: limits for a site's own traffic, as a rule file."""

from typing import Any

import click

from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.rules import LONGEST_WINDOW_S, SHORTEST_WINDOW_S
from sluice.analysis.suggest import PERCENTILES, Apart, Distribution, Distributions, doubts, rule_file
from sluice.analysis.summary import seconds
from sluice.commands.shared.logs import json_option, log_options, print_json, run, utc
from sluice.replay.engine import Options
from sluice.replay.strips import Seen

APART_SHOWN = 10


def _windows(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:  # noqa: ARG001
    try:
        lengths = sorted({parse_duration(text.strip()) for text in value.split(",")})
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None
    for length in lengths:
        if not SHORTEST_WINDOW_S <= length <= LONGEST_WINDOW_S:
            raise click.BadParameter(f"{format_duration(length)} is outside 1s .. 1h")
    return lengths


@click.command()
@log_options
@click.option(
    "--window",
    "windows",
    default="10s,60s",
    show_default=True,
    callback=_windows,
    metavar="LENGTHS",
    help="Windows to find limits for, such as 10s or 10s,60s.",
)
@json_option
def suggest(files: tuple[str, ...], options: Options, windows: list[int], as_json: bool) -> None:
    """Suggest limits from how busy clients are, and print a rule file that counts.

    Looks at every client's busiest window. Crawlers (by the name they give themselves) and the networks of --allowlist
    are left out and shown by themselves. The rules only count: try them with `sluice replay`, then enforce them.

    \b
    sluice suggest logs/ --window 10s,60s > tuned.toml
    """
    found = Distributions(windows, options.allowlist, options.sample_rate)
    (result,) = run(files, [found.rules], options, everyone=True, look=found.look)
    said = doubts(result.seen, found.by_window, options.sample_rate)
    if as_json:
        print_json(_json(result.seen, found, said))
    else:
        click.echo(rule_file(found.by_window, _comments(result.seen, found, said)), nl=False)


def _comments(seen: Seen, found: Distributions, said: list[str]) -> list[str]:
    clients = found.by_window[0].clients.total()
    span = f"{utc(seen.first_ms)} to {utc(seen.last_ms)} UTC"
    lines = [f"Suggested by `sluice suggest` from {seen.requests:,} requests of {clients:,} clients, {span}."]
    lines.append("Try it:   sluice replay LOG... --rules THIS-FILE")
    lines += [f"DOUBT: {doubt}" for doubt in said]
    for distribution in found.by_window:
        lines += ["", *_table(distribution, seen.requests)]
    for title, apart in (
        ("Left out: crawlers by their own word; check their addresses, then allowlist them", found.crawlers),
        ("Left out: allowlisted", found.allowlisted),
    ):
        if apart:
            lines += ["", f"{title} ({len(apart):,}):"]
            lines += [f"  {one.network}: {_peaks(found, one)}, {one.requests:,} requests" for one in _busiest(apart)]
    return lines


def _table(distribution: Distribution, requests: int) -> list[str]:
    lines = [f"Busiest {format_duration(distribution.window_s)} of each client:"]
    lines.append("  percentile      limit   clients over   their share of requests")
    for percent in PERCENTILES:
        limit = distribution.percentile(percent)
        clients, theirs = distribution.above(limit)
        lines.append(f"  {percent:>10g}  {limit:>9,}   {clients:>12,}   {theirs / max(requests, 1):>10.2%}")
    gap = distribution.gap()
    if gap:
        lines.append(f"  A gap: nobody between {gap[0]:,} and {gap[1]:,}. Likely people below, machines above.")
    else:
        lines.append("  No gap between people and machines: the limit is twice the 99th percentile.")
    return lines


def _busiest(apart: list[Apart]) -> list[Apart]:
    return sorted(apart, key=lambda one: -one.requests)[:APART_SHOWN]


def _peaks(found: Distributions, one: Apart) -> str:
    pairs = zip(found.by_window, one.peaks, strict=True)
    return ", ".join(f"{highest:,} in {format_duration(distribution.window_s)}" for distribution, highest in pairs)


def _json(seen: Seen, found: Distributions, said: list[str]) -> dict[str, Any]:
    return {
        "requests": seen.requests,
        "clients": found.by_window[0].clients.total(),
        "first": seconds(seen.first_ms),
        "last": seconds(seen.last_ms),
        "windows": [_window_json(distribution, seen.requests) for distribution in found.by_window],
        "crawlers": [_apart_json(one) for one in _busiest(found.crawlers)],
        "allowlisted": [_apart_json(one) for one in _busiest(found.allowlisted)],
        "doubts": said,
        "rules": rule_file(found.by_window, ["Suggested by `sluice suggest`."]),
    }


def _window_json(distribution: Distribution, requests: int) -> dict[str, Any]:
    gap = distribution.gap()
    percentiles = []
    for percent in PERCENTILES:
        limit = distribution.percentile(percent)
        clients, theirs = distribution.above(limit)
        share = round(theirs / max(requests, 1), 6)
        percentiles.append({"percentile": percent, "limit": limit, "clients_over": clients, "share": share})
    return {
        "window_s": distribution.window_s,
        "suggested": distribution.suggestion(),
        "gap": {"below": gap[0], "above": gap[1]} if gap else None,
        "percentiles": percentiles,
    }


def _apart_json(one: Apart) -> dict[str, Any]:
    return {"client": str(one.network), "peaks": list(one.peaks), "requests": one.requests}
