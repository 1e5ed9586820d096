"""``sluice replay``: the clients that a rule set would have blocked."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from chalicelib.core.durations import format_duration
from sluice.analysis.summary import OffenderSummary, by_rule, offenders, result_json, rule_cells
from sluice.commands.shared.logs import (
    json_option,
    log_options,
    opened_log,
    plain_table,
    print_json,
    read_rules,
    rules_option,
)
from sluice.commands.shared.times import utc
from sluice.replay.engine import Options, Result


@click.command()
@log_options
@rules_option
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Number of offenders to show.")
@json_option
def replay(files: tuple[str, ...], options: Options, rules: Path, top: int, as_json: bool) -> None:
    """Show which clients a rule set would have blocked, from log files.

    Reads logs of CloudFront (standard and real-time), AWS WAF, Application Load Balancers, nginx and Apache, plain or
    gzip, in any order. Folders are read recursively; '-' is standard input. Nothing is changed.

    \b
    sluice replay logs/
    sluice replay access.log.gz --rules rules.toml --json
    """
    rule_set = read_rules(rules)
    with opened_log(files, [rule_set], options) as log:
        result = log.result(rule_set)
    if as_json:
        print_json(result_json(result))
    else:
        show(result, Console(), top)


def show(result: Result, console: Console, top: int) -> None:
    """Prints the result as tables."""
    stats, everyone = result.stats, offenders(result)
    console.print(f"{stats.requests:,} requests from {utc(stats.first_ms)} to {utc(stats.last_ms)} UTC\n")
    table = plain_table("What the rules would have done")
    for heading in ("rule", "limit", "action"):
        table.add_column(heading, no_wrap=True)
    for heading in ("offenders", "blocked", "over", "refused", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for figures in by_rule(result, everyone):
        table.add_row(*rule_cells(figures))
    console.print(table)
    if everyone:
        console.print()
        console.print(_busiest(everyone[:top], len(everyone)))


def _busiest(shown: list[OffenderSummary], total: int) -> Table:
    table = plain_table(f"Busiest {len(shown)} of {total:,} offenders, by peak relative to the limit")
    for heading in ("client", "rule", "peak"):
        table.add_column(heading, no_wrap=True)
    table.add_column("first offence", min_width=10)
    table.add_column("blocked for", min_width=7)
    table.add_column("refused", justify="right", no_wrap=True)
    for offender in shown:
        rule = offender.rule
        length = format_duration(offender.blocked_for_s) if offender.periods else "-"
        table.add_row(
            str(offender.network),
            rule.name,
            f"{offender.peak:,} in {format_duration(rule.window_s)}",
            utc(offender.first_ms),
            length if offender.action == "block" else f"{length} ({offender.action})",
            f"{offender.refused:,} of {offender.requests:,}",
        )
    return table
