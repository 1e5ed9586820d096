"""``sluice explain``: shows one client's timeline."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.core.addresses import Network
from chalicelib.core.durations import format_duration
from chalicelib.core.measures import amount_text, unit_text
from chalicelib.core.rules import Action
from chalicelib.core.rules_diff import allowed
from sluice.analysis.explain import ClientHistory, Filled, RuleHistory
from sluice.analysis.explain import explain as explained
from sluice.analysis.summary import seconds, terms_json
from sluice.commands.shared.logs import LogNames, json_option, log_options, opened, print_notes, rules_option
from sluice.commands.shared.options import NETWORK, nonempty_rules, number_option
from sluice.commands.shared.output import output, print_json, table
from sluice.commands.shared.times import utc
from sluice.replay.engine import Options

MOST_EVENTS = 200

TimelineEntry = tuple[int, str, str]
"""Time (epoch milliseconds), name of the rule, and description."""


@click.command()
@click.argument("client", type=NETWORK)
@log_options
@rules_option
@number_option("--requests", "shown", least=0, default=30, help="Number of requests to show, up to the peak.")
@json_option
def explain(client: Network, files: LogNames, options: Options, rules: Path, shown: int, as_json: bool) -> None:
    """Explain why a client would have been blocked, or how close to the limits it came.

    CLIENT is an address or a network. Shows what each rule counted, when each offence happened, when each block began
    and was lifted, near misses, and the requests that led to the peak with the counts they reached.

    \b
    sluice explain 203.0.113.9 logs/ --rules rules.toml
    """
    rule_set = nonempty_rules(rules)
    with opened(files, options.from_ms) as (chunks, progress):
        history = explained(chunks, rule_set, options, client)
    print_notes(history.stats, progress, files)
    if as_json:
        print_json(_json(history))
    else:
        _show(history, output(), shown)


def events(client: ClientHistory) -> list[TimelineEntry]:
    """Returns all events in order of time, without near misses during a block."""
    happened: list[TimelineEntry] = []
    periods = [period for history in client.rules for period in history.periods]
    for history in client.rules:
        name, limit = history.rule.name, _amount(history, history.rule.limit)
        happened += [
            (near.ms, name, f"near miss: {_amount(history, near.count)} of {limit}")
            for near in history.near_misses
            if not any(period.contains(near.ms) for period in periods)
        ]
        if history.first_over_ms is not None:
            happened.append((history.first_over_ms, name, f"over the limit of {limit}"))
        happened += _block_events(client, history)
    return sorted(happened)


def _block_events(client: ClientHistory, history: RuleHistory) -> Iterator[TimelineEntry]:
    name = history.rule.name
    blocked, refused = "would be blocked", "would have been refused"
    if history.rule.action is Action.BLOCK:
        blocked, refused = "blocked", "were refused"
    for period in history.periods:
        first, last = (utc(ms, date=history.rule.is_quota) for ms in (period.first_ms, period.last_ms))
        length = format_duration(period.until - period.since)
        counted = _amount(history, period.count)
        counted += unit_text(history.rule.measure)
        if history.rule.rate is not None:
            counted += f" above {history.rule.rate}"
        offence = f"offence {period.offence}: {counted} from {first} to {last}"
        yield period.since * 1000, name, f"{blocked} for {length}, {offence}"
        number = sum(period.contains(request.ms) for request in client.requests)
        yield period.until * 1000, name, f"lifted; {number:,} requests {refused}"


def _show(client: ClientHistory, console: Console, shown: int) -> None:
    requests = client.requests
    if not requests:
        console.print(f"{client.client} made no requests in these logs.")
        return
    console.print(
        f"{client.client}: {len(requests):,} requests from {utc(requests[0].ms)} to {utc(requests[-1].ms)} UTC, "
        f"of {client.stats.requests:,} in the logs"
    )
    columns = ("rule", "limit", "counted as", "requests", "peak", "blocks", "near misses")
    rows = map(_rule_cells, client.rules)
    console.print(table(columns, rows, title="\nWhat the rules counted", right=("requests", "peak", "blocks")))
    happened = [(utc(ms), name, event) for ms, name, event in events(client)[:MOST_EVENTS]]
    if happened:
        console.print(table(("", "", ""), happened, title="\nTimeline"))
    for history in client.rules:
        if history.filled:
            console.print(_filling(history))
    if shown:
        console.print(_requests_to_peak(client, shown))


def _rule_cells(history: RuleHistory) -> tuple[str, ...]:
    rule = history.rule
    return (
        rule.name,
        allowed(rule),
        str(history.network) + (" (allowlisted)" if history.allowlisted else ""),
        f"{history.requests:,}",
        _amount(history, history.peak),
        f"{len(history.periods):,}" + ("" if rule.action is Action.BLOCK else " (only counts)"),
        f"{len(history.near_misses):,}",
    )


def _filling(history: RuleHistory) -> Table:
    """Returns a table of how a quota was used up."""
    title = f"\nHow the quota of {history.rule.name} ({allowed(history.rule)}) was used"
    rows = [
        (utc(filled.first_ms), _amount(history, filled.amount), _amount(history, filled.count))
        for filled in history.filled[:MOST_EVENTS]
    ]
    columns = ("from", "requests" if not history.rule.measure.is_sum else "amount", "in its window")
    return table(columns, rows, title=title, right=columns[1:])


def _requests_to_peak(client: ClientHistory, shown: int) -> Table:
    """Returns a table of the requests that led to the highest share of a limit, with the counts they reached."""
    highest = max(client.rules, key=lambda history: history.peak / (history.rule.limit + 1))
    end = 1 + (highest.counts.index(highest.peak) if highest.peak else len(client.requests) - 1)
    start = max(0, end - shown)
    requests = client.requests[start:end]
    gaps = ["", *(f"{(later.ms - earlier.ms) / 1000:.3f}" for earlier, later in pairwise(requests))]
    rows = []
    for number, (request, gap) in enumerate(zip(requests, gaps, strict=True), start):
        text = " ".join(str(request.texts[name]) for name in ("method", "host", "path") if name in request.texts)
        rows.append(
            (
                utc(request.ms, date=False),
                gap,
                text + (" refused" if client.was_refused(request) else ""),
                str(request.texts.get("status", "")),
                *(_count(history, number) for history in client.rules),
            )
        )
    limits = [f"{h.rule.name}\n{allowed(h.rule)}" for h in client.rules]
    columns = ("time", "after", "request", "status", *limits)
    title = f"\nRequests up to the peak of {highest.rule.name}"
    return table(columns, rows, title=title, right=limits, keep=("time", "status"))


def _count(history: RuleHistory, number: int) -> Text:
    count = history.counts[number]
    if count is None:
        return Text()
    return Text(_amount(history, count), "bold red" if count > history.rule.limit else "")


def _amount(history: RuleHistory, amount: int) -> str:
    return amount_text(history.rule.measure, amount)


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
    return {
        **terms_json(history.rule),
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
        **({"filled": list(map(_filled_json, history.filled))} if history.rule.is_quota else {}),
    }


def _filled_json(filled: Filled) -> dict[str, Any]:
    return {"from": seconds(filled.first_ms), "amount": filled.amount, "count": filled.count}
