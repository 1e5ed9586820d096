"""``sluice teardown``: removes a stage completely."""

import sys
import time

import click

from sluice.commands.shared.deployment import (
    carry_out,
    choices_of,
    plan_options,
    refuse_if_kept,
    show_plan,
    stage_command,
)
from sluice.commands.shared.output import output, print_json
from sluice.deploy.account import AwsAccount, AwsError, attempting
from sluice.deploy.apply import left_over, survey_remains
from sluice.deploy.plan import StepAction, to_tear_down
from sluice.deploy.resources import remains_of
from sluice.deploy.resources.chalice_config import Project
from sluice.deploy.resources.leftovers import BlockedClients
from sluice.deploy.stack import BY_ITS_OWNER, is_published
from sluice.deploy.stage import Choices, Refusal, Stage


@click.command()
@stage_command
@plan_options
def teardown(stage: str, account: AwsAccount, project: Project, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove everything that setup and deploy created for a stage.

    The IP sets are emptied first, so that no client stays blocked whatever happens next; then the functions and their
    logs are removed, then the additions to web ACLs and distributions, and then the rest. An interrupted teardown can
    be run again. Blocks, allowlist, rules and audit are lost: 'sluice setup' creates an empty stage, and nothing
    restores the old one. What is gone already counts as removed, and at the end the account is searched for anything
    that is left.

    \b
    sluice teardown --stage prod --dry-run
    sluice teardown --stage prod
    """
    console = output(sys.stderr if as_json else None)
    existing = stage_to_remove(stage, account)
    remains = remains_of(existing, now=int(time.time()), project=project)
    steps = to_tear_down(survey_remains(remains, account))
    if choices_of(stage, account) is None and not any(step.effective for step in steps):
        raise Refusal(f"there is no stage {stage!r} in {existing.location}: nothing to remove")
    if not as_json:
        show_plan(existing, steps, console)
        console.print()
    if not dry_run:
        refuse_if_kept(steps)
        carry_out(steps, account, console, "Remove all this, with all blocks, rules and audit?", yes=yes)
        # The IP sets of a stack stay until the stack is deleted, and are empty.
        left = left_over([each for each in remains if not isinstance(each, BlockedClients)], account)
        if left:
            names = ", ".join(f"{step.resource.kind} {step.resource.name}" for step in left)
            raise AwsError(f"AWS still shows: {names}. Run the same command again in a minute")
    undo, stack = existing.command("setup"), existing.choices.stack
    if as_json:
        rows = [step.row() for step in steps]
        print_json({"stage": stage, "applied": not dry_run, "steps": rows, "undo": undo})
    elif not dry_run and stack:
        with attempting("look for the stack"):
            published = is_published(account, stack)
        delete = f" {stack} {BY_ITS_OWNER}" if published else f":  {existing.command('stack delete')}"
        console.print(f"\nNow delete the stack{delete}", soft_wrap=True)
    elif not dry_run:
        elsewhere = any(step.resource.elsewhere for step in steps if step.action is StepAction.LEAVE)
        but = " but what another tool has made" if elsewhere else ""
        console.print(f"\nNothing of the stage is left in the account{but}. To create a new, empty stage:  {undo}")


def stage_to_remove(name: str, account: AwsAccount, stack: str = "") -> Stage:
    """Returns the stage that was set up or, if its choices are gone, the one that is found by its names."""
    choices = choices_of(name, account)
    if choices is None:
        in_cloudfronts_region = account.region == "us-east-1"
        choices = Choices(
            scope="CLOUDFRONT" if in_cloudfronts_region else "REGIONAL",
            sources=("cloudfront", "waf") if in_cloudfronts_region else ("waf",),
            stack=stack,
        )
    return Stage(name=name, location=account.location, choices=choices)
