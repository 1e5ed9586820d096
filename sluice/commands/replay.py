"""``sluice replay``: whom a rule set would have blocked."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from chalicelib.core.durations import format_duration
from sluice.analysis.summary import Offender, by_rule, offenders, result_json
from sluice.commands.shared.logs import (
    json_option,
    log_options,
    plain_table,
    print_json,
    read_rules,
    rules_option,
    run,
    utc,
)
from sluice.replay.engine import Options, Result


@click.command()
@log_options
@rules_option
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Offenders shown.")
@json_option
def replay(files: tuple[str, ...], options: Options, rules: Path, top: int, as_json: bool) -> None:
    """Show whom a rule set would have blocked, on log files.

    Reads CloudFront standard and real-time logs, AWS WAF logs, Application Load Balancer logs and those of nginx and
    Apache, plain or gzip, in any order; folders with all they hold; '-' is standard input. Nothing is changed
    anywhere.

    \b
    sluice replay logs/
    sluice replay access.log.gz --rules rules.toml --json
    """
    (result,) = run(files, [read_rules(rules)], options)
    if as_json:
        print_json(result_json(result))
    else:
        show(result, Console(), top)


def show(result: Result, console: Console, top: int) -> None:
    """The tables."""
    seen, found = result.seen, offenders(result)
    console.print(f"{seen.requests:,} requests from {utc(seen.first_ms)} to {utc(seen.last_ms)} UTC\n")
    table = plain_table("What the rules would have done")
    for name in ("rule", "limit", "action"):
        table.add_column(name, no_wrap=True)
    for name in ("offenders", "blocked", "over", "refused", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for figures in by_rule(result, found):
        rule = figures.rule
        table.add_row(
            rule.name,
            f"{rule.limit:,} in {format_duration(rule.window_s)}",
            str(rule.action),
            f"{figures.offenders:,}",
            f"{figures.blocked:,}",
            f"{figures.over:,}",
            f"{figures.refused:,}",
            f"{figures.share:.2%}",
        )
    console.print(table)
    if found:
        console.print()
        console.print(_busiest(found[:top], len(found)))


def _busiest(shown: list[Offender], total: int) -> Table:
    title = f"The busiest {len(shown)} of {total:,} offenders, by peak and limit"
    table = plain_table(title)
    for name in ("client", "rule", "peak"):
        table.add_column(name, no_wrap=True)
    table.add_column("first offence", min_width=10)
    table.add_column("blocked for", min_width=7)
    table.add_column("refused", justify="right", no_wrap=True)
    for offender in shown:
        rule = offender.rule
        length = format_duration(offender.blocked_for_s) if offender.stays else "-"
        table.add_row(
            str(offender.network),
            rule.name,
            f"{offender.peak:,} in {format_duration(rule.window_s)}",
            utc(offender.first_ms),
            length if offender.action == "block" else f"{length} ({offender.action})",
            f"{offender.refused:,} of {offender.requests:,}",
        )
    return table
