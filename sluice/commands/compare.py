"""``sluice compare``: two ways of limiting on the same logs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table

from chalicelib.core.rules import Action, RuleSet
from sluice.analysis.aws_waf_model import LONGEST_LAG_S, SHORTEST_LAG_S, RateBasedModel, RateBasedRule
from sluice.analysis.compare import BlockedByBoth, BlockedNetwork, Comparison, Side, side_of, side_of_model
from sluice.analysis.compare import compare as compared
from sluice.commands.shared.logs import json_option, log_options, opened_log, plain_table, print_json, read_rules
from sluice.commands.shared.times import utc
from sluice.replay.engine import Options

MODELLED = "modelled, not measured"


def _rate_based(ctx: click.Context, param: click.Parameter, value: str | None) -> RateBasedRule | None:  # noqa: ARG001
    try:
        return None if value is None else RateBasedRule.parse(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


@click.command()
@log_options
@click.option(
    "--rules",
    "paths",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rule set; repeatable. The first one is compared with each of the others.",
)
@click.option(
    "--aws-waf",
    "rate_based",
    callback=_rate_based,
    metavar="LIMIT/WINDOW",
    help="Compare with AWS WAF's rate-based rule, such as 100/60s: modelled from its documentation, not measured.",
)
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Number of clients to show in each table."
)
@json_option
def compare(
    files: tuple[str, ...],
    options: Options,
    paths: tuple[Path, ...],
    rate_based: RateBasedRule | None,
    top: int,
    as_json: bool,
) -> None:
    """Show which clients two rule sets would block differently, and how soon.

    With --aws-waf, also compares with AWS WAF's rate-based rule as its documentation describes it: it checks every 10
    seconds, blocks 30 to 50 seconds late, and unblocks when the rate falls below the limit.

    \b
    sluice compare logs/ --rules old.toml --rules new.toml
    sluice compare logs/ --rules rules.toml --aws-waf 2000/300s
    """
    if not paths or len(paths) + (rate_based is not None) < 2:
        raise click.UsageError("nothing to compare: pass --rules twice, or --rules and --aws-waf")
    sides = _sides(files, options, paths, rate_based)
    comparisons = [compared(sides[0], other) for other in sides[1:]]
    if as_json:
        print_json({"comparisons": [_json(comparison) for comparison in comparisons]})
    else:
        console = Console()
        for number, comparison in enumerate(comparisons):
            if number:
                console.rule(style="dim")
            _show(comparison, console, top)


def _sides(
    files: Sequence[str], options: Options, paths: Sequence[Path], rate_based: RateBasedRule | None
) -> list[Side]:
    rule_sets = [read_rules(path) for path in paths]
    lags = (SHORTEST_LAG_S, LONGEST_LAG_S) if rate_based else ()
    models = [RateBasedModel(rate_based, lag, options.sampling) for lag in lags if rate_based]
    model_rules = [model.rules for model in models[:1]]
    with opened_log(files, [*rule_sets, *model_rules], options) as log:
        sides = [side_of(_name(path, rules), log.result(rules)) for path, rules in zip(paths, rule_sets, strict=True)]
        for rules in model_rules:
            for ledger in log.ledgers(rules):
                for model in models:
                    model.add(ledger)
    return sides + [
        side_of_model(f"AWS WAF {model.rule}, {model.lag_s} s late ({MODELLED})", model) for model in models
    ]


def _name(path: Path, rules: RuleSet) -> str:
    only_counts = all(rule.action is Action.COUNT for rule in rules.rules)
    return f"{path} (only counts; shown as if it blocked)" if only_counts else str(path)


def _show(comparison: Comparison, console: Console, top: int) -> None:
    first, second = comparison.first, comparison.second
    console.print(f"[bold]A[/]  {first.name}\n[bold]B[/]  {second.name}", highlight=False)
    table = plain_table()
    for heading in ("", "A", "B"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("clients blocked", f"{len(first.blocked):,}", f"{len(second.blocked):,}")
    table.add_row("of them by this side only", f"{len(comparison.only_first):,}", f"{len(comparison.only_second):,}")
    table.add_row("requests refused", f"{first.refused:,}", f"{second.refused:,}")
    console.print(table)
    if comparison.median_sooner_s is not None:
        sooner = sum(pair.sooner_s > 0 for pair in comparison.both)
        console.print(
            f"Of {len(comparison.both):,} clients blocked by both, A blocks {sooner:,} sooner; "
            f"median {comparison.median_sooner_s:g} s."
        )
    for name, only in (("A", comparison.only_first), ("B", comparison.only_second)):
        if only:
            console.print(_only(f"\nBlocked by {name} only", only[:top]))
    if comparison.both:
        console.print(_both(comparison.both[:top]))


def _only(title: str, networks: Sequence[BlockedNetwork]) -> Table:
    table = plain_table(title)
    for heading in ("client", "blocked at", "rule", "refused"):
        table.add_column(heading, justify="right" if heading == "refused" else "left", no_wrap=heading == "client")
    for blocked in networks:
        since = utc(blocked.since * 1000)
        table.add_row(str(blocked.network), since, ", ".join(blocked.rules), f"{blocked.refused:,}")
    return table


def _both(pairs: Sequence[BlockedByBoth]) -> Table:
    table = plain_table("\nBlocked by both")
    for heading in ("client", "A at", "B at", "A sooner by", "A refused", "B refused"):
        justify: Literal["left", "right"] = "left" if heading in ("client", "A at", "B at") else "right"
        table.add_column(heading, justify=justify, no_wrap=heading == "client")
    for pair in pairs:
        table.add_row(
            str(pair.first.network),
            utc(pair.first.since * 1000),
            utc(pair.second.since * 1000),
            f"{pair.sooner_s:,} s",
            f"{pair.first.refused:,}",
            f"{pair.second.refused:,}",
        )
    return table


def _json(comparison: Comparison) -> dict[str, Any]:
    return {
        "a": _side_json(comparison.first),
        "b": _side_json(comparison.second),
        "only_a": [_blocked_json(blocked) for blocked in comparison.only_first],
        "only_b": [_blocked_json(blocked) for blocked in comparison.only_second],
        "both": [
            {
                "client": str(pair.first.network),
                "a_at": pair.first.since,
                "b_at": pair.second.since,
                "a_sooner_s": pair.sooner_s,
                "a_refused": pair.first.refused,
                "b_refused": pair.second.refused,
            }
            for pair in comparison.both
        ],
        "median_a_sooner_s": comparison.median_sooner_s,
    }


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "modelled": side.modelled,
        "blocked": len(side.blocked),
        "refused": side.refused,
    }


def _blocked_json(blocked: BlockedNetwork) -> dict[str, Any]:
    return {
        "client": str(blocked.network),
        "blocked_at": blocked.since,
        "refused": blocked.refused,
        "rules": list(blocked.rules),
    }
