"""``sluice explain``: one client's time line."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from chalicelib.core.addresses import parse_network
from chalicelib.core.durations import format_duration
from chalicelib.core.rules import Action
from sluice.analysis.explain import Chapter, Made, Story
from sluice.analysis.explain import explain as explained
from sluice.analysis.summary import seconds
from sluice.commands.shared.logs import (
    json_option,
    log_options,
    note_odd,
    opened,
    plain_table,
    print_json,
    read_rules,
    rules_option,
    utc,
)
from sluice.replay.engine import Options

Event = tuple[int, str, str]
"""When (epoch milliseconds), the rule, and what happened."""


@click.command()
@click.argument("client")
@log_options
@rules_option
@click.option(
    "--requests", "shown", type=click.IntRange(0), default=30, show_default=True, help="Requests shown, at the peak."
)
@json_option
def explain(client: str, files: tuple[str, ...], options: Options, rules: Path, shown: int, as_json: bool) -> None:
    """Tell why CLIENT would have been blocked, or how far it stayed from it.

    CLIENT is an address or a network. Shows what each rule counted, the moment of every offence, block and release,
    the near misses, and the requests that led to the peak with the count of each window as it grew.

    \b
    sluice explain 203.0.113.9 logs/ --rules rules.toml
    """
    try:
        network = parse_network(client)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="CLIENT") from exc
    rule_set = read_rules(rules)
    with opened(files) as (blocks, progress):
        story = explained(blocks, rule_set, options, network)
    note_odd(story.seen, progress)
    if as_json:
        print_json(_json(story))
    else:
        _show(story, Console(), shown)


def events(story: Story) -> list[Event]:
    """What happened, in order."""
    found: list[Event] = []
    refused = [(stay.since, stay.until) for chapter in story.chapters for stay in chapter.stays]
    for chapter in story.chapters:
        name, limit = chapter.rule.name, chapter.rule.limit
        found += [
            (near.ms, name, f"near miss: {near.count:,} of {limit:,}")
            for near in chapter.near_misses
            if not any(since <= near.ms // 1000 < until for since, until in refused)
        ]
        if chapter.first_over_ms is not None:
            found.append((chapter.first_over_ms, name, f"over the limit of {limit:,}"))
        found += _stays(chapter, story.made)
    return sorted(found)


def _stays(chapter: Chapter, made: Sequence[Made]) -> Iterator[Event]:
    blocks = chapter.rule.action is Action.BLOCK
    name = chapter.rule.name
    for stay in chapter.stays:
        fate = "blocked" if blocks else "would be blocked"
        cause = f"{stay.count:,} requests from {utc(stay.first_ms, day=False)} to {utc(stay.last_ms, day=False)}"
        length = format_duration(stay.until - stay.since)
        yield stay.since * 1000, name, f"{fate} for {length}, offence {stay.offence}: {cause}"
        within = sum(stay.since <= one.ms // 1000 < stay.until for one in made)
        yield (
            stay.until * 1000,
            name,
            f"released; {within:,} requests {'were' if blocks else 'would have been'} refused",
        )


def _show(story: Story, console: Console, shown: int) -> None:
    made = story.made
    if not made:
        console.print(f"{story.client} made no request in these logs.")
        return
    console.print(
        f"{story.client}: {len(made):,} requests from {utc(made[0].ms)} to {utc(made[-1].ms)} UTC, "
        f"of {story.seen.requests:,} in the logs"
    )
    table = plain_table("\nWhat the rules counted")
    for heading in ("rule", "limit", "counted as", "requests", "peak", "blocks", "near misses"):
        table.add_column(heading, justify="right" if heading in ("requests", "peak", "blocks") else "left")
    for chapter in story.chapters:
        rule = chapter.rule
        table.add_row(
            rule.name,
            f"{rule.limit:,} in {format_duration(rule.window_s)}",
            str(chapter.network) + (" (allowlisted)" if chapter.allowlisted else ""),
            f"{chapter.requests:,}",
            f"{chapter.peak:,}",
            f"{len(chapter.stays):,}" + ("" if rule.action is Action.BLOCK else " (counts only)"),
            f"{len(chapter.near_misses):,}",
        )
    console.print(table)
    happened = events(story)
    if happened:
        times = plain_table("\nTime line")
        times.show_header = False
        for ms, name, what in happened[:200]:
            times.add_row(utc(ms), name, what)
        console.print(times)
    if shown:
        console.print(_requests(story, shown))


def _requests(story: Story, shown: int) -> Table:
    """The requests that led to the highest share of a limit, with the counts as they grew."""
    chapter = max(story.chapters, key=lambda c: c.peak / (c.rule.limit + 1))
    end = 1 + next(
        (n for n, one in enumerate(story.made) if one.counts.get(chapter.rule.name) == chapter.peak),
        len(story.made) - 1,
    )
    some = story.made[max(0, end - shown) : end]
    table = plain_table(f"\nRequests up to the peak of {chapter.rule.name}")
    for heading in ("time", "after", "request", "status"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("time", "status"))
    for each in story.chapters:
        table.add_column(
            f"{each.rule.name}\n{each.rule.limit:,}/{format_duration(each.rule.window_s)}", justify="right"
        )
    gaps = [None, *(later.ms - earlier.ms for earlier, later in pairwise(some))]
    for one, gap in zip(some, gaps, strict=True):
        request = " ".join(str(one.texts[name]) for name in ("method", "host", "path") if name in one.texts)
        counts = [_count(one, each) for each in story.chapters]
        mark = " refused" if one.refused else ""
        table.add_row(
            utc(one.ms, day=False),
            "" if gap is None else f"{gap / 1000:.3f}",
            request + mark,
            str(one.texts.get("status", "")),
            *counts,
        )
    return table


def _count(one: Made, chapter: Chapter) -> str:
    count = one.counts.get(chapter.rule.name)
    if count is None:
        return ""
    return f"[bold red]{count:,}[/]" if count > chapter.rule.limit else f"{count:,}"


def _json(story: Story) -> dict[str, Any]:
    return {
        "client": str(story.client),
        "requests": len(story.made),
        "first": seconds(story.made[0].ms if story.made else None),
        "last": seconds(story.made[-1].ms if story.made else None),
        "rules": [
            {
                "name": chapter.rule.name,
                "action": str(chapter.rule.action),
                "limit": chapter.rule.limit,
                "window_s": chapter.rule.window_s,
                "client": str(chapter.network),
                "requests": chapter.requests,
                "peak": chapter.peak,
                "peak_at": seconds(chapter.peak_ms),
                "first_offence_at": seconds(chapter.first_over_ms),
                "allowlisted": chapter.allowlisted,
                "blocks": [
                    {"from": stay.since, "until": stay.until, "offence": stay.offence, "count": stay.count}
                    for stay in chapter.stays
                ],
                "near_misses": [{"at": seconds(near.ms), "count": near.count} for near in chapter.near_misses],
            }
            for chapter in story.chapters
        ],
        "events": [{"at": seconds(ms), "rule": name, "event": what} for ms, name, what in events(story)],
        "timeline": [
            {
                "at": seconds(one.ms),
                "source": str(one.source),
                **one.texts,
                "counts": one.counts,
                "refused": one.refused,
            }
            for one in story.made
        ],
    }
