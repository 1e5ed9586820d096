"""``sluice compare``: compares two ways of limiting requests on the same logs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from chalicelib.core.rules import Action, RuleSet
from sluice import DEFAULT_RULES
from sluice.analysis.aws_waf_model import LONGEST_LAG_S, SHORTEST_LAG_S, RateBasedModel, RateBasedRule
from sluice.analysis.compare import Comparison, Side, side_of
from sluice.analysis.compare import compare as compared
from sluice.analysis.summary import intervention_json
from sluice.commands.shared.interventions import sentences
from sluice.commands.shared.logs import LogNames, json_option, log_options, opened_log
from sluice.commands.shared.options import EXISTING_FILE, Parsed, nonempty_rules, number_option
from sluice.commands.shared.output import output, plain, print_json, table
from sluice.commands.shared.times import utc
from sluice.replay.engine import Options

MODELLED = "modelled, not measured"


@click.command()
@log_options
@click.option(
    "--rules",
    "paths",
    multiple=True,
    type=EXISTING_FILE,
    help="Rule set; repeatable. The first one is compared with each of the others; if nothing else is given to "
    "compare, the rules that setup installs come first.",
)
@click.option(
    "--aws-waf",
    "rate_based",
    type=Parsed("LIMIT/WINDOW", RateBasedRule.parse),
    help="Compare with AWS WAF's rate-based rule, such as 100/60s: modelled from its documentation, not measured.",
)
@number_option("--top", default=10, help="Number of clients to show in each table.")
@json_option
def compare(
    files: LogNames,
    options: Options,
    paths: tuple[Path, ...],
    rate_based: RateBasedRule | None,
    top: int,
    as_json: bool,
) -> None:
    """Show which clients two rule sets would block differently, and how soon.

    With --aws-waf, also compares with AWS WAF's rate-based rule as its documentation describes it: it checks about
    every 10 seconds, usually blocks 30 to 50 seconds late, and unblocks when the rate falls below the limit.

    \b
    sluice compare logs/ --rules old.toml --rules new.toml
    sluice compare logs/ --rules rules.toml             # with the rules that setup installs
    sluice compare logs/ --aws-waf 300/60s
    sluice compare logs/ --rules rules.toml --aws-waf 2000/300s
    """
    if len(paths) + (rate_based is not None) < 2:
        paths = (DEFAULT_RULES, *paths)
    if len(paths) + (rate_based is not None) < 2:
        raise click.UsageError("nothing to compare: pass --rules, or --aws-waf")
    first, *others = _sides(files, options, paths, rate_based)
    comparisons = [compared(first, other) for other in others]
    if as_json:
        print_json({"comparisons": [_json(comparison) for comparison in comparisons]})
        return
    console = output()
    for number, comparison in enumerate(comparisons):
        if number:
            console.rule(style="dim")
        _show(comparison, console, top)


def _sides(files: LogNames, options: Options, paths: Sequence[Path], rate_based: RateBasedRule | None) -> list[Side]:
    rule_sets = [nonempty_rules(path) for path in paths]
    lags = (SHORTEST_LAG_S, LONGEST_LAG_S)
    models = [RateBasedModel(rate_based, lag_s, options.sampling) for lag_s in lags] if rate_based else []
    model_rules = [model.rules for model in models[:1]]
    with opened_log(files, [*rule_sets, *model_rules], options) as log:
        sides = [side_of(_name(path, rules), log.result(rules)) for path, rules in zip(paths, rule_sets, strict=True)]
        for rules in model_rules:
            for ledger in log.ledgers(rules):
                for model in models:
                    model.add(ledger)
    for model in models:
        name = f"AWS WAF {model.rule}, {model.lag_s} s late ({MODELLED})"
        sides.append(Side(name, model.blocked, modelled=True))
    return sides


def _name(path: Path, rules: RuleSet) -> str:
    only_counts = all(rule.action is Action.COUNT for rule in rules.rules)
    return f"{path} (only counts; compared as if it blocked)" if only_counts else str(path)


def _show(comparison: Comparison, console: Console, top: int) -> None:
    first, second, both = comparison.first, comparison.second, comparison.both
    for letter, side in (("A", first), ("B", second)):
        console.print(Text.assemble((letter, "bold"), "  ", plain(side.name)))
    totals = (
        ("clients blocked", f"{len(first.blocked):,}", f"{len(second.blocked):,}"),
        ("blocked by this side only", f"{len(comparison.only_first):,}", f"{len(comparison.only_second):,}"),
        ("requests refused", f"{first.refused:,}", f"{second.refused:,}"),
    )
    console.print(table(("", "A", "B"), totals, right=("A", "B")))
    for name, side in (("A", first), ("B", second)):
        for sentence in sentences(side.interventions):
            console.print(f"{name}: {sentence}", highlight=False)
    if both:
        sooner = sum(pair.sooner_s > 0 for pair in both)
        console.print(
            f"Of {len(both):,} clients blocked by both, A blocks {sooner:,} sooner; "
            f"median {comparison.median_sooner_s:g} s."
        )
    columns: tuple[str, ...] = ("client", "blocked at", "rule", "refused")
    for name, only in (("A", comparison.only_first), ("B", comparison.only_second)):
        if only:
            rows: Iterable[tuple[str, ...]] = (
                (str(blocked.client), utc(blocked.blocked_at * 1000), ", ".join(blocked.rules), f"{blocked.refused:,}")
                for blocked in only[:top]
            )
            title = f"\nBlocked by {name} only"
            console.print(table(columns, rows, title=title, right=("refused",), keep=("client",)))
    if both:
        rows = (
            (
                str(pair.first.client),
                utc(pair.first.blocked_at * 1000),
                utc(pair.second.blocked_at * 1000),
                f"{pair.sooner_s:,} s",
                f"{pair.first.refused:,}",
                f"{pair.second.refused:,}",
            )
            for pair in both[:top]
        )
        columns = ("client", "A at", "B at", "A sooner by", "A refused", "B refused")
        console.print(table(columns, rows, title="\nBlocked by both", right=columns[3:], keep=("client",)))


def _json(comparison: Comparison) -> dict[str, Any]:
    return {
        "a": _side_json(comparison.first),
        "b": _side_json(comparison.second),
        "only_a": comparison.only_first,
        "only_b": comparison.only_second,
        "both": [
            {
                "client": pair.first.client,
                "a_at": pair.first.blocked_at,
                "b_at": pair.second.blocked_at,
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
        "breaker": list(map(intervention_json, side.interventions)),
    }
