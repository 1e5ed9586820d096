"""``sluice setup``: creates what ``chalice deploy`` cannot, after showing what it would do and what that costs."""

import json
import sys
import time
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from chalicelib.core.rules import RulesError, parse_rules
from chalicelib.edges.waf_ip_sets import WafScope
from sluice import DEFAULT_RULES
from sluice.commands.shared.deployment import (
    account_of,
    carry_out,
    dry_run_option,
    json_option,
    profile_option,
    project_option,
    region_option,
    stage_option,
    yes_option,
)
from sluice.deploy import display as report
from sluice.deploy.account import AwsAccount, AwsError, attempting
from sluice.deploy.apply import survey
from sluice.deploy.costs import Load, monthly_costs, shards_for, total
from sluice.deploy.plan import Step, StepAction, to_set_up
from sluice.deploy.resources import resources_of
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.resources.web_acls import arn_of
from sluice.deploy.stage import MOST_IP_SETS, MOST_SHARDS, Choices, Refusal, Stage, StageSource


@click.command()
@stage_option
@region_option
@profile_option
@click.option("--scope", type=click.Choice(get_args(WafScope)), help="Of the web ACL: CloudFront's, or a region's.")
@click.option(
    "--source",
    "sources",
    type=click.Choice(get_args(StageSource)),
    multiple=True,
    help="Logs to count: CloudFront's real-time logs (default for CLOUDFRONT), WAF's (for REGIONAL), or both.",
)
@click.option("--web-acl", "web_acls", metavar="NAME|ARN", multiple=True, help="Web ACL to enforce in.")
@click.option("--distribution", "distributions", metavar="ID", multiple=True, help="CloudFront distribution to log.")
@click.option("--shards", type=click.IntRange(0, MOST_SHARDS), help="Kinesis shards; 0, the default, is on-demand.")
@click.option("--ip-sets", type=click.IntRange(1, MOST_IP_SETS), help="IP sets a family, of 10,000 networks each.")
@click.option("--fields", metavar="NAMES", help="CloudFront real-time fields, separated by commas.")
@click.option("--sample-rate", type=click.IntRange(1, 100), help="Percentage of requests that are logged.")
@click.option(
    "--set", "settings", metavar="NAME=VALUE", multiple=True, help="Further environment variable; NAME= takes it back."
)
@click.option(
    "--rules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DEFAULT_RULES,
    help="Rules to start with; by default chalicelib/rules.toml, which only count.",
)
@click.option(
    "--requests-per-second",
    type=click.FloatRange(0.001, 10_000_000),
    default=100.0,
    show_default=True,
    help="For the estimate of costs.",
)
@project_option
@dry_run_option
@yes_option
@json_option
def setup(
    stage: str,
    region: str | None,
    profile: str | None,
    scope: WafScope | None,
    sources: tuple[StageSource, ...],
    web_acls: tuple[str, ...],
    distributions: tuple[str, ...],
    shards: int | None,
    ip_sets: int | None,
    fields: str | None,
    sample_rate: int | None,
    settings: tuple[str, ...],
    rules: Path,
    requests_per_second: float,
    project: Path,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Create what 'chalice deploy' cannot: stream, tables, IP sets, rule group, log configuration, rules, first token.

    The plan and the monthly cost come first. Whatever exists and is right stays as it is, so it can be run again at
    any time, with the same options or others; what an earlier run was asked for need not be repeated. Nothing is
    touched that it did not create, except for one rule in each --web-acl and the log setting of each --distribution.

    \b
    sluice setup --dry-run --requests-per-second 1000
    sluice setup --web-acl edge --distribution E2EXAMPLE
    chalice deploy --stage prod
    """
    given = {
        "scope": scope,
        "shards": shards,
        "ip_sets": ip_sets,
        "sample_rate": sample_rate,
        "fields": tuple(fields.split(",")) if fields else None,
        "distributions": distributions or None,
        "settings": _pairs(settings) or None,
    }
    console = Console(stderr=as_json, highlight=False)
    try:
        text = rules.read_text()
        parse_rules(text)
        account = account_of(region, profile)
        wanted = _stage(stage, account, given, sources, web_acls)
        token: list[str] = []
        resources = resources_of(
            wanted,
            rules=text,
            now=int(time.time()),
            project=Project(project),
            show_token=lambda issued: _show(token, issued, console),
        )
        steps = to_set_up(survey(resources, account))
        load = Load(
            requests_a_second=requests_per_second,
            source=wanted.choices.sources[0],
            shards=wanted.choices.shards,
            sample_rate=wanted.choices.sample_rate,
        )
        if as_json and dry_run:
            _print_json(wanted, steps, load, applied=False)
        if not as_json:
            _describe(console, wanted, steps, load)
        _stop_at_refusals(steps)
        if not dry_run and any(step.effective for step in steps):
            if not yes:
                click.confirm("Make these changes?", abort=True, err=True)
            carry_out(steps, account, console)
        if as_json and not dry_run:
            _print_json(wanted, steps, load, applied=True, token=token)
        if not dry_run:
            _next_steps(console, wanted)
    except RulesError as exc:
        raise click.ClickException("\n".join(f"{rules}: {problem}" for problem in exc.problems)) from exc
    except (AwsError, Refusal) as exc:
        raise click.ClickException(str(exc)) from exc


def _stage(
    name: str, account: AwsAccount, given: dict[str, Any], sources: tuple[StageSource, ...], web_acls: tuple[str, ...]
) -> Stage:
    """The stage that is wanted: what is given now over what earlier runs were asked for. Raises Refusal, AwsError."""
    with attempting("read what an earlier setup was asked for"):
        location, before = account.location, remembered(account, name)
    if before is None:
        scope: WafScope = given["scope"] or "CLOUDFRONT"
        first: StageSource = "cloudfront" if scope == "CLOUDFRONT" else "waf"
        choices = Choices(scope=scope, sources=sources or (first,)).with_changes(**given)
    else:
        choices = before.with_changes(**given, sources=sources or None)
        if choices.scope != before.scope:
            raise Refusal(
                f"stage {name} was set up for scope {before.scope}: IP sets cannot move. Choose another --stage for "
                f"{choices.scope}"
            )
        if choices.ip_sets < before.ip_sets:
            raise Refusal(
                f"stage {name} has {before.ip_sets} IP sets a family; fewer would let go whoever is blocked by the "
                "others. Run teardown first, or keep them: they cost nothing"
            )
    # The name and the region are judged before AWS is asked about web ACLs that the region does not have.
    Stage(name=name, location=location, choices=choices)
    with attempting("look for the web ACL"):
        arns = [arn_of(account, choices.scope, web_acl) for web_acl in web_acls]
    return Stage(name=name, location=location, choices=choices.with_changes(web_acls=arns or None))


def _pairs(settings: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{setting!r} is not of the form NAME=VALUE", param_hint="--set")
        pairs[name] = value
    return pairs


def _show(issued: list[str], token: str, console: Console) -> None:
    issued.append(token)
    console.print(f"\nToken for the admin API, shown this once; keep it:\n[bold]{token}[/]\n", soft_wrap=True)


def _describe(console: Console, stage: Stage, steps: list[Step], load: Load) -> None:
    choices = stage.choices
    console.print(f"[bold]{stage.prefix}[/] in {stage.location}, {choices.scope}\n")
    console.print(report.plan_table(steps))
    costs = monthly_costs(load)
    console.print(f"\nAt {load.requests_a_second:g} requests a second, list prices of us-east-1:\n")
    console.print(report.cost_table(costs))
    if not load.shards and load.source == "cloudfront":
        shards = shards_for(load.requests_a_second * load.sample_rate / 100)
        other = monthly_costs(
            Load(requests_a_second=load.requests_a_second, shards=shards, sample_rate=load.sample_rate)
        )
        console.print(
            f"\nAn on-demand stream follows the traffic by itself. --shards {shards} would cost "
            f"{total(costs) - total(other):,.2f} USD less a month, and lose lines when an attack brings more than "
            f"{shards * 1000:,} requests a second."
        )
    if not choices.web_acls:
        console.print("\nNo --web-acl is named: nobody is refused until the rule group stands in one.")
    if "cloudfront" in choices.sources and not choices.distributions:
        console.print("\nNo --distribution is named: nothing is counted until one logs to the stream.")
    console.print()


def _stop_at_refusals(steps: list[Step]) -> None:
    refused = [step for step in steps if step.action is StepAction.REFUSE]
    if refused:
        raise Refusal("\n".join(f"{step.resource.kind} {step.resource.name} {step.detail}" for step in refused))


def _print_json(stage: Stage, steps: list[Step], load: Load, *, applied: bool, token: list[str] | None = None) -> None:
    answer = {
        "stage": stage.name,
        "account": stage.location.account,
        "region": stage.location.region,
        "applied": applied,
        "steps": report.as_json(steps),
        "cost": report.costs_as_json(monthly_costs(load)),
        "undo": stage.command("teardown"),
        **({"token": token[-1]} if token else {}),
    }
    json.dump(answer, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _next_steps(console: Console, stage: Stage) -> None:
    if stage.choices.stack:
        console.print(f"\nThen:  {stage.command('doctor')}")
        return
    console.print(
        f"\nNext:  AWS_DEFAULT_REGION={stage.location.region} chalice deploy --stage {stage.name}\n"
        f"Then:  {stage.command('doctor')}\n"
        f"Undo:  {stage.command('teardown')}"
    )
