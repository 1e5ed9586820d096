"""``sluice replay``: the clients that a rule set would have blocked."""

from pathlib import Path

import click
from rich.console import Console

from chalicelib.core.rules_diff import measured
from chalicelib.core.wording import plural
from sluice.analysis.summary import (
    NETWORK_COLUMNS,
    OffenderSummary,
    by_rule,
    network_cells,
    offenders,
    result_json,
    rule_cells,
)
from sluice.commands.shared.interventions import sentences
from sluice.commands.shared.logs import LogNames, json_option, log_options, opened_log, rules_option
from sluice.commands.shared.options import nonempty_rules, number_option
from sluice.commands.shared.output import output, print_json, table
from sluice.commands.shared.times import utc
from sluice.replay.engine import Options, Result


@click.command()
@log_options
@rules_option
@number_option("--top", default=10, help="Number of offenders to show.")
@json_option
def replay(files: LogNames, options: Options, rules: Path, top: int, as_json: bool) -> None:
    """Show which clients a rule set would have blocked, from log files.

    Reads logs of CloudFront (standard and real-time), AWS WAF, Application Load Balancers, nginx and Apache, plain or
    gzip, in any order. Folders are read recursively; '-' is standard input. s3:// names the objects of a bucket whose
    keys begin with PREFIX, read in parallel after their number, size and price have been shown. Nothing is changed.

    \b
    sluice replay logs/
    sluice replay access.log.gz --rules rules.toml --json
    sluice replay s3://logs-of-site/AWSLogs/ --from 2026-11-29 --max-bytes 2000000000
    """
    rule_set = nonempty_rules(rules)
    with opened_log(files, [rule_set], options) as log:
        result = log.result(rule_set)
    if as_json:
        print_json(result_json(result))
    else:
        show(result, output(), top)


def show(result: Result, console: Console, top: int) -> None:
    stats, everyone = result.stats, offenders(result)
    console.print(f"{plural(stats.requests, 'request')} from {utc(stats.first_ms)} to {utc(stats.last_ms)} UTC\n")
    columns: tuple[str, ...] = ("rule", "limit", "action", "offenders", "blocked", "over", "refused", "share")
    figures = map(rule_cells, by_rule(result, everyone))
    console.print(table(columns, figures, title="What the rules would have done", right=columns[3:], keep=columns))
    if result.networks:
        shown, columns = result.networks[:top], NETWORK_COLUMNS
        title = f"\nFirst {len(shown):,} of {plural(len(result.networks), 'guilty network')}, in order of time"
        of_networks = (network_cells(each, utc) for each in shown)
        console.print(table(columns, of_networks, title=title, right=columns[-1:], keep=columns[:2]))
    for sentence in sentences(result.interventions):
        console.print(f"\n{sentence}", highlight=False)
    if everyone:
        console.print()
        title = f"Busiest {min(top, len(everyone))} of {len(everyone):,} offenders, by peak relative to the limit"
        columns = ("client", "rule", "peak", "first offence", "blocked for", "refused")
        rows = map(_cells, everyone[:top])
        keep = ("client", "rule", "peak", "refused")
        console.print(table(columns, rows, title=title, right=("refused",), keep=keep))


def _cells(offender: OffenderSummary) -> tuple[str, ...]:
    return (
        str(offender.network),
        offender.rule.name,
        measured(offender.rule, offender.peak),
        utc(offender.first_ms),
        offender.blocked_for(),
        f"{offender.refused:,} of {offender.requests:,}",
    )
