"""``sluice teardown``: removes a stage completely."""

import sys
import time

import click

from sluice.commands.shared.deployment import carry_out, existing_stage, plan_options, show_plan, stage_command
from sluice.commands.shared.output import output, print_json
from sluice.deploy.account import AwsAccount
from sluice.deploy.apply import survey
from sluice.deploy.plan import to_tear_down
from sluice.deploy.resources import remains_of
from sluice.deploy.resources.chalice_config import Project


@click.command()
@stage_command
@plan_options
def teardown(stage: str, account: AwsAccount, project: Project, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove everything that setup and 'chalice deploy' created for a stage.

    The IP sets are emptied first, so that no client stays blocked whatever happens next; then the functions and
    their logs are removed, then the additions to web ACLs and distributions, and then the rest. An interrupted teardown
    can be run again. Blocks, allowlist, rules and audit are lost: 'sluice setup' creates an empty stage, and nothing
    restores the old one.

    \b
    sluice teardown --stage prod --dry-run
    sluice teardown --stage prod
    """
    console = output(sys.stderr if as_json else None)
    existing = existing_stage(stage, account, "nothing to remove")
    steps = to_tear_down(survey(remains_of(existing, now=int(time.time()), project=project), account))
    if not as_json:
        show_plan(existing, steps, console)
        console.print()
    if not dry_run:
        carry_out(steps, account, console, "Remove all this, with all blocks, rules and audit?", yes=yes)
    undo, stack = existing.command("setup"), existing.choices.stack
    if as_json:
        rows = [step.row() for step in steps]
        print_json({"stage": stage, "applied": not dry_run, "steps": rows, "undo": undo})
    elif not dry_run and stack:
        delete = f"aws cloudformation delete-stack --stack-name {stack} --region {existing.location.region}"
        console.print(f"\nNow delete the stack:  {delete}")
    elif not dry_run:
        console.print(f"\nEverything is removed. Create a new, empty stage:  {undo}")
