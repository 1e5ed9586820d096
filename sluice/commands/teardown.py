"""``sluice teardown``: takes a stage away again, without a trace."""

import json
import sys
import time
from pathlib import Path

import click
from rich.console import Console

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
from sluice.deploy.account import AwsError, attempting
from sluice.deploy.apply import survey
from sluice.deploy.plan import to_tear_down
from sluice.deploy.resources import remains_of
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.parameters import remembered
from sluice.deploy.stage import Refusal, Stage


@click.command()
@stage_option
@region_option
@profile_option
@project_option
@dry_run_option
@yes_option
@json_option
def teardown(
    stage: str,
    region: str | None,
    profile: str | None,
    project: Path,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove everything that 'sluice setup' and 'chalice deploy' created for a stage.

    First the IP sets are emptied, so that nobody stays blocked whatever happens next; then the functions go, then the
    rule in the web ACLs, and then the rest. Interrupted, it can be run again. Blocks, allowlist, rules and audit are
    gone afterwards: 'sluice setup' prints the way back to an empty stage, and nothing brings the old one back.

    \b
    sluice teardown --stage prod --dry-run
    sluice teardown --stage prod
    """
    console = Console(stderr=as_json, highlight=False)
    try:
        account = account_of(region, profile)
        with attempting("read what setup was asked for"):
            location, choices = account.location, remembered(account, stage)
        if choices is None:
            raise Refusal(f"there is no stage {stage!r} in {location}: nothing to remove")
        wanted = Stage(name=stage, location=location, choices=choices)
        resources = remains_of(wanted, now=int(time.time()), project=Project(project))
        steps = to_tear_down(survey(resources, account))
        if not as_json:
            console.print(f"[bold]{wanted.prefix}[/] in {location}\n")
            console.print(report.plan_table(steps))
            console.print()
        if not dry_run:
            if not yes:
                click.confirm("Remove all this, with all blocks, rules and audit?", abort=True, err=True)
            carry_out(steps, account, console)
    except (AwsError, Refusal) as exc:
        raise click.ClickException(str(exc)) from exc
    undo = f"sluice setup --stage {stage} --region {location.region}"
    if as_json:
        answer = {"stage": stage, "applied": not dry_run, "steps": report.as_json(steps), "undo": undo}
        json.dump(answer, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif not dry_run:
        if wanted.choices.stack:
            undo = f"aws cloudformation delete-stack --stack-name {wanted.choices.stack} --region {location.region}"
            console.print(f"\nNow the stack can go as well:  {undo}")
        else:
            console.print(f"\nNothing is left. A new, empty stage:  {undo}")
