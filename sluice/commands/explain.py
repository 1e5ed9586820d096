"""``sluice explain``: one client's time line."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from chalicelib.core.addresses import parse_network
from chalicelib.core.durations import format_duration
from chalicelib.core.rules import Action
from sluice.analysis.explain import ClientHistory, RuleHistory
from sluice.analysis.explain import explain as explained
from sluice.analysis.summary import seconds
from sluice.commands.shared.logs import (
    json_option,
    log_options,
    opened,
    plain_table,
    print_json,
    print_notes,
    read_rules,
    rules_option,
)
from sluice.commands.shared.times import utc
from sluice.replay.engine import Options

MOST_EVENTS = 200

Event = tuple[int, str, str]
"""Time (epoch milliseconds), name of the rule, and what happened."""


@click.command()
@click.argument("client")
@log_options
@rules_option
@click.option(
    "--requests",
    "shown",
    type=click.IntRange(0),
    default=30,
    show_default=True,
    help="Number of requests to show, up to the peak.",
)
@json_option
def explain(client: str, files: tuple[str, ...], options: Options, rules: Path, shown: int, as_json: bool) -> None:
    """Explain why a client would have been blocked, or how close to the limits it came.

    CLIENT is an address or a network. Shows what each rule counted, when each offence, block and release happened, near
    misses, and the requests that led to the peak with the counts they reached.

    \b
    sluice explain 203.0.113.9 logs/ --rules rules.toml
    """
    try:
        network = parse_network(client)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="CLIENT") from exc
    rule_set = read_rules(rules)
    with opened(files) as (chunks, progress):
        history = explained(chunks, rule_set, options, network)
    print_notes(history.stats, progress)
    if as_json:
        print_json(_json(history))
    else:
        _show(history, Console(), shown)


def events(client: ClientHistory) -> list[Event]:
    """Returns what happened, in order of time; near misses during a block are left out."""
    happened: list[Event] = []
    periods = [period for history in client.rules for period in history.periods]
    for history in client.rules:
        name, limit = history.rule.name, history.rule.limit
        happened += [
            (near.ms, name, f"near miss: {near.count:,} of {limit:,}")
            for near in history.near_misses
            if not any(period.contains(near.ms) for period in periods)
        ]
        if history.first_over_ms is not None:
            happened.append((history.first_over_ms, name, f"over the limit of {limit:,}"))
        happened += _block_events(client, history)
    return sorted(happened)


def _block_events(client: ClientHistory, history: RuleHistory) -> Iterator[Event]:
    name = history.rule.name
    blocked, refused = (
        ("blocked", "were refused")
        if history.rule.action is Action.BLOCK
        else ("would be blocked", "would have been refused")
    )
    for period in history.periods:
        offence = (
            f"{period.count:,} requests from {utc(period.first_ms, date=False)} to {utc(period.last_ms, date=False)}"
        )
        length = format_duration(period.until - period.since)
        yield period.since * 1000, name, f"{blocked} for {length}, offence {period.offence}: {offence}"
        number = sum(period.contains(request.ms) for request in client.requests)
        yield period.until * 1000, name, f"released; {number:,} requests {refused}"


def _show(client: ClientHistory, console: Console, shown: int) -> None:
    requests = client.requests
    if not requests:
        console.print(f"{client.client} made no requests in these logs.")
        return
    console.print(
        f"{client.client}: {len(requests):,} requests from {utc(requests[0].ms)} to {utc(requests[-1].ms)} UTC, "
        f"of {client.stats.requests:,} in the logs"
    )
    table = plain_table("\nWhat the rules counted")
    for heading in ("rule", "limit", "counted as", "requests", "peak", "blocks", "near misses"):
        table.add_column(heading, justify="right" if heading in ("requests", "peak", "blocks") else "left")
    for history in client.rules:
        rule = history.rule
        table.add_row(
            rule.name,
            f"{rule.limit:,} in {format_duration(rule.window_s)}",
            str(history.network) + (" (allowlisted)" if history.allowlisted else ""),
            f"{history.requests:,}",
            f"{history.peak:,}",
            f"{len(history.periods):,}" + ("" if rule.action is Action.BLOCK else " (only counts)"),
            f"{len(history.near_misses):,}",
        )
    console.print(table)
    happened = events(client)
    if happened:
        time_line = plain_table("\nTime line")
        time_line.show_header = False
        for ms, name, event in happened[:MOST_EVENTS]:
            time_line.add_row(utc(ms), name, event)
        console.print(time_line)
    if shown:
        console.print(_requests_to_peak(client, shown))


def _requests_to_peak(client: ClientHistory, shown: int) -> Table:
    """Returns a table of the requests that led to the highest share of a limit, with the counts they reached."""
    highest = max(client.rules, key=lambda history: history.peak / (history.rule.limit + 1))
    end = 1 + (highest.counts.index(highest.peak) if highest.peak else len(client.requests) - 1)
    start = max(0, end - shown)
    table = plain_table(f"\nRequests up to the peak of {highest.rule.name}")
    for heading in ("time", "after", "request", "status"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("time", "status"))
    for history in client.rules:
        rule = history.rule
        table.add_column(f"{rule.name}\n{rule.limit:,}/{format_duration(rule.window_s)}", justify="right")
    requests = client.requests[start:end]
    gaps_ms = [None, *(later.ms - earlier.ms for earlier, later in pairwise(requests))]
    for number, (request, gap_ms) in enumerate(zip(requests, gaps_ms, strict=True), start):
        text = " ".join(str(request.texts[name]) for name in ("method", "host", "path") if name in request.texts)
        table.add_row(
            utc(request.ms, date=False),
            "" if gap_ms is None else f"{gap_ms / 1000:.3f}",
            text + (" refused" if client.was_refused(request) else ""),
            str(request.texts.get("status", "")),
            *(_count(history, number) for history in client.rules),
        )
    return table


def _count(history: RuleHistory, number: int) -> str:
    count = history.counts[number]
    if count is None:
        return ""
    return f"[bold red]{count:,}[/]" if count > history.rule.limit else f"{count:,}"


def _json(client: ClientHistory) -> dict[str, Any]:
    requests = client.requests
    return {
        "client": str(client.client),
        "requests": len(requests),
        "first": seconds(requests[0].ms if requests else None),
        "last": seconds(requests[-1].ms if requests else None),
        "rules": [_rule_json(history) for history in client.rules],
        "events": [{"at": seconds(ms), "rule": name, "event": event} for ms, name, event in events(client)],
        "timeline": [
            {
                "at": seconds(request.ms),
                "source": str(request.source),
                **request.texts,
                "counts": {
                    history.rule.name: count
                    for history in client.rules
                    if (count := history.counts[number]) is not None
                },
                "refused": client.was_refused(request),
            }
            for number, request in enumerate(requests)
        ],
    }


def _rule_json(history: RuleHistory) -> dict[str, Any]:
    rule = history.rule
    return {
        "name": rule.name,
        "action": str(rule.action),
        "limit": rule.limit,
        "window_s": rule.window_s,
        "client": str(history.network),
        "requests": history.requests,
        "peak": history.peak,
        "peak_at": seconds(history.peak_ms),
        "first_offence_at": seconds(history.first_over_ms),
        "allowlisted": history.allowlisted,
        "blocks": [
            {"from": p.since, "until": p.until, "offence": p.offence, "count": p.count} for p in history.periods
        ],
        "near_misses": [{"at": seconds(near.ms), "count": near.count} for near in history.near_misses],
    }
