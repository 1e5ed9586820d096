"""``sluice suggest``: limits that fit a site's own traffic, as a rule file."""

from typing import Any

import click

from chalicelib.core.addresses import NetworkSet
from chalicelib.core.durations import format_duration, parse_duration
from chalicelib.core.rules import LONGEST_WINDOW_S, SHORTEST_WINDOW_S
from sluice.analysis.suggest import ListedClient, PeakCollector, PeakDistribution, doubts, rule_file
from sluice.analysis.summary import seconds
from sluice.commands.shared.feeds import FEED, published
from sluice.commands.shared.logs import LogNames, json_option, log_options, opened_log
from sluice.commands.shared.options import Parsed
from sluice.commands.shared.output import print_json
from sluice.commands.shared.times import utc
from sluice.replay.engine import Options
from sluice.replay.strips import LogStats

MOST_LISTED = 10
"""Crawlers, or allowlisted clients, that are shown."""


def _windows(text: str) -> list[int]:
    lengths = sorted({parse_duration(length.strip()) for length in text.split(",")})
    for length in lengths:
        if not SHORTEST_WINDOW_S <= length <= LONGEST_WINDOW_S:
            raise ValueError(f"{format_duration(length)} is outside 1s .. 1h")
    return lengths


@click.command()
@log_options
@click.option(
    "--window",
    "windows",
    default="10s,60s",
    show_default=True,
    type=Parsed("LENGTHS", _windows),
    help="Windows to suggest limits for, such as 10s or 10s,60s.",
)
@click.option(
    "--crawlers",
    "feeds",
    multiple=True,
    metavar=FEED,
    help="Published list of crawlers' networks; repeatable. A crawler is then known by its address.",
)
@json_option
def suggest(files: LogNames, options: Options, windows: list[int], feeds: tuple[str, ...], as_json: bool) -> None:
    """Suggest limits that fit the traffic in log files, as a rule file.

    Measures the busiest window of each client. Crawlers, recognised by their User-Agent, and the networks of
    --allowlist are excluded and listed separately. With --crawlers, a client that calls itself a crawler and whose
    address is in none of these lists is measured like any other, and listed. The rules only count: try them with
    `sluice replay`, then let them block.

    \b
    sluice suggest logs/ --window 10s,60s > tuned.toml
    sluice suggest logs/ --crawlers googlebot.json --crawlers https://www.bing.com/toolbox/bingbot.json
    """
    crawlers = NetworkSet(network for name in feeds for network in published(name).networks) if feeds else None
    allowlist = (entry.network_value() for entry in options.allowlist)
    peaks = PeakCollector(windows, allowlist, options.sampling, crawlers)
    with opened_log(files, [peaks.rules], options, everyone=True) as log:
        for ledger in log.ledgers(peaks.rules):
            peaks.add(ledger)
    reasons = doubts(log.stats, peaks.by_window, options.sampling)
    if as_json:
        print_json(_json(log.stats, peaks, reasons))
    else:
        click.echo(rule_file(peaks.by_window, _comments(log.stats, peaks, reasons)), nl=False)


def _comments(stats: LogStats, peaks: PeakCollector, reasons: list[str]) -> list[str]:
    clients = peaks.by_window[0].clients.total()
    span = f"{utc(stats.first_ms)} to {utc(stats.last_ms)} UTC"
    lines = [f"Suggested by `sluice suggest` from {stats.requests:,} requests of {clients:,} clients, {span}."]
    lines.append("Try it:   sluice replay LOG... --rules THIS-FILE")
    lines += [f"CAUTION: {reason}" for reason in reasons]
    for distribution in peaks.by_window:
        lines += ["", *_table(distribution, stats.requests)]
    by_name = "crawlers by User-Agent, which anyone can send; verify their addresses with --crawlers"
    verified = "crawlers, by the lists of --crawlers"
    for title, clients_listed in (
        (f"Excluded: {verified if peaks.verifies else by_name}", peaks.crawlers),
        ("Measured: clients that call themselves crawlers, and are in no list of --crawlers", peaks.impostors),
        ("Excluded: allowlisted", peaks.allowlisted),
    ):
        if clients_listed:
            lines += ["", f"{title} ({len(clients_listed):,}):"]
            lines += [f"  {c.client}: {_peaks(peaks, c)}, {c.requests:,} requests" for c in _busiest(clients_listed)]
    return lines


def _table(distribution: PeakDistribution, requests: int) -> list[str]:
    lines = [f"Busiest {format_duration(distribution.window_s)} of each client:"]
    lines.append("  percentile      limit   clients over   their share of requests")
    for percent, limit, clients, share in distribution.rows(requests):
        lines.append(f"  {percent:>10g}  {limit:>9,}   {clients:>12,}   {share:>10.2%}")
    gap = distribution.gap()
    if gap:
        lines.append(f"  Gap: no client between {gap[0]:,} and {gap[1]:,}. Likely people below, machines above.")
    else:
        lines.append("  No gap between people and machines: the limit is twice the 99th percentile.")
    return lines


def _busiest(clients: list[ListedClient]) -> list[ListedClient]:
    return sorted(clients, key=lambda client: -client.requests)[:MOST_LISTED]


def _peaks(peaks: PeakCollector, client: ListedClient) -> str:
    pairs = zip(peaks.by_window, client.peaks, strict=True)
    return ", ".join(f"{highest:,} in {format_duration(distribution.window_s)}" for distribution, highest in pairs)


def _json(stats: LogStats, peaks: PeakCollector, reasons: list[str]) -> dict[str, Any]:
    return {
        "requests": stats.requests,
        "clients": peaks.by_window[0].clients.total(),
        "first": seconds(stats.first_ms),
        "last": seconds(stats.last_ms),
        "windows": [_window_json(distribution, stats.requests) for distribution in peaks.by_window],
        "crawlers": _busiest(peaks.crawlers),
        "impostors": _busiest(peaks.impostors),
        "allowlisted": _busiest(peaks.allowlisted),
        "doubts": reasons,
        "rules": rule_file(peaks.by_window, ["Suggested by `sluice suggest`."]),
    }


def _window_json(distribution: PeakDistribution, requests: int) -> dict[str, Any]:
    gap = distribution.gap()
    return {
        "window_s": distribution.window_s,
        "suggested": distribution.suggestion(),
        "gap": {"below": gap[0], "above": gap[1]} if gap else None,
        "percentiles": [
            {"percentile": percent, "limit": limit, "clients_over": clients, "share": round(share, 6)}
            for percent, limit, clients, share in distribution.rows(requests)
        ],
    }
